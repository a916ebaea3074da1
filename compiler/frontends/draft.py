"""What rules of every front end write with: nodes from one place of the model, at the end of a graph under construction."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Union

import numpy as np

from ...ir.builder import GraphBuilder
from ...ir.dims import Bounds, Dim, Expr, Shape, symbol, symbol_of, typical, upper
from ...ir.errors import Source
from ...ir.graph import Attr
from ...ir.types import DType, TensorType, i64
from . import contents
from .emit import Emitter
from .known import Known
from .scalars import Facts, Scalar
from .unsupported import Unsupported

#: A tensor while it is imported: a value of the graph, or known contents.
Tensor = Union[str, Known]


class Draft:
    """Adds nodes that come from `source`; `facts` decides what depends on the bounds of symbolic dims."""

    def __init__(self, builder: GraphBuilder, emitter: Emitter, facts: Facts, source: Source) -> None:
        self.builder, self.emitter, self.facts, self.source = builder, emitter, facts, source

    def emit(self, op: str, *inputs: str, **attrs: Attr | None) -> str:
        return self.builder.op(op, *inputs, source=self.source, outputs=1, **attrs)

    def emit_all(self, op: str, *inputs: str, outputs: int, **attrs: Attr | None) -> tuple[str, ...]:
        """A node with several outputs."""
        return self.builder.all(op, *inputs, source=self.source, outputs=outputs, **attrs)

    def type_of(self, value: Tensor) -> TensorType:
        """The type of a graph value, or of known contents."""
        return value.type if isinstance(value, Known) else self.builder.types[value]

    def scalar(self, value: Scalar, dtype: DType) -> str:
        """A scalar: a constant, or what a symbolic dim comes to."""
        if isinstance(value, Expr):
            return self.data(contents.scalar(dtype, value))
        return self.emitter.scalar(dtype, value)

    def constant(self, array: np.ndarray, dtype: DType | None = None) -> str:
        """`array` in its own element type, or in `dtype`."""
        return self.emitter.constant(array, dtype)

    def data(self, value: Tensor) -> str:
        """A graph value as it is; known contents put into the graph."""
        return self.emitter.known(value, self.source) if isinstance(value, Known) else value

    def runtime_dim(self, hint: str, most: Dim) -> Dim:
        """A new symbol, from 0 to `most`, that a node is going to set when it runs; call it once for each."""
        symbols = self.builder.symbols
        name = next(name for k in itertools.count() if (name := f"{hint}_{k}") not in symbols)
        symbols[name] = Bounds(0, max(typical(most, symbols), 0), max(upper(most, symbols), 0))
        return symbol(name)

    def after(self, dim: Dim, value: str) -> str:
        """`value` as it is, known no sooner than a run-time dim."""
        name = symbol_of(dim)
        assert name is not None
        return self.builder.after(name, value, self.source)

    def chain(self, op: str, values: Sequence[str]) -> str:
        total = values[0]
        for value in values[1:]:
            total = self.emit(op, total, value)
        return total

    def possible(self, dtype: DType, shape: Sequence[Dim]) -> Shape:
        """A shape that the model asks for. Raises Unsupported where no tensor can have it."""
        type = TensorType(dtype, tuple(shape))
        if type.fault:
            raise Unsupported(f"makes {type}: {type.fault}")
        return type.shape

    def reshape(self, value: str, shape: Sequence[Dim]) -> str:
        return value if self.type_of(value).shape == tuple(shape) else self.emit("reshape", value, shape=tuple(shape))

    def expand(self, value: str, shape: Sequence[Dim]) -> str:
        return value if self.type_of(value).shape == tuple(shape) else self.emit("expand", value, shape=tuple(shape))

    def transpose(self, value: str, perm: Sequence[int]) -> str:
        return value if list(perm) == list(range(len(perm))) else self.emit("transpose", value, perm=tuple(perm))

    def cast(self, value: str, to: DType) -> str:
        return value if self.type_of(value).dtype == to else self.emit("cast", value, to=to)

    def extent(self, value: Tensor, axis: int) -> Dim:
        """How long a tensor is along an axis. Raises Unsupported where it has none such."""
        type = self.type_of(value)
        if not -type.rank <= axis < type.rank:
            raise Unsupported(f"{type} has no axis {axis}")
        return type.shape[axis]

    def slice(self, value: str, axis: int, start: Dim, extent: Dim, step: int = 1) -> str:
        """Evenly spaced elements of one axis; a negative step goes through a gather."""
        have = self.extent(value, axis)
        if start == 0 and extent == have and step == 1:
            return value
        if step > 0:
            return self.emit("slice", value, axis=axis, start=start, extent=extent, step=step)
        indices = contents.arange(i64, start, step, extent)
        return self.emit("gather", value, self.data(indices), axis=axis)

    def repeat(self, value: str, axis: int, times: Dim) -> str:
        """Each element of an axis `times` times, next to each other."""
        shape = self.type_of(value).shape
        before, extent, after = shape[:axis], self.extent(value, axis), shape[axis + 1 :]
        value = self.reshape(value, (*before, extent, 1, *after))
        value = self.expand(value, (*before, extent, times, *after))
        return self.reshape(value, (*before, extent * times, *after))

    def viewed(self, value: Tensor, shape: Sequence[Dim]) -> Tensor:
        """A tensor under another shape; what is known stays known."""
        folded = contents.reshape(value, tuple(shape)) if isinstance(value, Known) else None
        return folded or self.reshape(self.data(value), shape)

    def part(self, value: Tensor, axis: int, start: Dim, extent: Dim, step: int = 1) -> Tensor:
        """`slice` of a tensor; what is known stays known."""
        folded = contents.slice_axis(value, axis, start, extent, step) if isinstance(value, Known) else None
        return folded or self.slice(self.data(value), axis, start, extent, step)

    def axis(self, value: int, rank: int) -> int:
        """An axis made non-negative, checked."""
        if not -rank <= value < rank:
            raise Unsupported(f"axis {value} is out of range for rank {rank}")
        return value % rank
