"""Rules of quantised tensors, in terms of casts and arithmetic; passes rebuild what a device computes directly."""

from __future__ import annotations

import numpy as np

from ....ir.types import DType, f32, i32, u8
from .registry import Result, rule
from .site import Site
from .tensors import Unsupported


def _along(site: Site, index: int) -> str:
    """A scale or zero point, shaped so that it broadcasts to the input: one number, or one per position of `axis`."""
    rank, value = site.type(0).rank, site.x(index)
    shape = site.type(index).shape
    axis = site.get_int("axis", 1)
    if site.get_int("block_size"):
        raise Unsupported("block_size other than 0 is not supported yet")
    if not shape or shape == (1,):
        return site.reshape(value, ())
    if len(shape) != 1:
        raise Unsupported(f"a scale or zero point of shape {shape}")
    axis = site.axis(axis, rank)
    return site.reshape(value, (*shape, *(1,) * (rank - axis - 1)))


@rule("DequantizeLinear")
@rule("DequantizeLinear", domain="com.microsoft")
def dequantize(site: Site) -> Result:
    """(x - zero point) * scale."""
    scale = _along(site, 1)
    dtype = site.type_of(scale).dtype
    value = site.x(0)
    if site.has(2):
        value = site.emit("sub", site.cast(value, i32), site.cast(_along(site, 2), i32))
    if site.get_int("output_dtype") not in (0, dtype.onnx):
        raise Unsupported("output_dtype other than the scale's is not supported")
    return site.emit("mul", site.cast(value, dtype), scale)


@rule("QuantizeLinear")
@rule("QuantizeLinear", domain="com.microsoft")
def quantize(site: Site) -> Result:
    """saturate(round(x / scale) + zero point)."""
    wanted = site.get_int("output_dtype")
    to: DType = site.type(2).dtype if site.has(2) else site.dtype_of(wanted) if wanted else u8
    if (
        not to.is_integer
        or to.bits > 16
        or (site.has_attribute("precision") and site.get_int("precision") not in (0, 1))
    ):
        raise Unsupported(f"quantising to {to} is not supported")
    x, scale = site.cast(site.x(0), f32), site.cast(_along(site, 1), f32)
    value = site.emit("round", site.emit("div", x, scale))
    if site.has(2):
        value = site.emit("add", value, site.cast(_along(site, 2), f32))
    limits = np.iinfo(to.np)
    return site.cast(site.emit("clip", value, min=float(limits.min), max=float(limits.max)), to)


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
