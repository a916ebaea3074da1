"""Meanings of products and windows. Floats accumulate in float64 and are rounded once; integers wrap around."""

from __future__ import annotations

from typing import Any

import numpy as np

from .composite import softmax64
from .reduction import _lowest
from .registry import Array, meaning, rounded, wide


@meaning("matmul")
def matmul(a: Array, b: Array) -> Array:
    return rounded(np.matmul(wide(a), wide(b)), a)


@meaning("attention")
def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, scale: float, causal: bool, softcap: float = 0.0
) -> Array:
    """A query that sees no key yields zeros."""
    repeat = q.shape[1] // k.shape[1]
    keys, values = (np.repeat(wide(x), repeat, axis=1) for x in (k, v))
    scores = scale * np.matmul(wide(q), keys.transpose(0, 1, 3, 2))
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    if mask is not None:
        scores = scores + mask
    if causal:
        queries, total = scores.shape[-2:]
        seen = np.arange(total)[None, :] <= np.arange(queries)[:, None] + total - queries
        scores = np.where(seen, scores, -np.inf)
    blind = (scores == -np.inf).all(-1, keepdims=True)
    shares = np.where(blind, 0.0, softmax64(np.where(blind, 0.0, scores), -1))
    return rounded(np.matmul(shares, values), q)


@meaning("ragged_attention")
def ragged_attention(q: Array, k: Array, v: Array, ends: Array, *, scale: float, causal: bool, longest: int) -> Array:
    out = np.zeros((*q.shape[:2], v.shape[2]), q.dtype)
    starts = [0, *ends[:-1]]
    if len(q) != (ends[-1] if len(ends) else 0) or any(
        not 0 <= e - s <= longest for s, e in zip(starts, ends, strict=True)
    ):
        raise ValueError(f"sequences of up to {longest} rows that end at {list(ends)} do not make {len(q)} rows")
    for start, end in zip(starts, ends, strict=True):
        rows = slice(start, end)
        one = (x[rows].transpose(1, 0, 2)[None] for x in (q, k, v))
        out[rows] = attention(*one, scale=scale, causal=causal)[0].transpose(1, 0, 2)
    return out


def _gelu(x: Array) -> Array:
    """The tanh form."""
    return np.asarray(0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))))


def _silu(x: Array) -> Array:
    return np.asarray(x / (1.0 + np.exp(-x)))


def _relu(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0.0))


_ACTIVATIONS = {"silu": _silu, "gelu": _gelu, "relu": _relu}


@meaning("moe")
def moe(
    x: Array,
    shares: Array,
    up: Array,
    down: Array,
    second: Array | None = None,
    *,
    top_k: int,
    activation: str,
    normalize: bool,
) -> Array:
    """Of equal probabilities the expert with the lower number is chosen; normalize makes those chosen sum to one."""
    wide_x, wide_shares = wide(x), wide(shares)
    result = np.zeros(x.shape, np.float64)
    for row, chosen in enumerate(np.argsort(-wide_shares, axis=1, kind="stable")[:, :top_k]):
        total = wide_shares[row, chosen].sum() if normalize else 1.0
        for expert in chosen:
            hidden = _ACTIVATIONS[activation](wide(up[expert]) @ wide_x[row])
            if second is not None:
                hidden = hidden * (wide(second[expert]) @ wide_x[row])
            result[row] += wide_shares[row, expert] / total * (wide(down[expert]) @ hidden)
    return rounded(result, x)


def windows(x: Array, kernel: tuple[int, ...], strides: Any, pads: Any, dilations: Any, fill: Any) -> Array:
    """The elements under each window: [batch, channels, *spatial] -> [batch, channels, kernel elements, *outputs]."""
    n = len(kernel)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)], constant_values=fill)
    outputs = [(x.shape[2 + i] - (dilations[i] * (kernel[i] - 1) + 1)) // strides[i] + 1 for i in range(n)]
    found = np.empty((*x.shape[:2], int(np.prod(kernel)), *outputs), dtype=x.dtype)
    for index, position in enumerate(np.ndindex(*kernel)):
        first = [p * d for p, d in zip(position, dilations, strict=True)]
        span = [slice(f, f + (o - 1) * s + 1, s) for f, o, s in zip(first, outputs, strides, strict=True)]
        found[:, :, index] = x[(slice(None), slice(None), *span)] if found.size else 0
    return found


def _channels_first(x: Array, channels_last: bool) -> Array:
    return np.moveaxis(x, -1, 1) if channels_last else x


def _layout(x: Array, channels_last: bool) -> Array:
    return np.moveaxis(x, 1, -1) if channels_last else x


@meaning("conv")
def conv(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    channels_last: bool,
    groups: int,
) -> Array:
    """Cross-correlation, as one matrix product for each group over the unfolded windows."""
    columns = windows(wide(_channels_first(x, channels_last)), w.shape[2:], strides, pads, dilations, 0)
    batch, outputs = columns.shape[0], columns.shape[3:]
    columns = columns.reshape(batch, groups, int(np.prod(w.shape[1:])), int(np.prod(outputs)))
    filters = wide(w).reshape(groups, w.shape[0] // groups, int(np.prod(w.shape[1:])))
    result = np.matmul(filters, columns).reshape(batch, w.shape[0], *outputs)
    if bias is not None:
        result = result + bias.reshape(-1, *(1 for _ in outputs))
    return _layout(rounded(result, x), channels_last)


@meaning("max_pool")
def max_pool(x: Array, *, kernel: Any, strides: Any, pads: Any, dilations: Any, channels_last: bool) -> Array:
    """Padding never wins."""
    found = windows(_channels_first(x, channels_last), kernel, strides, pads, dilations, _lowest(x))
    return _layout(rounded(np.max(found, axis=2), x), channels_last)


@meaning("avg_pool")
def avg_pool(
    x: Array, *, kernel: Any, strides: Any, pads: Any, dilations: Any, channels_last: bool, count_include_pad: bool
) -> Array:
    """Padding counts as zeros with `count_include_pad`, else not at all."""
    first = wide(_channels_first(x, channels_last))
    total = np.sum(windows(first, kernel, strides, pads, dilations, 0), axis=2)
    inside = np.ones((1, 1, *first.shape[2:]))
    count = np.sum(windows(inside, kernel, strides, pads, dilations, 1.0 if count_include_pad else 0.0), axis=2)
    return _layout(rounded(total / count, x), channels_last)
