"""Building graphs node by node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .dims import Bounds
from .errors import Source
from .graph import Attr, Graph, Inline, Node, Port, Weight, make_attrs
from .ops import infer
from .types import TensorType, from_numpy


class GraphBuilder:
    """Builds or edits a graph node by node: derives each output's type from the op's row, so types are never trusted.

    The one mutable thing of the IR; it lives inside a single function and ends with `finish`.
    """

    def __init__(self, base: Graph | None = None, *, name: str = "graph", symbols: Mapping[str, Bounds] | None = None):
        self.name = base.name if base else name
        self.folder = base.folder if base else ""
        self.absent = base.absent if base else frozenset()
        self.interface = base.interface if base else None
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
        array = np.asarray(array)
        type = TensorType(from_numpy(array.dtype), tuple(array.shape))
        return self.weight(Weight(self.fresh(hint), type, Inline(np.ascontiguousarray(array).tobytes())))

    def add(self, node: Node) -> Node:
        """Append a node as it is; its outputs, and the values in its body, get the types that the op rows derive."""
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
        return self.all(op, *inputs, source=source, outputs=outputs, **attrs)[0]

    def all(
        self, op: str, *inputs: str, source: Source = Source(), outputs: int, **attrs: Attr | None
    ) -> tuple[str, ...]:
        """Append a node with so many fresh outputs; returns their names."""
        names = tuple(self.fresh() for _ in range(outputs))
        self._taken.update(names)
        return self.add(Node(op, inputs, names, make_attrs(attrs), source)).outputs

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
            self.absent,
            self.interface,
        )
