"""Ensembles of decision trees, a row at a time."""

from __future__ import annotations

from ...ir.dims import product
from ...ir.kernel import Routine
from .registry import NEEDS, Needs, Size

#: Nodes on the way to a leaf.
_DEPTH = 8


def _work(kernel: Routine, size: Size) -> int:
    x, roots = kernel.inputs[0], kernel.inputs[5]
    assert x is not None and roots is not None
    return 4 * _DEPTH * size(product((x.shape[0], *roots.shape)))


def _rows(kernel: Routine, size: Size) -> int:
    assert kernel.inputs[0] is not None
    return size(kernel.inputs[0].shape[0])


def _scratch(kernel: Routine, size: Size) -> int:
    """Sums in f64."""
    (y,) = kernel.results
    assert y is not None
    return 8 * size(y.shape[1])


NEEDS["trees"] = Needs(_work, _rows, _scratch)
