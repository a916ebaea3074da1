"""What the rules of attention share: heads, which keys a query sees, and attention as one row or from its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ....ir.dims import Dim, exact_div
from ....ir.types import DType, bool_, i64
from .. import contents
from ..draft import Draft
from ..unsupported import Unsupported


def split_heads(draft: Draft, value: str, heads: int) -> str:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    type = draft.type_of(value)
    size = exact_div(type.shape[-1], heads) if type.rank == 3 and heads > 0 else None
    if size is None:
        raise Unsupported(f"an operand of type {type} does not split into {heads} heads")
    return draft.transpose(draft.reshape(value, (*type.shape[:2], heads, size)), (0, 2, 1, 3))


def join_heads(draft: Draft, value: str) -> str:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    batch, heads, length, size = draft.type_of(value).shape
    return draft.reshape(draft.transpose(value, (0, 2, 1, 3)), (batch, length, heads * size))


def columns(draft: Draft, keys: Dim) -> str:
    """The number of each key, [keys]."""
    return draft.data(contents.arange(i64, 0, 1, keys))


def rows(draft: Draft, queries: Dim, offset: Dim | str) -> str:
    """The place of each query among the keys, [queries, 1]; `offset` is that of the first one: a dim, or a value [batch, 1, 1, 1]
    that holds one for each sequence (i64), and then the result is [batch, 1, queries, 1]."""
    start = 0 if isinstance(offset, str) else offset
    value = draft.data(contents.along(i64, start, queries, 0, 2))
    return draft.emit("add", value, offset) if isinstance(offset, str) else value


def window(draft: Draft, sizes: tuple[Dim, Dim], offset: Dim | str, left: int, right: int) -> list[str]:
    """Conditions (bool) of keys within `left` keys before the query's place and `right` behind it; -1 is without a bound."""
    if left < 0 and right < 0:
        return []
    place, key = rows(draft, sizes[0], offset), columns(draft, sizes[1])
    found = []
    if right >= 0:
        last = draft.emit("add", place, draft.scalar(right, i64)) if right else place
        found.append(draft.emit("le", key, last))
    if left >= 0:
        first = draft.emit("sub", place, draft.scalar(left, i64)) if left else place
        found.append(draft.emit("ge", key, first))
    return found


def additive(draft: Draft, dtype: DType, added: str, conditions: Sequence[str], hidden: float = -math.inf) -> str:
    """The mask that adds `added` (or nothing) where all conditions hold, and hides the key elsewhere; '' for none."""
    if not conditions:
        return added
    seen = draft.chain("and", conditions)
    return draft.emit("where", seen, added or draft.scalar(0.0, dtype), draft.scalar(hidden, dtype))


def as_mask(draft: Draft, value: str, dtype: DType) -> tuple[str, list[str]]:
    """A mask as (what is added, conditions): booleans are a condition."""
    if draft.type_of(value).dtype == bool_:
        return "", [value]
    return draft.cast(value, dtype), []


@dataclass(frozen=True)
class Scoring:
    """scores = scale * q @ k^T, capped where `softcap` is not 0; `causal`: query i sees keys up to i + keys - queries."""

    scale: float
    causal: bool = False
    softcap: float = 0.0


def default_scale(draft: Draft, q: str, given: float) -> float:
    """`given`, or where it is 0 one over the root of the head size of q [batch, heads, length, size]."""
    size = draft.type_of(q).shape[3]
    if given:
        return given
    if not isinstance(size, int) or size < 1:
        raise Unsupported(f"the head size {size} must be constant and positive")
    return 1.0 / math.sqrt(size)


def attend(draft: Draft, q: str, k: str, v: str, mask: str, scoring: Scoring) -> str:
    """[batch, heads, queries, value size]; k and v may have fewer heads, `mask` ('' for none) is added to the scores."""
    inputs = (q, k, v, mask) if mask else (q, k, v)
    return draft.emit("attention", *inputs, scale=scoring.scale, causal=scoring.causal, softcap=scoring.softcap or None)


def repeated(draft: Draft, value: str, heads: Dim) -> str:
    """Each head of [batch, groups, length, size] as often as it takes to have `heads` of them."""
    groups = draft.type_of(value).shape[1]
    shared = exact_div(heads, groups)
    if shared is None:
        raise Unsupported(f"{groups} key heads for {heads} query heads")
    return value if shared == 1 else draft.repeat(value, 1, shared)


def stages(draft: Draft, q: str, k: str, v: str, mask: str, scoring: Scoring) -> tuple[str, tuple[str, str, str, str]]:
    """Attention from its parts, for those who read what is in between: the scaled scores, these capped, with the mask, and the
    softmax [batch, heads, queries, keys]. A query that sees no key has zeros."""
    dtype = draft.type_of(q).dtype
    batch, heads, queries, _ = draft.type_of(q).shape
    k, v = repeated(draft, k, heads), repeated(draft, v, heads)
    keys = draft.type_of(k).shape[2]
    product = draft.emit("matmul", q, draft.transpose(k, (0, 1, 3, 2)))
    scores = capped = draft.emit("mul", product, draft.scalar(scoring.scale, dtype))
    if scoring.softcap:
        cap = draft.scalar(scoring.softcap, dtype)
        capped = draft.emit("mul", draft.emit("tanh", draft.emit("div", scores, cap)), cap)
    conditions = window(draft, (queries, keys), keys - queries, -1, 0) if scoring.causal else []
    mask = additive(draft, dtype, mask, conditions)
    biased = draft.emit("add", capped, mask) if mask else capped
    shares = draft.emit("softmax", biased, axis=3)
    if mask:
        lowest = draft.scalar(-math.inf, dtype)
        blind = draft.emit("eq", draft.emit("reduce_max", biased, axes=(3,), keepdims=True), lowest)
        shares = draft.emit("where", blind, draft.scalar(0.0, dtype), shares)
    full = (batch, heads, queries, keys)
    return draft.emit("matmul", shares, v), (scores, capped, draft.expand(biased, full), shares)
