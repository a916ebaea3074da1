"""Liveness: from which instruction to which each activation must stay in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.dims import Bounds, upper
from ...ir.graph import Graph, Node
from ...ir.guards import Guards
from ...ir.plan import ALIGNMENT
from .regions import conditions


@dataclass(frozen=True)
class Lifetime:
    """A value's bytes at the greatest dims and the instructions that first write and last read it, inclusive."""

    value: str
    bytes: int
    first: int
    last: int


def aligned(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


NO_GUARDS: Mapping[str, Guards] = {}


def liveness(order: Sequence[Node], graph: Graph, guards: Mapping[str, Guards] = NO_GUARDS) -> list[Lifetime]:
    """Lifetimes of all activations, in order of definition. Inputs, outputs and weights live outside the arena; a condition lives
    as long as it guards. What a loop carries is one value, and what it reads from outside is there for all of its trips."""
    outside = {*graph.input_values, *graph.output_values, *graph.weights}
    same = {one.update: one.value for loop in graph.loops for one in loop.carried}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, node in enumerate(order):
        for value in (*node.used, *conditions(node, guards), *node.outputs):
            last[same.get(value, value)] = position
        for value in node.outputs:
            if value not in same:
                first[value] = position
    for begin, end in graph.spans():
        inside = {v for n in order[begin : end + 1] for v in (*n.used, *conditions(n, guards), *n.outputs)}
        for value in {same.get(value, value) for value in inside}:
            if first.get(value, begin) < begin:
                last[value] = max(last[value], end)
    return [Lifetime(v, value_bytes(graph, v, graph.symbols), f, last[v]) for v, f in first.items() if v not in outside]


def value_bytes(graph: Graph, value: str, symbols: Mapping[str, Bounds]) -> int:
    return aligned(upper(graph.types[value].nbytes, symbols))


def peak(lifetimes: Sequence[Lifetime]) -> int:
    """The most bytes alive at any instruction: no memory plan can need less."""
    changes: dict[int, int] = {}
    for life in lifetimes:
        changes[life.first] = changes.get(life.first, 0) + life.bytes
        changes[life.last + 1] = changes.get(life.last + 1, 0) - life.bytes
    level = most = 0
    for position in sorted(changes):
        level += changes[position]
        most = max(most, level)
    return most
