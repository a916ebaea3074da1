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
    as long as it guards."""
    outside = {*graph.input_values, *graph.output_values, *graph.weights}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, node in enumerate(order):
        for value in (*node.used, *conditions(node, guards)):
            last[value] = position
        for value in node.outputs:
            first[value] = position
            last.setdefault(value, position)
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
