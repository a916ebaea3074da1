"""What a rule sees of the model: one ONNX node, its attributes and inputs, and the graph under construction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx

from ....ir.dims import Dim, Expr, Shape
from ....ir.errors import Source
from ....ir.types import DType, TensorType
from ..draft import Draft
from ..known import Known
from ..scalars import Scalar
from ..unsupported import Unsupported
from .bodies import plain_name
from .structured import Value

if TYPE_CHECKING:
    from .importer import Importer

_KINDS = {
    "int": onnx.AttributeProto.INT,
    "float": onnx.AttributeProto.FLOAT,
    "str": onnx.AttributeProto.STRING,
    "ints": onnx.AttributeProto.INTS,
    "floats": onnx.AttributeProto.FLOATS,
    "tensor": onnx.AttributeProto.TENSOR,
}


class Site(Draft):
    """One node being imported. Attribute getters take the default; input getters take the position."""

    def __init__(self, importer: Importer, node: onnx.NodeProto, opset: int, source: Source) -> None:
        super().__init__(importer.builder, importer.emitter, importer.facts, source)
        self.importer, self.node, self.opset = importer, node, opset
        self.op = node.op_type
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

    def get_floats(self, name: str) -> tuple[float, ...] | None:
        attribute = self._attribute(name, "floats")
        return None if attribute is None else tuple(float(v) for v in attribute.floats)

    def get_tensor(self, name: str) -> onnx.TensorProto | None:
        attribute = self._attribute(name, "tensor")
        return None if attribute is None else attribute.t

    def attribute(self, name: str) -> onnx.AttributeProto | None:
        self.unread.discard(name)
        return self._attributes.get(name)

    def like(self, node: onnx.NodeProto, opset: int = 0) -> Site:
        """Another node in the same place, of the same opset if none is given; attributes that its rule reads count as read here."""
        site = Site(self.importer, node, opset or self.opset, self.source)
        site.unread = self.unread
        return site

    def given(self, *inputs: Value) -> Site:
        """The same node with other inputs."""
        node = onnx.NodeProto()
        node.CopyFrom(self.node)
        node.input[:] = [self.importer.temporary(value) for value in inputs]
        return self.like(node)

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

    def shape(self, index: int, *ranks: int) -> Shape:
        """The shape of an input, which must have one of these ranks."""
        type = self.type(index)
        if type.rank not in ranks:
            raise Unsupported(f"input {index} must have rank {' or '.join(map(str, ranks))}, got {type}")
        return type.shape

    def shape_from(self, index: int, rank: int) -> Shape:
        """The shape of an input, which must have this rank or a greater one."""
        type = self.type(index)
        if type.rank < rank:
            raise Unsupported(f"input {index} must have rank {rank} or more, got {type}")
        return type.shape

    def type(self, index: int = 0) -> TensorType:
        return self.importer.type_of(self._name(index))

    def known(self, index: int = 0) -> Known | None:
        """The known contents of an input."""
        return self.importer.known(self._name(index))

    def all_known(self) -> list[Known] | None:
        found = [self.known(i) for i in range(self.count)]
        return [k for k in found if k is not None] if all(k is not None for k in found) else None

    def value(self, index: int = 0) -> Value:
        """Whatever an input stands for."""
        found = self.importer.found(self._name(index), self.source)
        assert found is not None, "a rule runs only where all inputs were imported"
        return found

    def contents(self, index: int, what: str) -> Known:
        """The contents of an input that must be known. Where they are not, the problem names the inputs they depend on."""
        name = self._name(index)
        known = self.importer.required(name)
        if known is None:
            needs = self.importer.needs(name)
            hint = " ".join(f"--constant {one}=VALUE" for one in needs)
            on = (
                f"on the {'input' if len(needs) == 1 else 'inputs'} {', '.join(map(repr, needs))}"
                if needs
                else "on the data"
            )
            raise Unsupported(
                f"{what} ({plain_name(name)!r}) must be known when compiling; here it depends {on}",
                f"give its value when compiling: {hint}" if needs else "",
                follows=name in self.importer.tainted,
                needs=needs,
            )
        return known

    def numbers(self, index: int, what: str) -> list[int]:
        """A one-dimensional (or scalar) input of whole numbers that must be constant."""
        values = self.dims(index, what)
        if any(isinstance(v, Expr) for v in values):
            raise Unsupported(f"{what} must be constant, got [{', '.join(map(repr, values))}]", follows=True)
        return [v for v in values if not isinstance(v, Expr)]

    def dims(self, index: int, what: str) -> list[Dim]:
        """A one-dimensional (or scalar) input whose elements must be known, symbolically at least."""
        known = self.contents(index, what)
        values = known.list() if known.rank <= 1 else None
        if values is None:
            raise Unsupported(
                f"{what} ({plain_name(self._name(index))!r}) of type {known.type} must be a short list", follows=True
            )
        if any(isinstance(v, float) and not math.isfinite(v) for v in values):
            raise Unsupported(f"{what} must be finite, got [{', '.join(map(repr, values))}]", follows=True)
        return [int(v) if isinstance(v, float) else v for v in values]

    def number(self, index: int, what: str) -> Scalar:
        """A one-element input that must be known."""
        known = self.contents(index, what)
        values = known.list()
        if values is None or len(values) != 1:
            raise Unsupported(
                f"{what} ({plain_name(self._name(index))!r}) of type {known.type} must be one number", follows=True
            )
        return values[0]

    def whole(self, index: int, what: str) -> int:
        """A one-element input that must be one whole number, and constant."""
        value = self.number(index, what)
        if isinstance(value, Expr) or (isinstance(value, float) and not value.is_integer()):
            raise Unsupported(f"{what} must be one whole number, got {value!r}", follows=True)
        return int(value)

    # -- results

    def dtype_of(self, code: int) -> DType:
        """The element type of a TensorProto.DataType. Raises Unsupported where this import does not take it."""
        return self.importer.tensors.dtype_of(code)

    def used(self, index: int) -> bool:
        """Whether anything reads an output."""
        return index < len(self.node.output) and self.node.output[index] in self.importer.read
