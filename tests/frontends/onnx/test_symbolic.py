"""Shape arithmetic at import: it leaves no trace in the graph but dims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.dims import Bounds, symbol
from stratac.ir.errors import ModelError
from stratac.tests.frontends.onnx.build import (
    BOOL,
    FLOAT,
    INT64,
    N,
    array,
    check,
    make,
    ops,
    rand,
    save,
    value,
    verified,
)

BATCH, SEQ = symbol("batch"), symbol("seq")
B = {"batch": Bounds(1, 2, 8), "seq": Bounds(1, 5, 64)}


def ints(name: str, *values: int):
    return array(name, list(values), np.int64)


def test_view_of_shape_parts(tmp_path: Path) -> None:
    """The exporter's `x.view(batch, seq, -1, 8)`."""
    nodes = [
        N("Shape", ["x"], ["b"], start=0, end=1),
        N("Shape", ["x"], ["s"], start=1, end=2),
        N("Concat", ["b", "s", "minus", "eight"], ["t"], axis=0),
        N("Reshape", ["x", "t"], ["y"]),
    ]
    constants = [ints("minus", -1), ints("eight", 8)]
    graph = check(
        tmp_path, make(nodes, [value("x", FLOAT, ("batch", "seq", 32))], constants=constants), {"x": rand(2, 5, 32)}, B
    )
    assert ops(graph) == ["reshape"]
    assert graph.nodes[0].attr("shape") == (BATCH, SEQ, 4, 8)
    assert not graph.weights


@pytest.mark.parametrize("zero", [0, 1])
def test_reshape_with_zero_and_minus_one(tmp_path: Path, zero: int) -> None:
    target = [0, 0, 4, -1] if not zero else [-1, 4, 8]
    node = N("Reshape", ["x", "t"], ["y"], allowzero=zero)
    graph = check(
        tmp_path,
        make([node], [value("x", FLOAT, ("batch", "seq", 32))], constants=[ints("t", *target)]),
        {"x": rand(2, 5, 32)},
        B,
    )
    assert graph.nodes[0].attr("shape") == ((BATCH, SEQ, 4, 8) if not zero else (BATCH * SEQ, 4, 8))


def test_extents_divide_symbolically(tmp_path: Path) -> None:
    """(batch * seq * 2) / 2 and similar arithmetic."""
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("ReduceProd", ["s"], ["all"], keepdims=1),
        N("Div", ["all", "four"], ["rows"]),
        N("Concat", ["rows", "four"], ["t"], axis=0),
        N("Reshape", ["x", "t"], ["y"]),
    ]
    graph = check(
        tmp_path,
        make(nodes, [value("x", FLOAT, ("batch", "seq", 4))], constants=[ints("four", 4)]),
        {"x": rand(2, 5, 4)},
        B,
    )
    assert graph.nodes[0].attr("shape") == (BATCH * SEQ, 4)


def test_shape_arithmetic_through_floating_point(tmp_path: Path) -> None:
    nodes = [
        N("Shape", ["x"], ["s"], start=1, end=2),
        N("Cast", ["s"], ["f"], to=FLOAT),
        N("Mul", ["f", "scale"], ["g"]),
        N("Floor", ["g"], ["h"]),
        N("Cast", ["h"], ["i"], to=INT64),
        N("Concat", ["i", "half"], ["t"], axis=0),
        N("Reshape", ["x", "t"], ["y"]),
    ]
    constants = [array("scale", 2.0, np.float32), ints("half", -1)]
    bounds = {"seq": Bounds(1, 5, 64)}
    graph = import_onnx(save(tmp_path, make(nodes, [value("x", FLOAT, (4, "seq"))], constants=constants)), bounds)
    assert graph.nodes[0].attr("shape") == (2 * SEQ, 2)


def test_expand_where_equal_minus_one(tmp_path: Path) -> None:
    """The older exporter's Expand: -1 keeps the extent."""
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "zero"], ["b"], axis=0),
        N("Concat", ["b", "minus", "eight"], ["want"], axis=0),
        N("Shape", ["want"], ["rank"]),
        N("ConstantOfShape", ["rank"], ["ones"], value=array("", [1], np.int64)),
        N("Equal", ["want", "minus"], ["keep"]),
        N("Where", ["keep", "ones", "want"], ["target"]),
        N("Expand", ["table", "target"], ["y"]),
    ]
    constants = [ints("zero", 0), ints("minus", -1), ints("eight", 8), array("table", rand(1, 3, 1))]
    model = make(nodes, [value("x", FLOAT, ("batch", 4))], constants=constants)
    graph = check(tmp_path, model, {"x": rand(2, 4)}, {"batch": B["batch"]})
    assert ops(graph) == ["expand"]
    assert graph.types[graph.outputs[0].value].shape == (BATCH, 3, 8)


def test_slices_clamp_by_bounds(tmp_path: Path) -> None:
    nodes = [
        N("Shape", ["x"], ["s"], start=1, end=2),
        N("Slice", ["table", "zero", "s", "one"], ["p"]),
        N("Slice", ["x", "minus", "far", "one"], ["last"]),
        N("Add", ["p", "x"], ["y"]),
    ]
    constants = [ints("zero", 0), ints("one", 1), ints("minus", -1), ints("far", 2**62), array("table", rand(1, 64))]
    model = make(nodes, [value("x", FLOAT, ("batch", "seq"))], ["y", "last"], constants)
    graph = check(tmp_path, model, {"x": rand(2, 5)}, B)
    table, last = (n for n in graph.nodes if n.op == "slice")
    assert (table.attr("start"), table.attr("extent")) == (0, SEQ)
    assert (last.attr("start"), last.attr("extent")) == (SEQ - 1, 1)


def test_a_slice_that_bounds_do_not_decide(tmp_path: Path) -> None:
    """x[:, :10] where seq may be shorter: the extent is a minimum."""
    model = make(
        [N("Slice", ["x", "zero", "ten", "one"], ["y"])],
        [value("x", FLOAT, ("batch", "seq"))],
        constants=[ints("zero", 0), ints("one", 1), ints("ten", 10)],
    )
    for seq in (5, 20):
        graph = check(tmp_path, model, {"x": rand(2, seq)}, B)
    assert str(graph.types[graph.outputs[0].value]) == "f32[batch, min(10, seq)]"


def test_positions_become_a_view_of_the_table(tmp_path: Path) -> None:
    """Gather(embedding, Range(0, seq)) and Gather(embedding, buffer[:, :seq]) move nothing."""
    nodes = [
        N("Shape", ["x"], ["s"], start=1, end=2),
        N("Squeeze", ["s"], ["n"]),
        N("Range", ["zero", "n", "one"], ["r"]),
        N("Gather", ["table", "r"], ["e"], axis=0),
        N("Slice", ["buffer", "zeros", "s", "ones"], ["p"]),
        N("Gather", ["table", "p"], ["f"], axis=0),
        N("Add", ["e", "f"], ["y"]),
    ]
    constants = [
        array("zero", 0, np.int64), array("one", 1, np.int64), ints("zeros", 0), ints("ones", 1),
        array("table", rand(64, 4)), array("buffer", np.arange(64)[None], np.int64),
    ]  # fmt: skip
    model = make(nodes, [value("x", FLOAT, ("batch", "seq"))], constants=constants)
    graph = check(tmp_path, model, {"x": rand(2, 5)}, B)
    assert set(ops(graph)) == {"slice", "reshape", "add"}


def test_known_data_is_emitted_where_it_is_used(tmp_path: Path) -> None:
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Cast", ["s"], ["f"], to=FLOAT),  # a vector of dims
        N("Size", ["x"], ["size"]),  # a scalar dim
        N("Shape", ["x"], ["t"], start=1, end=2),
        N("Squeeze", ["t"], ["n"]),
        N("Range", ["three", "n", "two"], ["r"]),  # 3, 5, ..
        N("Mul", ["r", "k"], ["m"]),
    ]
    constants = [array("three", 3, np.int64), array("two", 2, np.int64), ints("k", 2)]
    model = make(nodes, [value("x", FLOAT, ("batch", "seq"))], ["f", "size", "m"], constants)
    bounds = {"batch": Bounds(1, 2, 8), "seq": Bounds(3, 9, 64)}
    graph = check(tmp_path, model, {"x": rand(2, 10)}, bounds)
    assert {"dim", "iota", "concat"} <= set(ops(graph))


def test_a_causal_mask_is_two_ranges(tmp_path: Path) -> None:
    nodes = [
        N("Shape", ["x"], ["t"], start=1, end=2),
        N("Squeeze", ["t"], ["n"]),
        N("Range", ["zero", "n", "one"], ["r"]),
        N("Unsqueeze", ["r", "axis1"], ["down"]),
        N("LessOrEqual", ["r", "down"], ["seen"]),
        N("GreaterOrEqual", ["r", "zero"], ["always"]),
        N("And", ["seen", "always"], ["mask"]),
        N("Where", ["mask", "x2", "low"], ["y"]),
    ]
    constants = [
        array("zero", 0, np.int64),
        array("one", 1, np.int64),
        ints("axis1", 1),
        array("low", -1e9, np.float32),
    ]
    inputs = [value("x", FLOAT, ("batch", "seq")), value("x2", FLOAT, ("seq", "seq"))]
    graph = check(tmp_path, make(nodes, inputs, constants=constants), {"x": rand(2, 5), "x2": rand(5, 5)}, B)
    assert ops(graph) == ["iota", "iota", "reshape", "le", "where"]


def test_gather_nd_of_a_mask_by_ranges_is_a_view(tmp_path: Path) -> None:
    """torch's `mask[batch_index, key_index]` as its exporter writes it."""
    nodes = [
        N("Shape", ["m"], ["s0"], start=0, end=1),
        N("Shape", ["m"], ["s1"], start=1, end=2),
        N("Squeeze", ["s0"], ["b"]),
        N("Squeeze", ["s1"], ["n"]),
        N("Range", ["zero", "b", "one"], ["rb"]),
        N("Range", ["zero", "n", "one"], ["rn"]),
        N("Unsqueeze", ["rb", "a123"], ["ub"]),
        N("Unsqueeze", ["rn", "a012"], ["un"]),
        N("Max", ["ub", "un"], ["mx"]),
        N("Shape", ["mx"], ["grid"]),
        N("Expand", ["ub", "grid"], ["eb"]),
        N("Expand", ["un", "grid"], ["en"]),
        N("Unsqueeze", ["eb", "last"], ["ib"]),
        N("Unsqueeze", ["en", "last"], ["in"]),
        N("Concat", ["ib", "in"], ["index"], axis=-1),
        N("GatherND", ["m", "index"], ["y"]),
    ]
    constants = [
        array("zero", 0, np.int64), array("one", 1, np.int64),
        ints("a123", 1, 2, 3), ints("a012", 0, 1, 2), ints("last", -1),
    ]  # fmt: skip
    model = make(nodes, [value("m", BOOL, ("batch", "seq"))], constants=constants)
    graph = check(tmp_path, model, {"m": rand(2, 5) > 0}, B)
    assert ops(graph) == ["reshape"]
    assert graph.types[graph.outputs[0].value].shape == (BATCH, 1, 1, SEQ)


@pytest.mark.parametrize("known", [True, False])
def test_gathers_in_general(tmp_path: Path, known: bool) -> None:
    index = {"i": np.array([[0, 2], [-1, 1]]), "e": np.array([[0, -1, 1], [2, 0, 0]])}
    nodes = [
        N("GatherND", ["x", "i"], ["a"]),
        N("GatherElements", ["x", "e"], ["b"], axis=1),
        N("Gather", ["x", "i"], ["c"], axis=1),
    ]
    inputs = [value("x", FLOAT, ("batch", 4))]
    constants = []
    if known:
        constants = [array(k, v, np.int64) for k, v in index.items()]
    else:
        inputs += [value(k, INT64, v.shape) for k, v in index.items()]
    feeds = {"x": rand(3, 4), **({} if known else index)}
    check(tmp_path, make(nodes, inputs, ["a", "b", "c"], constants), feeds, {"batch": Bounds(3, 3, 8)})


def test_fixed_dims_disappear(tmp_path: Path) -> None:
    model = make([N("Relu", ["x"], ["y"])], [value("x", FLOAT, ("batch", "seq"))])
    graph = import_onnx(save(tmp_path, model), {"batch": Bounds(4, 4, 4), "seq": B["seq"]})
    assert graph.types[graph.outputs[0].value].shape == (4, SEQ)
    assert set(graph.symbols) == {"seq"}


def test_names_of_dims(tmp_path: Path) -> None:
    """One symbol for one dim_param, identifiers for odd names, `<input>_<axis>` for nameless dims."""
    inputs = [value("x", FLOAT, ("my batch", None)), value("z", FLOAT, ("my batch", 1))]
    model = make([N("Add", ["x", "z"], ["y"])], inputs)
    graph = import_onnx(save(tmp_path, model), {"my batch": Bounds(1, 2, 3), "x_1": Bounds(2, 2, 9)})
    assert graph.types[graph.outputs[0].value].shape == (symbol("my_batch"), symbol("x_1"))


def test_two_dims_that_do_not_broadcast(tmp_path: Path) -> None:
    inputs = [value("x", FLOAT, ("batch", 4)), value("z", FLOAT, ("seq", 4))]
    with pytest.raises(ModelError, match="do not broadcast"):
        import_onnx(save(tmp_path, make([N("Add", ["x", "z"], ["y"])], inputs)), B)


@pytest.mark.parametrize("opset", [14, 18])
def test_trilu_tile_one_hot_range(tmp_path: Path, opset: int) -> None:
    nodes = [
        N("Trilu", ["x", "k"], ["y"], upper=0),
        N("Tile", ["x", "rep"], ["t"]),
        N("EyeLike", ["x"], ["e"], k=1),
        N("OneHot", ["i", "depth", "vals"], ["o"], axis=0),
    ]
    constants = [
        array("k", 1, np.int64), ints("rep", 2, 3), ints("depth", 4), array("vals", [0.5, 2.0], np.float32),
        ints("i", 0, 3, -1),
    ]  # fmt: skip
    model = make(nodes, [value("x", FLOAT, ("seq", "seq"))], ["y", "t", "e", "o"], constants, opset)
    check(tmp_path, model, {"x": rand(5, 5)}, {"seq": B["seq"]})


ZOO = Path(__file__).parents[3] / "zoo"
MODELS = {
    "minilm": True, "bert_base": True, "gpt2": True, "gpt2_masked": True, "vit_b16": False, "whisper_tiny_enc": False,
    "resnet50": False, "mobilenet_v2": False, "convnext_tiny": False,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_zoo(name: str) -> None:
    """Real models import whole, with dynamic dims, and leave no shape arithmetic behind."""
    path = ZOO / f"{name}.onnx"
    if not path.exists():
        pytest.skip("run benchmarks/zoo.py to export the models")
    bounds = {"batch": Bounds(1, 8, 32)} | ({"seq": Bounds(1, 128, 512)} if MODELS[name] else {})
    graph = verified(import_onnx(path, bounds))
    assert graph == import_onnx(path, bounds)
    assert "dim" not in ops(graph)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_sums_of_known_lists_are_whole_numbers(tmp_path: Path, keepdims: int) -> None:
    nodes = [
        N("ReduceSum", ["a"], ["s"], keepdims=keepdims),
        N("Reshape", ["s", "line"], ["extents"]),
        N("ConstantOfShape", ["extents"], ["zeros"]),
        N("Add", ["x", "zeros"], ["y"]),
    ]
    model = make(nodes, [value("x", FLOAT, (5,))], constants=[ints("a", 2, 3), ints("line", -1)])
    graph = check(tmp_path, model, {"x": rand(5)})
    assert graph.types[graph.outputs[0].value].shape == (5,)
    alone = make(nodes, [value("x", FLOAT, (2,))], constants=[ints("a", 2), ints("line", -1)])
    check(tmp_path, alone, {"x": rand(2)})
