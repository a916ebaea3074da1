"""A model small enough to try a machine with."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper, save


def write_trial_model(path: Path) -> None:
    """y = relu(x) over [2, 8] floats."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "trial", [x], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), str(path))
