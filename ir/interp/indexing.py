"""Meanings of the ops that put elements where indices say."""

from __future__ import annotations

import numpy as np

from .registry import Array, meaning

_COMBINE = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def _positions(indices: Array, extent: int) -> Array:
    """Negative indices count from the end; raises IndexError out of range."""
    if indices.size and not (-extent <= indices.min() and indices.max() < extent):
        raise IndexError(f"indices from {indices.min()} to {indices.max()} into an axis of extent {extent}")
    found = indices.astype(np.int64)
    return np.where(found < 0, found + extent, found)


@meaning("scatter")
def scatter(x: Array, rows: Array, updates: Array, *, reduction: str) -> Array:
    """others out of range are an error"""
    result = x.copy()
    for row, update in zip(_positions(rows, x.shape[0]), updates, strict=True):
        result[row] = update if reduction == "none" else _COMBINE[reduction](result[row], update)
    return result


@meaning("scatter_elements")
def scatter_elements(x: Array, indices: Array, updates: Array, *, axis: int, reduction: str) -> Array:
    """others out of range are an error"""
    result, where = x.copy(), _positions(indices, x.shape[axis])
    for at in np.ndindex(indices.shape):
        here = list(at)
        here[axis] = where[at]
        place = tuple(here)
        result[place] = updates[at] if reduction == "none" else _COMBINE[reduction](result[place], updates[at])
    return result
