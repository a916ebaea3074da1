"""Meanings of the reductions. Floats accumulate in float64 and are rounded once; integers wrap around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .registry import Array, meaning, rounded, truncating_div, wide


def _lowest(x: Array) -> Any:
    if np.issubdtype(x.dtype, np.floating):
        return -np.inf
    return False if x.dtype == bool else np.iinfo(x.dtype).min


def _highest(x: Array) -> Any:
    if np.issubdtype(x.dtype, np.floating):
        return np.inf
    return True if x.dtype == bool else np.iinfo(x.dtype).max


@meaning("reduce_sum")
def reduce_sum(x: Array, *, axes: tuple[int, ...], keepdims: bool) -> Array:
    w = wide(x)
    return rounded(np.sum(w, axis=axes, keepdims=keepdims, dtype=w.dtype), x)


@meaning("reduce_prod")
def reduce_prod(x: Array, *, axes: tuple[int, ...], keepdims: bool) -> Array:
    w = wide(x)
    return rounded(np.prod(w, axis=axes, keepdims=keepdims, dtype=w.dtype), x)


@meaning("reduce_mean")
def reduce_mean(x: Array, *, axes: tuple[int, ...], keepdims: bool) -> Array:
    """Integers: the wrapped sum, divided towards zero."""
    w = wide(x)
    total = np.asarray(np.sum(w, axis=axes, keepdims=keepdims, dtype=w.dtype))
    count = np.prod([x.shape[a] for a in axes], dtype=np.int64)
    if np.issubdtype(x.dtype, np.integer):
        return truncating_div(total, np.asarray(count).astype(x.dtype))
    return rounded(total / count, x)


@meaning("reduce_max")
def reduce_max(x: Array, *, axes: tuple[int, ...], keepdims: bool) -> Array:
    """NaN wins; the maximum of nothing is the least value of the type."""
    return rounded(np.max(x, axis=axes, keepdims=keepdims, initial=_lowest(x)), x)


@meaning("reduce_min")
def reduce_min(x: Array, *, axes: tuple[int, ...], keepdims: bool) -> Array:
    """NaN wins; the minimum of nothing is the greatest value of the type."""
    return rounded(np.min(x, axis=axes, keepdims=keepdims, initial=_highest(x)), x)


def _arg(choose: Callable[..., Any], x: Array, axis: int, keepdims: bool, select_last: bool) -> Array:
    if select_last:
        index = x.shape[axis] - 1 - choose(np.flip(x, axis), axis=axis, keepdims=keepdims)
    else:
        index = choose(x, axis=axis, keepdims=keepdims)
    return np.asarray(index, dtype=np.int64)


@meaning("argmax")
def argmax(x: Array, *, axis: int, keepdims: bool, select_last: bool) -> Array:
    """The first of equal maxima, or the last one; the first NaN counts as the maximum."""
    return _arg(np.argmax, x, axis, keepdims, select_last)


@meaning("argmin")
def argmin(x: Array, *, axis: int, keepdims: bool, select_last: bool) -> Array:
    """The first of equal minima, or the last one; the first NaN counts as the minimum."""
    return _arg(np.argmin, x, axis, keepdims, select_last)


@meaning("cumsum")
def cumsum(x: Array, *, axis: int, exclusive: bool, reverse: bool) -> Array:
    """Sums of the elements up to each one along `axis`: without itself if `exclusive`, from the end if `reverse`."""
    return _running(np.cumsum, 0, x, axis, exclusive, reverse)


@meaning("cumprod")
def cumprod(x: Array, *, axis: int, exclusive: bool, reverse: bool) -> Array:
    """Products of the elements up to each one along `axis`: without itself if `exclusive`, from the end if `reverse`."""
    return _running(np.cumprod, 1, x, axis, exclusive, reverse)


def _running(fold: Callable[..., Any], first: int, x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
    w = np.flip(wide(x), axis) if reverse else wide(x)
    total = fold(w, axis=axis, dtype=w.dtype)
    if exclusive:
        total = np.roll(total, 1, axis)
        total[(slice(None),) * (axis % x.ndim) + (slice(0, 1),)] = first
    return rounded(np.flip(total, axis) if reverse else total, x)
