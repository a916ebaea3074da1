"""Building graphs node by node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .dims import Bounds
from .errors import Source
from .graph import Attr, Graph, Inline, Node, Port, State, Weight, make_attrs
from .ops import dims_set, infer
from .types import TensorType, from_numpy
from .verify import mentions


@dataclass(frozen=True)
class Mark:
    """What a builder held at some point."""

    nodes: int
    weights: Mapping[str, Weight]
    types: Mapping[str, TensorType]
    symbols: Mapping[str, Bounds]
    behind: Mapping[str, frozenset[str]]
    loose: Mapping[str, frozenset[str]]
    true: Mapping[str, str]


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
        self.states = list(base.states) if base else []
        self.loops = base.loops if base else ()
        self.notes = list(base.notes) if base else []
        self.weights = dict(base.weights) if base else {}
        self.types: dict[str, TensorType] = {}
        if base:
            self.types = {value: base.types[value] for value in base.input_values}
            self.types |= {name: weight.type for name, weight in base.weights.items()}
        self.nodes: list[Node] = []
        self._taken = set(base.types) if base else set()
        self._next = 0
        self._behind: dict[str, set[str]] = {}  # of each run-time dim the values that depend on the node that sets it
        self._loose: dict[str, frozenset[str]] = {}  # of a value made from nothing the run-time dims it mentions
        self._true: dict[str, str] = {}  # and a condition that is always true, known no sooner

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

    def state(self, name: str, type: TensorType, initial: str = "") -> str:
        """A state that starts as a weight, or as zeros: the value a run finds. What it becomes is told to `finish`."""
        value = self.fresh("state")
        self.states.append(State(name, value, value, initial))
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
        self._record(node)
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
        return self.add(self._in_order(Node(op, inputs, names, make_attrs(attrs), source))).outputs

    # -- run-time dims: what mentions one reads a value that depends on the node that sets it

    def _in_order(self, node: Node) -> Node:
        """The node, its first input made to depend on the nodes that set the dims it mentions."""
        if not self._behind or not node.used:
            return node
        kinds = [kind.shape for kind in infer(node, self.types, self.symbols)]
        mentioned = mentions([value for _, value in node.attrs]) | mentions(kinds)
        mentioned = mentioned.union(*(self._loose.get(value, frozenset()) for value in node.used))
        for name in sorted(mentioned & self._behind.keys()):
            if self._behind[name].isdisjoint((*node.used, *node.outputs)) and name not in dims_set(node):
                place = next(k for k, value in enumerate(node.inputs) if value)
                value = self.after(name, node.inputs[place], node.source)
                later = (*node.inputs[:place], value, *node.inputs[place + 1 :])
                node = replace(node, inputs=later)
        return node

    def after(self, name: str, value: str, source: Source = Source()) -> str:
        """`value` as it is, known no sooner than a run-time dim: chosen by a condition that is always true."""
        if name not in self._true:
            setter = next(node for node in self.nodes if name in dims_set(node))
            found = next(v for v in setter.outputs if not self.types[v].dtype.is_float)
            same = self.op("eq", found, found, source=setter.source)
            axes = tuple(range(self.types[found].rank))
            self._true[name] = self.op("reduce_min", same, source=setter.source, axes=axes, keepdims=False)
        return self.op("where", self._true[name], value, value, source=source)

    def _record(self, node: Node) -> None:
        for name in dims_set(node):
            self._behind[name] = set()
        for name, values in self._behind.items():
            if name in dims_set(node) or not values.isdisjoint(node.used):
                values.update(node.outputs)
        if self._behind and not node.used:
            kinds = [self.types[value].shape for value in node.outputs]
            names = (mentions([value for _, value in node.attrs]) | mentions(kinds)) & self._behind.keys()
            self._loose.update(dict.fromkeys(node.outputs, names))

    # -- what was built only to be looked at, or to become a graph of its own

    def mark(self) -> Mark:
        """To come back to by `take_back`."""
        behind = {name: frozenset(values) for name, values in self._behind.items()}
        symbols = dict(self.symbols)
        return Mark(
            len(self.nodes), dict(self.weights), dict(self.types), symbols, behind, dict(self._loose), dict(self._true)
        )

    def take_back(self, mark: Mark) -> tuple[Node, ...]:
        """Everything as it was; the nodes added since. Names that were taken stay so."""
        nodes = tuple(self.nodes[mark.nodes :])
        del self.nodes[mark.nodes :]
        self._taken.update(self.types)
        for held, before in ((self.weights, mark.weights), (self.types, mark.types), (self.symbols, mark.symbols)):
            held.clear()  # others look at it too
            held.update(before)  # type: ignore[arg-type]
        self._behind = {name: set(values) for name, values in mark.behind.items()}
        self._loose, self._true = dict(mark.loose), dict(mark.true)
        return nodes

    def finish(self, outputs: Iterable[Port], updates: Mapping[str, str] | None = None) -> Graph:
        """The graph. `updates` gives by their names what states become; others become what they became in the base graph, or
        never change."""
        ports = []
        for port in outputs:
            for name in sorted(self._loose.get(port.value, ())):
                if port.value not in self._behind[name]:
                    port = Port(port.name, self.after(name, port.value))
            ports.append(port)
        return Graph(
            self.name,
            self.symbols,
            tuple(self.inputs),
            tuple(ports),
            dict(self.weights),
            tuple(self.nodes),
            dict(self.types),
            self.folder,
            self.absent,
            self.interface,
            tuple(replace(state, update=(updates or {}).get(state.name, state.update)) for state in self.states),
            self.loops,
            tuple(self.notes),
        )
