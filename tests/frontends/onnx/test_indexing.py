"""Operators that pick, put, resize and cut by index, against the reference of the onnx package: edges beyond its own suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import np_dtype_to_tensor_dtype
from stratac.ir.verify import verify_graph
from stratac.tests.frontends.onnx.build import FLOAT, N, array, check, make, rand, value

NEWEST = onnx.defs.onnx_opset_version()


def one(
    folder: Path, node: onnx.NodeProto, feeds: dict[str, Any], constants: dict[str, Any] | None = None, **more: Any
):
    """A model of one node; `feeds` are inputs, `constants` compiled in."""
    inputs = [value(name, np_dtype_to_tensor_dtype(data.dtype), data.shape) for name, data in feeds.items()]
    fixed = [array(name, data) for name, data in (constants or {}).items()]
    opset = more.pop("opset", NEWEST)
    model = make([node], inputs, [o for o in node.output if o], fixed, opset)
    return check(folder, model, feeds, **more)


def whole(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


# -- scatter


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_scatter_nd(tmp_path: Path, reduction: str, dtype: Any) -> None:
    """Duplicates one after the other, negative coordinates, rows and single elements."""
    x = (rand(4, 5, 3) * 4).astype(dtype)
    node = N("ScatterND", ["x", "i", "u"], ["y"], reduction=reduction)
    rows = whole([3], [1], [-1], [1])
    one(tmp_path, node, {"x": x, "i": rows, "u": (rand(4, 5, 3, seed=1) * 4).astype(dtype)})
    single = whole([[0, 0, 0], [3, -1, 2]], [[0, 0, 0], [1, 1, 1]])
    one(tmp_path, node, {"x": x, "i": single, "u": (rand(2, 2, seed=2) * 4).astype(dtype)})
    one(tmp_path, node, {"x": x, "i": np.zeros((0, 2), np.int64), "u": np.zeros((0, 3), dtype)})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements(tmp_path: Path, reduction: str, axis: int) -> None:
    x, u = rand(4, 5, 3), rand(2, 3, 2, seed=1)
    at = np.random.default_rng(2).integers(-3, 3, (2, 3, 2))
    one(
        tmp_path,
        N("ScatterElements", ["x", "i", "u"], ["y"], axis=axis, reduction=reduction),
        {"x": x, "i": at, "u": u},
    )


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(tmp_path: Path, mode: str) -> None:
    past, update = rand(2, 3, 6, 4), rand(2, 3, 2, 4, seed=1)
    node = N("TensorScatter", ["x", "u", "i"], ["y"], mode=mode)
    one(tmp_path, node, {"x": past, "u": update, "i": whole(0, 5 if mode == "circular" else 4)})
    one(tmp_path, N("TensorScatter", ["x", "u"], ["y"], axis=1), {"x": rand(2, 6, 4), "u": rand(2, 2, 4, seed=1)})


# -- chosen elements


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.int32])
@pytest.mark.parametrize("shape", [(3, 4), (7,), (2, 3, 2), (0, 3)])
def test_nonzero(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    one(tmp_path, N("NonZero", ["x"], ["y"]), {"x": x})


def test_nonzero_of_special_values(tmp_path: Path) -> None:
    one(tmp_path, N("NonZero", ["x"], ["y"]), {"x": np.array([0.0, -0.0, np.nan, np.inf], np.float32)})
    expected = [np.zeros((0, 1), np.int64)]
    one(tmp_path, N("NonZero", ["x"], ["y"]), {"x": np.array(3.0, np.float32)}, expected=expected)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress(tmp_path: Path, axis: int | None) -> None:
    """Conditions shorter than the axis, of nothing, and of all."""
    attributes = {} if axis is None else {"axis": axis}
    for condition in ([True, False, True], [False, False], [True, True, True], []):
        feeds = {"x": rand(3, 4), "c": np.array(condition, bool)}
        one(tmp_path, N("Compress", ["x", "c"], ["y"], **attributes), feeds)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_reverse_sequence(tmp_path: Path, axes: tuple[int, int]) -> None:
    node = N("ReverseSequence", ["x", "n"], ["y"], time_axis=axes[0], batch_axis=axes[1])
    one(tmp_path, node, {"x": rand(4, 4, 3), "n": whole(4, 1, 0, 2)})


# -- running products


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_cumulative(tmp_path: Path, op: str, exclusive: int, reverse: int) -> None:
    node = N(op, ["x", "a"], ["y"], exclusive=exclusive, reverse=reverse)
    for axis in (-1, 0):
        one(tmp_path, node, {"x": rand(3, 4)}, {"a": np.array(axis, np.int64)})
        one(tmp_path, node, {"x": (rand(3, 4) * 3).astype(np.int64)}, {"a": np.array(axis, np.int32)})


# -- resizing


@pytest.mark.parametrize(
    "how", ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("more", [{}, {"antialias": 1}, {"exclude_outside": 1}])
def test_resize(tmp_path: Path, how: str, mode: str, more: dict[str, int]) -> None:
    if (mode == "nearest" and more) or (how == "half_pixel_symmetric" and mode == "nearest"):
        pytest.skip("no such mode in the reference")
    node = N("Resize", ["x", "", "", "s"], ["y"], mode=mode, coordinate_transformation_mode=how, axes=[3, 1], **more)
    for size in ((7, 2), (3, 9), (30, 5)):
        one(tmp_path, node, {"x": rand(1, 6, 2, 8)}, {"s": whole(*size)})


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_much_smaller(tmp_path: Path, mode: str) -> None:
    """So many taps that the sum is a product of matrices."""
    node = N("Resize", ["x", "", "s"], ["y"], mode=mode, antialias=1)
    one(tmp_path, node, {"x": rand(1, 2, 40, 31)}, {"s": np.array([1, 1, 0.13, 0.2], np.float32)})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_of_a_region(tmp_path: Path, mode: str) -> None:
    node = N("Resize", ["x", "r", "", "s"], ["y"], mode=mode, coordinate_transformation_mode="tf_crop_and_resize",
             extrapolation_value=7.5, axes=[2, 3])  # fmt: skip
    for region in ([0.2, 0.1, 0.7, 1.4], [-0.33, 0.6, 0.53, 0.21], [0.0, 0.0, 1.0, 1.0]):
        constants = {"r": np.array(region, np.float32), "s": whole(5, 4)}
        one(tmp_path, node, {"x": rand(1, 2, 6, 8)}, constants)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_resize_keeps_the_aspect_ratio(tmp_path: Path, policy: str) -> None:
    node = N("Resize", ["x", "", "", "s"], ["y"], mode="linear", keep_aspect_ratio_policy=policy, axes=[2, 3])
    one(tmp_path, node, {"x": rand(1, 2, 6, 9)}, {"s": whole(4, 13)})


def test_resize_of_whole_numbers(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (1, 1, 5, 6)).astype(np.uint8)
    one(tmp_path, N("Resize", ["x", "", "", "s"], ["y"], mode="cubic"), {"x": x}, {"s": whole(1, 1, 8, 7)})


# -- cutting and padding


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pads(tmp_path: Path, mode: str) -> None:
    """Longer than the axis where that has a meaning, and negative."""
    node = N("Pad", ["x", "p", "", "a"], ["y"], mode=mode)
    for pads in ([1, 2, 2, 1], [0, 7, 3, 9]):
        one(tmp_path, node, {"x": rand(3, 4, 5)}, {"p": whole(*pads), "a": whole(-1, 0)})
    if mode == "constant":
        one(tmp_path, node, {"x": rand(3, 4, 5)}, {"p": whole(-1, 2, 2, -1), "a": whole(1, 2)}, expected=None, opset=21)


def test_slices_of_nothing(tmp_path: Path) -> None:
    for step in (1, -1, -2):
        parts = {"s": whole(-1), "e": whole(-100 if step < 0 else 100), "a": whole(1), "p": whole(step)}
        one(tmp_path, N("Slice", ["x", *parts], ["y"]), {"x": rand(3, 0)}, parts)


@pytest.mark.parametrize("size", [(5, 3), (2, 8), (4, 5), (9, 10)])
def test_center_crop_pad(tmp_path: Path, size: tuple[int, int]) -> None:
    node = N("CenterCropPad", ["x", "s"], ["y"], axes=[-1, 0])
    one(tmp_path, node, {"x": rand(4, 2, 5)}, {"s": whole(*size)})


# -- windows


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(tmp_path: Path, p: int) -> None:
    node = N("LpPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], p=p)
    one(tmp_path, node, {"x": rand(1, 2, 7, 6)})
    one(tmp_path, N("GlobalLpPool", ["x"], ["y"], p=p), {"x": rand(2, 3, 4, 2)}, opset=21)


# -- sums of products, normalisations


@pytest.mark.parametrize("equation", ["ii->i", "ii", "...ii->...i", "iji->j", "iii->i"])
def test_diagonals(tmp_path: Path, equation: str) -> None:
    shape = {"...ii->...i": (2, 3, 3), "iji->j": (3, 4, 3), "iii->i": (3, 3, 3)}.get(equation, (3, 3))
    one(tmp_path, N("Einsum", ["x"], ["y"], equation=equation), {"x": rand(*shape)}, opset=21)


@pytest.mark.parametrize("opset", [14, 15, NEWEST])
def test_batch_normalization_in_training(tmp_path: Path, opset: int) -> None:
    node = N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "a", "c"], training_mode=1, momentum=0.7)
    feeds = {"x": rand(2, 3, 4), "s": rand(3), "b": rand(3, seed=1), "m": rand(3, seed=2), "v": np.abs(rand(3, seed=3))}
    one(tmp_path, node, feeds, opset=NEWEST)


def test_values_made_of_a_number_found_out(tmp_path: Path) -> None:
    """Shape arithmetic over the number of results: everything that mentions it comes after the node that finds it out."""
    nodes = [
        N("NonZero", ["x"], ["z"]),
        N("Shape", ["z"], ["s"], start=1),
        N("Squeeze", ["s"], ["n"]),
        N("Range", ["zero", "n", "one"], ["r"]),
        N("Mul", ["r", "two"], ["doubled"]),
        N("Concat", ["s", "three"], ["shape"], axis=0),
        N("ConstantOfShape", ["shape"], ["zeros"]),
        N("Expand", ["row", "shape"], ["rows"]),
        N("Add", ["n", "one"], ["more"]),
    ]
    numbers = {"zero": 0, "one": 1, "two": 2, "three": [3]}
    constants = [array(name, number, np.int64) for name, number in numbers.items()]
    constants.append(array("row", [[1.0, 2.0, 3.0]], np.float32))
    model = make(nodes, [value("x", FLOAT, (2, 3))], ["doubled", "zeros", "rows", "more", "s"], constants, NEWEST)
    for x in (np.array([[0, 2, 0], [3, 0, 1]], np.float32), np.zeros((2, 3), np.float32)):
        verify_graph(check(tmp_path, model, {"x": x}))
