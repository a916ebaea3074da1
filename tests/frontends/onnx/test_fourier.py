"""Fourier transforms against numpy: every way a length is taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.errors import ModelError
from stratac.ir.interp import run
from stratac.tests.frontends.onnx.build import FLOAT, N, array, check, make, save, value


def by_numpy(x: np.ndarray, n: int | None, axis: int, inverse: int = 0, onesided: int = 0) -> np.ndarray:
    plain, axis = x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0), axis % x.ndim
    if inverse and onesided:
        return np.fft.irfft(plain, n, axis)[..., None].astype(x.dtype)
    y = (np.fft.ifft if inverse else np.fft.fft)(plain, n, axis)
    if onesided:
        y = y.take(np.arange(y.shape[axis] // 2 + 1), axis)
    return np.stack([y.real, y.imag], -1).astype(x.dtype)


def transform(
    folder: Path, x: np.ndarray, *, length: int | None = None, axis: int | None = None, **attributes: Any
) -> Any:
    constants = [] if length is None else [array("n", length, np.int64)]
    constants += [] if axis is None else [array("a", axis, np.int64)]
    names = ["x", "n" if length is not None else "", "a" if axis is not None else ""]
    kind = FLOAT if x.dtype == np.float32 else 11
    model = make([N("DFT", names, ["y"], **attributes)], [value("x", kind, x.shape)], constants=constants, opset=20)
    check(folder, model, {"x": x}, expected=[by_numpy(x, length, -2 if axis is None else axis, **attributes)])
    return run(import_onnx(save(folder, model), {}), {"x": x})["y"]


def signal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


#: one product; products of products, one level and two; a prime, and twice one, beyond what is one product
LENGTHS = [1, 2, 5, 16, 400, 513, 600, 1024, 4096, 521, 1042]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("n", LENGTHS)
def test_lengths(tmp_path: Path, n: int, parts: int) -> None:
    x = signal(2, n, parts)
    plain = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    for inverse in (0, 1):
        got = transform(tmp_path, x, inverse=inverse)
        want = np.fft.ifft(plain) if inverse else np.fft.fft(plain)
        np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], want, rtol=1e-9, atol=1e-11 * n)


@pytest.mark.parametrize("n", LENGTHS[1:])
def test_real_lengths(tmp_path: Path, n: int) -> None:
    x = signal(3, n)
    half = transform(tmp_path, x[..., None], onesided=1)
    want = np.fft.rfft(x)
    np.testing.assert_allclose(half[..., 0] + 1j * half[..., 1], want, rtol=1e-9, atol=1e-11 * n)
    half[:, 0, 1] = 3.0  # what is imaginary of the first bin does not count
    back = transform(tmp_path, half, length=n, inverse=1, onesided=1)
    np.testing.assert_allclose(back[..., 0], x, atol=1e-12 * n)


@pytest.mark.parametrize("axis", [0, 1, 2, -2, -3])
def test_axes(tmp_path: Path, axis: int) -> None:
    transform(tmp_path, signal(3, 4, 5, 2).astype(np.float32), axis=axis)


@pytest.mark.parametrize("length", [3, 6, 9, 1030])
@pytest.mark.parametrize(("inverse", "onesided"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_lengths_that_are_given(tmp_path: Path, length: int, inverse: int, onesided: int) -> None:
    parts = 1 if onesided and not inverse else 2
    transform(tmp_path, signal(2, 6, parts), length=length, inverse=inverse, onesided=onesided)


def test_single_precision_of_long_transforms(tmp_path: Path) -> None:
    x = signal(1, 4096, 2).astype(np.float32)
    got, want = transform(tmp_path, x), np.fft.fft(x[..., 0] + 1j * x[..., 1])
    error = np.abs(got[..., 0] + 1j * got[..., 1] - want).max() / np.abs(want).max()
    assert error < 1e-6


def test_before_opset_20_the_axis_is_an_attribute(tmp_path: Path) -> None:
    x = signal(2, 6, 3, 2).astype(np.float32)
    model = make([N("DFT", ["x"], ["y"], axis=2)], [value("x", FLOAT, x.shape)], opset=19)
    check(tmp_path, model, {"x": x}, expected=[by_numpy(x, None, 2)])


@pytest.mark.parametrize("windowed", [True, False])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize(("samples", "step", "length"), [(128, 8, 16), (100, 7, 20), (16, 4, 16)])
def test_frames(tmp_path: Path, samples: int, step: int, length: int, onesided: int, windowed: bool) -> None:
    x = signal(2, samples, 1).astype(np.float32)
    constants = [array("s", step, np.int64), array("n", length, np.int64)]
    constants += [array("w", np.hanning(length), np.float32)] if windowed else []
    node = N("STFT", ["x", "s", "w" if windowed else "", "n"], ["y"], onesided=onesided)
    model = make([node], [value("x", FLOAT, x.shape)], constants=constants, opset=17)
    frames = np.stack([x[:, i : i + length, 0] for i in range(0, samples - length + 1, step)], 1)
    frames = frames * (np.hanning(length) if windowed else 1)
    want = np.fft.rfft(frames) if onesided else np.fft.fft(frames)
    check(tmp_path, model, {"x": x}, expected=[np.stack([want.real, want.imag], -1).astype(np.float32)])


def test_wrong_transforms(tmp_path: Path) -> None:
    for shape, what in (((2, 6, 3), "takes"), ((2, 0, 1), "length")):
        model = make([N("DFT", ["x"], ["y"])], [value("x", FLOAT, shape)], opset=20)
        with pytest.raises(ModelError, match=what):
            import_onnx(save(tmp_path, model), {})
