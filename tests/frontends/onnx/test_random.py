"""Operators that draw numbers: their distributions, what a seed decides, and that nothing depends on anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import np_dtype_to_tensor_dtype
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.dims import Bounds
from stratac.ir.interp import run
from stratac.tests.frontends.onnx.build import FLOAT, N, array, make, save, value


def draw(folder: Path, op: str, *inputs: Any, outputs: tuple[str, ...] = ("y",), **attributes: Any) -> Any:
    """What a node gives, the outputs of one node as a list."""
    names = [f"x{i}" for i in range(len(inputs))]
    arrays = [np.asarray(data) for data in inputs]
    constants = [array(n, a) for n, a in zip(names, arrays, strict=True) if not a.shape]
    feeds = {n: a for n, a in zip(names, arrays, strict=True) if a.shape}
    ports = [value(n, np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    model = make([N(op, names, outputs, **attributes)], ports, outputs, constants, 22)
    found = run(import_onnx(save(folder, model), {}), feeds)
    return found["y"] if len(outputs) == 1 else [found[o] for o in outputs]


@pytest.mark.parametrize("dtype", [FLOAT, 11])
def test_uniform_numbers(tmp_path: Path, dtype: int) -> None:
    x = draw(tmp_path, "RandomUniform", shape=[300, 400], dtype=dtype, low=-2.0, high=6.0, seed=1.0)
    assert x.min() >= -2 and x.max() < 6 and abs(x.mean() - 2) < 0.03
    counts, _ = np.histogram(x, 64, (-2, 6))
    assert ((counts - x.size / 64) ** 2 / (x.size / 64)).sum() < 64 + 5 * np.sqrt(128)  # chi squared
    flat = x.ravel() - x.mean()
    for distance in (1, 2, 400):  # neighbours of rows and columns are not correlated
        assert abs((flat[distance:] * flat[:-distance]).mean() / flat.var()) < 0.015


@pytest.mark.parametrize("dtype", [FLOAT, 11])
def test_normal_numbers(tmp_path: Path, dtype: int) -> None:
    x = draw(tmp_path, "RandomNormal", shape=[100000], dtype=dtype, mean=3.0, scale=2.0, seed=4.0)
    z = (x - 3) / 2
    moments = [(z**k).mean() for k in range(1, 5)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.08)
    assert 3.5 < np.abs(z).max() < 7 and np.isfinite(x).all()


def test_seeds_and_names(tmp_path: Path) -> None:
    one = draw(tmp_path, "RandomNormal", shape=[50], seed=1.0)
    np.testing.assert_array_equal(one, draw(tmp_path, "RandomNormal", shape=[50], seed=1.0, name="other"))
    assert (one != draw(tmp_path, "RandomNormal", shape=[50], seed=2.0)).all()
    first = draw(tmp_path, "RandomNormal", shape=[50], name="first")
    np.testing.assert_array_equal(first, draw(tmp_path, "RandomNormal", shape=[50], name="first"))
    assert (first != draw(tmp_path, "RandomNormal", shape=[50], name="second")).all()


def test_like_takes_the_shape_of_a_run(tmp_path: Path) -> None:
    model = make([N("RandomUniformLike", ["x"], ["y"], seed=3.0)], [value("x", FLOAT, ["n", 2])], opset=22)
    graph = import_onnx(save(tmp_path, model), {"n": Bounds(1, 4, 9)})
    few, many = (run(graph, {"x": np.zeros((n, 2), "f4")})["y"] for n in (3, 9))
    np.testing.assert_array_equal(few, many[:3])


def test_bernoulli(tmp_path: Path) -> None:
    chances = np.repeat(np.array([0.0, 0.2, 0.7, 1.0], "f8"), 20000)
    x = draw(tmp_path, "Bernoulli", chances, dtype=6, seed=1.0).reshape(4, -1)
    assert x.dtype == np.int32 and set(np.unique(x)) == {0, 1}
    np.testing.assert_allclose(x.mean(1), [0, 0.2, 0.7, 1], atol=0.02)
    assert not x[0].any() and x[3].all()


def test_multinomial(tmp_path: Path) -> None:
    shares = np.array([[0.1, 0.0, 0.6, 0.3], [0.25, 0.25, 0.25, 0.25]])
    with np.errstate(divide="ignore"):
        x = draw(tmp_path, "Multinomial", np.log(shares).astype("f4") + 2, sample_size=20000, dtype=7, seed=1.0)
    assert x.dtype == np.int64 and x.shape == (2, 20000)
    for row, wanted in zip(x, shares, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=4) / 20000, wanted, atol=0.02)


def test_dropout_in_training(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((200, 300)).astype("f4")
    y, mask = draw(tmp_path, "Dropout", x, np.float32(0.3), np.array(True), outputs=("y", "mask"), seed=5)
    assert mask.dtype == bool and abs(mask.mean() - 0.7) < 0.01
    np.testing.assert_allclose(y, np.where(mask, x / 0.7, 0), rtol=1e-6)
    same, kept = draw(tmp_path, "Dropout", x, np.float32(0.3), np.array(False), outputs=("y", "mask"))
    assert kept.all() and (same == x).all()
    for ratio, share in ((0.0, 1.0), (1.0, 0.0)):
        y, mask = draw(tmp_path, "Dropout", x, np.float32(ratio), np.array(True), outputs=("y", "mask"))
        assert mask.mean() == share and (y == x * share).all()


def test_dropout_that_learns_of_training_when_it_runs(tmp_path: Path) -> None:
    x, train = np.ones((1000,), "f4"), np.array([True])
    nodes = [N("Squeeze", ["t"], ["s"]), N("Dropout", ["x", "", "s"], ["y"])]
    model = make(nodes, [value("x", FLOAT, [1000]), value("t", 9, [1])], opset=22)
    graph = import_onnx(save(tmp_path, model), {})
    assert (run(graph, {"x": x, "t": ~train})["y"] == 1).all()
    assert set(run(graph, {"x": x, "t": train})["y"]) == {0, 2}
