"""Loops that stay loops: what they give is what onnxruntime, the interpreter and unrolled loops give, at any thread count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from stratac.compiler.frontends.onnx import import_onnx, repeated
from stratac.compiler.layout import Layout
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, StratacError
from stratac.ir.interp import run
from stratac.ir.verify_plan import verify_plan
from stratac.runtime.session import Session

from ...codegen.harness import Compiled, check_bits, compiled
from .build import BOOL, FLOAT, INT64, N, array, make, ops, rand, reference, save, value
from .test_control import body, loop
from .test_control_compiled import branch_of_odd_trips, typed

WIDTH = 16
SQUARE = np.asarray(np.random.default_rng(1).standard_normal((WIDTH, WIDTH)) / 4, np.float32)


def planned(folder: Path, model: onnx.ModelProto, dims: Mapping[str, Bounds] | None = None, trips: int = 0) -> Compiled:
    plan = compiled(import_onnx(save(folder, model), dims, layout=Layout(trips=trips)))
    verify_plan(plan.levels.plan, plan.levels.placed)
    assert plan.levels.plan.loops
    return plan


def check(plan: Compiled, model: onnx.ModelProto, feeds: Mapping[str, Any]) -> None:
    one = plan.run(feeds, 1)
    check_bits(one, plan.run(feeds, 3), "3 threads give other bits than one")
    for name, wanted in zip(one, reference(model, feeds, 18), strict=True):
        wanted = wanted if wanted.size else wanted.reshape(one[name].shape)  # no iteration: no type there
        assert one[name].shape == wanted.shape and one[name].dtype == wanted.dtype
        np.testing.assert_allclose(one[name], wanted, rtol=1e-3, atol=1e-5)
    for name, wanted in run(plan.graph, feeds).items():
        np.testing.assert_allclose(one[name], wanted, rtol=1e-3, atol=1e-5)


def recurrence(*more: onnx.NodeProto, rows: str = "x") -> list[onnx.NodeProto]:
    """s_out = tanh(s w + row i of x)."""
    return [
        N("Gather", [rows, "i"], ["row"], axis=0),
        N("MatMul", ["s", "w"], ["sw"]),
        N("Add", ["sw", "row"], ["a"]),
        N("Tanh", ["a"], ["s_out"]),
        *more,
    ]


def test_a_loop_that_counts(tmp_path: Path) -> None:
    """Of 300 copies of the body one is compiled; its weight is stored once, though it is used outside too."""
    graph = typed(body([*recurrence(), N("Identity", ["c"], ["go"])], ["i", "c", "s"], ["go", "s_out", "s_out", "a"]))
    model = loop(
        graph,
        300,
        True,
        ["s0"],
        ["s", "all", "before"],
        inputs=[value("x", FLOAT, [300, WIDTH]), value("s0", FLOAT, [2, WIDTH])],
        after=[N("MatMul", ["s", "w"], ["y"])],
        results=["s", "all", "before", "y"],
    )
    model.graph.initializer.append(array("w", SQUARE))
    plan = planned(tmp_path, model)
    assert len(plan.levels.plan.calls) < 20 and len(plan.levels.plan.weights) <= 2
    assert "repeated: 300 times 5 nodes" in plan.levels.plan.notes["loops"]
    feeds = {"x": rand(300, WIDTH), "s0": rand(2, WIDTH)}
    check(plan, model, feeds)
    with Session(plan.folder, threads=1) as session:
        for _ in range(2):
            session.run(None, feeds)
        assert {row.count for row in session.profile()} == {2}  # once a run, whatever the trips


def test_the_same_as_unrolled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = body([*recurrence(), N("Identity", ["c"], ["go"])], ["i", "c", "s"], ["go", "s_out", "s_out"])
    inputs = [value("x", FLOAT, [20, WIDTH]), value("s0", FLOAT, [2, WIDTH])]
    model = loop(graph, 20, True, ["s0"], ["s", "all"], inputs=inputs)
    model.graph.initializer.append(array("w", SQUARE))
    graphs = []
    for few in (1 << 20, 0):
        monkeypatch.setattr(repeated, "FEW", few)
        graphs.append(import_onnx(save(tmp_path, model)))
    assert ["loop" in ops(graph) for graph in graphs] == [False, True]
    assert all(len(graph.notes) <= 1 for graph in graphs) and "is unrolled" in graphs[0].notes[0]
    feeds = {"x": rand(20, WIDTH), "s0": rand(2, WIDTH)}
    one, other = (run(graph, feeds) for graph in graphs)
    for name, wanted in one.items():
        np.testing.assert_array_equal(other[name], wanted)


def descent() -> onnx.ModelProto:
    """s = tanh(s w) until its greatest element is at most `end`; every s is stacked, and a counter is carried."""
    nodes = [
        N("MatMul", ["s", "w"], ["sw"]),
        N("Tanh", ["sw"], ["s_out"]),
        N("ReduceMax", ["s_out"], ["left"], keepdims=0),
        N("Greater", ["left", "end"], ["go"]),
        N("Add", ["k", "one"], ["k_out"]),
    ]
    graph = typed(body(nodes, ["i", "c", "s", "k"], ["go", "s_out", "k_out", "s_out", "left"]))
    graph.input[3].type.tensor_type.elem_type = INT64
    inputs = [value("x", FLOAT, [4, WIDTH]), value("end", FLOAT, [])]
    model = loop(graph, None, None, ["x", "k0"], ["y", "k", "all", "each"], inputs=inputs)
    for name, content in (("w", SQUARE * 0.9), ("one", np.int64(1)), ("k0", np.int64(7))):
        model.graph.initializer.append(array(name, content))
    return model


def test_a_loop_that_the_data_ends(tmp_path: Path) -> None:
    model = descent()
    with pytest.raises(ModelError, match="no greatest number of iterations"):
        import_onnx(save(tmp_path, model))
    plan = planned(tmp_path, model, trips=400)
    for end in (10.0, 0.5, 0.1, 0.01):
        check(plan, model, {"x": rand(4, WIDTH), "end": np.array(end, np.float32)})
    for threads in (1, 3):
        with (
            Session(plan.folder, threads=threads) as session,
            pytest.raises(StratacError, match="dim trips_0 came out as 401, outside its bounds 0 to 400"),
        ):
            session.run(None, {"x": rand(4, WIDTH), "end": np.array(-2, np.float32)})


def test_as_many_iterations_as_an_input_says(tmp_path: Path) -> None:
    graph = typed(body([*recurrence(), N("Identity", ["c"], ["go"])], ["i", "c", "s"], ["go", "s_out", "s_out"]))
    inputs = [value("m", INT64, []), value("x", FLOAT, [150, WIDTH]), value("s0", FLOAT, [2, WIDTH])]
    model = make([N("Loop", ["m", "", "s0"], ["s", "all"], body=graph)], inputs, ["s", "all"], [array("w", SQUARE)])
    plan = planned(tmp_path, model, trips=150)
    for m in (0, 1, 149, 150):
        check(plan, model, {"m": np.array(m), "x": rand(150, WIDTH), "s0": rand(2, WIDTH)})


def test_a_greatest_number_that_is_none(tmp_path: Path) -> None:
    """What exporters write where only the condition ends a loop."""
    nodes = [N("Add", ["s", "x"], ["s_out"]), N("Less", ["s_out", "end"], ["go"])]
    graph = typed(body(nodes, ["i", "c", "s"], ["go", "s_out"]))
    inputs = [value("x", FLOAT, []), value("end", FLOAT, [])]
    model = loop(graph, (1 << 63) - 1, None, ["x"], ["y"], inputs=inputs)
    plan = planned(tmp_path, model, trips=1000)
    for end in (0.5, 17.5, 900.5):
        check(plan, model, {"x": np.ones((), np.float32), "end": np.array(end, np.float32)})


@pytest.mark.parametrize(("axis", "backwards", "out_axis"), [(0, 0, 0), (1, 1, 1), (0, 1, -1)])
def test_scans(tmp_path: Path, axis: int, backwards: int, out_axis: int) -> None:
    nodes = [N("Mul", ["s", "half"], ["h"]), N("Add", ["h", "row"], ["s_out"]), N("Exp", ["row"], ["e"])]
    graph = body(nodes, ["s", "row"], ["s_out", "e"])
    node = N("Scan", ["s0", "x"], ["s", "all"], body=graph, num_scan_inputs=1, scan_input_axes=[axis])
    node.attribute.append(onnx.helper.make_attribute("scan_input_directions", [backwards]))
    node.attribute.append(onnx.helper.make_attribute("scan_output_axes", [out_axis]))
    node.attribute.append(onnx.helper.make_attribute("scan_output_directions", [backwards]))
    shape: list[Any] = ["n", 5] if axis == 0 else [5, "n"]
    inputs = [value("s0", FLOAT, [5]), value("x", FLOAT, shape)]
    model = make([node], inputs, ["s", "all"], [array("half", 0.5, np.float32)])
    plan = planned(tmp_path, model, {"n": Bounds(1, 300, 400)})
    for rows in (1, 37, 400):
        x = rand(rows, 5)
        check(plan, model, {"s0": rand(5), "x": x if axis == 0 else np.ascontiguousarray(x.T)})


def test_loops_in_loops_and_branches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "FEW", 10)
    inner = body(
        [N("Mul", ["t", "half"], ["th"]), N("Add", ["th", "s"], ["t_out"]), N("Identity", ["c"], ["g"])],
        *(["i", "c", "t"], ["g", "t_out"]),
    )
    then = body([N("Loop", ["five", "", "s"], ["u"], body=typed(inner))], [], ["u"])
    outer = typed(body(branch_of_odd_trips(then), ["i", "c", "s"], ["go", "s_out", "s_out"]))
    model = make(
        [N("Loop", ["m", "", "x"], ["y", "all"], body=outer)],
        [value("flag", BOOL, []), value("last", INT64, []), value("x", FLOAT, [3, WIDTH])],
        ["y", "all"],
        [array("m", 9), array("two", 2), array("one", 1), array("five", 5), array("half", 0.5, np.float32)],
    )
    plan = planned(tmp_path, model)
    assert len(plan.levels.plan.loops) == 2
    for seed in range(4):
        feeds = {"flag": np.array(seed % 2 > 0), "last": np.array(3 * seed - 1), "x": rand(3, WIDTH, seed=seed)}
        check(plan, model, feeds)


def test_sizes_that_depend_on_a_counter(tmp_path: Path) -> None:
    """Where a slice starts has to be known: a counter that grows evenly is."""
    nodes = [
        N("Add", ["k", "two"], ["k_out"]),
        N("Slice", ["x", "k", "k_out", "zero"], ["part"]),
        N("ReduceSum", ["part"], ["sum"], keepdims=0),
        N("Add", ["s", "sum"], ["s_out"]),
        N("Identity", ["c"], ["go"]),
    ]
    graph = typed(body(nodes, ["i", "c", "s", "k"], ["go", "s_out", "k_out", "s_out"]))
    graph.input[3].type.tensor_type.elem_type = INT64
    constants = [array("zero", [0]), array("two", [2]), array("k0", [4]), array("m", 150), array("cond", True, bool)]
    model = make(
        [N("Loop", ["m", "cond", "s0", "k0"], ["s", "k", "all"], body=graph)],
        [value("x", FLOAT, [400]), value("s0", FLOAT, [])],
        ["s", "k", "all"],
        constants,
    )
    plan = planned(tmp_path, model)
    check(plan, model, {"x": rand(400), "s0": np.zeros((), np.float32)})


def test_a_shape_that_grows_cannot_be_repeated(tmp_path: Path) -> None:
    graph = body([N("Concat", ["s", "x"], ["s_out"], axis=0)], ["i", "c", "s"], ["c", "s_out"])
    model = loop(graph, 600, True, ["x"], ["y"], inputs=[value("x", FLOAT, [2])])
    imported = import_onnx(save(tmp_path, model))
    assert "loop" not in ops(imported) and "is unrolled: it carries f32[2] on as f32[4]" in imported.notes[0]
    model = loop(graph, 20_000, True, ["x"], ["y"], inputs=[value("x", FLOAT, [2])])
    with pytest.raises(ModelError, match=r"more than 16384 nodes.*it cannot be repeated instead: it carries"):
        import_onnx(save(tmp_path, model))


def test_what_is_carried_changes_places_or_stays(tmp_path: Path) -> None:
    """Two values swapped, one kept, one that becomes a value from outside, elements of one byte and of two."""
    nodes = [
        N("Add", ["b", "one"], ["b_out"]),
        N("Identity", ["d"], ["d_out"]),
        N("Identity", ["x"], ["e_out"]),
        N("Not", ["f"], ["f_out"]),
        N("Neg", ["h"], ["h_out"]),
        N("Identity", ["c"], ["go"]),
    ]
    graph = body(
        nodes,
        ["i", "c", "a", "b", "d", "e", "f", "h"],
        ["go", "b_out", "a", "d_out", "e_out", "f_out", "h_out", "e", "f"],
    )
    kinds = {"i": INT64, "c": BOOL, "f": BOOL, "h": onnx.TensorProto.FLOAT16}
    ports = [value(p.name, kinds.get(p.name, FLOAT), [] if p.name in "ic" else [2]) for p in graph.input]
    del graph.input[:]
    graph.input.extend(ports)
    names = ["a", "b", "d", "e", "f", "h"]
    inputs = [value(f"{n}0", kinds.get(n, FLOAT), [2]) for n in names] + [value("x", FLOAT, [2])]
    outputs = [*(f"{n}9" for n in names), "es", "fs"]
    model = loop(graph, 99, True, [f"{n}0" for n in names], outputs, inputs=inputs)
    model.graph.initializer.append(array("one", 1.0, np.float32))
    plan = planned(tmp_path, model)
    feeds = {f"{n}0": rand(2, seed=k) for k, n in enumerate("abde")} | {"x": rand(2, seed=9)}
    check(plan, model, feeds | {"f0": np.array([True, False]), "h0": rand(2).astype(np.float16)})


def test_state_that_a_loop_changes(tmp_path: Path) -> None:
    graph = typed(body([*recurrence(), N("Identity", ["c"], ["go"])], ["i", "c", "s"], ["go", "s_out"]))
    inputs = [value("x", FLOAT, [150, WIDTH]), value("past", FLOAT, [2, WIDTH])]
    after = [N("Neg", ["present"], ["y"])]
    model = loop(graph, 150, True, ["past"], ["present"], inputs=inputs, after=after, results=["y", "present"])
    model.graph.initializer.append(array("w", SQUARE))
    plan = compiled(import_onnx(save(tmp_path, model), layout=Layout(states={"past": "present"})))
    verify_plan(plan.levels.plan, plan.levels.placed)
    assert plan.levels.plan.states and plan.levels.plan.loops
    for threads in (1, 3):
        with Session(plan.folder, threads=threads) as session:
            past = np.zeros((2, WIDTH), np.float32)
            for number in range(3):
                x = rand(150, WIDTH, seed=number)
                (y,) = session.run(None, {"x": x})
                for row in x:
                    past = np.tanh(past @ SQUARE + row)
                np.testing.assert_allclose(y, -past, rtol=1e-3, atol=1e-4)
