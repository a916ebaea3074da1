"""Rules of attention and rotary position embedding."""

from __future__ import annotations

import math

from ....ir.dims import exact_div
from ....ir.types import bool_, i64
from . import contents
from .registry import Result, rule
from .site import Site
from .tensors import Unsupported


def _heads(site: Site, index: int, attribute: str) -> str:
    """[batch, heads, length, size] from that, or from [batch, length, heads * size]."""
    type = site.type(index)
    if type.rank == 4:
        return site.x(index)
    heads = site.get_int(attribute)
    size = exact_div(type.shape[-1], heads) if type.rank == 3 and heads > 0 else None
    if size is None:
        raise Unsupported(f"input {index} of type {type} does not split into {attribute} = {heads}")
    return site.transpose(site.reshape(site.x(index), (*type.shape[:2], heads, size)), (0, 2, 1, 3))


def _mask(site: Site, queries_keys: tuple[object, object], causal: bool) -> str:
    """The additive mask, or the empty string. A causal query i sees the keys up to i."""
    dtype = site.type(0).dtype
    masked, zero = site.scalar(-math.inf, dtype), site.scalar(0.0, dtype)
    mask = ""
    if site.has(3):
        mask = site.x(3)
        if site.type(3).dtype == bool_:
            mask = site.emit("where", mask, zero, masked)
    if causal:
        queries, keys = queries_keys
        rows = contents.reshape(contents.arange(i64, 0, 1, queries), (queries, 1))  # type: ignore[arg-type]
        columns = contents.arange(i64, 0, 1, keys)  # type: ignore[arg-type]
        if rows is None:
            raise Unsupported("is_causal is not supported for this shape")
        seen = site.emit("le", site.data(columns), site.data(rows))
        triangle = site.emit("where", seen, zero, masked)
        mask = site.emit("add", mask, triangle) if mask else triangle
    return mask


@rule("Attention")
def attention(site: Site) -> Result:
    for index, what in ((4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")):
        if site.has(index):
            raise Unsupported(f"{what} is not supported yet", "export the model without caches")
    if site.get_float("softcap"):
        raise Unsupported("softcap is not supported yet")
    q, k, v = _heads(site, 0, "q_num_heads"), _heads(site, 1, "kv_num_heads"), _heads(site, 2, "kv_num_heads")
    q_type, keys = site.type_of(q), site.type_of(k).shape[2]
    size, queries = q_type.shape[3], q_type.shape[2]
    if not isinstance(size, int):
        raise Unsupported(f"the head size {size} must be constant")
    scale = site.get_float("scale", 1.0 / math.sqrt(size))
    causal = bool(site.get_int("is_causal"))
    aligned = causal and queries == keys  # ours counts from the last key, ONNX from the first
    mask = _mask(site, (queries, keys), causal and not aligned)
    extra = (mask,) if mask else ()
    value = site.emit("attention", q, k, v, *extra, scale=scale, causal=aligned)
    if site.type(0).rank == 4:
        return value
    batch, heads, length, width = site.type_of(value).shape
    return site.reshape(site.transpose(value, (0, 2, 1, 3)), (batch, length, heads * width))


@rule("RotaryEmbedding")
def rotary_embedding(site: Site) -> Result:
    """x [batch, heads, length, size] or [batch, length, heads * size]; caches hold one angle per pair of elements."""
    rank = site.type(0).rank
    x = _heads(site, 0, "num_heads")
    batch, _, length, size = site.type_of(x).shape
    turned = site.get_int("rotary_embedding_dim") or size
    interleaved = bool(site.get_int("interleaved"))
    if not isinstance(turned, int) or not isinstance(size, int):
        raise Unsupported(f"the head size {size} must be constant")
    tables = []
    for index in (1, 2):
        cache = site.x(index)
        if site.has(3):
            cache = site.emit("gather", cache, site.x(3), axis=0)  # [batch, length, turned / 2]
        cache = site.reshape(cache, (batch, 1, length, turned // 2, 1))
        if interleaved:
            cache = site.reshape(site.expand(cache, (batch, 1, length, turned // 2, 2)), (batch, 1, length, turned))
        else:
            cache = site.reshape(cache, (batch, 1, length, turned // 2))
            cache = site.emit("concat", cache, cache, axis=3)
        tables.append(cache)
    front = site.slice(x, 3, 0, turned)
    value = site.emit("rotary", front, *tables, interleaved=interleaved)
    if turned != size:
        value = site.emit("concat", value, site.slice(x, 3, turned, size - turned), axis=3)
    if rank == 4:
        return value
    return site.reshape(site.transpose(value, (0, 2, 1, 3)), site.type(0).shape)
