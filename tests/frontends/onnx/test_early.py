"""Opsets 1 to 6: broadcasting by axis, switches of training, attributes that became inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.errors import ModelError
from stratac.ir.interp import run
from stratac.tests.frontends.onnx.build import FLOAT, N, array, make, rand, save, value


def outputs(folder: Path, node: onnx.NodeProto, opset: int, x: np.ndarray, *constants: onnx.TensorProto) -> Any:
    """What one node over the input x gives."""
    model = make([node], [value("x", FLOAT, x.shape)], [o for o in node.output if o][:1], constants, opset)
    return verified_run(save(folder, model), x)


def verified_run(path: Path, x: np.ndarray) -> Any:
    return run(import_onnx(path), {"x": x})["y"]


@pytest.mark.parametrize(
    ("axis", "shape", "seen"),
    [
        (None, (4,), (4,)),
        (None, (3, 4), (3, 4)),
        (0, (2,), (2, 1, 1)),
        (1, (3,), (3, 1)),
        (1, (3, 4), (3, 4)),
        (2, (4,), (4,)),
        (None, (), ()),
        (0, (), ()),
    ],
)
def test_broadcast_by_axis(tmp_path: Path, axis: int | None, shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    x, c = rand(2, 3, 4), rand(*shape)
    more = {} if axis is None else {"axis": axis}
    for op, function in (("Sub", np.subtract), ("Div", np.divide)):
        y = outputs(tmp_path, N(op, ["x", "c"], ["y"], broadcast=1, **more), 6, x, array("c", c, np.float32))
        np.testing.assert_allclose(y, function(x, c.reshape(seen)), rtol=1e-6)


def test_an_axis_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="axis 2: rank 2 does not fit into rank 3 there"):
        outputs(tmp_path, N("Add", ["x", "c"], ["y"], broadcast=1, axis=2), 6, rand(2, 3, 4), array("c", rand(4, 1)))


def test_slopes_are_per_channel(tmp_path: Path) -> None:
    x, slope = rand(2, 3, 3), np.array([0.1, 0.2, 0.3], np.float32)
    y = outputs(tmp_path, N("PRelu", ["x", "s"], ["y"]), 6, x, array("s", slope))
    np.testing.assert_allclose(y, np.where(x < 0, x * slope[:, None], x), rtol=1e-6)
    y = outputs(tmp_path, N("PRelu", ["x", "s"], ["y"]), 7, x, array("s", slope))
    np.testing.assert_allclose(y, np.where(x < 0, x * slope, x), rtol=1e-6)
    y = outputs(tmp_path, N("PRelu", ["x", "s"], ["y"]), 1, x, array("s", slope[:1]))
    np.testing.assert_allclose(y, np.where(x < 0, x * slope[0], x), rtol=1e-6)


def test_gemm(tmp_path: Path) -> None:
    x, w, b = rand(2, 3), rand(3, 4), rand(4)
    y = outputs(tmp_path, N("Gemm", ["x", "w", "b"], ["y"], broadcast=1), 6, x, array("w", w), array("b", b))
    np.testing.assert_allclose(y, x @ w + b, rtol=1e-5)


def test_inference_is_told_from_training(tmp_path: Path) -> None:
    x = rand(2, 3, 4)
    row = [array(n, np.abs(rand(3)) + 0.1) for n in "sbmv"]
    s, b, m, v = (onnx.numpy_helper.to_array(t)[:, None] for t in row)
    wanted = (x - m) / np.sqrt(v + 1e-5) * s + b
    for more in ({}, {"is_test": 1}):
        node = N("BatchNormalization", ["x", *"sbmv"], ["y"], **more)
        np.testing.assert_allclose(outputs(tmp_path, node, 6, x, *row), wanted, rtol=1e-4, atol=1e-6)
    node = N("BatchNormalization", ["x", *"sbmv"], ["y"], consumed_inputs=[0, 0, 0, 1, 1], is_test=1)
    np.testing.assert_allclose(outputs(tmp_path, node, 1, x, *row), wanted, rtol=1e-4, atol=1e-6)
    assert np.array_equal(outputs(tmp_path, N("Dropout", ["x"], ["y"], is_test=1, ratio=0.3), 6, x), x)
    with pytest.raises(ModelError, match="is_test = 0 is training"):
        outputs(tmp_path, N("Dropout", ["x"], ["y"], ratio=0.3), 6, x)


def test_attributes_that_became_inputs(tmp_path: Path) -> None:
    x = rand(2, 6)
    assert outputs(tmp_path, N("Reshape", ["x"], ["y"], shape=[3, -1]), 1, x).shape == (3, 4)
    assert outputs(tmp_path, N("Cast", ["x"], ["y"], to="INT32"), 1, x).dtype == np.int32
    with pytest.raises(ModelError, match="to = 'INT' is no element type"):
        outputs(tmp_path, N("Cast", ["x"], ["y"], to="INT"), 1, x)
    assert np.array_equal(
        outputs(tmp_path, N("Pad", ["x"], ["y"], paddings=[0, 1, 0, 2]), 1, x), np.pad(x, ((0, 0), (1, 2)))
    )
    two = [array("t", [3.0], np.float32), array("a", [1.0], np.float32)]
    assert np.array_equal(outputs(tmp_path, N("Tile", ["x", "t", "a"], ["y"]), 1, x, *two), np.tile(x, (1, 3)))
    node = N("Split", ["x", "s"], ["y", "z"], axis=1)
    assert np.array_equal(outputs(tmp_path, node, 1, x, array("s", [2.0, 4.0], np.float32)), x[:, :2])
    wide = rand(1, 1, 2, 3)
    y = outputs(tmp_path, N("Upsample", ["x"], ["y"], height_scale=2.0, width_scale=3.0, mode="nearest"), 1, wide)
    assert np.array_equal(y, wide.repeat(2, 2).repeat(3, 3))


def test_defaults_of_their_time(tmp_path: Path) -> None:
    x = rand(2, 3)
    one = outputs(tmp_path, N("Concat", ["x", "x"], ["y"]), 1, x)
    assert one.shape == (2, 6)
    y = outputs(tmp_path, N("Selu", ["x"], ["y"]), 1, x)
    np.testing.assert_allclose(y, 1.0507 * np.where(x > 0, x, 1.6732 * np.expm1(x)), rtol=1e-5)
    y = outputs(tmp_path, N("Relu", ["x"], ["y"], consumed_inputs=[0]), 1, x)
    assert np.array_equal(y, np.maximum(x, 0))


@pytest.mark.parametrize("p", [None, 2.0, 2.5])
def test_norms_of_any_order(tmp_path: Path, p: float | None) -> None:
    x, order = rand(1, 2, 3, 4), p or 2.0
    y = outputs(tmp_path, N("GlobalLpPool", ["x"], ["y"], **({} if p is None else {"p": p})), 1, x)
    np.testing.assert_allclose(y, (np.abs(x) ** order).sum((2, 3), keepdims=True) ** (1 / order), rtol=1e-5)
