"""Models that onnxruntime quantised, compiled and run: what comes out lies as near to onnxruntime's results as these do to those of
the model as it is written, without any of its optimisations."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import stratac
from onnx import TensorProto, helper, numpy_helper

quantization = pytest.importorskip("onnxruntime.quantization")
ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(7)


def _constant(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array((RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)


def _model(folder: Path, nodes: list[Any], constants: list[Any], shape: tuple[int, ...]) -> Path:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", None)))
    graph = helper.make_graph(nodes, "model", [x], [y], constants)
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def linear(folder: Path) -> tuple[Path, tuple[int, ...]]:
    """Gemm and MatMul, with what stands between layers."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], transB=1),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["h2"]),
        helper.make_node("Add", ["h2", "b2"], ["y"]),
    ]
    constants = [_constant("w1", 61, 45), _constant("b1", 61), _constant("w2", 61, 33), _constant("b2", 33)]
    return _model(folder, nodes, constants, (5, 45)), (5, 45)


def convolutional(folder: Path) -> tuple[Path, tuple[int, ...]]:
    """A strided convolution, a residual block, pooling, a depthwise convolution and a classifier."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["h1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["h2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["h2", "r1"], ["a2"]),
        helper.make_node("Relu", ["a2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p2", "w3"], ["h3"], group=16, pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["h3", "zero", "six"], ["c3"]),
        helper.make_node("GlobalAveragePool", ["c3"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
    ]
    constants = [_constant("w1", 16, 3, 3, 3), _constant("b1", 16), _constant("w2", 16, 16, 3, 3), _constant("b2", 16)]
    constants += [_constant("w3", 16, 1, 3, 3), _constant("w4", 10, 16), _constant("b4", 10)]
    constants += [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("zero", 0), ("six", 6))]
    return _model(folder, nodes, constants, (1, 3, 19, 22)), (1, 3, 19, 22)


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.rows = iter([{"x": RNG.standard_normal(shape).astype(np.float32)} for _ in range(3)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rows, None)


def _run(model: Path, x: np.ndarray, plainly: bool = False) -> np.ndarray:
    options = ort.SessionOptions()
    if plainly:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("kind", ["i8", "u8", "u8u8", "dynamic"])
@pytest.mark.parametrize("make", [linear, convolutional])
def test_as_onnxruntime_computes_it(make: Callable[[Path], Any], kind: str, tmp_path: Path) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    source, shape = make(tmp_path)
    model = tmp_path / "quantised.onnx"
    types = quantization.QuantType
    if kind == "dynamic":
        quantization.quantize_dynamic(str(source), str(model))
    else:
        quantization.quantize_static(
            str(source),
            str(model),
            _Samples(shape),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=types.QInt8 if kind == "i8" else types.QUInt8,
            weight_type=types.QUInt8 if kind == "u8u8" else types.QInt8,
            per_channel=kind == "u8",
        )
    plan = tmp_path / "model.plan"
    stratac.compile(model, output=plan)
    clusters = json.loads((plan / "report.json").read_text())["clusters"]
    families = {cluster["chosen"]["name"].split("/")[1] for cluster in clusters}
    assert families & {"matmul_i8", "conv_i8"} and "matmul" not in families
    x = RNG.standard_normal(shape).astype(np.float32)
    with stratac.load(plan) as session:
        (got,) = session.run(None, {"x": x})
    plain, fast = _run(model, x, plainly=True), _run(model, x)
    size = np.linalg.norm(plain)
    assert np.linalg.norm(got - plain) <= max(2 * np.linalg.norm(fast - plain), 2e-2 * size)
