"""Graphs that are only reckoned with: weights whose files are missing, and 16-bit floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, StratacError
from stratac.ir.graph import Derived, Graph
from stratac.ir.interp import evaluate_weight
from stratac.ir.types import bf16, f16, f32
from stratac.ir.verify import verify_graph
from stratac.passes.base import Pass, run_passes
from stratac.passes.graph.fuse_estimated import fuse_estimated
from stratac.passes.pipelines import MODEL_PASSES

DIMS = {"b": Bounds(1, 2, 4)}


def external(name: str, kind: int, *dims: int, file: str = "w.data") -> onnx.TensorProto:
    """A weight whose bytes lie in a file nobody has."""
    size = int(np.prod(dims)) * (4 if kind == TensorProto.FLOAT else 2)
    tensor = TensorProto(name=name, data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", file), ("offset", 0), ("length", size)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def block(path: Path, kind: int, file: str = "w.data") -> Path:
    """y = softmax(gelu-ish(norm(x) @ w^T * 0.5) + b): norms, constants, a transposed weight, small and large absent ones."""
    scalar = {n: helper.make_tensor(n, kind, [], [v]) for n, v in (("half", 0.5), ("one", 1.0))}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["n"], axis=-1),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["n", "wt"], ["p"]),
        helper.make_node("Mul", ["p", "half"], ["h"]),
        helper.make_node("Add", ["h", "bias"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["g"]),
        helper.make_node("Mul", ["s", "g"], ["a"]),
        helper.make_node("Div", ["a", "one"], ["d"]),
        helper.make_node("Softmax", ["d"], ["y"], axis=-1),
    ]
    weights = [
        external("scale", kind, 64, file=file),
        external("shift", kind, 64, file=file),
        external("w", kind, 512, 64, file=file),
        external("bias", kind, 512, file=file),
        *scalar.values(),
    ]
    ends = helper.make_tensor_value_info("x", kind, ["b", 64]), helper.make_tensor_value_info("y", kind, ["b", 512])
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], weights)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    )
    return path


def through_passes(path: Path) -> tuple[Graph, Graph]:
    graph = run_passes(import_onnx(path, DIMS, estimate=True), MODEL_PASSES)
    return graph, run_passes(graph, (Pass("fuse", fuse_estimated, "graph", "clusters"),))


@pytest.mark.parametrize(
    ("kind", "dtype"), [(TensorProto.FLOAT, f32), (TensorProto.FLOAT16, f16), (TensorProto.BFLOAT16, bf16)]
)
def test_absent_weights_pass_through_everything(tmp_path: Path, kind: int, dtype: object) -> None:
    graph, clusters = through_passes(block(tmp_path / "m.onnx", kind))
    verify_graph(clusters, level="clusters")
    assert graph.absent == clusters.absent == {"w.data"}
    assert {t.dtype for t in clusters.types.values()} == {dtype}
    ops = [{n.op for n in c.body} for c in clusters.nodes]
    assert any({"matmul", "silu"} <= found for found in ops), ops  # the gate is recognised, the constants are read
    assert any("layer_norm" in found for found in ops) and any("softmax" in found for found in ops)
    assert not any("div" in found for found in ops)  # x / 1
    assert all(w.type.elements != 1 for w in clusters.weights.values() if not isinstance(w.content, Derived))


def test_the_same_clusters_as_in_f32(tmp_path: Path) -> None:
    shapes = [
        [[n.op for n in c.body] for c in through_passes(block(tmp_path / f"{kind}.onnx", kind))[1].nodes]
        for kind in (TensorProto.FLOAT, TensorProto.BFLOAT16)
    ]
    assert shapes[0] == shapes[1]


def test_reading_an_absent_weight_says_which(tmp_path: Path) -> None:
    graph, _ = through_passes(block(tmp_path / "m.onnx", TensorProto.FLOAT))
    for name in graph.weights:
        if not graph.readable(name):
            with pytest.raises(StratacError, match=r"w\.data"):
                evaluate_weight(graph, name)
    assert any(not graph.readable(name) for name in graph.weights)


def test_compiling_still_wants_the_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"w\.data.* is missing"):
        import_onnx(block(tmp_path / "a.onnx", TensorProto.FLOAT), DIMS)


@pytest.mark.parametrize("file", ["/etc/w.data", "../w.data"])
def test_absent_files_outside_the_folder_are_still_refused(tmp_path: Path, file: str) -> None:
    with pytest.raises(ModelError, match="lies outside"):
        import_onnx(block(tmp_path / "m.onnx", TensorProto.FLOAT, file), DIMS, estimate=True)


def test_shape_arithmetic_on_absent_values_is_an_error_not_a_crash(tmp_path: Path) -> None:
    shape = TensorProto(name="shape", data_type=TensorProto.INT64, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.data"), ("offset", 0), ("length", 16)):
        shape.external_data.add(key=key, value=str(value))
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [4, 4]), ("y", None))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [shape])
    path = tmp_path / "m.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    )
    with pytest.raises(ModelError, match="must be known"):
        import_onnx(path, estimate=True)


def test_present_16_bit_constants_are_read_right(tmp_path: Path) -> None:
    """A bf16 scalar in any storage becomes the literal it stands for."""
    half = numpy_helper.from_array(np.array([0.5], np.float32), "half")
    raw = TensorProto(name="raw", data_type=TensorProto.BFLOAT16, dims=[1], raw_data=b"\xc0\x3f")  # 1.5
    nodes = [
        helper.make_node("Cast", ["half"], ["h"], to=TensorProto.BFLOAT16),
        helper.make_node("Add", ["h", "raw"], ["two"]),
        helper.make_node("Mul", ["x", "two"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.BFLOAT16, s) for n, s in (("x", ["b", 4]), ("y", ["b", 4]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [half, raw])
    path = tmp_path / "m.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    )
    simple, _ = through_passes(path)
    fills = [n for n in simple.nodes if n.op == "fill"]
    assert [n.attr("value") for n in fills] == [2.0] and not simple.absent
