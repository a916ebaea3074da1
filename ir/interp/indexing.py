"""Meanings of the ops that put elements where indices say, and of those that tell elements apart."""

from __future__ import annotations

import numpy as np

from ..narrow import narrowed, widened
from ..types import DType
from .registry import Array, meaning

_COMBINE = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def _positions(indices: Array, extent: int) -> Array:
    """Negative indices count from the end; raises IndexError out of range."""
    if indices.size and not (-extent <= indices.min() and indices.max() < extent):
        raise IndexError(f"indices from {indices.min()} to {indices.max()} into an axis of extent {extent}")
    found = indices.astype(np.int64)
    return np.where(found < 0, found + extent, found)


def _combined(reduction: str, old: Array, new: Array, kind: DType) -> Array:
    """An update put in place of an element, or combined with it and rounded."""
    if reduction == "none":
        return new
    return narrowed(np.asarray(_COMBINE[reduction](widened(old, kind), widened(new, kind))), kind)


@meaning("scatter", typed=True)
def scatter(x: Array, rows: Array, updates: Array, *, reduction: str, types: tuple[DType, ...]) -> Array:
    """others out of range are an error"""
    result = x.copy()
    for row, update in zip(_positions(rows, x.shape[0]), updates, strict=True):
        result[row] = _combined(reduction, result[row], update, types[0])
    return result


@meaning("scatter_elements", typed=True)
def scatter_elements(
    x: Array, indices: Array, updates: Array, *, axis: int, reduction: str, types: tuple[DType, ...]
) -> Array:
    """others out of range are an error"""
    result, where = x.copy(), _positions(indices, x.shape[axis])
    for at in np.ndindex(indices.shape):
        here = list(at)
        here[axis] = where[at]
        place = tuple(here)
        result[place] = _combined(reduction, result[place], updates[at], types[0])
    return result


@meaning("unique")
def unique(x: Array, *, sorted: bool) -> tuple[Array, Array, Array, Array]:
    order = np.lexsort([x[:, column] for column in reversed(range(x.shape[1]))] or [np.zeros(len(x))])
    first: list[int] = []
    which = np.zeros(len(x), np.int64)
    for at in order:
        if not first or not np.array_equal(x[first[-1]], x[at], equal_nan=x.dtype.kind == "f"):
            first.append(at)
        which[at] = len(first) - 1
    firsts = np.array(first, np.int64)
    if not sorted:
        occurrence = np.argsort(firsts, kind="stable")
        which, firsts = np.argsort(occurrence, kind="stable")[which], firsts[occurrence]
    counts = np.bincount(which, minlength=len(firsts)).astype(np.int64)
    return x[firsts], firsts, which.astype(np.int64), counts
