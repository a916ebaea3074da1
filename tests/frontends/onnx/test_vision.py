"""Operators on images and boxes against the reference of the onnx package: edges beyond its own suite."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stratac.tests.frontends.onnx.build import N, rand
from stratac.tests.frontends.onnx.test_indexing import one, whole


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample(tmp_path: Path, mode: str, padding: str, corners: int) -> None:
    """Positions inside, at the ends and far outside; images of two and three axes."""
    node = N("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding, align_corners=corners)
    grid = np.random.default_rng(0).uniform(-2.5, 2.5, (2, 3, 4, 2)).astype(np.float32)
    grid[0, 0] = [[-1, -1], [1, 1], [0, 0], [1.7, -1]]
    one(tmp_path, node, {"x": rand(2, 2, 4, 5), "g": grid})
    if mode != "cubic":
        solid = np.random.default_rng(1).uniform(-1.4, 1.4, (1, 2, 3, 2, 3)).astype(np.float32)
        one(tmp_path, node, {"x": rand(1, 2, 3, 4, 2), "g": solid})


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_old_names_of_modes(tmp_path: Path, mode: str) -> None:
    grid = np.random.default_rng(0).uniform(-1.1, 1.1, (1, 3, 4, 2)).astype(np.float32)
    one(tmp_path, N("GridSample", ["x", "g"], ["y"], mode=mode), {"x": rand(1, 2, 4, 5), "g": grid}, opset=16)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("how", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("samples", [0, 2])
def test_roi_align(tmp_path: Path, mode: str, how: str, samples: int) -> None:
    boxes = np.array([[0, 0, 5, 5], [1, 2, 9, 7], [-4, -3, 2, 2], [3, 3, 3, 3], [0, 0, 30, 40]], np.float32)
    node = N("RoiAlign", ["x", "b", "i"], ["y"], mode=mode, coordinate_transformation_mode=how, sampling_ratio=samples,
             output_height=3, output_width=2, spatial_scale=0.7)  # fmt: skip
    one(tmp_path, node, {"x": rand(2, 3, 8, 9), "b": boxes, "i": whole(0, 1, 1, 0, 1)})


def test_max_roi_pool(tmp_path: Path) -> None:
    """Against onnxruntime: the reference has none."""
    boxes = np.array([[0, 0, 0, 5, 5], [1, 1, 2, 9, 7], [0, 2, 2, 4, 3], [1, 6, 6, 2, 3]], np.float32)
    node = N("MaxRoiPool", ["x", "b"], ["y"], pooled_shape=[3, 2], spatial_scale=0.7)
    one(tmp_path, node, {"x": rand(2, 3, 8, 9), "b": boxes}, opset=18)


@pytest.mark.parametrize("center", [0, 1])
def test_non_max_suppression(tmp_path: Path, center: int) -> None:
    generator = np.random.default_rng(0)
    boxes = generator.uniform(0, 4, (2, 20, 4)).astype(np.float32)
    scores = np.round(generator.uniform(0, 1, (2, 3, 20)), 1).astype(np.float32)
    node = N("NonMaxSuppression", ["b", "s", "k", "o", "t"], ["y"], center_point_box=center)
    for most, overlap, least in itertools.product((0, 2, 50), (0.0, 0.3), (-1.0, 0.45)):
        thresholds = {"o": np.array([overlap], np.float32), "t": np.array([least], np.float32)}
        one(tmp_path, node, {"b": boxes, "s": scores}, {"k": whole(most), **thresholds})
    run_time = {
        "b": boxes,
        "s": scores,
        "k": whole(3),
        "o": np.array([0.2], np.float32),
        "t": np.array([0.1], np.float32),
    }
    one(tmp_path, node, run_time)


def test_non_max_suppression_by_default(tmp_path: Path) -> None:
    feeds = {"b": rand(1, 4, 4), "s": rand(1, 1, 4)}
    one(tmp_path, N("NonMaxSuppression", ["b", "s"], ["y"]), feeds, expected=[np.zeros((0, 3), np.int64)])


@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_unique(tmp_path: Path, ordered: int, dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 3, (4, 3, 2)).astype(dtype)
    node = N("Unique", ["x"], ["y", "i", "r", "c"], sorted=ordered)
    if ordered:  # the reference is wrong for others
        one(tmp_path, node, {"x": x})
    flat = x.reshape(-1)
    one(tmp_path, node, {"x": flat})
    for axis in (0, -1):
        along = N("Unique", ["x"], ["y", "i", "r", "c"], sorted=1, axis=axis)
        one(tmp_path, along, {"x": np.random.default_rng(0).integers(0, 2, (5, 2, 4)).astype(dtype)})
    one(tmp_path, N("Unique", ["x"], ["y"]), {"x": np.zeros(0, dtype)}, expected=[np.zeros(0, dtype)])


def test_unique_of_nan(tmp_path: Path) -> None:
    x = np.array([np.nan, 1, -np.inf, np.nan, 0.0, -0.0, np.inf], np.float32)
    one(tmp_path, N("Unique", ["x"], ["y", "i", "r", "c"]), {"x": x})


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8])
@pytest.mark.parametrize("storage", [0, 1])
@pytest.mark.parametrize("shape, kernel", [((2, 2, 7), [3]), ((1, 2, 6, 7), [2, 3]), ((1, 2, 5, 4, 6), [2, 2, 3])])
def test_max_pool_with_indices(
    tmp_path: Path, dtype: Any, storage: int, shape: tuple[int, ...], kernel: list[int]
) -> None:
    n = len(kernel)
    if n == 3 and storage:
        pytest.skip("the reference and onnxruntime differ")
    x = np.random.default_rng(0).integers(0, 9, shape).astype(dtype)
    opset = 12 if dtype != np.float32 else 22
    for more in (
        {"strides": [2] * n, "ceil_mode": 1},
        {"dilations": [2] * n, "pads": [1] * (2 * n)},
        {"strides": [2] * n},
    ):
        node = N("MaxPool", ["x"], ["y", "i"], kernel_shape=kernel, storage_order=storage, **more)
        one(tmp_path, node, {"x": x}, opset=opset)


def test_max_unpool(tmp_path: Path) -> None:
    x, at = rand(1, 1, 2, 2), whole(5, 7, 13, 15).reshape(1, 1, 2, 2)
    node = N("MaxUnpool", ["x", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    one(tmp_path, node, {"x": x, "i": at})
    node = N("MaxUnpool", ["x", "i", "s"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    one(tmp_path, node, {"x": x, "i": at}, {"s": whole(1, 1, 5, 5)})


@pytest.mark.parametrize("groups, places", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_deform_conv(tmp_path: Path, groups: int, places: int) -> None:
    window = {"pads": [1, 0, 1, 2], "strides": [2, 1], "dilations": [1, 2]}
    feeds = {
        "x": rand(2, 4, 6, 7),
        "w": rand(6, 4 // groups, 3, 2, seed=1),
        "o": rand(2, places * 12, 3, 7, seed=2) * 2,
        "b": rand(6, seed=3),
        "m": rand(2, places * 6, 3, 7, seed=4),
    }
    node = N("DeformConv", ["x", "w", "o", "b", "m"], ["y"], group=groups, offset_group=places, **window)
    one(tmp_path, node, feeds)


def test_col2im(tmp_path: Path) -> None:
    node = N("Col2Im", ["x", "i", "b"], ["y"], strides=[2, 1], pads=[1, 0, 0, 1], dilations=[1, 2])
    one(tmp_path, node, {"x": rand(2, 12, 6)}, {"i": whole(6, 5), "b": whole(2, 3)})


def test_det(tmp_path: Path) -> None:
    one(tmp_path, N("Det", ["x"], ["y"]), {"x": rand(3, 2, 4, 4)})
    one(tmp_path, N("Det", ["x"], ["y"]), {"x": np.array([[1, 2], [2, 4]], np.float32)})
