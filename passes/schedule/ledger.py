"""Bytes of a plan's arenas from what they hold: placement budgets with the same sums that the schedule lays out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...ir.errors import VerifyError
from ...ir.graph import Graph, Node
from .liveness import Lifetime, aligned, liveness
from .order import order
from .plan_memory import MemoryPlan, check_memory, plan_memory
from .stream_weights import padded


@dataclass(frozen=True)
class Activations:
    """The order of clusters, what it keeps alive, and where: nothing of it depends on what placement chooses."""

    nodes: tuple[Node, ...]
    order_name: str
    lifetimes: tuple[Lifetime, ...]
    memory: MemoryPlan


def plan_activations(graph: Graph) -> Activations:
    """Order, lifetimes and offsets of a graph of clusters. Raises VerifyError where the memory plan is found wrong."""
    nodes, name = order(graph)
    lifetimes = liveness(nodes, graph)
    memory = plan_memory(lifetimes)
    if problems := check_memory(lifetimes, memory):
        raise VerifyError(f"the memory plan is wrong: {problems[0]}", level="plan", pass_name="plan_memory")
    return Activations(nodes, name, tuple(lifetimes), memory)


def resident_bytes(sizes: Iterable[int], storage: bool) -> int:
    """Bytes of the resident part of weights.bin. With `storage`, something follows it that stays there and begins a block."""
    total = sum(map(aligned, sizes))
    return padded(total) if storage else total


def workspace_bytes(needs: Iterable[int]) -> int:
    """Bytes of one thread's workspace: the most any kernel needs."""
    return aligned(max(needs, default=0))
