"""Rules of operators that pick elements by index. Evenly spaced known indices become slices: views, not copies."""

from __future__ import annotations

from typing import Any

from ....ir.dims import Dim, Expr, product
from ....ir.types import bool_, i64
from .. import contents
from ..indexing import along_axis, apart, evenly, not_negative, row_numbers, taken, taken_together
from ..known import Known
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


@rule("embedding", "index_select")
def pick(site: Site) -> Result:
    if site.name == "embedding":
        return picked(site, site.get("weight"), site.get("indices"), 0)
    return picked(site, site.get("self"), site.get("index"), site.axis_at("dim", site.type("self").rank))


def picked(site: Site, data: Any, indices: Any, axis: int) -> Result:
    """One axis replaced by the axes of the indices."""
    have, index = site.type_of_argument(data), site.known_of(indices)
    if index is None:
        return site.emit("gather", site.value_of(data), site.value_of(indices), axis=axis)
    known = site.known_of(data)
    if known is not None:
        folded = contents.gather(site.facts, known, index, axis)
        if folded is not None:
            return folded
    even = evenly(site.facts, index, have.shape[axis])
    if even is None or (even.along is None and any(d != 1 for d in index.shape)):
        return site.emit("gather", site.value_of(data), site.data(index), axis=axis)
    return taken(site, site.value_of(data), axis, even, index.shape)


@rule("index.Tensor", "_unsafe_index.Tensor")
def index(site: Site) -> Result:
    """Indices broadcast together and take the place of the axes they index, where those stand together; else they come first."""
    have = site.type("self")
    given = site.get("indices")
    chosen = [(axis, one) for axis, one in enumerate(given) if one is not None]
    if any(site.type_of_argument(one).dtype == bool_ for _, one in chosen):
        raise Unsupported(
            "by a mask: how many elements there are is known only when running", "use torch.where instead"
        )
    if len(chosen) == 1:
        axis, one = chosen[0]
        return picked(site, site.get("self"), one, axis)
    axes = [axis for axis, _ in chosen]
    shape = contents.broadcast([site.type_of_argument(one).shape for _, one in chosen])
    if shape is None:
        raise Unsupported("the shapes of the indices do not broadcast")
    rest = [a for a in range(have.rank) if a not in axes]
    together = axes == list(range(axes[0], axes[0] + len(axes)))
    where = len([a for a in rest if a < axes[0]]) if together else 0
    folded = _known(site, chosen, shape) or _as_view(site, chosen, shape)
    value = folded or _gathered(site, chosen, shape, rest)
    if isinstance(value, Known):
        return value
    rank = len(shape) + len(rest)
    front = list(range(len(shape)))
    later = list(range(len(shape), rank))
    return site.transpose(value, [*later[:where], *front, *later[where:]])


def _known(site: Site, chosen: list[tuple[int, Any]], shape: tuple[Dim, ...]) -> Known | None:
    """Known data under known indices of all its axes."""
    known = site.known("self")
    parts = [site.known_of(one) for _, one in chosen]
    if known is None or any(p is None for p in parts) or len(chosen) != known.rank:
        return None
    wide = [contents.expand(p, shape) for p in parts if p is not None]
    columns = [contents.reshape(w, (*shape, 1)) for w in wide if w is not None]
    found = [c for c in columns if c is not None]
    if len(found) != len(chosen):
        return None
    joined = contents.concat(found, len(shape))
    return contents.gather_nd(site.facts, known, joined) if joined is not None else None


def _as_view(site: Site, chosen: list[tuple[int, Any]], shape: tuple[Dim, ...]) -> str | None:
    """Slices, a transpose and an expand, where each axis is read at a number or along one axis of the indices."""
    have = site.type("self").shape
    reads = []
    for axis, one in chosen:
        known = site.known_of(one)
        wide = contents.expand(known, shape) if known is not None else None
        even = evenly(site.facts, wide, have[axis]) if wide is not None else None
        if even is None:
            return None
        reads.append((axis, even))
    return taken_together(site, site.x("self"), reads, shape) if apart(even for _, even in reads) else None


def _gathered(site: Site, chosen: list[tuple[int, Any]], shape: tuple[Dim, ...], rest: list[int]) -> str:
    """One gather from the indexed axes, brought to the front and flattened."""
    have, axes = site.type("self").shape, [axis for axis, _ in chosen]
    value = site.transpose(site.x("self"), [*axes, *rest])
    flat = site.reshape(value, (product(have[a] for a in axes), *(have[a] for a in rest)))
    total = row_numbers(site, (_counted(site, one, have[axis]) for axis, one in chosen), tuple(have[a] for a in axes))
    return site.emit("gather", flat, site.expand(total, shape), axis=0)


def _counted(site: Site, indices: Any, extent: Dim) -> str:
    """Indices that count from the start, left as they are where they are known to."""
    value, known = site.value_of(indices, i64), site.known_of(indices)
    if known is not None:
        facts = site.facts.over(known.shape)
        if all(isinstance(cell, (int, Expr)) and facts.at_least(cell, 0) for cell in known.cells.flat):
            return value
    return not_negative(site, value, extent)


@rule("gather")
def gather(site: Site) -> Result:
    """Along one axis at the index found at the same position."""
    data, indices = site.type("self"), site.type("index")
    if not data.rank:
        return site.reshape(site.x("self"), indices.shape)
    axis = site.axis_at("dim", data.rank)
    known = site.known("self")
    if known is not None and known.uniform is not None:
        return contents.full(data.dtype, indices.shape, known.uniform)
    total = along_axis(site, data, axis, indices.shape, site.known("index", i64), lambda: site.x("index", i64))
    return site.emit("gather", site.reshape(site.x("self"), (data.elements,)), total, axis=0)


@rule("one_hot")
def one_hot(site: Site) -> Result:
    kind = site.result()
    classes = kind.shape[-1]
    positions = site.data(contents.arange(i64, 0, 1, classes))
    indices = site.reshape(site.x("self", i64), (*site.type("self").shape, 1))
    return site.cast(site.emit("eq", indices, positions), kind.dtype)
