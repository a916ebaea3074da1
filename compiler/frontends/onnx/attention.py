"""The rule of attention."""

from __future__ import annotations

import math

from ....ir.dims import Dim
from ....ir.types import DType, bool_, i64
from .. import contents
from ..unsupported import Unsupported
from .attend import (
    Scoring,
    additive,
    as_mask,
    attend,
    columns,
    default_scale,
    join_heads,
    split_heads,
    stages,
    window,
)
from .registry import Result, rule
from .site import Site


def _heads(site: Site, index: int, attribute: str) -> str:
    """[batch, heads, length, size] from that, or from [batch, length, heads * size]."""
    return site.x(index) if site.type(index).rank == 4 else split_heads(site, site.x(index), site.get_int(attribute))


def _mask(site: Site, keys: Dim, dtype: DType) -> tuple[str, list[str]]:
    """What the mask adds and the condition it sets; keys behind a shorter mask are hidden."""
    if not site.has(3):
        return "", []
    value, shape = site.x(3), site.type(3).shape
    if not shape:
        raise Unsupported("a scalar mask")
    short = shape[-1] != keys and not (shape[-1] == 1 and site.opset < 24)
    if short:
        rest = keys - shape[-1]
        if not site.facts.at_least(rest, 0):
            raise Unsupported(f"a mask of {site.type(3)} for {keys} keys")
        value = site.cast(value, dtype) if site.type(3).dtype != bool_ else value
        kind = site.type_of(value).dtype
        tail = site.data(contents.full(kind, (*shape[:-1], rest), 0 if kind == bool_ else -math.inf))
        value = site.emit("concat", value, tail, axis=len(shape) - 1)
    return as_mask(site, value, dtype)


@rule("Attention")
def attention(site: Site) -> list[Result]:
    """A cache is joined in front of keys and values, and comes back longer; the oldest key is then the first. With
    nonpad_kv_seqlen the keys hold a cache already, of which each sequence has so many."""
    q, k, v = _heads(site, 0, "q_num_heads"), _heads(site, 1, "kv_num_heads"), _heads(site, 2, "kv_num_heads")
    if site.has(4) != site.has(5) or (site.has(4) and site.has(6)):
        raise Unsupported("past_key goes with past_value, and with no nonpad_kv_seqlen")
    if site.has(4):
        site.shape(4, 4), site.shape(5, 4)
        k, v = site.emit("concat", site.x(4), k, axis=2), site.emit("concat", site.x(5), v, axis=2)
    dtype, keys, queries = site.type(0).dtype, site.type_of(k).shape[2], site.type_of(q).shape[2]
    added, conditions = _mask(site, keys, dtype)
    offset: Dim | str = site.type(4).shape[2] if site.has(4) else 0
    if site.has(6):
        (batch,) = site.shape(6, 1)
        lengths = site.reshape(site.cast(site.x(6), i64), (batch, 1, 1, 1))
        conditions.append(site.emit("lt", columns(site, keys), lengths))
        offset = site.emit("sub", lengths, site.scalar(queries, i64))
    causal = bool(site.get_int("is_causal"))
    left, right = site.get_int("left_window_size", -1), site.get_int("right_window_size", -1)
    # our row counts from the last key, ONNX from the first query's place
    aligned = causal and not isinstance(offset, str) and queries + offset == keys
    if causal and not aligned:
        right = 0
    conditions += window(site, (queries, keys), offset, left, right)
    mask = additive(site, dtype, added, conditions)
    scale = default_scale(site, q, site.get_float("scale"))
    scoring = Scoring(scale, aligned, site.get_float("softcap"))
    mode = site.get_int("qk_matmul_output_mode")
    between: list[Result] = []
    if site.used(3):
        if not 0 <= mode < 4:
            raise Unsupported(f"qk_matmul_output_mode = {mode}")
        value, found = stages(site, q, k, v, mask, scoring)
        between = [found[mode]]
    else:
        value = attend(site, q, k, v, mask, scoring)
    return [value if site.type(0).rank == 4 else join_heads(site, value), k, v, *between]
