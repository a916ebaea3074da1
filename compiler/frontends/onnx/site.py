"""What a rule sees of the model: one ONNX node, its attributes and inputs, and the graph under construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ....ir.dims import Dim, Expr
from ....ir.errors import Source
from ....ir.graph import Attr
from ....ir.types import DType, TensorType, i64
from . import contents
from .known import Known
from .scalars import Facts, Scalar
from .tensors import Unsupported

if TYPE_CHECKING:
    from .importer import Importer

_KINDS = {
    "int": onnx.AttributeProto.INT,
    "float": onnx.AttributeProto.FLOAT,
    "str": onnx.AttributeProto.STRING,
    "ints": onnx.AttributeProto.INTS,
    "tensor": onnx.AttributeProto.TENSOR,
}


class Site:
    """One node being imported. Attribute getters take the default; input getters take the position."""

    def __init__(self, importer: Importer, node: onnx.NodeProto, opset: int, source: Source) -> None:
        self.importer, self.node, self.opset, self.source = importer, node, opset, source
        self.op = node.op_type
        self.facts: Facts = importer.facts
        self._attributes = {a.name: a for a in node.attribute}
        self.unread = set(self._attributes)  # attributes no rule has looked at yet

    # -- attributes

    def has_attribute(self, name: str) -> bool:
        return name in self._attributes

    def _attribute(self, name: str, kind: str) -> onnx.AttributeProto | None:
        attribute = self.attribute(name)
        if attribute is not None and attribute.type != _KINDS[kind]:
            raise Unsupported(f"attribute {name} must be of type {kind}")
        return attribute

    def get_int(self, name: str, default: int = 0) -> int:
        attribute = self._attribute(name, "int")
        return default if attribute is None else int(attribute.i)

    def get_float(self, name: str, default: float = 0.0) -> float:
        attribute = self._attribute(name, "float")
        return default if attribute is None else float(attribute.f)

    def get_str(self, name: str, default: str = "") -> str:
        attribute = self._attribute(name, "str")
        return default if attribute is None else attribute.s.decode("utf-8", "replace")

    def get_ints(self, name: str) -> tuple[int, ...] | None:
        attribute = self._attribute(name, "ints")
        return None if attribute is None else tuple(int(v) for v in attribute.ints)

    def get_tensor(self, name: str) -> onnx.TensorProto | None:
        attribute = self._attribute(name, "tensor")
        return None if attribute is None else attribute.t

    def attribute(self, name: str) -> onnx.AttributeProto | None:
        self.unread.discard(name)
        return self._attributes.get(name)

    # -- inputs

    @property
    def count(self) -> int:
        """How many inputs are written down, absent trailing ones not counted."""
        names = list(self.node.input)
        while names and not names[-1]:
            names.pop()
        return len(names)

    def has(self, index: int) -> bool:
        return index < len(self.node.input) and self.node.input[index] != ""

    def _name(self, index: int) -> str:
        if not self.has(index):
            raise Unsupported(f"input {index} is missing")
        return str(self.node.input[index])

    def x(self, index: int = 0) -> str:
        """The graph value of an input; known contents are put into the graph."""
        return self.importer.value(self._name(index), self.source)

    def xs(self) -> list[str]:
        return [self.x(i) for i in range(self.count)]

    def type(self, index: int = 0) -> TensorType:
        return self.importer.type_of(self._name(index))

    def known(self, index: int = 0) -> Known | None:
        """The known contents of an input."""
        return self.importer.known(self._name(index))

    def all_known(self) -> list[Known] | None:
        found = [self.known(i) for i in range(self.count)]
        return [k for k in found if k is not None] if all(k is not None for k in found) else None

    def numbers(self, index: int, what: str) -> list[int]:
        """A one-dimensional (or scalar) input of whole numbers that must be constant."""
        values = self.dims(index, what)
        if any(isinstance(v, Expr) for v in values):
            raise Unsupported(f"{what} must be constant, got [{', '.join(map(repr, values))}]", follows=True)
        return [v for v in values if not isinstance(v, Expr)]

    def dims(self, index: int, what: str) -> list[Dim]:
        """A one-dimensional (or scalar) input whose elements must be known, symbolically at least."""
        known = self.known(index)
        values = known.list() if known is not None and known.rank <= 1 else None
        if values is None:
            raise Unsupported(
                f"{what} ({self._name(index)!r}) must be known when compiling; here it depends on the data",
                follows=True,
            )
        return [int(v) if isinstance(v, float) else v for v in values]

    def number(self, index: int, what: str) -> Scalar:
        """A one-element input that must be known."""
        known = self.known(index)
        values = known.list() if known is not None else None
        if values is None or len(values) != 1:
            raise Unsupported(f"{what} ({self._name(index)!r}) must be one known number", follows=True)
        return values[0]

    # -- results

    def dtype_of(self, code: int) -> DType:
        """The element type of a TensorProto.DataType. Raises Unsupported where this import does not take it."""
        return self.importer.tensors.dtype_of(code)

    def emit(self, op: str, *inputs: str, **attrs: Attr | None) -> str:
        return self.importer.builder.op(op, *inputs, source=self.source, outputs=1, **attrs)

    def type_of(self, value: str) -> TensorType:
        """The type of a graph value."""
        return self.importer.builder.types[value]

    def scalar(self, value: Scalar, dtype: DType) -> str:
        """A constant scalar."""
        return self.importer.emitter.scalar(dtype, value)

    def constant(self, array: np.ndarray) -> str:
        return self.importer.emitter.constant(array)

    def data(self, known: Known) -> str:
        """Known contents as a graph value."""
        return self.importer.emitter.known(known, self.source)

    def chain(self, op: str, values: Sequence[str]) -> str:
        total = values[0]
        for value in values[1:]:
            total = self.emit(op, total, value)
        return total

    def reshape(self, value: str, shape: Sequence[Dim]) -> str:
        return value if self.type_of(value).shape == tuple(shape) else self.emit("reshape", value, shape=tuple(shape))

    def expand(self, value: str, shape: Sequence[Dim]) -> str:
        return value if self.type_of(value).shape == tuple(shape) else self.emit("expand", value, shape=tuple(shape))

    def transpose(self, value: str, perm: Sequence[int]) -> str:
        return value if list(perm) == list(range(len(perm))) else self.emit("transpose", value, perm=tuple(perm))

    def cast(self, value: str, to: DType) -> str:
        return value if self.type_of(value).dtype == to else self.emit("cast", value, to=to)

    def slice(self, value: str, axis: int, start: Dim, extent: Dim, step: int = 1) -> str:
        """Evenly spaced elements of one axis; a negative step goes through a gather."""
        have = self.type_of(value).shape[axis]
        if start == 0 and extent == have and step == 1:
            return value
        if step > 0:
            return self.emit("slice", value, axis=axis, start=start, extent=extent, step=step)
        indices = contents.arange(i64, start, step, extent)
        return self.emit("gather", value, self.data(indices), axis=axis)

    def axis(self, value: int, rank: int) -> int:
        """An axis made non-negative, checked."""
        if not -rank <= value < max(rank, 1):
            raise Unsupported(f"axis {value} is out of range for rank {rank}")
        return value % rank if rank else 0

    def used(self, index: int) -> bool:
        """Whether anything reads an output."""
        return index < len(self.node.output) and self.node.output[index] in self.importer.read
