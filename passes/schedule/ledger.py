"""Bytes of a plan's arenas from what they hold: placement budgets with the same sums that the schedule lays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...ir.dims import upper
from ...ir.errors import VerifyError
from ...ir.graph import Graph, Node
from ...ir.guards import Guards, find_guards
from .liveness import Lifetime, aligned, liveness
from .order import order
from .plan_memory import MemoryPlan, check_memory, plan_memory
from .stream_weights import padded


@dataclass(frozen=True)
class Activations:
    """The order of clusters, their guards, what is alive when, and where: nothing of it depends on what placement chooses."""

    nodes: tuple[Node, ...]
    order_name: str
    guards: Mapping[str, Guards]
    lifetimes: tuple[Lifetime, ...]
    memory: MemoryPlan


def plan_activations(graph: Graph) -> Activations:
    """Order, lifetimes and offsets of a graph of clusters. Raises VerifyError where the memory plan is found wrong."""
    nodes, name = order(graph)
    guards = find_guards(graph)
    lifetimes = liveness(nodes, graph, guards)
    memory = plan_memory(lifetimes)
    if problems := check_memory(lifetimes, memory):
        raise VerifyError(f"the memory plan is wrong: {problems[0]}", level="plan", pass_name="plan_memory")
    return Activations(nodes, name, guards, tuple(lifetimes), memory)


@dataclass(frozen=True)
class StateLayout:
    """States side by side, by name: offsets and bytes; and `initial`, the bytes at the start of weights.bin of what they start
    from, whole blocks, so that what follows adds up as if nothing were in front of it."""

    offsets: Mapping[str, int]
    sizes: Mapping[str, int]
    bytes: int
    initial: int


def lay_states(graph: Graph) -> StateLayout:
    """Where a graph's states lie in their arena."""
    offsets: dict[str, int] = {}
    sizes: dict[str, int] = {}
    top = initial = 0
    for state in graph.states:
        offsets[state.name], sizes[state.name] = top, upper(graph.types[state.value].nbytes, {})
        top += aligned(sizes[state.name])
        initial += aligned(sizes[state.name]) if state.initial else 0
    return StateLayout(offsets, sizes, top, padded(initial))


def resident_bytes(sizes: Iterable[int], storage: bool) -> int:
    """Bytes of the resident part of weights.bin. With `storage`, something follows it that stays there and begins a block."""
    total = sum(map(aligned, sizes))
    return padded(total) if storage else total


def workspace_bytes(needs: Iterable[int]) -> int:
    """Bytes of one thread's workspace: the most any kernel needs."""
    return aligned(max(needs, default=0))
