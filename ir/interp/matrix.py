"""Meanings of the ops on matrices that are no products."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from .registry import Array, meaning, rounded, wide


@meaning("det")
def det(x: Array) -> Array:
    return rounded(np.linalg.det(wide(x)), x)


@meaning("pairwise_probabilities")
def pairwise_probabilities(x: Array, *, classes: int) -> Array:
    return np.array([_joined(row, classes) for row in x], x.dtype).reshape(len(x), classes)


def _joined(pairs: Array, classes: int) -> Array:
    """Each class in turn is set to its best value and all are made to sum up to 1 again, in the element type throughout: the number
    of rounds is part of the result."""
    real = pairs.dtype.type
    matrix = np.zeros((classes, classes), pairs.dtype)
    for value, (i, j) in zip(pairs, combinations(range(classes), 2), strict=True):
        rest = real(1) - value
        matrix[i, j] = matrix[j, i] = -rest * value
        matrix[i, i] += rest * rest
        matrix[j, j] += value * value
    found = np.full(classes, real(1) / real(classes), pairs.dtype)
    for _ in range(100):
        slopes = np.array([sum(row * found, real(0)) for row in matrix], pairs.dtype)
        common = sum(found * slopes, real(0))
        if not max(abs(slopes - common)) >= real(0.005) / real(classes):
            break
        for i in range(classes):
            step = (common - slopes[i]) / matrix[i, i]
            grown = real(1) + step
            found[i] += step
            common = (common + step * (step * matrix[i, i] + real(2) * slopes[i])) / grown / grown
            slopes = (slopes + step * matrix[i]) / grown
            found /= grown
    return found
