"""Loops as plans: equal to the interpreter, to the bit at any thread count, at every level and in every form."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stratac.codegen.library import Library
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds
from stratac.ir.errors import PlanError, VerifyError
from stratac.ir.graph import Graph, Node, Port, make_attrs
from stratac.ir.interp import run
from stratac.ir.parse import parse_graph
from stratac.ir.placed import Placed
from stratac.ir.plan import Arg, Call, Plan, Region
from stratac.ir.plan_binary import decode, encode
from stratac.ir.rewrite import renumber
from stratac.ir.text import print_graph
from stratac.ir.text_placed import parse_placed, print_placed
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.types import TensorType, bool_, f32
from stratac.ir.verify import verify_graph
from stratac.ir.verify_placed import verify_placed
from stratac.ir.verify_plan import verify_plan
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.passes.place.infeasible import Infeasible
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest
from stratac.runtime.session import Session

from ..loop_graphs import loop_inputs, loops
from . import harness
from .harness import ISAS, build, check_bits, compile_levels, compiled, forest, machine_for, scratch


@pytest.mark.parametrize("seed", range(20))
def test_random_loops_keep_their_meaning(seed: int) -> None:
    graph = loops(seed)
    verify_graph(graph)
    assert parse_graph(print_graph(graph)) == graph
    simple = run_passes(graph, GRAPH_PASSES)
    clusters = run_passes(simple, CLUSTER_PASSES)
    assert clusters.loops and parse_graph(print_graph(clusters)) == clusters
    for flag in (True, False):
        inputs = loop_inputs(seed, 4, flag)
        wanted = run(graph, inputs)
        for form in (renumber(graph), simple, clusters, renumber(clusters)):
            verify_graph(form, level="clusters" if form.loops else "graph")
            for name, found in run(form, inputs).items():
                np.testing.assert_allclose(found, wanted[name], rtol=1e-3, atol=1e-4)


def test_random_loops() -> None:
    graphs = [loops(seed) for seed in range(12)]
    plan = compiled(forest(graphs))
    placed, made = plan.levels.placed, plan.levels.plan
    verify_placed(placed)
    verify_plan(made, placed)
    assert len(made.loops) > 20 and any(a.last > b.last for a, b in zip(made.loops, made.loops[1:], strict=False))
    assert parse_plan(print_plan(made)) == made == decode(encode(made))
    assert parse_placed(print_placed(placed)) == placed
    for seed in range(4):
        inputs = [loop_inputs(100 * seed + i, (1, 7, 4)[seed % 3], (seed + i) % 2 == 0) for i in range(len(graphs))]
        given = {f"g{i}.{name}": array for i, own in enumerate(inputs) for name, array in own.items()}
        one = plan.run(given, 1)
        for threads in (2, 3, 4):
            check_bits(one, plan.run(given, threads), f"{threads} threads give other bits than one, seed {seed}")
        for number, (graph, own) in enumerate(zip(graphs, inputs, strict=True)):
            for name, wanted in run(graph, own).items():
                np.testing.assert_allclose(one[f"g{number}.{name}"], wanted, rtol=1e-3, atol=1e-4)


def counting(most: int, weight: np.ndarray | None = None) -> Graph:
    """x is halved, or multiplied by a weight, until its greatest element is no more than `end`: few small calls, of which the first
    may write the condition that threads are still looking at."""
    size = 4 if weight is None else weight.shape[0]
    kind = TensorType(f32, (size, size))
    inner = GraphBuilder(name="body", symbols={"trip_1": Bounds(0, most - 1, most - 1)})
    inner.state("0", TensorType(bool_, ()))
    x, end = inner.state("1", kind), inner.input("in0", TensorType(f32, ()))
    factor = inner.constant(np.float32(0.5) if weight is None else weight)
    less = inner.op("mul" if weight is None else "matmul", x, factor)
    largest = inner.op("reduce_max", x, axes=(0, 1), keepdims=False)
    body = inner.finish([], {"0": inner.op("gt", largest, end), "1": less})
    builder = GraphBuilder(name="counting")
    start, stop, go = builder.input("x", kind), builder.input("end", TensorType(f32, ())), builder.constant(np.True_)
    names = (builder.fresh(), builder.fresh("w"))
    attrs = make_attrs({"trip": "trip_1", "while": True, "why": "to be tried"})
    builder.add(Node("loop", (go, start, stop), names, attrs, graph=body))
    return builder.finish([Port("y", names[1]), Port("more", names[0])])


def test_threads_agree_on_the_end() -> None:
    plan = compiled(counting(60))
    assert plan.levels.plan.notes["loops"] == "to be tried"
    for threads in (1, 2, 4):
        with Session(plan.folder, threads=threads) as session:
            for number in range(200):
                end = np.array(2.0 ** -(number % 40), np.float32)
                y, more = session.run(None, {"x": np.ones((4, 4), np.float32), "end": end})
                assert not more and y[0, 0] == 2.0 ** -(number % 40 + 1)


@pytest.mark.parametrize("shared", [True, False])
def test_loops_of_one_thread_and_of_several(monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """Where no call of a loop is worth sharing, one thread runs it; the others wait behind it. So do loops in such loops."""
    if not shared:
        monkeypatch.setattr(harness, "shared", lambda plan: plan)
    graphs = [loops(seed) for seed in range(30, 36)]
    plan = compiled(forest(graphs))
    given = {f"g{i}.{name}": array for i in range(len(graphs)) for name, array in loop_inputs(i, 6, i % 2 == 0).items()}
    one = plan.run(given, 1)
    for threads in (2, 4):
        with Session(plan.folder, threads=threads) as session:
            for _ in range(20):
                found = dict(zip(one, session.run(None, given), strict=True))
                check_bits(one, found, f"{threads} threads give other bits than one")


def test_weights_of_loops_stay_in_memory() -> None:
    """However little memory there is: a budget that leaves no room for them is refused, and the error says how much is needed."""
    weight = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32) / 40
    machine = machine_for(ISAS[0])
    clusters = run_passes(run_passes(counting(50, weight), GRAPH_PASSES), CLUSTER_PASSES)
    with pytest.raises(Infeasible) as refused:
        place(clusters, Library(), machine, PlaceRequest(2, {"ram": 1 << 20}))
    placed = place(clusters, Library(), machine, PlaceRequest(2, {"ram": refused.value.needed}))
    assert {home.tier for home in placed.homes.values()} == {"ram"}


def _plan() -> tuple[Plan, Placed]:
    levels = compile_levels(forest([counting(60)]))
    return levels.plan, levels.placed


def _calls(plan: Plan, edit: Callable[[int, Call], Call]) -> Plan:
    (queue,) = plan.queues
    return dataclasses.replace(
        plan, queues=(dataclasses.replace(queue, calls=tuple(edit(n, c) for n, c in enumerate(queue.calls))),)
    )


def _loop(plan: Plan, **changes: object) -> Plan:
    return dataclasses.replace(plan, loops=(dataclasses.replace(plan.loops[0], **changes),))  # type: ignore[arg-type]


def test_the_verifier_of_loops() -> None:
    plan, placed = _plan()
    verify_plan(plan, placed)
    (loop,) = plan.loops
    cases = [
        (_loop(plan, first=0), "something in front of it"),
        (_loop(plan, last=len(plan.calls)), "the plan has"),
        (_calls(plan, lambda n, c: dataclasses.replace(c, barrier=c.barrier and n != loop.first)), "without a barrier"),
        (_loop(plan, trip=9), "counts its trips by dim 9"),
        (_loop(plan, condition=Arg("buffer", 1)), "one bool that is there before"),
        (dataclasses.replace(plan, loops=plan.loops * 2), "loops nest"),
        (dataclasses.replace(plan, loops=()), "is carried by call"),
        (
            dataclasses.replace(plan, regions=(Region(loop.first, loop.first, Arg("buffer", 0), True),)),
            "has it inside",
        ),
        (_loop(plan, last=loop.first), "is carried by call|says live"),
    ]
    for damaged, what in cases:
        with pytest.raises(VerifyError, match=what):
            verify_plan(damaged)
    with pytest.raises(VerifyError, match="expected"):
        verify_plan(_loop(plan, condition=None), placed)


def test_the_runtime_refuses_damaged_loops() -> None:
    good = compiled(counting(60))
    plan = good.levels.plan
    (loop,) = plan.loops
    cases = [
        (_loop(plan, first=0), "no barrier|in front of it"),
        (_loop(plan, last=len(plan.calls)), "none of the plan"),
        (_loop(plan, condition=Arg("buffer", 1)), "not one bool"),
        (dataclasses.replace(plan, loops=(loop, loop)), "no dim of its own|sets another"),
        (dataclasses.replace(plan, regions=(Region(loop.first, loop.last, loop.condition, True),)), None),  # type: ignore[arg-type]
        (
            dataclasses.replace(plan, regions=(Region(loop.first + 1, loop.last, loop.condition, True),)),
            "in a loop|barrier",
        ),  # type: ignore[arg-type]
    ]
    for damaged, what in cases:
        levels = dataclasses.replace(good.levels, plan=damaged)
        folder = build(levels, Path(tempfile.mkdtemp(prefix="plan-", dir=scratch())))
        if what is None:
            Session(folder).close()
            continue
        with pytest.raises(PlanError, match=what):
            Session(folder)


def test_the_verifier_of_graphs_with_loops() -> None:
    graph = counting(60)
    (node,) = (n for n in graph.nodes if n.op == "loop")
    assert node.graph is not None
    clusters = run_passes(graph, CLUSTER_PASSES)
    (loop,) = clusters.loops
    body = node.graph

    def with_node(**changes: object) -> Graph:
        edited = dataclasses.replace(node, **changes)  # type: ignore[arg-type]
        return dataclasses.replace(graph, nodes=tuple(edited if n is node else n for n in graph.nodes))

    cases = [
        (with_node(graph=None), "has no body"),
        (with_node(inputs=node.inputs[:2]), "gives 2 values to a body"),
        (with_node(inputs=(node.inputs[0], node.inputs[0], node.inputs[2])), "its body takes"),
        (with_node(graph=dataclasses.replace(body, symbols={})), "has a body with 0 outputs"),
        (with_node(graph=dataclasses.replace(body, symbols={**body.symbols, "n": Bounds(1, 1, 1)})), "the dim n"),
        (dataclasses.replace(graph, symbols={"trip_1": Bounds(0, 1, 1)}), "which there is outside"),
    ]
    for damaged, what in cases:
        with pytest.raises(VerifyError, match=what):
            verify_graph(damaged)
    flat = [
        (dataclasses.replace(loop, trip="x"), "no dim of its own"),
        (dataclasses.replace(loop, first=loop.last, last=loop.first), "no nodes in order|carries"),
        (dataclasses.replace(loop, condition=loop.carried[1].value), "the first of what it carries"),
        (dataclasses.replace(loop, carried=loop.carried[:1]), "belongs to the loop"),
    ]
    for row, what in flat:
        with pytest.raises(VerifyError, match=what):
            verify_graph(dataclasses.replace(clusters, loops=(row,)), level="clusters")
