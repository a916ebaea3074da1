"""One walk over a graph that copies or replaces each node: how local rewrites are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ...ir.builder import GraphBuilder
from ...ir.dims import Dim, evaluate_shape
from ...ir.graph import Graph, Node, Port
from ...ir.interp import evaluate_weight
from ...ir.interp.movement import filled
from ...ir.narrow import widened
from ...ir.rewrite import drop_unused
from ...ir.types import COMPUTABLE, TensorType, f16

SMALL_BYTES = 1 << 16

Rule = Callable[["Rebuild", Node], "str | None"]


class Rebuild:
    """The graph under construction, as rules see it: values are the new graph's."""

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.builder = GraphBuilder(graph)
        self.mapping: dict[str, str] = {}
        self.made: dict[str, Node] = {}
        self.use_count: dict[str, int] = {}
        for node in graph.nodes:
            for value in node.inputs:
                self.use_count[value] = self.use_count.get(value, 0) + 1
        for value in graph.output_values:
            self.use_count[value] = self.use_count.get(value, 0) + 1
        self._constants: dict[str, np.ndarray | None] = {}
        self.computed: dict[str, bool] = {}  # whether a value is computed from constants alone; see `match.is_constant`

    def type(self, value: str) -> TensorType:
        return self.builder.types[value]

    def shape(self, value: str) -> tuple[Dim, ...]:
        return self.builder.types[value].shape

    def producer(self, value: str, op: str | None = None) -> Node | None:
        """The node of the new graph that makes a value, if it is of the op asked for."""
        node = self.made.get(value)
        return node if node is not None and (op is None or node.op == op) else None

    def constant(self, value: str) -> np.ndarray | None:
        """The elements of a small constant that can be read, or None; of floats that numpy lacks as float32."""
        if value in self._constants:
            return self._constants[value]
        found = None
        node = self.made.get(value)
        if value in self.builder.weights:
            weight = self.builder.weights[value]
            size = weight.type.nbytes
            small = isinstance(size, int) and size <= SMALL_BYTES
            if small and weight.type.dtype in COMPUTABLE and self.readable(value):
                found = evaluate_weight(self.snapshot(), value)
                found = found if weight.type.dtype == f16 else widened(found, weight.type.dtype)
        elif node is not None and node.op == "fill":
            size = self.type(value).elements
            if isinstance(size, int) and size <= SMALL_BYTES:
                shape = evaluate_shape(self.shape(value), {})
                dtype = self.type(value).dtype
                found = filled(shape, node.attr("value"), dtype)
                found = found if dtype == f16 else widened(found, dtype)
        self._constants[value] = found
        return found

    def scalar(self, value: str) -> float | None:
        """The single value of a constant whose elements are all equal."""
        node = self.made.get(value)
        if node is not None and node.op == "fill":
            return float(node.attr("value"))
        array = self.constant(value)
        if array is None or array.size == 0 or not (array == array.flat[0]).all():
            return None
        return float(array.flat[0])

    def snapshot(self) -> Graph:
        """The weights so far, as a graph the interpreter can read."""
        return replace(self.old, weights=self.builder.weights)

    def readable(self, weight: str) -> bool:
        """Whether the bytes of a weight are there."""
        return not self.old.absent or self.snapshot().readable(weight)

    def emit(self, op: str, *inputs: str, like: Node, **attrs: object) -> str:
        """A new node that takes its source from `like`."""
        value = self.builder.op(op, *inputs, source=like.source, **attrs)  # type: ignore[arg-type]
        self.made[value] = self.builder.nodes[-1]
        return value

    def keep(self, node: Node) -> None:
        self.builder.add(node)
        for value in node.outputs:
            self.made[value] = node


def rebuild(graph: Graph, rules: Mapping[str, tuple[Rule, ...]]) -> Graph:
    """Walk the nodes in order; the first rule of the node's op (or of "*") that returns a value replaces the node's output."""
    work = Rebuild(graph)
    for old in graph.nodes:
        node = replace(old, inputs=tuple(work.mapping.get(v, v) for v in old.inputs))
        for rule in (*rules.get(node.op, ()), *rules.get("*", ())):
            value = rule(work, node)
            if value is not None:
                work.mapping[old.outputs[0]] = value
                break
        else:
            work.keep(node)
    outputs = [Port(p.name, work.mapping.get(p.value, p.value)) for p in graph.outputs]
    updates = {s.name: work.mapping.get(s.update, s.update) for s in graph.states}
    return drop_unused(work.builder.finish(outputs, updates))
