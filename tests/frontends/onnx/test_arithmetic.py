"""Elementwise operators and reductions at their edges: integers where floats are usual, special values, empty sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import np_dtype_to_tensor_dtype
from stratac.tests.frontends.onnx.build import N, array, check, make, value

NAN, INF = np.nan, np.inf


def one(
    folder: Path, node: onnx.NodeProto, *inputs: Any, opset: int = 22, expected: Any = None, constants: Any = ()
) -> None:
    """A model of one node, against the reference of the onnx package, or against `expected`."""
    feeds = {name: np.asarray(data) for name, data in zip(node.input, inputs, strict=False)}
    ports = [value(name, np_dtype_to_tensor_dtype(data.dtype), data.shape) for name, data in feeds.items()]
    model = make([node], ports, node.output, constants, opset)
    check(folder, model, feeds, expected=None if expected is None else [np.asarray(expected)])


@pytest.mark.parametrize(
    ("slope", "shape"), [((4,), (2, 3, 4)), ((3, 1), (2, 3, 4)), ((1,), (2, 3)), ((3,), (2, 3, 4))]
)
def test_prelu_slopes(tmp_path: Path, slope: tuple[int, ...], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, s = rng.standard_normal(shape).astype("f4"), rng.standard_normal(slope).astype("f4")
    wide = s.reshape(3, 1) if slope == (3,) and shape != (2, 3) else s
    one(tmp_path, N("PRelu", ["x", "s"], ["y"]), x, s, expected=np.where(x < 0, x * wide, x))


def test_prelu_before_opset_7_counts_channels(tmp_path: Path) -> None:
    x, s = -np.ones((1, 3, 3), "f4"), np.array([1, 2, 3], "f4")
    model = make([N("PRelu", ["x", "s"], ["y"])], [value("x", 1, x.shape), value("s", 1, s.shape)], opset=7)
    check(tmp_path, model, {"x": x, "s": s}, expected=[x * s])  # from opset 7 on as numpy broadcasts


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_prelu_of_integers(tmp_path: Path, dtype: str) -> None:
    low = 0 if dtype[0] == "u" else -5
    one(tmp_path, N("PRelu", ["x", "s"], ["y"]), np.arange(low, 7, dtype=dtype), np.array([3], dtype))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "float64"])
def test_shrink(tmp_path: Path, dtype: str) -> None:
    x = np.arange(0 if dtype == "uint8" else -4, 5).astype(dtype)
    one(tmp_path, N("Shrink", ["x"], ["y"], lambd=1.5, bias=0.5), x)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_to_broken_powers(tmp_path: Path, dtype: str) -> None:
    base, exponent = np.array([4, 9, 2, 10], dtype), np.array([0.5, 1.5, -1.0, 2.0], "f4")
    one(tmp_path, N("Pow", ["x", "e"], ["y"]), base, exponent, expected=np.array([2, 27, 0, 100], dtype))


def test_floats_to_whole_powers(tmp_path: Path) -> None:
    x = np.array([-2.0, 0.0, 3.0, NAN, INF], "f4")
    one(tmp_path, N("Pow", ["x", "e"], ["y"]), x, np.array([3, 0, -1, 0, -2], "i8"))


@pytest.mark.parametrize("op", ["ReduceL2", "ReduceL1", "ReduceMean", "ReduceProd", "ReduceMax"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_reductions_of_integers(tmp_path: Path, op: str, dtype: str) -> None:
    x = np.array([[7, 3, 9, 100], [40000, 3, 5, 7]], dtype)
    one(tmp_path, N(op, ["x", "a"], ["y"]), x, constants=[array("a", [1], np.int64)])


@pytest.mark.parametrize("op", ["ReduceLogSum", "ReduceLogSumExp"])
def test_logarithms_of_integers_are_truncated(tmp_path: Path, op: str) -> None:
    x = np.array([[1, 2, 3], [50, 60, 70]], np.int32)
    total = np.log(x.sum(1)) if op == "ReduceLogSum" else np.log(np.exp(x.astype("f8")).sum(1))
    node, axes = N(op, ["x", "a"], ["y"], keepdims=0), [array("a", [1], np.int64)]
    one(tmp_path, node, x, constants=axes, expected=total.astype(np.int32))


def test_log_sum_exp_of_infinities(tmp_path: Path) -> None:
    x = np.array([[1, INF, 2], [-INF, 3, 3], [-INF, -INF, -INF], [NAN, 1, 2], [800, 800, 0]], "f4")
    with np.errstate(divide="ignore"):
        want = np.array([INF, 3 + np.log(2), -INF, NAN, 800 + np.log(2)], "f4")
    node, axes = N("ReduceLogSumExp", ["x", "a"], ["y"], keepdims=0), [array("a", [1], np.int64)]
    one(tmp_path, node, x, constants=axes, expected=want)


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceSumSquare", "ReduceLogSumExp", "ReduceMax"])
def test_no_axes_leave_all_axes(tmp_path: Path, op: str) -> None:
    x = np.array([[-1.5, 2.0]], "f4")
    one(tmp_path, N(op, ["x"], ["y"], noop_with_empty_axes=1), x, opset=18)
    one(tmp_path, N(op, ["x"], ["y"]), x, opset=18)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceLogSum", "ReduceLogSumExp"])
def test_reductions_of_nothing(tmp_path: Path, op: str) -> None:
    nothing = {"ReduceSum": 0, "ReduceProd": 1, "ReduceMin": INF}.get(op, -INF)
    node, axes = N(op, ["x", "a"], ["y"]), [array("a", [1], np.int64)]
    one(tmp_path, node, np.zeros((2, 0, 3), "f4"), constants=axes, expected=np.full((2, 1, 3), nothing, "f4"))


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_celu_keeps_what_is_positive(tmp_path: Path, alpha: float) -> None:
    one(tmp_path, N("Celu", ["x"], ["y"], alpha=alpha), np.array([-3, -0.1, 0, 0.1, 3.3, INF, -INF, NAN], "f4"))


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(tmp_path: Path, direction: str) -> None:
    x, by = np.array([[16], [255]], np.uint8), np.array([0, 3, 7, 8, 200], np.uint8)
    want = x.astype(int) << by.astype(int).clip(0, 20) if direction == "LEFT" else x.astype(int) >> by
    one(tmp_path, N("BitShift", ["x", "b"], ["y"], direction=direction), x, by, expected=want.astype(np.uint8))


@pytest.mark.parametrize("op", ["Min", "Max"])
@pytest.mark.parametrize("values", [(NAN, 1.0), (1.0, NAN), (2.0, NAN, 1.0), (INF, -INF), (-INF, 3.0)])
def test_extremes_of_constants(tmp_path: Path, op: str, values: tuple[float, ...]) -> None:
    constants = [array(f"c{i}", [number], np.float32) for i, number in enumerate(values)]
    nodes = [N(op, [c.name for c in constants], ["m"]), N("Add", ["x", "m"], ["y"])]
    x = np.zeros(1, np.float32)
    check(tmp_path, make(nodes, [value("x", 1, (1,))], ["y"], constants, 22), {"x": x})
