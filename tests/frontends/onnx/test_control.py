"""`If`, `Loop`, `Scan` and `SequenceMap`: decided while importing, chosen from, or unrolled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, StratacError

from .build import BOOL, FLOAT, INT64, N, array, make, ops, rand, save, value
from .structured import check


def body(
    nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str], constants: list[onnx.TensorProto] | None = None
) -> onnx.GraphProto:
    """A graph inside a node; the types of its inputs and outputs are not written down."""
    made = helper.make_empty_tensor_value_info
    return helper.make_graph(nodes, "body", [made(n) for n in inputs], [made(n) for n in outputs], constants or [])


def choice(then: onnx.GraphProto, otherwise: onnx.GraphProto, outputs: list[str] | None = None) -> onnx.NodeProto:
    return N("If", ["c"], outputs or ["y"], then_branch=then, else_branch=otherwise)


@pytest.mark.parametrize("taken", [True, False])
def test_branches_that_depend_on_the_data(tmp_path: Path, taken: bool) -> None:
    """Both compute with an outer value; names inside hide equal names outside and in the other branch."""
    then = body([N("Neg", ["x"], ["t"]), N("Add", ["t", "x"], ["z"])], [], ["z"])
    otherwise = body([N("Mul", ["x", "x"], ["t"]), N("Exp", ["t"], ["z"])], [], ["z"])
    nodes = [N("Abs", ["x"], ["t"]), choice(then, otherwise), N("Add", ["y", "t"], ["w"])]
    model = make(nodes, [value("c", BOOL, []), value("x", FLOAT, [2, 3])], ["w"])
    graph = check(tmp_path, model, {"c": np.array(taken), "x": rand(2, 3)})
    assert "where" in ops(graph)


@pytest.mark.parametrize("x", [-2.0, 0.5, 3.0])
def test_nested_branches(tmp_path: Path, x: float) -> None:
    inner = choice(body([N("Neg", ["x"], ["v"])], [], ["v"]), body([N("Exp", ["x"], ["v"])], [], ["v"]), ["u"])
    inner.input[0] = "d"
    outer = choice(
        body([N("Greater", ["x", "one"], ["d"]), inner], [], ["u"]), body([N("Abs", ["x"], ["a"])], [], ["a"])
    )
    model = make(
        [N("Greater", ["x", "zero"], ["c"]), outer],
        [value("x", FLOAT, [1])],
        ["y"],
        [array("zero", 0.0, np.float32), array("one", 1.0, np.float32)],
    )
    check(tmp_path, model, {"x": np.array([x], np.float32)})


def test_a_value_that_both_branches_give_needs_no_choice(tmp_path: Path) -> None:
    node = choice(body([N("Identity", ["x"], ["a"])], [], ["a"]), body([N("Identity", ["x"], ["b"])], [], ["b"]))
    model = make([node], [value("c", BOOL, [1]), value("x", FLOAT, [2])])
    assert "where" not in ops(check(tmp_path, model, {"c": np.array([True]), "x": rand(2)}))


def test_branches_of_different_types_say_so(tmp_path: Path) -> None:
    node = choice(body([N("Neg", ["x"], ["a"])], [], ["a"]), body([N("Flatten", ["x"], ["b"])], [], ["b"]))
    model = make([node], [value("c", BOOL, []), value("x", FLOAT, [2])])
    with pytest.raises(ModelError) as failure:
        import_onnx(save(tmp_path, model))
    (problem,) = failure.value.problems
    assert "one is f32[2], the other f32[2, 1]" in problem.what and problem.needs == ("c",)
    constants = {"c": np.array(False)}
    graph = import_onnx(tmp_path / "model.onnx", None, constants)
    assert ops(graph) == ["reshape"]


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("rows", [1, 3])
def test_branches_of_different_extents(tmp_path: Path, taken: bool, rows: int) -> None:
    """The result has those of the branch taken, and so has what is computed with it."""
    then = body([N("Concat", ["x", "x"], ["t"], axis=0), N("Concat", ["t", "t"], ["a"], axis=1)], [], ["a"])
    otherwise = body([N("Neg", ["x"], ["b"])], [], ["b"])
    nodes = [choice(then, otherwise), N("ReduceSum", ["y"], ["s"], keepdims=0), N("Concat", ["y", "y"], ["z"], axis=0)]
    model = make(nodes, [value("c", BOOL, []), value("x", FLOAT, ["n", 2])], ["y", "s", "z"])
    feeds = {"c": np.array(taken), "x": rand(rows, 2)}
    check(tmp_path, model, feeds, dims={"n": Bounds(1, 2, 3)})


@pytest.mark.parametrize("end", [0, 2, 9])
def test_a_shape_that_grows_until_the_data_ends_it(tmp_path: Path, end: int) -> None:
    nodes = [N("Concat", ["s", "x"], ["s_out"], axis=0), N("Less", ["i", "end"], ["go"])]
    graph = body(nodes, ["i", "c", "s"], ["go", "s_out"])
    model = loop(graph, 4, True, ["x"], ["y"], inputs=[value("x", FLOAT, [2]), value("end", INT64, [])])
    x = rand(2)
    expected = np.tile(x, 1 + min(end + 1, 4))
    check(tmp_path, model, {"x": x, "end": np.array(end)}, expected=[expected])


def test_a_branch_that_cannot_be_computed_is_reported_once(tmp_path: Path) -> None:
    node = choice(body([N("Flop", ["x"], ["a"])], [], ["a"]), body([N("Neg", ["x"], ["b"])], [], ["b"]))
    model = make([node], [value("c", BOOL, []), value("x", FLOAT, [2])])
    with pytest.raises(ModelError) as failure:
        import_onnx(save(tmp_path, model))
    assert ["Flop" in p.op for p in failure.value.problems] == [True, False]
    assert failure.value.problems[1].needs == ("c",)


def test_branches_of_sequences_and_optionals(tmp_path: Path) -> None:
    then = body([N("SequenceConstruct", ["x", "x"], ["s"])], [], ["s"])
    otherwise = body([N("Neg", ["x"], ["n"]), N("SequenceConstruct", ["n", "x"], ["s"])], [], ["s"])
    model = make([choice(then, otherwise)], [value("c", BOOL, []), value("x", FLOAT, [2])])
    x = rand(2)
    check(tmp_path, model, {"c": np.array(True), "x": x}, expected=[[x, x]])
    check(tmp_path, model, {"c": np.array(False), "x": x}, expected=[[-x, x]])


# -- Loop


def loop(
    graph: onnx.GraphProto, trips: int | None, cond: bool | None, carried: list[str], outputs: list[str], **more: Any
) -> onnx.ModelProto:
    constants = [array("m", trips, np.int64)] if trips is not None else []
    constants += [array("cond", cond, bool)] if cond is not None else []
    node = N(
        "Loop", ["m" if trips is not None else "", "cond" if cond is not None else "", *carried], outputs, body=graph
    )
    return make([node, *more.pop("after", ())], more.pop("inputs"), more.pop("results", outputs), constants)


def _sum(limit: str = "") -> onnx.GraphProto:
    """s = s + x * i, all of s stacked; ends where s exceeds the outer value `limit`."""
    nodes = [N("Cast", ["i"], ["f"], to=FLOAT), N("Mul", ["x", "f"], ["p"]), N("Add", ["s", "p"], ["s_out"])]
    nodes.append(N("Less", ["s_out", limit], ["go"]) if limit else N("Identity", ["c"], ["go"]))
    return body(nodes, ["i", "c", "s"], ["go", "s_out", *(["s_out"] if not limit else [])])


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_loops_are_unrolled(tmp_path: Path, trips: int) -> None:
    model = loop(_sum(), trips, True, ["s0"], ["s", "all"], inputs=[value("x", FLOAT, [3]), value("s0", FLOAT, [3])])
    x, start = rand(3), rand(3, seed=1)
    rows = (
        np.cumsum(np.stack([x * i for i in range(trips)] or [x[:0]]), 0, dtype=np.float32) + start
        if trips
        else np.zeros((0, 3), np.float32)
    )
    last = rows[-1] if trips else start
    check(tmp_path, model, {"x": x, "s0": start}, expected=[last, rows.astype(np.float32)])


def test_a_condition_that_is_known_ends_a_loop_without_trip_count(tmp_path: Path) -> None:
    nodes = [N("Add", ["i", "one"], ["n"]), N("Less", ["n", "end"], ["go"]), N("Add", ["s", "x"], ["s_out"])]
    graph = body(nodes, ["i", "c", "s"], ["go", "s_out"], [array("one", 1, np.int64), array("end", 3, np.int64)])
    model = loop(graph, None, True, ["x"], ["y"], inputs=[value("x", FLOAT, [2])])
    x = rand(2)
    check(tmp_path, model, {"x": x}, expected=[x * 4])


@pytest.mark.parametrize("limit", [-5.0, 0.5, 4.0, 1000.0])
def test_a_condition_that_depends_on_the_data(tmp_path: Path, limit: float) -> None:
    """Iterations after its end change nothing, even where they compute infinities."""
    inputs = [value("x", FLOAT, [1]), value("s0", FLOAT, [1]), value("end", FLOAT, [1])]
    model = loop(_sum("end"), 6, None, ["s0"], ["s"], inputs=inputs)
    one, end = np.ones(1, np.float32), np.full(1, limit, np.float32)
    total = np.zeros(1, np.float32)
    for i in range(6):
        total = total + i
        if total[0] >= limit:
            break
    check(tmp_path, model, {"x": one, "s0": one * 0, "end": end}, expected=[total])


def test_branches_in_loops_and_loops_in_branches(tmp_path: Path) -> None:
    """Captured values come from every level; `t` means something else on each."""
    deep = N(
        "If",
        ["big"],
        ["u"],
        then_branch=body([N("Neg", ["t"], ["r"])], [], ["r"]),
        else_branch=body([N("Add", ["t", "x"], ["r"])], [], ["r"]),
    )
    nodes = [
        N("Mul", ["s", "x"], ["t"]),
        N("ReduceSum", ["t"], ["sum"], keepdims=0),
        N("Greater", ["sum", "zero"], ["big"]),
        deep,
    ]
    inner = body([*nodes, N("Identity", ["c"], ["go"])], ["i", "c", "s"], ["go", "u", "t"])
    then = body(
        [
            N("Loop", ["m", "yes", "x"], ["v", "rows"], body=inner),
            N("ReduceSum", ["rows"], ["t"], keepdims=0),
            N("Add", ["v", "t"], ["w"]),
        ],
        [],
        ["w"],
    )
    otherwise = body([N("Identity", ["x"], ["t"])], [], ["t"])
    constants = [array("m", 3, np.int64), array("zero", 0.0, np.float32), array("yes", True, bool)]
    model = make([choice(then, otherwise)], [value("c", BOOL, []), value("x", FLOAT, [2])], ["y"], constants)
    for taken in (True, False):
        check(tmp_path, model, {"c": np.array(taken), "x": rand(2)})


def test_sequences_carried_by_a_loop(tmp_path: Path) -> None:
    nodes = [
        N("SequenceInsert", ["s", "x"], ["s_out"]),
        N("Concat", ["x", "x"], ["twice"], axis=0),
        N("SequenceInsert", ["s_out", "twice"], ["t"]),
    ]
    graph = body([*nodes, N("Identity", ["c"], ["go"])], ["i", "c", "s"], ["go", "t"])
    after = [N("SequenceLength", ["y"], ["n"])]
    model = make(
        [N("SequenceEmpty", [], ["s0"]), N("Loop", ["m", "", "s0"], ["y"], body=graph), *after],
        [value("x", FLOAT, [2])],
        ["y", "n"],
        [array("m", 2, np.int64)],
    )
    x = rand(2)
    check(tmp_path, model, {"x": x}, expected=[[x, np.tile(x, 2)] * 2, np.array(4, np.int64)])


def test_a_shape_that_grows(tmp_path: Path) -> None:
    graph = body(
        [N("Concat", ["s", "x"], ["s_out"], axis=0), N("Identity", ["c"], ["go"])], ["i", "c", "s"], ["go", "s_out"]
    )
    model = loop(graph, 3, True, ["x"], ["y"], inputs=[value("x", FLOAT, ["n", 2])])
    check(tmp_path, model, {"x": rand(3, 2)}, dims={"n": Bounds(1, 2, 4)}, expected=[np.tile(rand(3, 2), (4, 1))])


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (
            loop(_sum(), None, True, ["s0"], ["s"], inputs=[value("x", FLOAT, [1]), value("s0", FLOAT, [1])]),
            "more than 16384 nodes",
        ),
        (
            loop(_sum("end"), None, None, ["s0"], ["s"], inputs=[value(n, FLOAT, [1]) for n in ("x", "s0", "end")]),
            "no greatest number of iterations",
        ),
        (
            make(
                [
                    N(
                        "Loop",
                        ["m", "", "x"],
                        ["y"],
                        body=body([N("Identity", ["c"], ["g"]), N("Neg", ["s"], ["t"])], ["i", "c", "s"], ["g", "t"]),
                    )
                ],
                [value("m", INT64, []), value("x", FLOAT, [1])],
            ),
            "the number of iterations ('m') must be known",
        ),
    ],
)
def test_loops_that_cannot_be_unrolled(tmp_path: Path, model: onnx.ModelProto, what: str) -> None:
    with pytest.raises(ModelError, match=what.replace("(", r"\(").replace(")", r"\)")):
        import_onnx(save(tmp_path, model))


@pytest.mark.parametrize("end", [-1.0, 0.5, 2.5, 3.5, 100.0])
@pytest.mark.parametrize("trips", [1, 4])
def test_what_is_stacked_until_the_data_ends_the_loop(tmp_path: Path, trips: int, end: float) -> None:
    """The extent is found in each run."""
    nodes = [N("Add", ["s", "x"], ["s_out"]), N("Less", ["s_out", "end"], ["go"]), N("Neg", ["s"], ["n"])]
    graph = body(nodes, ["i", "c", "s"], ["go", "s_out", "s_out", "n", "i"])
    inputs = [value("x", FLOAT, [1]), value("end", FLOAT, [1])]
    model = loop(graph, trips, None, ["x"], ["y", "all", "negative", "numbers"], inputs=inputs)
    one = np.ones(1, np.float32)
    sums = [1.0]
    while len(sums) <= trips and (len(sums) == 1 or sums[-1] < end):
        sums.append(sums[-1] + 1)
    rows = np.array(sums, np.float32)[:, None]
    expected = [rows[-1], rows[1:], -rows[:-1], np.arange(len(rows) - 1)]
    found = check(tmp_path, model, {"x": one, "end": one * end}, expected=expected)
    assert len(found.symbols) == (trips > 1)


def test_a_condition_that_is_known_to_be_false_stacks_nothing(tmp_path: Path) -> None:
    nodes = [N("Add", ["s", "x"], ["s_out"]), N("Less", ["s_out", "end"], ["go"])]
    graph = body(nodes, ["i", "c", "s"], ["go", "s_out", "s_out"])
    inputs = [value("x", FLOAT, [1]), value("end", FLOAT, [1])]
    model = loop(graph, 3, False, ["x"], ["y", "all"], inputs=inputs)
    one = np.ones(1, np.float32)
    check(tmp_path, model, {"x": one, "end": one}, expected=[one, np.zeros((0, 1), np.float32)])


def _counted(inputs: list[onnx.ValueInfoProto], body_nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A loop over s and what it stacks, of as many iterations as the value `m` says."""
    graph = body([*body_nodes, N("Identity", ["c"], ["go"])], ["i", "c", "s"], ["go", "s_out", "s_out"])
    before = [] if any(one.name == "m" for one in inputs) else [N("Shape", ["x"], ["m"], start=0, end=1)]
    return make([*before, N("Loop", ["m", "", "s0"], ["s", "all"], body=graph)], inputs, ["s", "all"])


@pytest.mark.parametrize("m", [-1, 0, 1, 3, 5])
def test_a_number_of_iterations_that_the_data_says(tmp_path: Path, m: int) -> None:
    inputs = [value("m", INT64, []), value("x", FLOAT, [2]), value("s0", FLOAT, [2])]
    model = _counted(inputs, [N("Add", ["s", "x"], ["s_out"])])
    feeds = {"m": np.array(m), "x": rand(2), "s0": rand(2, seed=1)}
    rows = [feeds["s0"]]
    for _ in range(m):
        rows.append(rows[-1] + feeds["x"])
    check(tmp_path, model, feeds, expected=[rows[-1], np.array(rows[1:], np.float32).reshape(-1, 2)], trips=5)


def test_more_iterations_than_are_planned_are_an_error(tmp_path: Path) -> None:
    inputs = [value("m", INT64, []), value("x", FLOAT, [2]), value("s0", FLOAT, [2])]
    model = _counted(inputs, [N("Add", ["s", "x"], ["s_out"])])
    model.graph.output.pop()  # what is carried is no result either
    with pytest.raises(StratacError, match=r"dim trips_0 comes out as 5, its bounds are 0\.\.4"):
        feeds = {"m": np.array(7), "x": rand(2), "s0": rand(2)}
        check(tmp_path, model, feeds, expected=[rand(2)], trips=4)
    with pytest.raises(ModelError, match="the number of iterations"):
        import_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("limit", [0.5, 3.5, 6.0])
def test_a_loop_that_only_the_data_ends(tmp_path: Path, limit: float) -> None:
    inputs = [value("x", FLOAT, [1]), value("s0", FLOAT, [1]), value("end", FLOAT, [1])]
    model = loop(_sum("end"), None, None, ["s0"], ["s"], inputs=inputs)
    one = np.ones(1, np.float32)
    total = i = 0
    while True:
        total, i = total + i, i + 1
        if total >= limit:
            break
    check(tmp_path, model, {"x": one, "s0": one * 0, "end": one * limit}, expected=[one * total], trips=4)
    with pytest.raises(ModelError, match="--trips N"):
        import_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_as_many_iterations_as_rows(tmp_path: Path, rows: int) -> None:
    """Each looks at its own row, of which there are as many as iterations."""
    inputs = [value("x", FLOAT, ["n", 2]), value("s0", FLOAT, [2])]
    model = _counted(inputs, [N("Gather", ["x", "i"], ["row"]), N("Add", ["s", "row"], ["s_out"])])
    x, start = rand(rows, 2), rand(2, seed=1)
    sums = np.array([start + x[: k + 1].sum(0, dtype=np.float32) for k in range(rows)], np.float32)
    check(tmp_path, model, {"x": x, "s0": start}, expected=[sums[-1], sums], dims={"n": Bounds(1, 2, 4)})


# -- Scan


def _running() -> onnx.GraphProto:
    return body([N("Add", ["s", "row"], ["s_out"]), N("Mul", ["s_out", "k"], ["out"])], ["s", "row"], ["s_out", "out"])


@pytest.mark.parametrize(("axis", "backwards", "out_axis"), [(0, 0, 0), (1, 1, 0), (-1, 0, 1), (0, 1, -1)])
def test_scans_along_any_axis_and_in_both_directions(tmp_path: Path, axis: int, backwards: int, out_axis: int) -> None:
    node = N(
        *("Scan", ["s0", "x"], ["s", "all"]),
        body=_running(),
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_input_directions=[backwards],
        scan_output_axes=[out_axis],
        scan_output_directions=[backwards],
    )
    model = make(
        [node],
        [value("s0", FLOAT, [4]), value("x", FLOAT, [3, 4] if axis == 0 else [4, 3]), value("k", FLOAT, [])],
        ["s", "all"],
    )
    x, start, k = rand(3, 4), rand(4, seed=1), np.float32(2.5)
    rows, total = [], start
    for row in x[::-1] if backwards else x:
        total = total + row
        rows.append(total * k)
    stacked = np.stack(rows[::-1] if backwards else rows, out_axis)
    check(
        tmp_path,
        model,
        {"s0": start, "x": x if axis == 0 else np.ascontiguousarray(x.T), "k": np.array(k)},
        expected=[total, stacked],
    )


def test_scans_of_several_inputs_in_a_scan(tmp_path: Path) -> None:
    inner = N(
        "Scan",
        ["s", "row", "r2"],
        ["s_out", "o"],
        body=body(
            [N("Mul", ["a", "b"], ["p"]), N("Add", ["q", "p"], ["q_out"]), N("Add", ["p", "k"], ["o_in"])],
            ["q", "a", "b"],
            ["q_out", "o_in"],
        ),
        num_scan_inputs=2,
    )
    outer = N(
        "Scan",
        ["s0", "x", "z"],
        ["s", "all"],
        body=body([inner], ["s", "row", "r2"], ["s_out", "o"]),
        num_scan_inputs=2,
    )
    model = make(
        [outer],
        [value("s0", FLOAT, []), value("x", FLOAT, [2, 3]), value("z", FLOAT, [2, 3]), value("k", FLOAT, [])],
        ["s", "all"],
    )
    x, z, k = rand(2, 3), rand(2, 3, seed=1), np.array(0.5, np.float32)
    check(
        tmp_path,
        model,
        {"s0": np.array(1, np.float32), "x": x, "z": z, "k": k},
        expected=[np.float32(1) + (x * z).sum(dtype=np.float32), x * z + k],
    )


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize(("backwards", "out_axis"), [(0, 0), (1, 0), (0, 1), (1, -1)])
def test_scans_of_an_open_extent(tmp_path: Path, rows: int, backwards: int, out_axis: int) -> None:
    node = N(
        *("Scan", ["s0", "x"], ["s", "all"]),
        body=_running(),
        num_scan_inputs=1,
        scan_input_directions=[backwards],
        scan_output_axes=[out_axis],
        scan_output_directions=[backwards],
    )
    model = make([node], [value("s0", FLOAT, [2]), value("x", FLOAT, ["n", 2]), value("k", FLOAT, [])], ["s", "all"])
    feeds = {"s0": rand(2), "x": rand(rows, 2, seed=1), "k": np.array(0.5, np.float32)}
    order = feeds["x"][::-1] if backwards else feeds["x"]
    sums = np.array([feeds["s0"] + order[: t + 1].sum(0, dtype=np.float32) for t in range(rows)], np.float32)
    stacked = np.stack([row * feeds["k"] for row in (sums[::-1] if backwards else sums)], out_axis)
    check(tmp_path, model, feeds, expected=[sums[-1], stacked], dims={"n": Bounds(1, 2, 4)})
    with pytest.raises(ModelError, match="--dim n=1:TYPICAL:MAX"):
        import_onnx(tmp_path / "model.onnx", {"n": Bounds(0, 2, 4)})


def test_a_scan_of_nothing(tmp_path: Path) -> None:
    node = N("Scan", ["s0", "x"], ["s", "all"], body=_running(), num_scan_inputs=1)
    model = make([node], [value("s0", FLOAT, [2]), value("x", FLOAT, [0, 2]), value("k", FLOAT, [])], ["s", "all"])
    start = rand(2)
    feeds = {"s0": start, "x": rand(0, 2), "k": np.array(0.5, np.float32)}
    check(tmp_path, model, feeds, expected=[start, np.zeros((0, 2), np.float32)])


@pytest.mark.parametrize("lengths", [[3, 3], [1, 2], [0, 3], [2, 0]])
@pytest.mark.parametrize("known", [False, True])
def test_sequences_of_different_lengths(tmp_path: Path, lengths: list[int], known: bool) -> None:
    """Before opset 9: behind its length a sequence keeps its state, and its outputs are zeros."""
    node = N("Scan", ["lens", "s0", "x"], ["s", "all"], body=_running(), num_scan_inputs=1)
    inputs = [value("s0", FLOAT, [2, 4]), value("x", FLOAT, [2, 3, 4]), value("k", FLOAT, [])]
    lens = np.array(lengths, np.int64)
    constants = [array("lens", lens)] if known else []
    model = make([node], inputs if known else [value("lens", INT64, [2]), *inputs], ["s", "all"], constants, opset=8)
    start, x, k = rand(2, 4), rand(2, 3, 4, seed=1), np.array(0.5, np.float32)
    state, rows = start.copy(), np.zeros((2, 3, 4), np.float32)
    for b in range(2):
        for t in range(lengths[b]):
            state[b] += x[b, t]
            rows[b, t] = state[b] * k
    feeds = {"s0": start, "x": x, "k": k} | ({} if known else {"lens": lens})
    check(tmp_path, model, feeds, expected=[state, rows])
