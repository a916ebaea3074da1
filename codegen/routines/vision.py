"""Routines on images and boxes."""

from __future__ import annotations

from math import prod

from ...ir.dims import product
from ...ir.kernel import Routine
from .registry import NEEDS, Needs, Size

#: Positions, and channels, whose neighbours are found at once.
_POINTS = 64


def _taps(kernel: Routine) -> int:
    """Elements that one result is made of."""
    (x, _), mode = kernel.inputs, dict(kernel.attrs).get("mode", "linear")
    assert x is not None
    each = {"nearest": 1, "linear": 2, "cubic": 4}[str(mode)]
    return int(each ** (len(x.shape) - 2))


def _results(kernel: Routine, size: Size) -> int:
    return max(size(product(dense.shape)) for dense in kernel.results if dense is not None)


def _planes(kernel: Routine, size: Size) -> int:
    """Images and channels of the result."""
    return max(size(product(dense.shape[:2])) for dense in kernel.results if dense is not None)


def _sample_units(kernel: Routine, size: Size) -> int:
    where = kernel.inputs[1]
    assert where is not None
    return size(where.shape[0]) * -(-size(product(where.shape[1:-1])) // _POINTS)


def _box_rows(kernel: Routine, size: Size) -> int:
    (y,) = kernel.results
    assert y is not None
    return size(y.shape[0] * y.shape[2])


def _window(kernel: Routine) -> int:
    attrs = dict(kernel.attrs)
    sizes = attrs["kernel"] if "kernel" in attrs else attrs["block"]
    assert isinstance(sizes, tuple)
    return prod(int(str(size)) for size in sizes)


def _plane_sums(kernel: Routine, size: Size) -> int:
    (y,) = kernel.results
    assert y is not None
    return 8 * size(product(y.shape[2:]))


def _pairs(kernel: Routine, size: Size) -> int:
    """Each box through the heap, and against some of those taken."""
    scores = kernel.inputs[1]
    assert scores is not None
    boxes = size(scores.shape[2])
    return size(product(scores.shape)) * (boxes.bit_length() + 8)


def _classes(kernel: Routine, size: Size) -> int:
    """Classes of images."""
    scores = kernel.inputs[1]
    assert scores is not None
    return size(product(scores.shape[:2]))


def _boxes(kernel: Routine, size: Size) -> int:
    scores = kernel.inputs[1]
    assert scores is not None
    return 8 * size(scores.shape[2])


NEEDS["sample"] = Needs(
    lambda kernel, size: _results(kernel, size) * _taps(kernel),
    _sample_units,
    lambda kernel, _: 16 * _POINTS * _taps(kernel),
)
NEEDS["roi_align"] = Needs(lambda kernel, size: 16 * _results(kernel, size), _box_rows)
NEEDS["roi_pool"] = Needs(lambda kernel, size: 16 * _results(kernel, size), _planes)
NEEDS["max_pool_at"] = Needs(lambda kernel, size: _results(kernel, size) * _window(kernel), _planes)
NEEDS["col2im"] = Needs(lambda kernel, size: _results(kernel, size) * _window(kernel), _planes, _plane_sums)
NEEDS["non_max_suppression"] = Needs(_pairs, _classes, _boxes)
