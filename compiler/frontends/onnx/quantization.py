"""Rules of quantised tensors, in terms of casts and arithmetic; passes rebuild what a device computes directly."""

from __future__ import annotations

from ....ir.types import DType, bf16, f8e8m0, f16, f32, f64, i32, u8
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


def _along(site: Site, index: int) -> str:
    """A scale or zero point, shaped so that it broadcasts to the input: one number, one per position of `axis`, or one per block of
    positions."""
    rank, value = site.type(0).rank, site.x(index)
    shape = site.type(index).shape
    if not shape or shape == (1,):
        site.get_int("axis", 1), site.get_int("block_size")
        return site.reshape(value, ())
    axis, block = site.axis(site.get_int("axis", 1), rank), site.get_int("block_size")
    if not block:
        if len(shape) != 1:
            raise Unsupported(f"a scale or zero point of shape {shape}")
        return site.reshape(value, (*shape, *(1,) * (rank - axis - 1)))
    if block < 0 or len(shape) != rank:
        raise Unsupported(f"a scale or zero point of shape {shape} in blocks of {block}")
    repeated = site.repeat(value, axis, block)
    return site.slice(repeated, axis, 0, site.type(0).shape[axis])  # the last block may be cut off


@rule("DequantizeLinear")
@rule("DequantizeLinear", domain="com.microsoft")
def dequantize(site: Site) -> Result:
    """(x - zero point) * scale, computed in f32 and rounded once. Floats have no zero point but 0."""
    scale = _along(site, 1)
    wanted, have = site.get_int("output_dtype"), site.type(0).dtype
    to = site.dtype_of(wanted) if wanted else site.type_of(scale).dtype
    value = site.x(0)
    if site.has(2) and have.is_integer:
        wide = i32 if have.bits > 16 else f32
        value = site.emit("sub", site.cast(value, wide), site.cast(_along(site, 2), wide))
    return site.cast(site.emit("mul", site.cast(value, f32), site.cast(scale, f32)), to)


@rule("QuantizeLinear")
@rule("QuantizeLinear", domain="com.microsoft")
def quantize(site: Site) -> Result:
    """Integers: saturate(round(x / scale) + zero point). Floats: x / scale, rounded; only those of 4 bits have a zero point."""
    wanted = site.get_int("output_dtype")
    to: DType = site.type(2).dtype if site.has(2) else site.dtype_of(wanted) if wanted else u8
    if to.bits > 16 or to.kind == "bool" or to in (f16, bf16, f8e8m0):
        raise Unsupported(f"quantising to {to} is not supported")
    value = site.emit("div", *_divided(site))
    saturate = site.get_int("saturate", 1) != 0
    zero = _along(site, 2) if site.has(2) else ""
    if not to.is_integer:
        if zero and to.bits < 8:
            value = site.emit("add", site.cast(value, f32), site.cast(zero, f32))
        return site.emit("cast", value, to=to, saturate=saturate)
    value = site.cast(site.emit("round", value), f32)
    if zero:
        value = site.emit("add", value, site.cast(zero, f32))
    least, most = to.limits
    return site.cast(site.emit("clip", value, min=float(least), max=float(most)), to)


def _divided(site: Site) -> tuple[str, str]:
    """The input and its scale in the type that the division is done in: `precision`, else the wider of both."""
    x, scale = site.x(0), _along(site, 1)
    kinds = {site.type_of(value).dtype for value in (x, scale)}
    precision = site.get_int("precision")
    if precision:
        wide = site.dtype_of(precision)
        if not wide.is_float or wide.bits < 16:
            raise Unsupported(f"a division of precision {wide}")
    else:
        wide = kinds.pop() if len(kinds) == 1 else f64 if any(k.is_integer for k in kinds) else f32
    return site.cast(x, wide), site.cast(scale, wide)


@rule("MatMulInteger")
def matmul_integer(site: Site) -> Result:
    values = []
    for index in (0, 1):
        value = site.cast(site.x(index), i32)
        if site.has(index + 2):
            zero, shape = site.cast(site.x(index + 2), i32), site.type(index + 2).shape
            if index == 0 and len(shape) == 1 and shape != (1,):
                zero = site.reshape(zero, (*shape, 1))  # one per row
            value = site.emit("sub", value, zero)
        values.append(value)
    return site.emit("matmul", *values)
