"""Level one, *what*: operators over typed tensors with symbolic dims, and weights as references into files.

Values are named by strings, each defined once: by an input, a weight or a node. Nodes stand in topological order.
A *cluster* is a node of op `cluster` whose `body` computes its outputs from its inputs; bodies do not nest further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Union

from .dims import Bounds, Expr
from .errors import Source
from .types import DType, TensorType

#: Attribute values: numbers, strings, dtypes, dims, and tuples of these.
Attr = Union[bool, int, float, str, DType, Expr, tuple["Attr", ...]]
Attrs = tuple[tuple[str, Attr], ...]


def make_attrs(values: Mapping[str, Attr | None]) -> Attrs:
    """Sorted attribute pairs; None values are left out."""
    return tuple(sorted((k, v) for k, v in values.items() if v is not None))


@dataclass(frozen=True)
class Node:
    """One operator applied. An absent optional input is the empty string."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Attrs = ()
    source: Source = Source()
    body: tuple[Node, ...] = ()

    def attr(self, name: str, default: Any = None) -> Any:
        for key, value in self.attrs:
            if key == name:
                return value
        return default

    def with_attrs(self, **changes: Attr | None) -> Node:
        """A copy with attributes set; None removes one."""
        return replace(self, attrs=make_attrs({**dict(self.attrs), **changes}))

    @property
    def output(self) -> str:
        """The only output."""
        (value,) = self.outputs
        return value

    @property
    def used(self) -> tuple[str, ...]:
        """Inputs that are present, each once."""
        return tuple(dict.fromkeys(v for v in self.inputs if v))


@dataclass(frozen=True)
class FileBytes:
    """Bytes of a file: `file` is relative to the model's folder."""

    file: str
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Inline:
    """Bytes kept in the graph itself: little-endian, dense, row-major."""

    data: bytes


@dataclass(frozen=True)
class Derived:
    """A constant computed from other weights by one op, evaluated only when its bytes are packed."""

    op: str
    inputs: tuple[str, ...]
    attrs: Attrs = ()


@dataclass(frozen=True)
class Weight:
    """A constant tensor whose bytes are a reference, never an array in memory. `name` is the value it defines."""

    name: str
    type: TensorType
    content: FileBytes | Inline | Derived
    label: str = ""


@dataclass(frozen=True)
class Port:
    """An input or output of the model: its public name and the value behind it."""

    name: str
    value: str


@dataclass(frozen=True)
class Graph:
    """A model. `types` holds the type of every value, those inside cluster bodies included."""

    name: str
    symbols: Mapping[str, Bounds]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: Mapping[str, Weight]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    folder: str = field(default="", compare=False)  # where `FileBytes.file` is looked up; never printed

    def walk(self) -> Iterator[Node]:
        """Every node; a cluster before its body."""
        for node in self.nodes:
            yield node
            yield from node.body

    def producers(self) -> dict[str, Node]:
        """The top-level node that defines each value."""
        return {v: node for node in self.nodes for v in node.outputs if v}

    def users(self) -> dict[str, list[Node]]:
        """The top-level nodes that read each value, in order, each once per value. Graph outputs are not nodes."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in node.used:
                found.setdefault(value, []).append(node)
        return found

    @property
    def input_values(self) -> tuple[str, ...]:
        return tuple(port.value for port in self.inputs)

    @property
    def output_values(self) -> tuple[str, ...]:
        return tuple(port.value for port in self.outputs)


class GraphBuilder:
    """Builds or edits a graph node by node: derives each output's type from the op's row, so types are never trusted.

    The one mutable thing of the IR; it lives inside a single function and ends with `finish`.
    """

    def __init__(self, base: Graph | None = None, *, name: str = "graph", symbols: Mapping[str, Bounds] | None = None):
        self.name = base.name if base else name
        self.folder = base.folder if base else ""
        self.symbols = dict(base.symbols if base else symbols or {})
        self.inputs = list(base.inputs) if base else []
        self.weights = dict(base.weights) if base else {}
        self.types: dict[str, TensorType] = {}
        if base:
            self.types = {p.value: base.types[p.value] for p in base.inputs}
            self.types |= {name: weight.type for name, weight in base.weights.items()}
        self.nodes: list[Node] = []
        self._taken = set(base.types) if base else set()
        self._next = 0

    def fresh(self, hint: str = "v") -> str:
        """A value name not used before."""
        while True:
            name = f"{hint}{self._next}"
            self._next += 1
            if name not in self._taken and name not in self.types:
                return name

    def input(self, name: str, type: TensorType, value: str | None = None) -> str:
        value = value or self.fresh("in")
        self.inputs.append(Port(name, value))
        self.types[value] = type
        return value

    def weight(self, weight: Weight) -> str:
        self.weights[weight.name] = weight
        self.types[weight.name] = weight.type
        return weight.name

    def constant(self, array: Any, hint: str = "c") -> str:
        """An inline constant from a numpy array."""
        import numpy as np

        from .types import from_numpy

        array = np.asarray(array)
        type = TensorType(from_numpy(array.dtype), tuple(array.shape))
        return self.weight(Weight(self.fresh(hint), type, Inline(np.ascontiguousarray(array).tobytes())))

    def add(self, node: Node) -> Node:
        """Append a node as it is; its outputs, and the values in its body, get the types that the op rows derive."""
        from .ops import infer

        for child in node.body:
            self.types.update(zip(child.outputs, infer(child, self.types, self.symbols), strict=True))
        kinds = infer(node, self.types, self.symbols)
        for value, kind in zip(node.outputs, kinds, strict=False):
            if value:
                self.types[value] = kind
        self.nodes.append(node)
        return node

    def op(self, op: str, *inputs: str, source: Source = Source(), outputs: int = 1, **attrs: Attr | None) -> str:
        """Append a node with fresh outputs; returns the (first) output's name."""
        names = tuple(self.fresh() for _ in range(outputs))
        for name in names:
            self._taken.add(name)
        return self.add(Node(op, inputs, names, make_attrs(attrs), source)).outputs[0]

    def finish(self, outputs: Iterable[Port]) -> Graph:
        return Graph(
            self.name,
            self.symbols,
            tuple(self.inputs),
            tuple(outputs),
            dict(self.weights),
            tuple(self.nodes),
            dict(self.types),
            self.folder,
        )
