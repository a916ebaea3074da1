"""Rules of attention and rotary position embedding."""

from __future__ import annotations

import math

from ....ir.dims import Dim, exact_div
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


def _mask(site: Site, sizes: tuple[Dim, Dim], causal: bool, past: Dim = 0) -> str:
    """The additive mask, or the empty string. A causal query i sees the keys up to i + past."""
    dtype = site.type(0).dtype
    masked, zero = site.scalar(-math.inf, dtype), site.scalar(0.0, dtype)
    mask = ""
    if site.has(3):
        mask = site.x(3)
        if site.type(3).dtype == bool_:
            mask = site.emit("where", mask, zero, masked)
    if causal:
        queries, keys = sizes
        rows = contents.reshape(contents.arange(i64, past, 1, queries), (queries, 1))
        columns = contents.arange(i64, 0, 1, keys)
        if rows is None:
            raise Unsupported("is_causal is not supported for this shape")
        seen = site.emit("le", site.data(columns), site.data(rows))
        triangle = site.emit("where", seen, zero, masked)
        mask = site.emit("add", mask, triangle) if mask else triangle
    return mask


@rule("Attention")
def attention(site: Site) -> list[Result]:
    """A cache is joined in front of keys and values, and comes back longer; the oldest key is then the first."""
    if site.has(6):
        raise Unsupported("nonpad_kv_seqlen is not supported yet")
    q, k, v = _heads(site, 0, "q_num_heads"), _heads(site, 1, "kv_num_heads"), _heads(site, 2, "kv_num_heads")
    present: list[Result] = []
    if site.has(4) and site.has(5):
        k, v = site.emit("concat", site.x(4), k, axis=2), site.emit("concat", site.x(5), v, axis=2)
    if site.used(1) or site.used(2):
        present = [k, v]
    q_type, keys = site.type_of(q), site.type_of(k).shape[2]
    size, queries = q_type.shape[3], q_type.shape[2]
    if not isinstance(size, int):
        raise Unsupported(f"the head size {size} must be constant")
    scale = site.get_float("scale", 1.0 / math.sqrt(size))
    causal = bool(site.get_int("is_causal"))
    past = site.type(4).shape[2] if site.has(4) else 0
    aligned = causal and queries + past == keys  # ours counts from the last key, ONNX from the first query's
    mask = _mask(site, (queries, keys), causal and not aligned)
    softcap = site.get_float("softcap")
    if softcap:
        triangle = _mask(site, (queries, keys), causal, past)
        value = _capped(site, (q, k, v), triangle, scale, softcap)
    else:
        extra = (mask,) if mask else ()
        value = site.emit("attention", q, k, v, *extra, scale=scale, causal=aligned)
    if site.type(0).rank != 4:
        batch, heads, length, width = site.type_of(value).shape
        value = site.reshape(site.transpose(value, (0, 2, 1, 3)), (batch, length, heads * width))
    return [value, *present]


def _capped(site: Site, inputs: tuple[str, str, str], mask: str, scale: float, softcap: float) -> str:
    """Attention whose scores pass through softcap * tanh(score / softcap), from its parts."""
    q, k, v = inputs
    dtype = site.type_of(q).dtype
    batch, heads, _, size = site.type_of(q).shape
    groups, keys = site.type_of(k).shape[1:3]
    shared = exact_div(heads, groups)
    if shared is None:
        raise Unsupported(f"{groups} key heads for {heads} query heads")
    if shared != 1:
        k, v = (
            site.reshape(
                site.expand(site.reshape(t, (batch, groups, 1, keys, w)), (batch, groups, shared, keys, w)),
                (batch, heads, keys, w),
            )
            for t, w in ((k, size), (v, site.type_of(v).shape[3]))
        )
    scores = site.emit("matmul", q, site.transpose(k, (0, 1, 3, 2)))
    scores = site.emit("tanh", site.emit("mul", scores, site.scalar(scale / softcap, dtype)))
    scores = site.emit("mul", scores, site.scalar(softcap, dtype))
    if mask:
        scores = site.emit("add", scores, mask)
    return site.emit("matmul", site.emit("softmax", scores, axis=3), v)


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
