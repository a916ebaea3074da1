"""Offsets for lifetimes in one arena: several algorithms, the smallest result wins; an independent checker; a lower bound.

The problem is dynamic storage allocation (NP-hard); the algorithms are the usual greedy ones, which differ in the order in
which buffers are placed (by size, by time, by size times time) and in the gap they prefer (lowest offset, tightest fit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .liveness import Lifetime, peak

Order = Callable[[Lifetime], tuple[int, ...]]

ORDERS: dict[str, Order] = {
    "by size": lambda life: (-life.bytes, life.first, life.last),
    "by time": lambda life: (life.first, -life.bytes, life.last),
    "by size and time": lambda life: (-life.bytes * (life.last - life.first + 1), life.first),
    "by end": lambda life: (-life.last, -life.bytes, life.first),
}


@dataclass(frozen=True)
class MemoryPlan:
    """offsets[value] in bytes; `bytes` is the arena's size; `lower_bound` what no plan can beat."""

    algorithm: str
    bytes: int
    lower_bound: int
    offsets: dict[str, int]


def place_in_order(lifetimes: Sequence[Lifetime], tightest: bool) -> dict[str, int]:
    """Offsets by placing one buffer after the other in the first gap that holds it, or in the tightest one."""
    placed: list[tuple[Lifetime, int]] = []
    offsets: dict[str, int] = {}
    for life in lifetimes:
        busy = sorted((o, o + p.bytes) for p, o in placed if p.first <= life.last and life.first <= p.last)
        best, best_gap, top = None, None, 0
        for start, end in busy:
            gap = start - top
            if gap >= life.bytes and (best is None or (tightest and gap < best_gap)):  # type: ignore[operator]
                best, best_gap = top, gap
                if not tightest:
                    break
            top = max(top, end)
        offset = top if best is None else best
        placed.append((life, offset))
        offsets[life.value] = offset
    return offsets


def plan_memory(lifetimes: Sequence[Lifetime]) -> MemoryPlan:
    """The smallest of all algorithms' plans; ties go to the first in the table."""
    bound = peak(lifetimes)
    best: MemoryPlan | None = None
    for name, order in ORDERS.items():
        for tightest in (False, True):
            offsets = place_in_order(sorted(lifetimes, key=order), tightest)
            size = max((offsets[life.value] + life.bytes for life in lifetimes), default=0)
            if best is None or size < best.bytes:
                best = MemoryPlan(f"{name}, {'tightest' if tightest else 'lowest'} gap", size, bound, offsets)
            if best.bytes == bound:
                return best
    assert best is not None
    return best


def plan_memory_naively(lifetimes: Sequence[Lifetime]) -> MemoryPlan:
    """The naive twin: nothing is ever reused."""
    offsets, top = {}, 0
    for life in lifetimes:
        offsets[life.value] = top
        top += life.bytes
    return MemoryPlan("no reuse", top, peak(lifetimes), offsets)


def check_memory(lifetimes: Sequence[Lifetime], plan: MemoryPlan) -> list[str]:
    """Every violation found by stepping through time with a set of occupied byte ranges: shares nothing with the planner."""
    problems = []
    moments = sorted({life.first for life in lifetimes})
    for moment in moments:
        alive = [life for life in lifetimes if life.first <= moment <= life.last and life.bytes]
        alive.sort(key=lambda life: plan.offsets[life.value])
        for a, b in pairwise(alive):
            if plan.offsets[a.value] + a.bytes > plan.offsets[b.value]:
                problems.append(f"at instruction {moment} {a.value} and {b.value} overlap")
    for life in lifetimes:
        offset = plan.offsets[life.value]
        if offset < 0 or offset + life.bytes > plan.bytes:
            problems.append(f"{life.value} leaves the arena")
    return problems
