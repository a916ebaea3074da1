"""Rules of attention."""

from __future__ import annotations

import math

from ....ir.dims import Dim, product
from ....ir.types import DType, bool_, i64
from .. import contents
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


@rule("scaled_dot_product_attention")
def scaled_dot_product_attention(site: Site) -> Result:
    """q [..., heads, queries, size]; axes before the heads are one batch. Without heads there is one.

    A query that sees no key gives zeros, in torch as here. Causal is counted from the first query in torch, from the last here.
    """
    if site.number("dropout_p"):
        raise Unsupported("drops elements at random", "call eval() before exporting")
    kinds = [site.type(name) for name in ("query", "key", "value")]
    rank = kinds[0].rank
    if any(kind.rank != rank for kind in kinds) or rank < 3:
        raise Unsupported(f"of {', '.join(map(str, kinds))} is not supported")
    q, k, v = (_four(site, site.x(name), rank) for name in ("query", "key", "value"))
    size = kinds[0].shape[-1]
    if not isinstance(size, int) and not site.has("scale"):
        raise Unsupported(f"the head size {size} must be constant")
    scale = site.number("scale") if site.has("scale") else 1.0 / math.sqrt(int(str(size)))
    queries, keys = kinds[0].shape[-2], kinds[1].shape[-2]
    causal = site.flag("is_causal")
    aligned = causal and queries == keys
    mask = _mask(site, rank, causal and not aligned, queries, keys)
    value = site.emit("attention", q, k, v, *((mask,) if mask else ()), scale=scale, causal=aligned)
    return site.reshape(value, site.result().shape)


def _four(site: Site, value: str, rank: int) -> str:
    shape = site.type_of(value).shape
    if rank == 3:
        return site.reshape(value, (shape[0], 1, *shape[1:]))
    return value if rank == 4 else site.reshape(value, (product(shape[:-3]), *shape[-3:]))


def _mask(site: Site, rank: int, causal: bool, queries: Dim, keys: Dim) -> str:
    """The additive mask, or the empty string."""
    dtype: DType = site.type("query").dtype
    masked, zero = site.scalar(-math.inf, dtype), site.scalar(0.0, dtype)
    mask = ""
    if site.has("attn_mask"):
        mask = site.x("attn_mask")
        kind = site.type("attn_mask")
        if kind.dtype == bool_:
            known = site.known("attn_mask")
            if known is not None and known.uniform == 1:
                mask = ""
            else:
                mask = site.emit("where", mask, zero, masked)
        elif kind.dtype != dtype:
            mask = site.cast(mask, dtype)
        if mask:
            mask = _mask_of_rank(site, mask, rank)
    if causal:
        rows = contents.along(i64, 0, queries, 0, 2)
        seen = site.emit("le", site.data(contents.arange(i64, 0, 1, keys)), site.data(rows))
        triangle = site.emit("where", seen, zero, masked)
        mask = site.emit("add", mask, triangle) if mask else triangle
    return mask


def _mask_of_rank(site: Site, mask: str, rank: int) -> str:
    shape = site.type_of(mask).shape
    if rank == 3 and len(shape) == 3:
        return site.reshape(mask, (shape[0], 1, *shape[1:]))
    if rank > 4 and len(shape) > 3:
        batch = site.type("query").shape[:-3]
        whole = (*batch, *shape[-3:])
        return site.reshape(site.expand(mask, whole), (product(batch), *shape[-3:]))
    return mask
