"""Branches that a run skips: equal to the interpreter and to the plan that computes everything, to the bit at any thread count."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.errors import VerifyError
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.placed import Placed
from stratac.ir.plan import Region
from stratac.ir.plan_binary import decode, encode
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.types import TensorType, bool_, f32
from stratac.ir.verify_plan import verify_plan
from stratac.passes.place.place import place
from stratac.passes.schedule.regions import unlikely
from stratac.runtime.session import Session

from ..branch_graphs import branch_inputs, branches
from .harness import Compiled, build, check_bits, compile_levels, compiled, forest, scratch

SIDE = 96


def unskipped(plan: Compiled) -> Compiled:
    """The naive twin: every call runs, whatever the conditions are."""
    levels = dataclasses.replace(plan.levels, plan=dataclasses.replace(plan.levels.plan, regions=()))
    return Compiled(plan.graph, levels, build(levels, Path(tempfile.mkdtemp(prefix="plan-", dir=scratch()))))


def test_random_branches() -> None:
    graphs = [branches(seed) for seed in range(16)]
    plan = compiled(forest(graphs))
    verify_plan(plan.levels.plan, plan.levels.placed)
    assert len(plan.levels.plan.regions) > 20
    assert parse_plan(print_plan(plan.levels.plan)) == plan.levels.plan == decode(encode(plan.levels.plan))
    twin = unskipped(plan)
    for seed in range(6):
        rows = (1, 7, 24)[seed % 3]
        inputs = [branch_inputs(100 * seed + i, rows, (seed + i) % 2 == 0) for i in range(len(graphs))]
        given = {f"g{i}.{name}": array for i, own in enumerate(inputs) for name, array in own.items()}
        one = plan.run(given, 1)
        for threads in (2, 3, 4):
            check_bits(one, plan.run(given, threads), f"{threads} threads give other bits than one, seed {seed}")
        check_bits(one, twin.run(given, 2), f"skipping gives other bits, seed {seed}")
        for number, (graph, own) in enumerate(zip(graphs, inputs, strict=True)):
            for name, wanted in run(graph, own).items():
                np.testing.assert_allclose(one[f"g{number}.{name}"], wanted, rtol=1e-4, atol=1e-4)


def two_sides(then: int = 1, otherwise: int = 1) -> Graph:
    """As many products on either side as asked for."""
    builder = GraphBuilder(name="sides")
    x, c = builder.input("x", TensorType(f32, (SIDE, SIDE))), builder.input("c", TensorType(bool_, ()))

    def products(count: int, seed: int) -> str:
        value = x
        for k in range(count):
            weight = np.random.default_rng(seed + k).standard_normal((SIDE, SIDE)).astype(np.float32)
            value = builder.op("matmul", value, builder.constant(weight))
        return value

    return builder.finish([Port("y", builder.op("where", c, products(then, 0), products(otherwise, 100)))])


@pytest.mark.parametrize("threads", [1, 3])
def test_only_the_side_that_is_taken_runs(threads: int) -> None:
    plan = compiled(two_sides(3, 2))
    calls, regions = plan.levels.plan.calls, plan.levels.plan.regions
    assert sorted((r.last - r.first, r.when) for r in regions) == [(1, False), (2, True)]
    for taken in (True, False):
        given = {"x": np.eye(SIDE, dtype=np.float32), "c": np.array(taken)}
        with Session(plan.folder, threads=threads) as session:
            for _ in range(2):
                (y,) = session.run(None, given)
            np.testing.assert_allclose(y, run(plan.graph, given)["y"], rtol=1e-4, atol=1e-3)
            ran = [row.count for row in session.profile()]
        skipped = {n for r in regions if r.when != taken for n in range(r.first, r.last + 1)}
        assert ran == [0 if number in skipped else 2 for number in range(len(calls))]


def test_the_dearer_side_is_predicted() -> None:
    both, then, otherwise = (compile_levels(two_sides(*sides)).plan for sides in ((3, 2), (3, 0), (0, 2)))
    left_out = unlikely(both.calls, both.regions)
    assert len(left_out) == 2 and all(both.calls[number].seconds for number in left_out)
    assert max(then.seconds, otherwise.seconds) <= both.seconds < sum(call.seconds for call in both.calls)
    assert "5 of 6 calls run only under conditions" in both.notes["regions"]


def test_cheap_branches_are_fused() -> None:
    builder = GraphBuilder()
    x, c = builder.input("x", TensorType(f32, (8,))), builder.input("c", TensorType(bool_, ()))
    chosen = builder.op("where", c, builder.op("exp", x), builder.op("neg", x))
    plan = compile_levels(builder.finish([Port("y", chosen)])).plan
    assert len(plan.calls) == 1 and not plan.regions and "regions" not in plan.notes


@pytest.mark.parametrize("io", ["auto", "threads"])
def test_weights_of_a_skipped_side_are_read_and_thrown_away(io: str) -> None:
    graph = two_sides(3, 4)
    used = dict(compile_levels(graph).placed.solution.used)["ram"]  # with everything resident

    def choose(*args: object) -> Placed:
        *others, request = args
        budgeted = dataclasses.replace(request, budgets={"ram": used - 2 * 4 * SIDE * SIDE})  # type: ignore[type-var]
        return place(*others, budgeted)  # type: ignore[arg-type]

    plan = compiled(graph, choose=choose)
    assert plan.levels.plan.reads and plan.levels.plan.regions
    for threads in (1, 3):
        with Session(plan.folder, threads=threads, io=io) as session:
            for number in range(12):
                given = {"x": np.eye(SIDE, dtype=np.float32) * number, "c": np.array(number % 3 > 0)}
                (y,) = session.run(None, given)
                np.testing.assert_allclose(y, run(plan.graph, given)["y"], rtol=1e-4, atol=1e-2)


REGIONS = [
    (
        lambda r: Region(r.first, r.last + 1, r.condition, r.when),
        "may be left out|may have been left out|lies only partly",
    ),
    (lambda r: Region(r.last + 1, r.first, r.condition, r.when), "the plan has 6 calls"),
    (lambda r: Region(r.first, 6, r.condition, r.when), "the plan has 6 calls"),
    (lambda r: Region(r.first, r.last, r.condition, not r.when), "may have been left out"),
    (lambda r: Region(r.first, r.last, dataclasses.replace(r.condition, index=0), r.when), "one bool"),
    (lambda r: Region(r.first, r.last, dataclasses.replace(r.condition, index=9), r.when), "that exists"),
    (lambda r: Region(r.first, r.last, dataclasses.replace(r.condition, space="dim"), r.when), "that exists"),
]


@pytest.mark.parametrize(("change", "said"), REGIONS)
@pytest.mark.parametrize("number", [0, 1])
def test_wrong_regions_are_refused(change: object, said: str, number: int) -> None:
    levels = compile_levels(two_sides(3, 2))
    regions = list(levels.plan.regions)
    regions[number] = change(regions[number])  # type: ignore[operator]
    with pytest.raises(VerifyError, match=said):
        verify_plan(dataclasses.replace(levels.plan, regions=tuple(regions)), levels.placed)


def test_regions_begin_behind_barriers_and_in_order() -> None:
    levels = compile_levels(two_sides(3, 2))
    (queue,) = levels.plan.queues
    regions = levels.plan.regions
    bare = tuple(dataclasses.replace(call, barrier=False) for call in queue.calls)
    for broken, said in (
        (dataclasses.replace(levels.plan, queues=(dataclasses.replace(queue, calls=bare),)), "without a barrier"),
        (dataclasses.replace(levels.plan, regions=regions[::-1]), "earlier ones come first"),
    ):
        with pytest.raises(VerifyError, match=said):
            verify_plan(broken)
