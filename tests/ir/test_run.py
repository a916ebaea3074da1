"""Running graphs: binding, weights, errors, whole models by onnxruntime's opinion, and the random graphs' promises."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, Dim, symbol
from stratac.ir.errors import StratacError
from stratac.ir.graph import Derived, FileBytes, Graph, Inline, Port, Weight, make_attrs
from stratac.ir.interp import bind_symbols, composite, contraction, evaluate_weight, reduction, run
from stratac.ir.parse import parse_graph
from stratac.ir.types import DTYPES, TensorType, f32, i64
from stratac.tests.random_graphs import KINDS, Sample, clustered, random_graphs

RANDOM = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def identity(*shapes: tuple[Dim, ...]) -> Graph:
    builder = GraphBuilder(name="g", symbols={"s": Bounds(1, 4, 8), "b": Bounds(1, 1, 2), "one": Bounds(1, 1, 1)})
    values = [builder.input(f"x{i}", TensorType(f32, shape)) for i, shape in enumerate(shapes)]
    return builder.finish([Port("y", builder.op("neg", values[0]))])


S, B = symbol("s"), symbol("b")


def zeros(*shape: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.zeros(shape, np.float32)


def test_symbols_are_solved() -> None:
    assert bind_symbols(identity((S, B)), {"x0": zeros(5, 2)}) == {"s": 5, "b": 2, "one": 1}
    assert bind_symbols(identity((2 * S + 1,)), {"x0": zeros(9)})["s"] == 4
    assert bind_symbols(identity((S + B,), (B,)), {"x0": zeros(7), "x1": zeros(2)})["s"] == 5
    assert bind_symbols(identity((S * B, B)), {"x0": zeros(6, 2)})["s"] == 3


WRONG = [
    (identity((S,)), {}, "input 'x0' is missing"),
    (identity((S,)), {"x0": zeros(1), "z": zeros(1)}, "no input 'z'; its inputs are 'x0'"),
    (identity((S,)), {"x0": np.zeros(2)}, "is float64, expected"),
    (identity((S,)), {"x0": zeros(2, 2)}, r"has shape \(2, 2\)"),
    (identity((S,)), {"x0": zeros(9)}, "dim s = 9 is outside its bounds 1..8"),
    (identity((S, 3)), {"x0": zeros(2, 4)}, "extent 4 on axis 1, expected 3"),
    (identity((S, S)), {"x0": zeros(2, 3)}, "extent 3 on axis 1, expected s = 2"),
    (identity((2 * S,)), {"x0": zeros(3)}, "extent 3 on axis 0"),
    (identity((S * B,)), {"x0": zeros(99)}, "extent 99 on axis 0"),
    (identity((symbol("one"),)), {"x0": zeros(2)}, "expected one = 1"),
]


@pytest.mark.parametrize(("graph", "inputs", "match"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_are_refused(graph: Graph, inputs: dict[str, object], match: str) -> None:
    with pytest.raises(StratacError, match=match):
        run(graph, inputs)  # type: ignore[arg-type]


def test_a_symbol_no_input_settles() -> None:
    graph = parse_graph('graph @g { dim s = 1:2:3 %x = iota() {extent = s} : i64[s] output "x" = %x }')
    with pytest.raises(StratacError, match="'s' is not settled"):
        run(graph, {})


def test_failing_ops_name_their_source() -> None:
    text = """graph @g { input %x "x" : f32[3] input %i "i" : i64[2]
      %y = gather(%x, %i) {axis = 0} : f32[2] @ "m.onnx":"lookup" output "y" = %y }"""
    with pytest.raises(StratacError, match=r"extent 3 .*gather.*m.onnx:lookup"):
        run(parse_graph(text), {"x": zeros(3), "i": np.array([0, 3])})


def test_keep_returns_inner_values() -> None:
    text = """graph @g { input %x "x" : f32[2]
      %z = cluster(%x) : f32[2] { %y = neg(%x) : f32[2] %z = exp(%y) : f32[2] } output "out" = %z }"""
    found = run(parse_graph(text), {"x": np.ones(2, np.float32)}, keep=["y", "x"])
    assert set(found) == {"out", "x", "y"}
    np.testing.assert_array_equal(found["y"], [-1, -1])
    with pytest.raises(StratacError, match="no value 'nil'"):
        run(parse_graph(text), {"x": zeros(2)}, keep=["nil"])


def test_inputs_and_weights_may_be_outputs() -> None:
    text = """graph @g { input %x "x" : f32[1] weight %w : f32[1] = [2.0]
      output "a" = %x output "b" = %w output "c" = %x }"""
    found = run(parse_graph(text), {"x": zeros(1)})
    assert {name: array.tolist() for name, array in found.items()} == {"a": [0], "b": [2], "c": [0]}


def test_weights_are_read_from_files(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    (tmp_path / "data.bin").write_bytes(b"xyz" + array.tobytes())
    (tmp_path / "four.bin").write_bytes(b"x\xe1\x07")
    builder = GraphBuilder(name="g")
    kind = TensorType(f32, (3, 4))
    w = builder.weight(Weight("w", kind, FileBytes("data.bin", 3, 48)))
    turned = Derived("transpose", (w,), make_attrs({"perm": (1, 0)}))
    d = builder.weight(Weight("d", TensorType(f32, (4, 3)), turned))
    builder.weight(Weight("e", TensorType(f32, (4, 3)), Derived("neg", (d,))))
    builder.weight(Weight("short", kind, FileBytes("data.bin", 4, 48)))
    builder.weight(Weight("lost", kind, FileBytes("nowhere.bin", 0, 48)))
    builder.weight(Weight("wrong", kind, FileBytes("data.bin", 3, 44)))
    builder.weight(Weight("empty", TensorType(f32, (0,)), FileBytes("data.bin", 51, 0)))
    half = np.array([0x3F80, 0xC000], np.uint16)
    builder.weight(Weight("half", TensorType(DTYPES["bf16"], (2,)), Inline(half.tobytes())))
    builder.weight(Weight("full", TensorType(f32, (2,)), Derived("cast", ("half",), make_attrs({"to": f32}))))
    builder.weight(Weight("four", TensorType(DTYPES["i4"], (3,)), Inline(b"\x01\xfe\x07")))
    builder.weight(Weight("packed", TensorType(DTYPES["i4"], (3,)), FileBytes("four.bin", 1, 2)))
    builder.folder = str(tmp_path)
    graph = builder.finish([])
    np.testing.assert_array_equal(evaluate_weight(graph, "w"), array)
    np.testing.assert_array_equal(evaluate_weight(graph, "e"), -array.T)
    np.testing.assert_array_equal(evaluate_weight(graph, "full"), [1.0, -2.0])
    assert evaluate_weight(graph, "empty").shape == (0,)
    assert evaluate_weight(graph, "four").tolist() == evaluate_weight(graph, "packed").tolist() == [1, -2, 7]
    for name, match in (
        ("short", "which has 51"),
        ("lost", "cannot be read"),
        ("wrong", "needs 48"),
        ("nil", "no weight"),
    ):
        with pytest.raises(StratacError, match=match):
            evaluate_weight(graph, name)


@RANDOM
@given(random_graphs(), st.integers(0, 5))
def test_random_graphs_stay_finite_and_stable(sample: Sample, seed: int) -> None:
    """Float32 accumulation, a worse implementation than any kernel, stays within the declared tolerance."""
    inputs = sample.make_inputs(seed)
    made = [value for node in sample.graph.nodes for value in node.outputs]
    kept = [value for value in made if sample.graph.types[value].dtype == f32]  # others may be bits
    expected = run(sample.graph, inputs, keep=kept)
    for array in expected.values():
        assert np.isfinite(array.astype(np.float64)).all() and np.abs(array.astype(np.float64)).max(initial=0) < 1001
    patches = [mock.patch.object(module, "wide", lambda x: x) for module in (contraction, composite, reduction)]
    for patch in patches:
        patch.start()
    try:
        sample.compare(run(sample.graph, inputs), expected)
    finally:
        for patch in patches:
            patch.stop()


@RANDOM
@given(random_graphs(), st.sets(st.integers(1, 20), max_size=4))
def test_clusters_mean_the_same(sample: Sample, cuts: set[int]) -> None:
    inputs = sample.make_inputs(0)
    whole, parts = run(sample.graph, inputs), run(clustered(sample.graph, cuts), inputs)
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_random_op_can_be_made(kind: str) -> None:
    seen: list[int] = []

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(random_graphs(max_nodes=8, kinds=(kind, "exact_unary", "compare", "source", "reshape")))
    def attempt(sample: Sample) -> None:
        seen.append(len(sample.graph.nodes))
        assert set(sample.tolerance) == {port.name for port in sample.graph.outputs}

    attempt()
    assert max(seen) > 1


def test_sizes_can_be_chosen() -> None:
    @settings(max_examples=10, deadline=None, database=None)
    @given(random_graphs(symbolic=True))
    def attempt(sample: Sample) -> None:
        assert sample.graph.symbols
        name = next(iter(sample.graph.symbols))
        arrays = sample.make_inputs(3, **{name: 2})
        assert bind_symbols(sample.graph, arrays)[name] == 2

    attempt()


def test_onnxruntime_agrees_on_a_small_transformer() -> None:
    """The same little block built twice: as ONNX for onnxruntime, as a Graph for the interpreter."""
    rng = np.random.default_rng(0)
    w, scale, bias = (rng.normal(size=s).astype(np.float32) for s in ((8, 8), (8,), (8,)))
    helper = onnx.helper
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["h"]),
        helper.make_node("Gelu", ["h"], ["a"]),
        helper.make_node("Add", ["a", "e"], ["r"]),
        helper.make_node("LayerNormalization", ["r", "scale", "bias"], ["n"], epsilon=1e-5),
        helper.make_node("Softmax", ["n"], ["y"], axis=-1),
    ]
    table = rng.normal(size=(10, 8)).astype(np.float32)
    constants = {"table": table, "w": w, "scale": scale, "bias": bias}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "block",
            [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["b", "s"])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", "s", 8])],
            [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    builder = GraphBuilder(name="block", symbols={"b": Bounds(1, 1, 4), "s": Bounds(1, 4, 8)})
    ids = builder.input("ids", TensorType(i64, (B, S)))
    c = {name: builder.constant(array) for name, array in constants.items()}
    e = builder.op("gather", c["table"], ids, axis=0)
    a = builder.op("gelu", builder.op("matmul", e, c["w"]))
    n = builder.op("layer_norm", builder.op("add", a, e), c["scale"], c["bias"], axis=-1, epsilon=1e-5)
    graph = builder.finish([Port("y", builder.op("softmax", n, axis=-1))])
    inputs = {"ids": rng.integers(0, 10, (3, 5))}
    np.testing.assert_allclose(run(graph, inputs)["y"], session.run(None, inputs)[0], rtol=1e-5, atol=1e-6)
