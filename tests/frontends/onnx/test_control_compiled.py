"""Models with control flow as plans: equal to onnxruntime and the interpreter, to the bit at any thread count, and what a run does
not need it skips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from stratac.compiler.frontends.onnx import import_onnx
from stratac.compiler.layout import Layout
from stratac.ir.dims import Bounds
from stratac.ir.errors import StratacError
from stratac.ir.interp import run
from stratac.ir.verify_plan import verify_plan
from stratac.runtime.session import Session

from ...codegen.harness import Compiled, check_bits, compiled
from .build import BOOL, FLOAT, INT64, N, array, make, rand, reference, save, value
from .test_control import body, choice, loop

WIDTH = 64
SQUARE = np.asarray(np.random.default_rng(1).standard_normal((WIDTH, WIDTH)) / 8, np.float32)


def product(source: str, result: str) -> list[onnx.NodeProto]:
    return [N("MatMul", [source, "w"], [f"{result}_p"]), N("Tanh", [f"{result}_p"], [result])]


def typed(graph: onnx.GraphProto) -> onnx.GraphProto:
    """The body of a loop with the types that onnxruntime wants to be told."""
    kinds = {"i": (INT64, []), "c": (BOOL, [])}
    ports = [value(port.name, *kinds.get(port.name, (FLOAT, None))) for port in graph.input]
    del graph.input[:]
    graph.input.extend(ports)
    return graph


def planned(folder: Path, model: onnx.ModelProto, dims: Mapping[str, Bounds] | None = None, trips: int = 0) -> Compiled:
    plan = compiled(import_onnx(save(folder, model), dims, layout=Layout(trips=trips)))
    verify_plan(plan.levels.plan, plan.levels.placed)
    return plan


def check(plan: Compiled, model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[int]:
    """How often each call ran at one thread."""
    one = plan.run(feeds, 1)
    check_bits(one, plan.run(feeds, 3), "3 threads give other bits than one")
    for name, wanted in zip(one, reference(model, feeds, 18), strict=True):
        # stacked outputs of no iteration have no type there
        wanted = wanted if wanted.size else wanted.reshape(one[name].shape)
        assert one[name].shape == wanted.shape and one[name].dtype == wanted.dtype
        np.testing.assert_allclose(one[name], wanted, rtol=1e-4, atol=1e-5)
    for name, wanted in run(plan.graph, feeds).items():
        np.testing.assert_allclose(one[name], wanted, rtol=1e-4, atol=1e-5)
    with Session(plan.folder, threads=1) as session:
        session.run(None, dict(feeds))
        return [row.count for row in session.profile()]


def test_branches_in_branches(tmp_path: Path) -> None:
    inner = choice(body(product("t", "u"), [], ["u"]), body([N("Identity", ["t"], ["v"])], [], ["v"]), ["r"])
    inner.input[0] = "d"
    then = body(
        [*product("x", "t"), N("ReduceSum", ["t"], ["sum"], keepdims=0), N("Greater", ["sum", "zero"], ["d"]), inner],
        *([], ["r"]),
    )
    model = make(
        [choice(then, body([N("Neg", ["x"], ["n"]), *product("n", "o")], [], ["o"]))],
        [value("c", BOOL, []), value("x", FLOAT, ["n", WIDTH])],
        constants=[array("w", SQUARE), array("zero", 0.0, np.float32)],
    )
    plan = planned(tmp_path, model, {"n": Bounds(1, 40, 50)})
    assert len(plan.levels.plan.regions) == 3
    seen = set()
    for seed in range(6):
        x = rand(50 - seed, WIDTH, seed=seed)
        seen |= {sum(check(plan, model, {"c": np.array(taken), "x": x})) for taken in (True, False)}
    assert len(seen) == 3  # three ways of different lengths


def test_branches_of_different_extents(tmp_path: Path) -> None:
    then = body([*product("x", "t"), N("Concat", ["t", "x", "t"], ["a"], axis=0)], [], ["a"])
    model = make(
        [choice(then, body([N("Neg", ["x"], ["b"])], [], ["b"])), N("Softmax", ["y"], ["z"], axis=1)],
        [value("c", BOOL, []), value("x", FLOAT, ["n", WIDTH])],
        ["y", "z"],
        [array("w", SQUARE)],
    )
    plan = planned(tmp_path, model, {"n": Bounds(1, 30, 40)})
    assert plan.levels.plan.regions and len(plan.levels.plan.setters) == 1
    for rows in (1, 29, 40):
        ran = [sum(check(plan, model, {"c": np.array(c), "x": rand(rows, WIDTH)})) for c in (True, False)]
        assert ran[0] > ran[1]


def descent(trips: int | None) -> onnx.ModelProto:
    """s = tanh(s w) until the sum of its squares is at most `end`; every s is stacked."""
    nodes = [
        *product("s", "s_out"),
        N("Mul", ["s_out", "s_out"], ["squares"]),
        N("ReduceSum", ["squares"], ["left"], keepdims=0),
        N("Greater", ["left", "end"], ["go"]),
    ]
    graph = typed(body(nodes, ["i", "c", "s"], ["go", "s_out", "s_out", "left"]))
    inputs = [value("x", FLOAT, [8, WIDTH]), value("end", FLOAT, [])]
    made = loop(graph, trips, None, ["x"], ["y", "all", "sums"], inputs=inputs)
    made.graph.initializer.append(array("w", SQUARE * 0.5))
    return made


def test_iterations_behind_the_end_are_skipped(tmp_path: Path) -> None:
    model = descent(12)
    plan = planned(tmp_path, model)
    counts = []
    for end in (1e9, 200.0, 100.0, 1.0, -1.0):
        feeds = {"x": rand(8, WIDTH), "end": np.array(end, np.float32)}
        counts.append(sum(check(plan, model, feeds)))
    assert counts == sorted(counts) and counts[0] < counts[-1] == len(plan.levels.plan.calls)


def test_what_is_stacked_and_never_read_sets_no_dim(tmp_path: Path) -> None:
    model = descent(3)
    del model.graph.output[1:]
    plan = planned(tmp_path, model)
    assert not plan.levels.plan.symbols
    check(plan, model, {"x": rand(8, WIDTH), "end": np.array(100, np.float32)})


def test_as_many_iterations_as_an_input_says(tmp_path: Path) -> None:
    nodes = [*product("s", "s_out"), N("Identity", ["c"], ["go"])]
    graph = typed(body(nodes, ["i", "c", "s"], ["go", "s_out", "s_out"]))
    model = make(
        [N("Loop", ["m", "", "x"], ["y", "all"], body=graph)],
        [value("m", INT64, []), value("x", FLOAT, [4, WIDTH])],
        ["y", "all"],
        [array("w", SQUARE)],
    )
    plan = planned(tmp_path, model, trips=5)
    ran = [sum(check(plan, model, {"m": np.array(m), "x": rand(4, WIDTH)})) for m in (0, 1, 4, 5)]
    assert ran == sorted(ran) and ran[0] < ran[1] < ran[2] < ran[3]
    for threads in (1, 3):
        with (
            Session(plan.folder, threads=threads) as session,
            pytest.raises(StratacError, match=r"dim trips_0 came out as 6, outside its bounds 0 to 5"),
        ):
            session.run(None, {"m": np.array(6), "x": rand(4, WIDTH)})


def branch_of_odd_trips(branch: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Of a body with inputs i, c and s: `s_out` is what the branch gives in odd trips where `flag` holds, else -s; `go` says i < last."""
    deep = choice(branch, body([N("Neg", ["s"], ["v"])], [], ["v"]), ["s_out"])
    deep.input[0] = "odd"
    return [
        N("Mod", ["i", "two"], ["rest"]),
        N("Equal", ["rest", "one"], ["is"]),
        N("And", ["is", "flag"], ["odd"]),
        deep,
        N("Less", ["i", "last"], ["go"]),
    ]


def test_a_loop_in_a_branch_and_a_branch_in_a_loop(tmp_path: Path) -> None:
    nodes = branch_of_odd_trips(body(product("s", "u"), [], ["u"]))
    inner = typed(body(nodes, ["i", "c", "s"], ["go", "s_out"]))
    then = body([N("Loop", ["m", "", "x"], ["t"], body=inner)], [], ["t"])
    model = make(
        [choice(then, body([N("Abs", ["x"], ["a"])], [], ["a"]))],
        [value("c", BOOL, []), value("flag", BOOL, []), value("last", INT64, []), value("x", FLOAT, [9, WIDTH])],
        constants=[array("w", SQUARE), array("m", 6), array("two", 2), array("one", 1)],
    )
    plan = planned(tmp_path, model)
    for seed in range(8):
        feeds = {"c": np.array(seed % 4 > 0), "flag": np.array(seed % 2 > 0), "last": np.array(seed - 1)}
        check(plan, model, feeds | {"x": rand(9, WIDTH, seed=seed)})


def test_scans_of_an_open_extent(tmp_path: Path) -> None:
    graph = body(
        [N("Add", ["s", "row"], ["t"]), *product("t", "s_out"), N("Neg", ["s_out"], ["o"])],
        *(["s", "row"], ["s_out", "o"]),
    )
    model = make(
        [N("Scan", ["s0", "x"], ["s", "all"], body=graph, num_scan_inputs=1, scan_input_directions=[1])],
        [value("s0", FLOAT, [3, WIDTH]), value("x", FLOAT, ["n", 3, WIDTH])],
        ["s", "all"],
        [array("w", SQUARE)],
    )
    plan = planned(tmp_path, model, {"n": Bounds(1, 3, 6)})
    ran = [sum(check(plan, model, {"s0": rand(3, WIDTH), "x": rand(n, 3, WIDTH, seed=n)})) for n in (1, 2, 5, 6)]
    assert ran == sorted(ran) and ran[0] < ran[-1]


def test_what_stays_between_runs_changes_only_where_it_is_said_to(tmp_path: Path) -> None:
    then = body([N("Add", ["past", "x"], ["t"]), *product("t", "u")], [], ["u"])
    model = make(
        [choice(then, body([N("Identity", ["past"], ["v"])], [], ["v"]), ["present"]), N("Neg", ["present"], ["y"])],
        [value("c", BOOL, []), value("x", FLOAT, [4, WIDTH]), value("past", FLOAT, [4, WIDTH])],
        ["y", "present"],
        [array("w", SQUARE)],
    )
    plan = compiled(import_onnx(save(tmp_path, model), layout=Layout(states={"past": "present"})))
    verify_plan(plan.levels.plan, plan.levels.placed)
    assert plan.levels.plan.states and plan.levels.plan.regions
    for threads in (1, 3):
        with Session(plan.folder, threads=threads) as session:
            past = np.zeros((4, WIDTH), np.float32)
            for number in range(8):
                x, taken = rand(4, WIDTH, seed=number), number % 3 != 1
                (y,) = session.run(None, {"c": np.array(taken), "x": x})
                past = np.tanh((past + x) @ SQUARE) if taken else past
                np.testing.assert_allclose(y, -past, rtol=1e-4, atol=1e-5)
