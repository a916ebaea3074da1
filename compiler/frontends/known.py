"""Known contents: tensors of numbers and symbolic dims, kept beside the graph while a model is imported.

An axis is either *listed* (one cell per position) or *spread* (one cell stands for all, an expression over the position
`_axis<k>` along it), so `Range(0, seq)` is the one cell `_axis0` and a static vector lists its numbers. Shape
arithmetic, position ids and mask grids stay in this form until an operator needs them as data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.dims import Dim, Expr, Shape, product, symbol
from ...ir.types import DType, TensorType
from .scalars import Scalar, Undecided, axis_name, plus, rename, used_axes

#: Dense contents hold at most this many cells.
LIMIT = 4096
#: Steps of evenly spaced constants are smaller: times a position they stay whole numbers of 64 bits.
_STEEPEST = 1 << 31
#: Up to here a static axis may be listed to fit another operand's listed axis.
_LISTED = 1024


def filled(shape: Sequence[int], value: Scalar) -> np.ndarray:
    cells = np.empty(tuple(shape), object)
    cells[...] = value
    return cells


def apply_cells(function: Callable[..., Scalar], *arrays: Any) -> np.ndarray:
    arrays = np.broadcast_arrays(*(np.asarray(a, object) for a in arrays))  # never numpy's own integers
    out = np.empty(arrays[0].shape, object)
    for index in np.ndindex(out.shape):
        out[index] = function(*(a[index] for a in arrays))
    return out


@dataclass(frozen=True, eq=False)
class Known:
    """`cells` has the rank of `shape`; where an extent differs from the cells' (then 1), the axis is spread."""

    dtype: DType
    shape: Shape
    cells: np.ndarray

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def is_spread(self, axis: int) -> bool:
        return bool(self.cells.shape[axis] != self.shape[axis])

    @property
    def any_spread(self) -> bool:
        return any(self.is_spread(a) for a in range(self.rank))

    @property
    def uniform(self) -> Scalar | None:
        """The value of every element when they are one number; a symbolic one counts if no position is in it."""
        if self.cells.size != 1:
            return None
        value: Scalar = self.cells.reshape(-1)[0]
        return None if used_axes(value) else value

    def scalar(self) -> Scalar | None:
        """The element of a one-element tensor."""
        return self.uniform if product(self.shape) == 1 else None

    def list(self) -> list[Scalar] | None:
        """The elements of a tensor with listed elements, in order; None where there are too many."""
        listed = self.listed()
        return None if listed is None else list(listed.cells.reshape(-1))

    def numbers(self) -> np.ndarray | None:
        """The contents as a numpy array, where nothing is symbolic."""
        listed = self.listed()
        if listed is None or any(isinstance(v, Expr) for v in listed.cells.reshape(-1)):
            return None
        return listed.cells.astype(self.dtype.np)

    # -- between the two forms

    def listed(self) -> Known | None:
        """The same with every axis dense."""
        known: Known | None = self
        for axis in range(self.rank):
            known = known and known.listed_axis(axis)
        return known

    def listed_axis(self, axis: int) -> Known | None:
        if not self.is_spread(axis):
            return self
        extent = self.shape[axis]
        if not isinstance(extent, int) or extent > _LISTED or extent * self.cells.size > LIMIT:
            return None
        parts = [apply_cells(lambda v, p=position: rename(v, {axis: p}), self.cells) for position in range(extent)]
        cells = np.concatenate(parts, axis) if parts else self.cells.take([], axis)
        return Known(self.dtype, self.shape, cells)

    def spread_axis(self, axis: int) -> Known | None:
        """The same with one expression for all of an axis; None where its elements are not evenly spaced."""
        extent = self.cells.shape[axis]
        if self.is_spread(axis) or extent == 1:
            return self
        if extent == 0:
            return Known(
                self.dtype, self.shape, filled([1 if i == axis else n for i, n in enumerate(self.cells.shape)], 0)
            )
        lines = np.moveaxis(self.cells, axis, 0)
        if any(isinstance(v, float) for v in self.cells.flat) and any(v != self.cells.flat[0] for v in self.cells.flat):
            return None
        first = lines[0]
        step = lines[1] - first
        for position in range(2, extent):
            if not np.all(np.equal(lines[position], first + step * position)):
                return None
        where = symbol(axis_name(axis))
        cells = apply_cells(lambda a, s: a if s == 0 else a + where * s, first, step)
        return Known(self.dtype, self.shape, np.expand_dims(cells, axis))


def from_array(dtype: DType, array: np.ndarray) -> Known | None:
    """Known contents of a constant: listed where it is small, spread where it is large but evenly spaced."""
    if array.size <= LIMIT:
        known = Known(dtype, tuple(array.shape), np.empty(array.shape, object))
        known.cells[...] = np.array(array.tolist(), object).reshape(array.shape)
        return known
    if dtype.is_float:
        return None
    shape, cells = tuple(array.shape), array
    steps = []
    for axis in range(array.ndim):  # one line per axis must explain everything
        first = cells.take([0], axis)
        step = int(cells.take([1], axis).flat[0]) - int(first.flat[0]) if shape[axis] > 1 else 0
        along = [1] * array.ndim
        along[axis] = shape[axis]
        if abs(step) >= _STEEPEST or not np.array_equal(cells, first + step * np.arange(shape[axis]).reshape(along)):
            return None
        steps.append(step)
        cells = first
    value: Scalar = int(cells.flat[0])
    for axis, step in enumerate(steps):
        value = plus(value, symbol(axis_name(axis)) * step) if step else value
    return Known(dtype, shape, filled([1] * array.ndim, value))


def vector(dtype: DType, values: Sequence[Scalar]) -> Known:
    cells = np.empty(len(values), object)
    for index, value in enumerate(values):
        cells[index] = value
    return Known(dtype, (len(values),), cells)


def scalar(dtype: DType, value: Scalar) -> Known:
    return Known(dtype, (), filled((), value))


def full(dtype: DType, shape: Shape, value: Scalar) -> Known:
    return Known(dtype, shape, filled([1] * len(shape), value))


def arange(dtype: DType, start: Scalar, step: Scalar, extent: Dim) -> Known:
    if extent == 1:
        return vector(dtype, [start])
    where = symbol(axis_name(0))
    if isinstance(start, float) or isinstance(step, float):
        raise Undecided
    return Known(dtype, (extent,), filled((1,), start + where * step))
