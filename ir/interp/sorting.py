"""Meanings of the ops that put elements in order."""

from __future__ import annotations

import numpy as np

from .registry import Array, meaning


@meaning("topk")
def topk(x: Array, *, axis: int, k: int, largest: bool, sorted: bool) -> tuple[Array, Array]:
    """always sorted"""
    order = np.argsort(x, axis, kind="stable")
    if largest:  # equal elements stay in order: sort the reversed row, then reverse the result
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    best = np.take(order, np.arange(k), axis)
    return np.take_along_axis(x, best, axis), best.astype(np.int64)
