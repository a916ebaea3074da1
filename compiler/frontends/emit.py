"""Puts known contents into the graph as data when an operator needs them: constants, `dim`, `iota` and arithmetic."""

from __future__ import annotations

import numpy as np

from ...ir.builder import GraphBuilder
from ...ir.dims import Atom, Dim, Expr, Shape
from ...ir.errors import Source
from ...ir.graph import Inline, Weight
from ...ir.narrow import narrowed
from ...ir.types import DType, TensorType, bool_, from_numpy, i64
from .known import Known
from .scalars import AXIS, Scalar, used_axes

_CALLS = {"floordiv": "div", "mod": "mod", "min": "min", "max": "max"}


class Emitter:
    """Adds nodes for known contents to one builder; equal constants are shared."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self._constants: dict[tuple[str, Shape, bytes], str] = {}

    def mark(self) -> dict[tuple[str, Shape, bytes], str]:
        """The constants so far, to come back to by `take_back`."""
        return dict(self._constants)

    def take_back(self, mark: dict[tuple[str, Shape, bytes], str]) -> None:
        self._constants = mark

    def constant(self, array: np.ndarray, dtype: DType | None = None) -> str:
        """`array` in its own element type, or in `dtype`."""
        array = np.asarray(array)
        if dtype is not None:
            whole = array.astype(np.int64) if dtype.is_narrow and dtype.is_integer else array
            array = narrowed(whole, dtype).astype(dtype.np)
        dtype = dtype or from_numpy(array.dtype)
        key = (dtype.name, tuple(array.shape), array.tobytes())
        if key not in self._constants:
            content = Inline(np.ascontiguousarray(array).tobytes())
            weight = Weight(self.builder.fresh("c"), TensorType(dtype, tuple(array.shape)), content)
            self._constants[key] = self.builder.weight(weight)
        return self._constants[key]

    def scalar(self, dtype: DType, value: Scalar) -> str:
        return self.constant(np.array(value), dtype)

    def known(self, known: Known, source: Source) -> str:
        """The value that holds `known`."""
        numbers = known.cells if _concrete(known) else None
        if numbers is not None and not known.any_spread:
            return self.constant(numbers, known.dtype)
        if known.cells.size == 1:
            return self._one_cell(known, source)
        axis = next(a for a in range(known.rank) if known.cells.shape[a] != 1)
        if numbers is not None:
            value = self.constant(numbers, known.dtype)
        else:
            value = self._joined(known, axis, source)
        return self._shaped(value, known.shape, source)

    def _joined(self, known: Known, axis: int, source: Source) -> str:
        """Piece by piece along a listed axis; neighbours that are plain numbers stay one constant."""
        pieces: list[Known] = []
        shape = (*known.shape[:axis], 1, *known.shape[axis + 1 :])
        for position in range(known.cells.shape[axis]):
            piece = Known(known.dtype, shape, known.cells.take([position], axis))
            if pieces and _concrete(pieces[-1]) and _concrete(piece):
                last = pieces.pop()
                grown = (*shape[:axis], last.cells.shape[axis] + 1, *shape[axis + 1 :])
                piece = Known(known.dtype, grown, np.concatenate([last.cells, piece.cells], axis))
            pieces.append(piece)
        values = [self.known(piece, source) for piece in pieces]
        return values[0] if len(values) == 1 else self.builder.op("concat", *values, source=source, axis=axis)

    def _one_cell(self, known: Known, source: Source) -> str:
        cell: Scalar = known.cells.reshape(-1)[0]
        if not isinstance(cell, Expr):
            return self._shaped(self.scalar(known.dtype, cell), known.shape, source)
        dtype = i64 if known.dtype.is_float or known.dtype == bool_ else known.dtype
        value = self._expression(cell, known.shape, dtype, source)
        if dtype != known.dtype:
            value = self.builder.op("cast", value, source=source, to=known.dtype)
        return self._shaped(value, known.shape, source)

    def _expression(self, cell: Dim, shape: Shape, dtype: DType, source: Source) -> str:
        """A value that broadcasts to `shape` and holds `cell` at each position."""
        if isinstance(cell, int):
            return self.scalar(dtype, cell)
        if not used_axes(cell):
            return self.builder.op("dim", source=source, value=cell, dtype=dtype)
        total = ""
        free: Dim = 0  # the terms without a position, joined into one dim
        for monomial, coefficient in cell.terms:
            term = Expr(((monomial, coefficient),))
            if not used_axes(term):
                free = free + term if monomial else free + coefficient
                continue
            value = ""
            scale: Dim = coefficient
            for atom in monomial:
                alone = Expr((((atom,), 1),))
                if not used_axes(alone):
                    scale = scale * alone
                    continue
                factor = self._atom(atom, shape, dtype, source)
                value = self.builder.op("mul", value, factor, source=source) if value else factor
            if scale != 1:
                value = self.builder.op("mul", value, self._expression(scale, shape, dtype, source), source=source)
            total = self.builder.op("add", total, value, source=source) if total else value
        if free != 0:
            total = self.builder.op("add", total, self._expression(free, shape, dtype, source), source=source)
        return total

    def _atom(self, atom: Atom, shape: Shape, dtype: DType, source: Source) -> str:
        if isinstance(atom, str):
            axis = int(atom[len(AXIS) :])
            value = self.builder.op("iota", source=source, extent=shape[axis], dtype=dtype)
            behind = len(shape) - axis - 1
            if behind:
                value = self.builder.op("reshape", value, source=source, shape=(shape[axis], *(1,) * behind))
            return value
        left = self._expression(atom.left, shape, dtype, source)
        right = self._expression(atom.right, shape, dtype, source)
        return self.builder.op(_CALLS[atom.function], left, right, source=source)

    def _shaped(self, value: str, shape: Shape, source: Source) -> str:
        have = self.builder.types[value].shape
        if have == shape:
            return value
        if all(d == 1 for d in shape):
            return self.builder.op("reshape", value, source=source, shape=shape)
        return self.builder.op("expand", value, source=source, shape=shape)


def _concrete(known: Known) -> bool:
    return not any(isinstance(v, Expr) for v in known.cells.flat)
