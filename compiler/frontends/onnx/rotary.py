"""Rules of rotary position embedding: of the ONNX domain and of com.microsoft, and what attention with it inside shares."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir.dims import exact_div
from ....ir.types import i64
from .. import contents
from ..draft import Draft
from ..unsupported import Unsupported
from .attend import join_heads, split_heads
from .registry import Result, rule
from .site import Site


def turned_by(draft: Draft, table: str, interleaved: bool) -> str:
    """Cosines or sines of half the elements [batch, length, half] as those of all, [batch, 1, length, 2 * half]."""
    batch, length, half = draft.type_of(table).shape
    if interleaved:
        table = draft.expand(draft.reshape(table, (batch, 1, length, half, 1)), (batch, 1, length, half, 2))
        return draft.reshape(table, (batch, 1, length, half * 2))
    table = draft.reshape(table, (batch, 1, length, half))
    return draft.emit("concat", table, table, axis=3)


def rotated(draft: Draft, x: str, tables: Sequence[str], interleaved: bool) -> str:
    """The first elements of x [batch, heads, length, size] turned, as many as the tables [batch or 1, 1, length, turned] have."""
    size, turned = draft.type_of(x).shape[3], draft.type_of(tables[0]).shape[3]
    if not isinstance(turned, int) or not isinstance(size, int) or turned > size:
        raise Unsupported(f"{turned} elements to turn in heads of {size}")
    value = draft.emit("rotary", draft.slice(x, 3, 0, turned), *tables, interleaved=interleaved)
    if turned == size:
        return value
    return draft.emit("concat", value, draft.slice(x, 3, turned, size - turned), axis=3)


def _turn(site: Site, x: str, tables: Sequence[str], width: int) -> str:
    """x turned by tables [batch, length, half], of which the first width / 2 are used (0: all)."""
    interleaved = bool(site.get_int("interleaved"))
    if width < 0 or width % 2:
        raise Unsupported(f"rotary_embedding_dim = {width} does not make pairs")
    half = site.type_of(tables[0]).shape[2]
    tables = [turned_by(site, site.slice(t, 2, 0, width // 2 if width else half), interleaved) for t in tables]
    value = rotated(site, x, tables, interleaved)
    return value if site.type(0).rank == 4 else join_heads(site, value)


@rule("RotaryEmbedding")
def rotary_embedding(site: Site) -> Result:
    """x [batch, heads, length, size] or [batch, length, heads * size]; caches hold one angle per pair of elements, for each
    position of each sequence or, with position ids, for each position."""
    for index in (1, 2):
        site.shape(index, 2 if site.has(3) else 3)
    if site.has(3):
        site.shape(3, 2)
    x = site.x(0) if site.type(0).rank == 4 else split_heads(site, site.x(0), site.get_int("num_heads"))
    tables = [site.emit("gather", site.x(i), site.x(3), axis=0) if site.has(3) else site.x(i) for i in (1, 2)]
    return _turn(site, x, tables, site.get_int("rotary_embedding_dim"))


@rule("RotaryEmbedding", domain="com.microsoft")
def rotary_embedding_by_position(site: Site) -> Result:
    """Inputs: x as above, position ids [batch, length] or that of the first [1], tables [positions, half]."""
    if site.get_int("is_packed_batching") or site.get_float("scale", 1.0) != 1.0:
        raise Unsupported("is_packed_batching and scale are not supported")
    width, heads, x = site.get_int("rotary_embedding_dim"), site.get_int("num_heads"), site.x(0)
    shape, angles = site.shape(0, 3, 4), site.shape(2, 2)[1]
    site.shape(3, 2)
    if len(shape) == 3:
        found = heads or exact_div(shape[2], 2 * angles)
        if not isinstance(found, int):
            raise Unsupported(f"{site.type(0)} with tables {site.type(2)}: how many heads?")
        x = split_heads(site, x, found)
    place, length = site.cast(site.x(1), i64), site.type_of(x).shape[2]
    if site.type(1).shape == (1,):
        place = site.emit("add", site.data(contents.arange(i64, 0, 1, length)), place)
        place = site.reshape(place, (1, length))
    else:
        site.shape(1, 2)
    tables = [site.emit("gather", site.x(i), place, axis=0) for i in (2, 3)]
    return _turn(site, x, tables, width)
