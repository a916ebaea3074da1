"""Liveness, memory planning, order, barriers and placement against brute force and against their naive twins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratac.codegen.library import Library
from stratac.ir.graph import Graph, Node
from stratac.ir.plan import Call, Plan
from stratac.ir.rewrite import is_topological
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.passes.place.naive import place_first
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest
from stratac.passes.schedule.liveness import Lifetime, liveness, peak, value_bytes
from stratac.passes.schedule.order import order, order_as_given, order_greedily
from stratac.passes.schedule.plan_memory import (
    ORDERS,
    MemoryPlan,
    check_memory,
    place_in_order,
    plan_memory,
    plan_memory_naively,
)
from stratac.passes.schedule.waits import Touch, barriers

from ..codegen.harness import ISAS, compile_levels, machine_for
from ..graph_samples import THEMES, theme_samples

Range = tuple[str, int, int]
EXACT = settings(max_examples=300, derandomize=True, database=None, deadline=None)


@st.composite
def lifetimes(draw: st.DrawFn, most: int = 25) -> list[Lifetime]:
    found = []
    for number in range(draw(st.integers(0, most))):
        first = draw(st.integers(0, 12))
        size = 64 * draw(st.integers(0, 9))
        found.append(Lifetime(f"v{number}", size, first, first + draw(st.integers(0, 5))))
    return found


def overlaps(a: Lifetime, b: Lifetime) -> bool:
    return any(a.first <= t <= a.last and b.first <= t <= b.last for t in range(32))


def is_valid(lives: Sequence[Lifetime], plan: MemoryPlan) -> bool:
    """Pair by pair, byte range against byte range."""
    inside = all(0 <= plan.offsets[x.value] <= plan.bytes - x.bytes for x in lives)
    return inside and not any(
        overlaps(a, b)
        and plan.offsets[a.value] < plan.offsets[b.value] + b.bytes
        and plan.offsets[b.value] < plan.offsets[a.value] + a.bytes
        for a, b in itertools.combinations([x for x in lives if x.bytes], 2)
    )


def least_arena(lives: Sequence[Lifetime]) -> int:
    """Brute force: some order of lowest-fit placement is optimal, since every buffer of an optimum can sink to its lowest place."""
    best = sum(x.bytes for x in lives)
    for permutation in itertools.permutations(lives):
        offsets = place_in_order(permutation, tightest=False)
        best = min(best, max((offsets[x.value] + x.bytes for x in lives), default=0))
    return best


@EXACT
@given(lifetimes())
def test_every_algorithm_is_valid(lives: list[Lifetime]) -> None:
    naive = plan_memory_naively(lives)
    for key in ORDERS.values():
        for tightest in (False, True):
            offsets = place_in_order(sorted(lives, key=key), tightest)
            size = max((offsets[x.value] + x.bytes for x in lives), default=0)
            plan = MemoryPlan("", size, peak(lives), offsets)
            assert check_memory(lives, plan) == [] and is_valid(lives, plan)
    best = plan_memory(lives)
    assert is_valid(lives, best) and is_valid(lives, naive) and check_memory(lives, naive) == []
    assert best.lower_bound == naive.lower_bound == peak(lives) <= best.bytes <= naive.bytes


@EXACT
@given(lifetimes(5))
def test_few_buffers_are_placed_as_well_as_possible(lives: list[Lifetime]) -> None:
    assert plan_memory(lives).bytes <= 1.25 * least_arena(lives)


@EXACT
@given(lifetimes())
def test_peak_is_what_lives_at_the_worst_moment(lives: list[Lifetime]) -> None:
    assert peak(lives) == max((sum(x.bytes for x in lives if x.first <= t <= x.last) for t in range(20)), default=0)


@EXACT
@given(lifetimes(8), st.data())
def test_checker_finds_what_is_wrong(lives: list[Lifetime], data: st.DataObject) -> None:
    plan = plan_memory(lives)
    if not lives:
        return
    moved = data.draw(st.sampled_from(lives))
    offsets = plan.offsets | {moved.value: data.draw(st.integers(-2, 20)) * 64}
    broken = replace(plan, offsets=offsets)
    assert (check_memory(lives, broken) == []) == is_valid(lives, broken)


# -- waits -----------------------------------------------------------------------------------------------------------

touches = st.builds(
    lambda space, start, size, writes: Touch(space, start, start + size, writes),
    st.sampled_from(["arena 0", "input 0", "output 0"]),
    st.integers(0, 6),
    st.integers(1, 3),
    st.booleans(),
)


@EXACT
@given(st.lists(st.lists(touches, max_size=3), max_size=9))
def test_barriers_are_enough_and_none_is_idle(program: list[list[Touch]]) -> None:
    def conflicts(a: list[Touch], b: list[Touch]) -> bool:
        """Byte by byte."""
        return any(
            x.space == y.space and set(range(x.start, x.end)) & set(range(y.start, y.end)) and (x.writes or y.writes)
            for x in a
            for y in b
        )

    flags = barriers(program)
    for late in range(len(program)):
        for early in range(late):
            if conflicts(program[early], program[late]):
                assert any(flags[early + 1 : late + 1]), f"{late} does not wait for {early}"
    for position, flag in enumerate(flags):
        if flag:
            start = max((p for p in range(position) if flags[p]), default=0)
            assert any(conflicts(program[p], program[position]) for p in range(start, position))


# -- graphs ----------------------------------------------------------------------------------------------------------


def fused(theme: str, round_: int) -> list[Graph]:
    found = theme_samples(theme, 8, 70_000 + 100 * list(THEMES).index(theme) + round_)
    return [run_passes(run_passes(s.graph, GRAPH_PASSES), CLUSTER_PASSES) for s in found]


def live_bytes(nodes: Sequence[Node], graph: Graph) -> int:
    """The peak by simulation: what is needed later, and what the instruction itself touches."""
    outside = {*graph.input_values, *graph.output_values, *graph.weights}
    most = 0
    for position, node in enumerate(nodes):
        made = {v for n in nodes[: position + 1] for v in n.outputs}
        needed = {v for n in nodes[position:] for v in n.used} | set(node.outputs)
        most = max(most, sum(value_bytes(graph, v, graph.symbols) for v in (made & needed) - outside))
    return most


@pytest.mark.parametrize("theme", THEMES)
def test_order_keeps_what_it_needs_and_no_more(theme: str, round_: int) -> None:
    for graph in fused(theme, round_):
        for nodes in (order_as_given(graph), order_greedily(graph), order(graph)[0]):
            assert is_topological(replace(graph, nodes=nodes)) and sorted(map(id, nodes)) == sorted(
                map(id, graph.nodes)
            )
            assert peak(liveness(nodes, graph)) == live_bytes(nodes, graph)
        assert peak(liveness(order(graph)[0], graph)) <= peak(liveness(order_as_given(graph), graph))


@pytest.mark.parametrize("theme", THEMES)
def test_placement_is_never_slower_than_its_twin(theme: str, round_: int) -> None:
    machine = machine_for(ISAS[0])
    for graph in fused(theme, round_):
        best, first = (choose(graph, Library(), machine, PlaceRequest(2)) for choose in (place, place_first))
        assert best.choices.keys() == first.choices.keys()
        for cluster, choice in best.choices.items():
            assert choice.chosen.seconds <= first.choices[cluster].chosen.seconds
            assert choice.runner_up is None or choice.chosen.seconds <= choice.runner_up.seconds


@pytest.mark.parametrize("theme", THEMES)
def test_instructions_wait_for_the_bytes_they_touch(theme: str, round_: int) -> None:
    """Waits again from the finished plan: nothing but its arguments and buffers is asked."""
    for sample in theme_samples(theme, 8, 71_000 + round_):
        plan = compile_levels(sample.graph).plan
        (queue,) = plan.queues
        touched = [_ranges(plan, call) for call in queue.calls]
        written: list[set[Range]] = []
        known: set[Range] = set()
        for number, ranges in enumerate(touched):
            born = {("arena", b.offset, b.offset + b.bytes) for b in plan.buffers if b.first == number}
            written.append({r for r in ranges if r in born or (r[0] == "output" and r not in known)})
            known |= ranges
        for early, late in itertools.combinations(range(len(touched)), 2):
            if _meet(touched[late], written[early]) or _meet(written[late], touched[early]):
                assert any(call.barrier for call in queue.calls[early + 1 : late + 1])


def _ranges(plan: Plan, call: Call) -> set[Range]:
    found = set()
    for arg in call.args:
        if arg.space == "buffer":
            buffer = plan.buffers[arg.index]
            found.add(("arena", buffer.offset, buffer.offset + buffer.bytes))
        elif arg.space in ("input", "output"):
            found.add((arg.space, arg.index, arg.index + 1))
    return found


def _meet(some: set[Range], others: set[Range]) -> bool:
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in some for b in others)
