"""Routines that put elements in order."""

from __future__ import annotations

from ...ir.dims import product
from ...ir.kernel import Routine
from .registry import NEEDS, Needs, Size


def _rows(kernel: Routine, size: Size) -> int:
    """Rows along the axis."""
    (x,) = kernel.inputs
    assert x is not None
    axis = dict(kernel.attrs)["axis"]
    assert isinstance(axis, int)
    axis %= len(x.shape)
    return max(size(product((*x.shape[:axis], *x.shape[axis + 1 :]))), 0)


def _topk_work(kernel: Routine, size: Size) -> int:
    """Each element against the least one kept; one in three goes into the heap."""
    (x,) = kernel.inputs
    k = dict(kernel.attrs)["k"]
    assert x is not None and not isinstance(k, str | float | tuple)
    kept = max(size(k), 1)  # type: ignore[arg-type]
    return size(product(x.shape)) * (1 + kept.bit_length() // 3) + _rows(kernel, size) * kept * kept.bit_length()


def _topk_scratch(kernel: Routine, size: Size) -> int:
    """The heap: positions of the elements kept."""
    return 8 * size(dict(kernel.attrs)["k"])  # type: ignore[arg-type]


NEEDS["topk"] = Needs(_topk_work, _rows, _topk_scratch)
