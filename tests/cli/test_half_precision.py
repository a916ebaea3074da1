"""A model in 16-bit floats from file to result: compiled, verified against its own semantics, and run."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import stratac
from onnx import TensorProto, helper, numpy_helper
from stratac.compiler import checks


def model(folder: Path, kind: int) -> Path:
    """A convolution, a product with a weight, a norm, attention scores: heavy kernels with their casts."""
    rng = np.random.default_rng(0)
    dtype = helper.tensor_dtype_to_np_dtype(kind)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) / 4).astype(dtype), name)

    nodes = [
        helper.make_node("Conv", ["x", "filters", "bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("LayerNormalization", ["q", "scale", "shift"], ["n"], axis=-1),
        helper.make_node("Transpose", ["n"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["n", "t"], ["s"]),
        helper.make_node("Softmax", ["s"], ["a"], axis=-1),
        helper.make_node("MatMul", ["a", "n"], ["y"]),
    ]
    weights = [weight("filters", 8, 3, 3, 3), weight("bias", 8), weight("w", 64, 32), weight("b", 32)]
    weights += [weight("scale", 32), weight("shift", 32), numpy_helper.from_array(np.array([-1, 8, 64]), "shape")]
    ends = [helper.make_tensor_value_info(n, kind, s) for n, s in (("x", ["n", 3, 8, 8]), ("y", ["n", 8, 32]))]
    graph = helper.make_graph(nodes, "half", ends[:1], ends[1:], weights)
    path = folder / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), path)
    return path


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_a_model_of_16_bits(tmp_path: Path, kind: int) -> None:
    path = model(tmp_path, kind)
    plan = stratac.compile(str(path), tmp_path / "plan", dims={"n": "1:2:3"})
    tolerance = checks.usual_tolerance(tmp_path / "plan")
    assert tolerance >= 16 * 2.0**-10
    findings = checks.check_results(tmp_path / "plan", path, tolerance) + checks.check_bits(tmp_path / "plan")
    assert all(finding["ok"] for finding in findings), findings
    with stratac.load(plan) as session:
        assert session.get_outputs()[0].dtype.name in ("f16", "bf16")
        x = np.random.default_rng(1).standard_normal((2, 3, 8, 8))
        (y,) = session.run(None, {"x": x.astype(np.float16 if kind == TensorProto.FLOAT16 else ml_dtypes.bfloat16)})
        assert y.shape == (2, 8, 32) and y.dtype.itemsize == 2
