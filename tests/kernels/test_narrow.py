"""Narrow floats: numpy against ml_dtypes and ONNX, and both C forms against numpy, on every ISA."""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx.numpy_helper import saturate_cast, to_float8e8m0
from stratac.compiler.profiles import cpu_features
from stratac.ir.narrow import FORMATS, decoded, encoded, unpacked, wrapped
from stratac.ir.types import DTYPES, ML_NAMES, DType, f4e2m1, f8e8m0, f16

from .conftest import EXTENDED, HERE, Isa
from .remote import Buffer

NAMES = [dtype.name for dtype in FORMATS]
OTHERS = {dtype: getattr(ml_dtypes, name) for name, dtype in ML_NAMES.items()} | {f16: np.float16}


def numbers(dtype: DType) -> np.ndarray:
    """float32: any bits, sizes near the type's own, the middles between its neighbours and what lies beside them."""
    rng = np.random.default_rng(11)
    bits = rng.integers(0, 2**32, 50_000, dtype=np.uint64).astype(np.uint32)
    near = (bits % (1 << 27) + np.uint32(0x38000000)).view(np.float32)
    own = decoded(np.arange(1 << dtype.bits).astype(DTYPES["u16" if dtype.bits > 8 else "u8"].np), dtype)
    finite = np.sort(own[np.isfinite(own)])
    with np.errstate(all="ignore"):
        middle = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(middle, np.float32(side)) for side in (-np.inf, np.inf)]
    edge = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3e38, 65519.9, 65520], np.float32)
    return np.concatenate([bits.view(np.float32), near, -near, own, middle, *beside, edge]).astype(np.float32)


def same_bits(got: np.ndarray, wanted: np.ndarray, dtype: DType) -> None:
    """Equal but for the bits of NaN where a type has many."""
    got, wanted = got.view(wanted.dtype), np.asarray(wanted)
    differ = got != wanted
    if dtype.bits == 16:
        differ &= ~(np.isnan(decoded(got, dtype)) & np.isnan(decoded(wanted, dtype)))
    assert not differ.any(), (np.flatnonzero(differ)[:5], got[differ][:5], wanted[differ][:5])


@pytest.mark.parametrize("name", [*NAMES, "f8e8m0"])
def test_decoding_agrees_with_ml_dtypes(name: str) -> None:
    dtype = DTYPES[name]
    codes = np.arange(1 << dtype.bits).astype(np.uint16 if dtype.bits > 8 else np.uint8)
    np.testing.assert_array_equal(decoded(codes, dtype), codes.view(OTHERS[dtype]).astype(np.float32))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64"])
@pytest.mark.parametrize("name", NAMES)
def test_encoding_agrees_with_ml_dtypes(name: str, kind: str) -> None:
    dtype = DTYPES[name]
    x = numbers(dtype)
    x = np.arange(-70000, 70000, 7) if kind == "int64" else x.astype(kind)
    if kind == "float64":
        x = np.concatenate([x, x * (1 + 2.0**-40), x * (1 - 2.0**-40)])
    same_bits(encoded(x, dtype), x.astype(OTHERS[dtype]).view(dtype.np), dtype)
    if dtype.bits == 8 and kind != "int64":
        same_bits(encoded(x, dtype, saturate=True), saturate_cast(x, np.dtype(OTHERS[dtype])).view(np.uint8), dtype)


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("rounding", ["up", "down", "nearest"])
def test_powers_agree_with_onnx(rounding: str, saturate: bool) -> None:
    x = np.concatenate([numbers(DTYPES["bf16"])])
    wanted = to_float8e8m0(x, saturate, rounding).view(np.uint8)
    same_bits(encoded(x, f8e8m0, saturate, rounding), wanted, f8e8m0)


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_small_integers_agree_with_ml_dtypes(name: str) -> None:
    x, dtype = np.arange(-300, 300), ML_NAMES[name]
    np.testing.assert_array_equal(wrapped(x, dtype), x.astype(OTHERS[dtype]).astype(np.int64))
    packed = np.array([0x21, 0xF8], np.uint8)
    wanted = {"int4": [1, 2, -8, -1], "uint4": [1, 2, 8, 15], "int2": [1, 0, -2, 0, 0, -2], "uint2": [1, 0, 2, 0, 0, 2]}
    count = len(wanted[name])
    np.testing.assert_array_equal(unpacked(packed, dtype, count), wanted[name])
    assert unpacked(packed, dtype, count).dtype == dtype.np


def test_packed_floats_keep_their_codes() -> None:
    np.testing.assert_array_equal(unpacked(np.array([0x9F, 0x0A], np.uint8), f4e2m1, 3), [0xF, 0x9, 0xA])


# -- the same in C ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def probe(isa: Any, build: Any, open_library: Any) -> Any:
    return open_library(isa, build(isa, "probe.so", [HERE / "probe.c"], "-O3", "-shared"))


@pytest.fixture(scope="session", params=[one for one in EXTENDED if one.extension == "avx512_bf16"], ids=str)
def extended(request: Any, build: Any, open_library: Any) -> Any:
    isa: Isa = request.param
    if not (isa.here and isa.needs <= cpu_features()):
        pytest.skip("no instructions for bf16 here")
    return open_library(isa, build(isa, "probe_bf16.so", [HERE / "probe.c"], "-O3", "-shared"))


def call(function: Any, x: np.ndarray, kind: Any) -> np.ndarray:
    out = np.zeros(x.size, kind)
    function(Buffer(np.ascontiguousarray(x)), Buffer(out), ctypes.c_int64(x.size))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_c_decodes_every_code(probe: Any, name: str) -> None:
    dtype = DTYPES[name]
    every = np.arange(1 << dtype.bits).astype(np.uint16 if dtype.bits > 8 else np.uint8)
    codes = np.resize(every, every.size + 3)  # the last vector is a partial one
    for how in ("load", "value"):
        np.testing.assert_array_equal(call(getattr(probe, f"{how}_{name}"), codes, np.float32), decoded(codes, dtype))
    apart = call(getattr(probe, f"strided_{name}"), codes, np.float32)[: (codes.size + 1) // 2]
    np.testing.assert_array_equal(apart, decoded(codes[::2], dtype))


@pytest.mark.parametrize("name", NAMES)
def test_c_encodes_as_numpy_does(probe: Any, name: str) -> None:
    dtype = DTYPES[name]
    x = numbers(dtype)
    whole = x[: x.size // 16 * 16]
    kind = np.uint16 if dtype.bits > 8 else np.uint8
    wanted = encoded(x, dtype).view(kind)
    for how in ("store", "of"):
        same_bits(call(getattr(probe, f"{how}_{name}"), x, kind), wanted, dtype)
    same_bits(call(getattr(probe, f"round_{name}"), whole, kind), wanted[: whole.size], dtype)
    if dtype.bits == 8:
        wanted = encoded(x, dtype, saturate=True)
        same_bits(call(getattr(probe, f"saturated_{name}"), x, kind), wanted, dtype)
        same_bits(call(getattr(probe, f"saturate_{name}"), whole, kind), wanted[: whole.size], dtype)


def test_instructions_for_bf16_encode_as_numpy_does(extended: Any) -> None:
    """Denormals and NaN, which they have their own way with, included, and any number of them beside others."""
    x, dtype = numbers(DTYPES["bf16"]), DTYPES["bf16"]
    same_bits(call(extended.store_bf16, x, np.uint16), encoded(x, dtype).view(np.uint16), dtype)
    normal = x[np.isfinite(x) & (np.abs(x) > 1e-37)]
    same_bits(call(extended.store_bf16, normal, np.uint16), encoded(normal, dtype).view(np.uint16), dtype)


def test_c_rounds_doubles_once(probe: Any) -> None:
    x = numbers(f16).astype(np.float64)
    x = np.concatenate([x, x * (1 + 2.0**-40), x * (1 - 2.0**-40), np.array([1e-300, 1e300, -1e300])])
    with np.errstate(all="ignore"):
        same_bits(call(probe.f16_of_f64, x, np.uint16), x.astype(np.float16).view(np.uint16), f16)


def test_c_has_the_powers(probe: Any) -> None:
    x, codes = numbers(DTYPES["bf16"]), np.arange(256).astype(np.uint8)
    np.testing.assert_array_equal(call(probe.power_value, codes, np.float32), decoded(codes, f8e8m0))
    for rounding, saturate in (("up", False), ("up", True), ("down", False), ("nearest", False), ("nearest", True)):
        name = rounding + "_saturated" * saturate
        wanted = encoded(x, f8e8m0, saturate, rounding)
        same_bits(call(getattr(probe, f"power_{name}"), x, np.uint8), wanted, f8e8m0)
