"""Rules of attention as the com.microsoft domain has it: with projections, biases, padding masks and caches inside."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ....ir.dims import Dim, dim_max, exact_div
from ....ir.types import DType, bool_, i32, i64
from .. import contents
from ..draft import Draft
from ..unsupported import Unsupported
from .attend import (
    Scoring,
    additive,
    attend,
    columns,
    default_scale,
    join_heads,
    repeated,
    rows,
    split_heads,
    stages,
    window,
)
from .registry import Result, rule
from .rotary import rotated, turned_by
from .site import Site

_MASKED = -10000.0
#: Distances from here on share a bucket in any case.
_FARTHEST = 1 << 16


class Operands(NamedTuple):
    """[batch, heads, length, size] each."""

    q: str
    k: str
    v: str


def _refuse(site: Site, *inputs: int) -> None:
    for index in inputs:
        if site.has(index):
            raise Unsupported(f"input {index} is not supported yet")


def padding_mask(site: Site, index: int, dtype: DType, sizes: tuple[Dim, Dim, Dim]) -> str:
    """The added form of a mask of keys for (batch, queries, keys), '' for none: 1 for tokens and 0 for padding [batch, keys] or
    [batch, queries, keys], the number of keys [batch], or ends and starts [2 * batch]."""
    if not site.has(index):
        return ""
    hidden = site.get_float("mask_filter_value", _MASKED)
    batch, queries, keys = sizes
    value, shape = site.x(index), site.type(index).shape
    if site.type(index).dtype != bool_ and len(shape) > 1:
        value = site.emit("ne", value, site.scalar(0, site.type(index).dtype))
    if shape == (batch, keys):
        seen = [site.reshape(value, (batch, 1, 1, keys))]
    elif shape == (batch, queries, keys):
        seen = [site.reshape(value, (batch, 1, queries, keys))]
    elif len(shape) == 1 and shape[0] in (batch, 2 * batch):
        ends = site.reshape(site.cast(site.slice(value, 0, 0, batch), i64), (batch, 1, 1, 1))
        seen = [site.emit("lt", columns(site, keys), ends)]
        if shape[0] != batch:
            starts = site.reshape(site.cast(site.slice(value, 0, batch, batch), i64), (batch, 1, 1, 1))
            seen.append(site.emit("ge", columns(site, keys), starts))
    else:
        raise Unsupported(f"a mask of shape {shape} for {batch} sequences of {queries} queries and {keys} keys")
    return additive(site, dtype, "", seen, hidden)


def _attended(site: Site, given: Operands, mask: str, bias: int) -> str:
    """Attention, with what input `bias` adds to the scores, unidirectional where the attribute says so."""
    if site.has(bias):
        mask = site.emit("add", mask, site.x(bias)) if mask else site.x(bias)
    scale = default_scale(site, given.q, site.get_float("scale"))
    causal = bool(site.get_int("unidirectional"))
    return join_heads(site, attend(site, *given, mask, Scoring(scale, causal)))


def _projected(site: Site, both: str, sizes: tuple[Dim, Dim, Dim]) -> tuple[str, str, str]:
    """[.., q + k + v] taken apart."""
    axis = site.type_of(both).rank - 1
    q, k, v = sizes
    return site.slice(both, axis, 0, q), site.slice(both, axis, q, k), site.slice(both, axis, q + k, v)


def _merged(site: Site, both: str, mask_at: int, past_at: int, bias_at: int) -> list[Result]:
    """What Attention and QAttention do behind the projection [batch, length, q + k + v]; past and present are [2, batch, heads,
    length, size]."""
    heads, kind = site.get_int("num_heads"), site.type_of(both)
    if kind.rank != 3:
        raise Unsupported(f"takes [batch, length, width], and projects it to {kind}")
    sizes = site.get_ints("qkv_hidden_sizes") if site.op == "Attention" else None
    third = exact_div(kind.shape[2], 3)
    three = third is not None if sizes is None else len(sizes) == 3
    if not three:
        raise Unsupported(f"a projection of {kind.shape[2]} columns is not three of {list(sizes or ()) or 'one size'}")
    if site.get_int("do_rotary") or site.get_int("past_present_share_buffer"):
        raise Unsupported("do_rotary and past_present_share_buffer are not supported yet")
    q, k, v = (split_heads(site, x, heads) for x in _projected(site, both, sizes or (third,) * 3))  # type: ignore[arg-type]
    if site.has(past_at):
        site.shape(past_at, 5)
        past = [site.slice(site.x(past_at), 0, at, 1) for at in (0, 1)]
        shape = site.type_of(past[0]).shape[1:]
        k, v = (
            site.emit("concat", site.reshape(old, shape), new, axis=2) for old, new in zip(past, (k, v), strict=True)
        )
    batch, _, queries, _ = site.type_of(q).shape
    keys = site.type_of(k).shape[2]
    mask = padding_mask(site, mask_at, site.type_of(q).dtype, (batch, queries, keys))
    results: list[Result] = [_attended(site, Operands(q, k, v), mask, bias_at)]
    if site.used(1):
        both_now = [site.reshape(x, (1, *site.type_of(x).shape)) for x in (k, v)]
        results.append(site.emit("concat", *both_now, axis=0))
    return results


@rule("Attention", domain="com.microsoft")
def attention(site: Site) -> list[Result]:
    """Inputs: x [batch, length, width], weights [width, q + k + v], bias, mask, past, added to the scores."""
    _refuse(site, 6)
    both = site.emit("matmul", site.x(0), site.x(1))
    if site.has(2):
        both = site.emit("add", both, site.x(2))
    return _merged(site, both, 3, 4, 5)


@rule("QAttention", domain="com.microsoft")
def quantized_attention(site: Site) -> list[Result]:
    """Attention whose x and weights are whole numbers with scales and zero points: x, weights, bias, scales, mask, zero points."""
    parts = []
    for index, zero in ((0, 6), (1, 7)):
        value = site.cast(site.x(index), i32)
        if site.has(zero):
            value = site.emit("sub", value, site.cast(site.x(zero), i32))
        parts.append(value)
    scale = site.emit("mul", site.x(3), site.x(4))
    both = site.emit("mul", site.cast(site.emit("matmul", *parts), site.type(3).dtype), scale)
    if site.has(2):
        both = site.emit("add", both, site.x(2))
    return _merged(site, both, 5, 8, 9)


# -- multi-head attention


def _given(site: Site, heads: int) -> Operands:
    """q, k and v of MultiHeadAttention, however they are packed, with their biases."""
    x = site.x(0)
    if site.type(0).rank == 5:  # [batch, length, heads, 3, size]
        return Operands(*(_packed(site, x, at) for at in range(3)))
    bias = ["", "", ""]
    if site.has(3):
        width = site.shape(0, 3)[2]
        tail = site.shape(3, 1)[0] - 2 * width
        bias = list(_projected(site, site.x(3), (width, width, tail)))

    def head(value: str, added: str) -> str:
        return split_heads(site, site.emit("add", value, added) if added else value, heads)

    q = head(x, bias[0])
    if not site.has(1):
        raise Unsupported("a packed query must have rank 5")
    if not site.has(2):  # [batch, length, heads, 2, size]
        site.shape(1, 5)
        return Operands(q, _packed(site, site.x(1), 0), _packed(site, site.x(1), 1))
    if site.type(1).rank == 4:
        return Operands(q, site.x(1), site.x(2))
    return Operands(q, head(site.x(1), bias[1]), head(site.x(2), bias[2]))


def _packed(site: Site, value: str, at: int) -> str:
    """One of the matrices in [batch, length, heads, matrices, size], heads first."""
    batch, length, heads, _, size = site.type_of(value).shape
    one = site.reshape(site.slice(value, 3, at, 1), (batch, length, heads, size))
    return site.transpose(one, (0, 2, 1, 3))


@rule("MultiHeadAttention", domain="com.microsoft")
def multi_head_attention(site: Site) -> list[Result]:
    """Inputs: query, key, value, bias, key padding mask, added to the scores, past key, past value."""
    _refuse(site, 8, 9)
    q, k, v = _given(site, site.get_int("num_heads"))
    if site.has(6):
        k, v = site.emit("concat", site.x(6), k, axis=2), site.emit("concat", site.x(7), v, axis=2)
    batch, _, queries, _ = site.type_of(q).shape
    sizes = (batch, queries, site.type_of(k).shape[2])
    mask = padding_mask(site, 4, site.type_of(q).dtype, sizes)
    return [_attended(site, Operands(q, k, v), mask, 5), k, v]


# -- grouped queries


class Cache(NamedTuple):
    """Where new keys go: the length of the cache behind the step, and of each sequence the tokens it holds before it (i64
    [batch, 1, 1, 1], or '' where that is none)."""

    length: Dim
    before: str


def _cache(site: Site, batch: Dim, fresh: Dim) -> Cache:
    """From seqlens_k (tokens behind the step, less one) and total_sequence_length, the greatest of them."""
    if not site.has(3):
        return Cache(fresh, "")
    past = site.shape(3, 4)[2]
    site.shape(4, 4)
    known = site.known(6)
    cell = known.scalar() if known is not None else None
    total = past + fresh if cell is None or isinstance(cell, float) else cell
    if total == fresh and past == 0:
        return Cache(fresh, "")
    length = total if site.facts.at_least(total, past) else past if site.facts.at_least(past, total) else None
    last = site.reshape(site.cast(site.x(5), i64), (batch, 1, 1, 1))
    before = site.emit("sub", last, site.scalar(fresh - 1, i64))
    # in a first step of sequences that differ in length none has a past, and short ones are filled up behind
    before = site.emit("max", before, site.scalar(0, i64))
    return Cache(dim_max(total, past) if length is None else length, before)


def _joined(site: Draft, old: str, new: str, cache: Cache) -> str:
    """The cache [batch, groups, cache.length, size] with the new rows behind what each sequence has, and zeros behind those."""
    batch, groups, fresh, size = site.type_of(new).shape
    past = site.type_of(old).shape[2]
    place = site.emit("sub", site.reshape(columns(site, cache.length), (cache.length, 1)), cache.before)
    last = site.scalar(fresh - 1, i64)
    index = site.emit("min", site.emit("max", place, site.scalar(0, i64)), last)  # [batch, 1, cache.length, 1]
    start = site.emit("mul", _numbers(site, batch, groups), site.scalar(fresh, i64))
    flat = site.reshape(new, (batch * groups * fresh, size))
    index = site.reshape(site.emit("add", index, start), (batch, groups, cache.length))
    moved = site.emit("gather", flat, index, axis=0)  # [batch, groups, cache.length, size]
    rest = cache.length - past
    if rest != 0:
        filler = site.data(contents.full(site.type_of(old).dtype, (batch, groups, rest, size), 0))
        old = site.emit("concat", old, filler, axis=2)
    nothing = site.scalar(0.0, site.type_of(new).dtype)
    moved = site.emit("where", site.emit("le", place, last), moved, nothing)
    return site.emit("where", site.emit("lt", place, site.scalar(0, i64)), old, moved)


def _numbers(site: Draft, batch: Dim, groups: Dim) -> str:
    """The number of each key head of each sequence, [batch, groups, 1, 1]."""
    b = site.emit("mul", site.data(contents.arange(i64, 0, 1, batch)), site.scalar(groups, i64))
    g = site.reshape(site.data(contents.arange(i64, 0, 1, groups)), (1, groups, 1, 1))
    return site.emit("add", site.reshape(b, (batch, 1, 1, 1)), g)


@rule("GroupQueryAttention", domain="com.microsoft")
def group_query_attention(site: Site) -> list[Result]:
    """Inputs: query (or q, k and v in one), key, value, past key, past value, seqlens_k, total_sequence_length, tables of cosines
    and sines, position ids, added to the scores, a sink for each head."""
    heads, groups = site.get_int("num_heads"), site.get_int("kv_num_heads")
    _refuse(site, 12, 13)
    for name in ("sliding_window_cache", "qk_output"):
        if site.get_int(name):
            raise Unsupported(f"{name} is not supported yet")
    q, k, v = _grouped(site, heads, groups)
    batch, _, queries, _ = site.type_of(q).shape
    fresh = site.type_of(k).shape[2]
    if site.has(14):
        epsilon = site.get_float("qk_norm_epsilon", 1e-6)
        q, k = (site.emit("rms_norm", x, site.x(at), axis=3, epsilon=epsilon) for x, at in ((q, 14), (k, 15)))
    cache = _cache(site, batch, fresh)
    offset: Dim | str = cache.before or 0
    if site.get_int("do_rotary"):
        if site.has(9) and not cache.before:
            site.shape(9, 2)
            place = site.cast(site.x(9), i64)
        else:
            place = site.reshape(rows(site, queries, offset), (batch if cache.before else 1, queries))
        site.shape(7, 2), site.shape(8, 2)
        interleaved = bool(site.get_int("rotary_interleaved"))
        tables = [turned_by(site, site.emit("gather", site.x(i), place, axis=0), interleaved) for i in (7, 8)]
        q, k = (rotated(site, x, tables, interleaved) for x in (q, k))
    if cache.before:
        k, v = _joined(site, site.x(3), k, cache), _joined(site, site.x(4), v, cache)
    keys, causal = site.type_of(k).shape[2], bool(site.get_int("causal", 1))
    aligned = causal and not cache.before and queries == keys
    left = site.get_int("local_window_size", -1)
    conditions = window(
        site, (queries, keys), offset, left - 1 if left >= 0 else -1, -1 if aligned or not causal else 0
    )
    if cache.before and not causal:
        after = site.emit("add", cache.before, site.scalar(fresh, i64))
        conditions.append(site.emit("lt", columns(site, keys), after))
    mask = additive(site, site.type_of(q).dtype, site.x(10) if site.has(10) else "", conditions)
    scale = default_scale(site, q, site.get_float("scale"))
    scoring = Scoring(scale, aligned, site.get_float("softcap"))
    smooth = site.get_int("smooth_softmax", -1) == 1
    if smooth or site.has(11):
        value = _with_sink(site, Operands(q, k, v), mask, scoring, site.x(11) if site.has(11) else "")
    else:
        value = attend(site, q, k, v, mask, scoring)
    return [join_heads(site, value), k, v]


def _grouped(site: Site, heads: int, groups: int) -> Operands:
    if site.has(1):
        given = (site.x(0), heads), (site.x(1), groups), (site.x(2), groups)
        return Operands(*(split_heads(site, x, n) for x, n in given))
    width = site.shape(0, 3)[2]
    size = exact_div(width, heads + 2 * groups)
    if size is None:
        raise Unsupported(f"a packed query of {width} columns for {heads} and twice {groups} heads")
    parts = _projected(site, site.x(0), (heads * size, groups * size, groups * size))
    return Operands(*(split_heads(site, x, n) for x, n in zip(parts, (heads, groups, groups), strict=True)))


def _with_sink(site: Draft, given: Operands, mask: str, scoring: Scoring, sink: str) -> str:
    """Attention with one more score in the softmax, whose key has no value: `sink` [heads], or 0."""
    dtype = site.type_of(given.q).dtype
    batch, heads, queries, _ = site.type_of(given.q).shape
    _, (_, _, biased, _) = stages(site, *given, mask, scoring)
    keys = site.type_of(biased).shape[3]
    shape = (batch, heads, queries, 1)
    extra = site.expand(site.reshape(sink, (1, heads, 1, 1)) if sink else site.scalar(0.0, dtype), shape)
    shares = site.emit("softmax", site.emit("concat", biased, extra, axis=3), axis=3)
    return site.emit("matmul", site.slice(shares, 3, 0, keys), repeated(site, given.v, heads))


def _buckets(count: int, farthest: int, both: bool) -> np.ndarray:
    """The bucket of each distance of a key from a query, from -farthest to farthest: half of the buckets are for single distances,
    the others grow like logarithms; with `both`, half of all are for keys behind the query (T5, Raffel et al. 2020)."""
    apart = -np.arange(-farthest, farthest + 1)
    base = np.where(apart < 0, count // 2, 0) if both else np.zeros_like(apart)
    count, apart = (count // 2, abs(apart)) if both else (count, np.maximum(apart, 0))
    single = count // 2
    ratio = np.log(np.maximum(apart, 1).astype(np.float32) / np.float32(single)) / np.float32(
        math.log(farthest / single)
    )
    grown = np.minimum(single + (ratio * np.float32(count - single)).astype(np.int64), count - 1)
    return np.asarray(base + np.where(apart < single, apart, grown))


@rule("RelativePositionBias", domain="com.microsoft")
def relative_position_bias(site: Site) -> Result:
    """[1, heads, queries, keys] from a table [buckets, heads], the number of queries and that of keys."""
    count, _ = site.shape(0, 2)
    farthest, both = site.get_int("max_distance", 128), bool(site.get_int("is_bidirectional"))
    lengths = [site.dims(index, what) for index, what in ((1, "the number of queries"), (2, "the number of keys"))]
    if (
        not isinstance(count, int)
        or count < 4
        or not count < farthest <= _FARTHEST
        or any(len(n) != 1 for n in lengths)
    ):
        raise Unsupported(f"{count} buckets for distances up to {farthest}")
    apart = site.emit("sub", columns(site, lengths[1][0]), rows(site, lengths[0][0], 0))
    place = site.emit("add", apart, site.scalar(farthest, i64))
    place = site.emit("min", site.emit("max", place, site.scalar(0, i64)), site.scalar(2 * farthest, i64))
    bucket = site.emit("gather", site.constant(_buckets(count, farthest, both)), place, axis=0)
    bias = site.transpose(site.emit("gather", site.x(0), bucket, axis=0), (2, 0, 1))
    return site.reshape(bias, (1, *site.type_of(bias).shape))
