"""Routines that put elements where indices say, and that tell elements apart."""

from __future__ import annotations

from ...ir.dims import product
from ...ir.kernel import Routine
from .registry import NEEDS, Needs, Size, one_part

#: A part takes at least so many elements.
_PIECE = 1024


def _scatter_work(kernel: Routine, size: Size) -> int:
    """The copy, and every update."""
    x, _, updates = kernel.inputs
    assert x is not None and updates is not None
    return (size(product(x.shape)) + 2 * size(product(updates.shape))) // 2


def _pieces(kernel: Routine, size: Size) -> int:
    (y,) = kernel.results
    assert y is not None
    return size(product(y.shape)) // _PIECE


def _unique_work(kernel: Routine, size: Size) -> int:
    """A merge sort of rows."""
    (x,) = kernel.inputs
    assert x is not None
    rows = size(x.shape[0])
    return 4 * rows * rows.bit_length()


def _unique_scratch(kernel: Routine, size: Size) -> int:
    """Positions in order and a spare of them, which one each row is, and the first of each."""
    (x,) = kernel.inputs
    assert x is not None
    return 32 * size(x.shape[0])


NEEDS["unique"] = Needs(_unique_work, one_part, _unique_scratch)
NEEDS["scatter"] = Needs(_scatter_work, _pieces)
NEEDS["scatter_elements"] = Needs(_scatter_work, _pieces)
