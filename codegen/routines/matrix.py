"""Routines on matrices that are no products."""

from __future__ import annotations

from ...ir.dims import product
from ...ir.kernel import Routine
from .registry import NEEDS, Needs, Size


def _det_work(kernel: Routine, size: Size) -> int:
    """A third of a product of the matrix with itself."""
    (x,) = kernel.inputs
    assert x is not None
    return size(product(x.shape)) * size(x.shape[-1]) // 3


def _matrices(kernel: Routine, size: Size) -> int:
    (y,) = kernel.results
    assert y is not None
    return size(product(y.shape))


def _matrix(kernel: Routine, size: Size) -> int:
    (x,) = kernel.inputs
    assert x is not None
    return 8 * size(x.shape[-1]) ** 2


def _pairs_work(kernel: Routine, size: Size) -> int:
    """A few rounds over a matrix of the classes for each row."""
    (y,) = kernel.results
    assert y is not None
    return 16 * size(product((*y.shape, y.shape[-1])))


def _rows(kernel: Routine, size: Size) -> int:
    (y,) = kernel.results
    assert y is not None
    return size(y.shape[0])


def _form(kernel: Routine, size: Size) -> int:
    """The quadratic form, and its slopes."""
    (y,) = kernel.results
    assert y is not None
    classes = size(y.shape[1])
    return 8 * classes * (classes + 1)


NEEDS["det"] = Needs(_det_work, _matrices, _matrix)
NEEDS["pairwise_probabilities"] = Needs(_pairs_work, _rows, _form)
