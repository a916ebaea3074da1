"""Elements that are narrower than what they are computed in, in numpy: floats of 16, 8 and 4 bits as their bits, and integers of
fewer than 8 bits, one in a byte. The C twin is `csrc/kernels/narrow.h`; both agree with the ml_dtypes package."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .types import DType, bf16, f4e2m1, f8e4m3, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, f8e8m0, f16, f64

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Format:
    """A float of a sign, exponent and mantissa. `top` is the greatest finite magnitude's code; `over` that of one beyond it, `nan`
    that of NaN. Without a negative zero (`unsigned_zero`) NaN has no sign either."""

    mantissa: int
    bias: int
    top: int
    over: int
    nan: int
    unsigned_zero: bool = False


#: The formats of a sign, exponent and mantissa; f8e8m0, which is an exponent alone, is none of them.
FORMATS = {
    f16: Format(10, 15, 0x7BFF, 0x7C00, 0x7E00),
    bf16: Format(7, 127, 0x7F7F, 0x7F80, 0x7FC0),
    f8e4m3: Format(3, 7, 0x7E, 0x7F, 0x7F),
    f8e4m3fnuz: Format(3, 8, 0x7F, 0x80, 0x80, unsigned_zero=True),
    f8e5m2: Format(2, 15, 0x7B, 0x7C, 0x7E),
    f8e5m2fnuz: Format(2, 16, 0x7F, 0x80, 0x80, unsigned_zero=True),
    f4e2m1: Format(1, 1, 7, 7, 8),
}


def decoded(bits: Array, dtype: DType) -> Array:
    """Elements of a float of fewer than 32 bits as float32, which is exact. f16 may come as float16."""
    bits = np.asarray(bits)
    if dtype == f16:
        return bits.view(np.float16).astype(np.float32)
    if dtype == bf16:
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(_table(dtype)[bits & (0xFF >> 8 - dtype.bits)])


@functools.cache
def _table(dtype: DType) -> npt.NDArray[np.float32]:
    """The value of every code of a type of 8 bits or fewer."""
    codes = np.arange(1 << dtype.bits)
    return _values(codes, FORMATS[dtype], dtype.bits) if dtype != f8e8m0 else _powers(codes)


def _powers(codes: Array) -> npt.NDArray[np.float32]:
    return np.where(codes == 255, np.nan, np.ldexp(1.0, codes - 127)).astype(np.float32)


def _values(codes: Array, form: Format, bits: int) -> npt.NDArray[np.float32]:
    sign, size = codes >> bits - 1, codes & (1 << bits - 1) - 1
    step, rest = size >> form.mantissa, size & (1 << form.mantissa) - 1
    whole = np.where(step > 0, rest + (1 << form.mantissa), rest)
    found = np.ldexp(whole.astype(np.float64), np.maximum(step, 1) - form.bias - form.mantissa)
    found = np.where(size > form.top, np.nan, found)
    if form.over not in (form.top, form.nan):
        found = np.where(size == form.over, np.inf, found)
    found = np.where(sign > 0, -found, found)
    if form.unsigned_zero:
        found = np.where(codes == form.nan, np.nan, found)
    return found.astype(np.float32)


def encoded(x: Array, dtype: DType, saturate: bool = False, rounding: str = "up") -> Array:
    """Numbers as elements of a float of fewer than 32 bits: rounded once, ties to even (float64 and integers to float32 first,
    except float64 to f16). What is too large becomes infinity or, where there is none, NaN; with `saturate` the greatest finite
    number, infinity too. Of f8e8m0, which is a power of two, the size is rounded as `rounding` says: up, down or nearest.
    """
    x = np.asarray(x)
    with np.errstate(all="ignore"):
        if dtype == f16 and not saturate:
            return x.astype(np.float16) if x.dtype == np.float64 else x.astype(np.float32).astype(np.float16)
        number = x.astype(np.float32)
    bits = np.ascontiguousarray(number).reshape(number.shape).view(np.uint32)
    if dtype == f8e8m0:
        return _exponents(bits, saturate, rounding)
    form = FORMATS[dtype]
    size, sign, nan = bits & np.uint32(0x7FFFFFFF), bits >> np.uint32(31), np.isnan(number)
    drop = 23 - form.mantissa
    # what is at least the smallest normal number: round the bits; below it: add what leaves the last bit at the smallest step
    half = np.uint32((1 << drop - 1) - 1)
    normal = (size + half + (size >> np.uint32(drop) & np.uint32(1)) >> np.uint32(drop)).astype(np.int64)
    normal -= (127 - form.bias) << form.mantissa
    magic = np.float32(2.0 ** (24 - form.bias - form.mantissa))
    with np.errstate(all="ignore"):
        small = (size.view(np.float32) + magic).view(np.uint32).astype(np.int64) - int(magic.view(np.uint32))
    code = np.where(size >= np.uint32(128 - form.bias << 23), normal, small)
    code = np.where(code > form.top, form.top if saturate else form.over, code)
    code = np.where(nan, form.nan, code)
    signed = sign.astype(np.int64) << dtype.bits - 1
    if form.unsigned_zero:
        signed = np.where((code == 0) | (code == form.nan), 0, signed)
    return np.asarray(code ^ signed).astype(dtype.np)


def _exponents(bits: Array, saturate: bool, rounding: str) -> Array:
    """onnx.numpy_helper.to_float8e8m0: infinity and NaN are NaN; a sign is lost; zero is the least power."""
    exponent, rest = (bits >> 23 & 0xFF).astype(np.int64), bits & np.uint32(0x7FFFFF)
    if rounding == "nearest":
        up = (rest > 0x400000) | ((rest == 0x400000) & (exponent > 0))
    else:
        up = (rest > 0) & (rounding == "up")
    finite = exponent < 255
    return np.asarray(exponent + (up & finite & ~((exponent == 254) & saturate))).astype(np.uint8)


def widened(x: Array, dtype: DType) -> Array:
    """Elements as numpy computes with them: f32 for narrow floats, bytes for narrow integers, else as they are."""
    if not dtype.is_narrow:
        return x
    return decoded(x, dtype) if dtype.is_float else wrapped(x, dtype)


def narrowed(x: Array, dtype: DType) -> Array:
    """The results of a computation on widened elements, rounded to the type that they have."""
    if not dtype.is_narrow:
        return x
    return encoded(x, dtype) if dtype.is_float else wrapped(x, dtype)


def wrapped(x: Array, dtype: DType) -> Array:
    """Integers modulo 2^bits of an integer type of fewer than 8 bits, one in a byte."""
    low = (x & ((1 << dtype.bits) - 1)).astype(np.int8)
    if dtype.kind == "int":
        low = np.where(low >= 1 << dtype.bits - 1, low - (1 << dtype.bits), low)
    return np.asarray(low).astype(dtype.np)


def unpacked(data: Array, dtype: DType, count: int) -> Array:
    """The first `count` elements of fewer than 8 bits of packed bytes."""
    shifts = np.arange(0, 8, dtype.bits, dtype=np.uint8)
    codes = (data.view(np.uint8)[:, None] >> shifts & np.uint8((1 << dtype.bits) - 1)).reshape(-1)[:count]
    return wrapped(codes, dtype) if dtype.is_integer else codes


def number(value: float | int, dtype: DType) -> float | int:
    """The value that a number has in a narrow type."""
    if dtype.is_float:
        return float(decoded(encoded(np.array(value, f64.np), dtype), dtype))
    return int(wrapped(np.array(int(value)), dtype))
