"""Operators on quantised tensors against the reference of the onnx package and onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_opsetid, np_dtype_to_tensor_dtype
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.interp import run
from stratac.tests.frontends.onnx.build import N, array, make, reference, save, value

RNG = np.random.default_rng(0)


def close(
    folder: Path, op: str, *inputs: Any, domain: str = "", opset: int = 21, expected: Any = None, **attributes: Any
) -> None:
    """One input per array, None for an absent one; the first is the model's, the rest constants. Whole numbers may differ by one,
    where the other side rounds in f32."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    constants = [array(n, x) for n, x in zip(names[1:], inputs[1:], strict=True) if x is not None]
    outputs = ["y", "s", "z"][: 3 if op == "DynamicQuantizeLinear" else 1]
    node = N(op, names, outputs, domain=domain, **attributes)
    port = value("x0", np_dtype_to_tensor_dtype(inputs[0].dtype), inputs[0].shape)
    model = make([node], [port], outputs, constants, opset, domains=[make_opsetid(domain, 1)] if domain else [])
    got = run(import_onnx(save(folder, model), {}), {"x0": inputs[0]})
    for name, want in zip(outputs, expected or reference(model, {"x0": inputs[0]}, opset), strict=True):
        assert (got[name].dtype, got[name].shape) == (want.dtype, want.shape)
        whole = want.dtype.kind in "iu"
        np.testing.assert_allclose(
            got[name].astype("f8"), want.astype("f8"), rtol=0 if whole else 1e-5, atol=int(whole) or 1e-6
        )


def whole(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def real(x: float | list[float]) -> np.ndarray:
    return np.array(x, np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("columns", [False, True])
def test_products(tmp_path: Path, dtype: str, columns: bool) -> None:
    a, b = whole(dtype, 4, 7), whole(dtype, 7, 5)
    zero, zeros = np.array(3, dtype), whole(dtype, 5) if columns else np.array(7, dtype)
    scales = real([0.01, 0.02, 0.03, 0.01, 0.02]) if columns else real(0.02)
    close(tmp_path, "QLinearMatMul", a, real(0.02), zero, b, scales, zeros, real(0.5), np.array(9, dtype))
    close(tmp_path, "MatMulInteger", a, b, zero, zeros, opset=18)


def test_products_by_rows(tmp_path: Path) -> None:
    a, b, zeros = whole("uint8", 3, 6), whole("uint8", 6, 2), whole("uint8", 3)
    scales = real([0.1, 0.2, 0.3])
    real_a = (a.astype(int) - zeros[:, None]) * scales[:, None].astype("f8")
    want = np.clip(np.rint(real_a @ (b.astype(int) - 5) * 0.1 / 4 + 100), 0, 255).astype("u1")
    tail = (b, real(0.1), np.uint8(5), real(4), np.uint8(100))
    close(tmp_path, "QLinearMatMul", a, scales, zeros, *map(np.asarray, tail), expected=[want])


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("group", [1, 2])
def test_convolutions(tmp_path: Path, group: int, many: bool) -> None:
    x, w = whole("uint8", 2, 4, 6, 5), whole("int8", 6, 4 // group, 3, 3)
    scale = real([0.01, 0.02, 0.03, 0.04, 0.02, 0.01]) if many else real(0.02)
    points = np.zeros(6, np.int8) if many else np.int8(0)
    bias = RNG.integers(-500, 500, 6).astype("i4")
    options = {"group": group, "pads": [1, 1, 0, 1], "strides": [2, 1]}
    tail = (real(0.8), np.array(100, np.uint8), bias)
    close(tmp_path, "QLinearConv", x, real(0.05), np.array(9, np.uint8), w, scale, np.asarray(points), *tail, **options)
    if not many:
        close(tmp_path, "ConvInteger", x, w.view("u1"), np.array(9, np.uint8), np.array(7, np.uint8), **options)


@pytest.mark.parametrize("x", [[0, 2, -3, -2.5, 1.34, 0.5], [1, 2, 5], [-1, -3], [7]])
def test_dynamic(tmp_path: Path, x: list[float]) -> None:
    close(tmp_path, "DynamicQuantizeLinear", real(x))


def test_dynamic_of_zeros(tmp_path: Path) -> None:
    """As the standard's reference has it; onnxruntime takes 1 as the scale."""
    close(
        tmp_path, "DynamicQuantizeLinear", real([0, 0]), expected=[np.zeros(2, "u1"), np.float32(1 / 255), np.uint8(0)]
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_operators_of_onnxruntime(tmp_path: Path, dtype: str) -> None:
    a, b, c = whole(dtype, 3, 8), whole(dtype, 3, 8), np.array(3, dtype)
    more: dict[str, Any] = {"domain": "com.microsoft", "opset": 18}
    for op in ("QLinearAdd", "QLinearMul"):
        close(tmp_path, op, a, real(0.02), c, b, real(0.03), np.array(9, dtype), real(0.05), np.array(1, dtype), **more)
    close(tmp_path, "QLinearSigmoid", a, real(0.05), c, real(1 / 256), np.array(0, dtype), **more)
    close(tmp_path, "QLinearLeakyRelu", a, real(0.05), c, real(0.04), np.array(5, dtype), alpha=0.2, **more)
    image = whole(dtype, 2, 3, 4, 5)
    close(tmp_path, "QLinearGlobalAveragePool", image, real(0.05), c, real(0.02), np.array(5, dtype), **more)


def test_affine_layers_of_onnxruntime(tmp_path: Path) -> None:
    more: dict[str, Any] = {"domain": "com.microsoft", "opset": 18}
    a, b, bias = whole("uint8", 4, 6), whole("int8", 5, 6), RNG.integers(-900, 900, 5).astype("i4")
    operands = (a, real(0.05), np.array(7, np.uint8), b, real(0.02), np.array(0, np.int8), bias)
    close(tmp_path, "QGemm", *operands, real(0.6), np.array(120, np.uint8), transB=1, alpha=1.0, **more)
    close(tmp_path, "QGemm", *operands, None, None, transB=1, alpha=0.5, **more)
    x = RNG.standard_normal((4, 6)).astype("f4")
    tail = (np.array(3, np.int8), RNG.standard_normal(5).astype("f4"))
    close(tmp_path, "DynamicQuantizeMatMul", x, whole("int8", 6, 5), real(0.02), *tail, **more)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantized_pools(tmp_path: Path, dtype: str) -> None:
    more: dict[str, Any] = {"domain": "com.microsoft", "opset": 18}
    image, c = whole(dtype, 2, 3, 6, 5), np.array(3, dtype)
    tail = (real(0.05), c, real(0.04), np.array(5, dtype))
    window = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    for last in (0, 1):
        for include in (0, 1):
            options = {**window, "channels_last": last, "count_include_pad": include}
            close(tmp_path, "QLinearAveragePool", image, *tail, **options, **more)
    close(tmp_path, "NhwcMaxPool", image, **window, **more)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantized_reductions(tmp_path: Path, dtype: str) -> None:
    more: dict[str, Any] = {"domain": "com.microsoft", "opset": 18}
    x, zero = whole(dtype, 3, 4, 5), np.array(3, dtype)
    least = np.array(np.iinfo(dtype).min, dtype)
    for axis, opset in ((-1, 13), (1, 13), (1, 11), (0, 12)):
        options = {"axis": axis, "opset": opset}
        softmax = (x, real(0.05), zero, real(1 / 256), least)
        names = ["x0", "x1", "x2", "x3", "x4"]
        constants = [array(n, v) for n, v in zip(names[1:], softmax[1:], strict=True)]
        node = N("QLinearSoftmax", names, ["y"], domain="com.microsoft", **options)
        port = value("x0", np_dtype_to_tensor_dtype(x.dtype), x.shape)
        model = make([node], [port], ["y"], constants, 18, domains=[make_opsetid("com.microsoft", 1)])
        got = run(import_onnx(save(tmp_path, model), {}), {"x0": x})["y"].astype(int)
        np.testing.assert_allclose(got, reference(model, {"x0": x}, 18)[0].astype(int), atol=1)
    for axes, keep in (([1], 1), ([0, 2], 0)):
        tail = (real(0.05), zero, real(0.03), np.array(7, dtype))
        mean = ((x.astype("f8") - 3) * 0.05).mean(tuple(axes), keepdims=bool(keep))
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        want = np.clip(np.rint(mean / 0.03 + 7), low, high).astype(dtype)
        close(tmp_path, "QLinearReduceMean", x, *tail, axes=axes, keepdims=keep, expected=[want], **more)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantized_choice(tmp_path: Path, dtype: str) -> None:
    x, y = whole(dtype, 3, 4), whole(dtype, 4)
    tail = (x, real(0.05), np.array(3, dtype), y, real(0.03), np.array(1, dtype), real(0.04), np.array(5, dtype))
    close(tmp_path, "QLinearWhere", x > y, *tail, domain="com.microsoft", opset=18)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_quantized_embeddings(tmp_path: Path, segments: bool, masked: bool) -> None:
    tables = [whole("uint8", count, 8) for count in (9, 6, 2)]
    rows = [whole("uint8", 8) for _ in range(2)]
    inputs: dict[str, Any] = {
        "words": RNG.integers(0, 9, (2, 5)).astype("i4"),
        "segments": RNG.integers(0, 2, (2, 5)).astype("i4") if segments else None,
        **{f"t{k}": x if k < 2 or segments else None for k, x in enumerate(tables)},
        **{f"r{k}": x for k, x in enumerate(rows)},
        "mask": (np.arange(5) < np.array([[3], [5]])).astype("i4") if masked else None,
        **{f"s{k}": real(0.01 * (k + 1)) if k != 2 or segments else None for k in range(5)},
        **{f"z{k}": np.array(120 + k, "u1") if k != 2 or segments else None for k in range(5)},
    }
    names = [name if x is not None else "" for name, x in inputs.items()]
    node = N("QEmbedLayerNormalization", names, ["y", "m"], domain="com.microsoft", epsilon=1e-5)
    constants = [array(n, x) for n, x in inputs.items() if x is not None and n != "words"]
    domains = [make_opsetid("com.microsoft", 1)]
    model = make([node], [value("words", 6, [2, 5])], ["y", "m"], constants, 18, domains=domains)
    feeds = {"words": inputs["words"]}
    got = run(import_onnx(save(tmp_path, model), {}), feeds)
    for name, want in zip("ym", reference(model, feeds, 18), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5)
