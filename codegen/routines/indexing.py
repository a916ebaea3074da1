"""Routines that put elements where indices say."""

from __future__ import annotations

from ...ir.dims import product
from ...ir.kernel import Routine
from .registry import NEEDS, Needs, Size

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


NEEDS["scatter"] = Needs(_scatter_work, _pieces)
NEEDS["scatter_elements"] = Needs(_scatter_work, _pieces)
