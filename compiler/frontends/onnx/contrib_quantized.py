"""Rules of weights in blocks of few bits (com.microsoft): each block has a scale and perhaps a zero point. Products take the
weights as floats: constants that are computed when they are packed."""

from __future__ import annotations

import numpy as np

from ....ir.dims import Dim, ceildiv
from ....ir.types import DType, i16, i32, u8
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


def unpacked(site: Site, value: str, bits: int) -> str:
    """The whole numbers (i16) that lie `bits` wide in bytes, lowest bits first, along the last axis. No step makes much more bytes
    of what it takes, so that constants are folded."""
    shape, wide = site.type_of(value).shape, value
    if bits == 8:
        return site.cast(wide, i16)
    if bits not in (2, 4):
        raise Unsupported(f"bits = {bits} is not supported")
    wide = site.reshape(wide, (*shape, 1))
    parts, step = [], site.scalar(1 << bits, u8)
    for _ in range(8 // bits):
        parts.append(site.emit("mod", wide, step))
        wide = site.emit("div", wide, step)
    both = site.cast(site.emit("concat", *parts, axis=len(shape)), i16)
    return site.reshape(both, (*shape[:-1], shape[-1] * (8 // bits)))


def _zeros(site: Site, index: int, bits: int, shape: tuple[Dim, ...], dtype: DType) -> str:
    """Zero points of blocks [.., blocks] as `dtype`: given as such, packed in bytes, or the middle of the range."""
    if not site.has(index):
        return site.scalar(float(1 << (bits - 1)), dtype)
    if site.type(index).dtype != u8:
        return site.cast(site.reshape(site.x(index), shape), dtype)
    *lead, blocks = shape
    packed = site.reshape(site.x(index), (*lead, ceildiv(blocks * bits, 8)))
    return site.cast(site.slice(unpacked(site, packed, bits), len(lead), 0, blocks), dtype)


@rule("MatMulNBits", domain="com.microsoft")
def matmul_n_bits(site: Site) -> Result:
    """a [.., K] @ w^T + bias, w [N, K] from bytes [N, blocks, bytes of a block], scales and zero points [N, blocks]."""
    site.attribute("accuracy_level")  # how exact a product has to be at least; ours is
    if site.has(4) or site.get_int("weight_prepacked"):
        raise Unsupported("g_idx and weight_prepacked are not supported yet")
    depth, columns = site.get_int("K"), site.get_int("N")
    bits, size = site.get_int("bits", 4), site.get_int("block_size")
    if size < 1 or depth < 1 or columns < 1:
        raise Unsupported(f"K = {depth}, N = {columns} and block_size = {size}")
    blocks, dtype = -(-depth // size), site.type(0).dtype
    packed = site.reshape(site.x(1), (columns, blocks, size * bits // 8))
    numbers = site.cast(unpacked(site, packed, bits), dtype)
    zeros = _zeros(site, 3, bits, (columns, blocks), dtype)
    if site.type_of(zeros).rank:
        zeros = site.reshape(zeros, (columns, blocks, 1))
    scales = site.reshape(site.cast(site.x(2), dtype), (columns, blocks, 1))
    weight = site.emit("mul", site.emit("sub", numbers, zeros), scales)
    weight = site.slice(site.reshape(weight, (columns, blocks * size)), 1, 0, depth)
    value = site.emit("matmul", site.x(0), site.transpose(weight, (1, 0)))
    return site.emit("add", value, site.x(5)) if site.has(5) else value


@rule("GatherBlockQuantized", domain="com.microsoft")
def gather_block_quantized(site: Site) -> Result:
    """Rows of a quantised table: only those gathered are made floats. Inputs: data, indices, scales, zero points."""
    data, scales = site.type(0), site.type(2)
    rank, bits, size = data.rank, site.get_int("bits", 4), site.get_int("block_size", 128)
    axis = site.axis(site.get_int("gather_axis"), rank)
    along = site.axis(site.get_int("quantize_axis", 1), rank)
    if axis == along or along != rank - 1:
        raise Unsupported(
            f"gather_axis {axis} and quantize_axis {along} of rank {rank}: only the last may be quantised"
        )
    for index in (2, 3) if site.has(3) else (2,):
        site.shape(index, rank)
    where = site.x(1)
    value = site.emit("gather", site.x(0), where, axis=axis)
    scale = site.emit("gather", site.x(2), where, axis=axis)
    bytes_ = data.dtype == u8
    numbers = site.cast(unpacked(site, value, bits) if bytes_ else value, scales.dtype)
    *lead, width = site.type_of(numbers).shape
    blocks = scales.shape[-1]
    if site.has(3):
        zeros = site.emit("gather", site.x(3), where, axis=axis)
        if bytes_:
            zeros = site.slice(unpacked(site, zeros, bits), len(lead), 0, blocks)
        zeros = site.cast(zeros, scales.dtype)
    else:
        zeros = site.scalar(float(1 << (bits - 1)) if bytes_ else 0.0, scales.dtype)
    spread = tuple(_spread(site, x, size, width) for x in (zeros, scale))
    return site.emit("mul", site.emit("sub", numbers, spread[0]), spread[1])


def _spread(site: Site, value: str, size: int, width: Dim) -> str:
    """One number for each block [.., blocks] as one for each element [.., width]."""
    axis = site.type_of(value).rank - 1
    return value if axis < 0 else site.slice(site.repeat(value, axis, size), axis, 0, width)


@rule("MatMulIntegerToFloat", domain="com.microsoft")
def matmul_integer_to_float(site: Site) -> Result:
    """(a - zero) @ (b - zero) * scales + bias; inputs: a, b, their scales, their zero points, bias."""
    parts = []
    for index in (0, 1):
        value = site.cast(site.x(index), i32)
        if site.has(index + 4):
            value = site.emit("sub", value, site.cast(site.x(index + 4), i32))
        parts.append(value)
    product_ = site.cast(site.emit("matmul", *parts), site.type(2).dtype)
    value = site.emit("mul", product_, site.emit("mul", site.x(2), site.x(3)))
    return site.emit("add", value, site.x(6)) if site.has(6) else value


#: What 4 bits stand for in the formats of bitsandbytes: floats of 4 bits, and normal floats (Dettmers et al. 2023, QLoRA).
_BNB_FLOATS = (0.0, 5.208333333e-03, 2 / 3, 1.0, 1 / 3, 0.5, 1 / 6, 0.25)
_BNB_TABLES = (
    (*_BNB_FLOATS, *(-value for value in _BNB_FLOATS)),
    (
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ),
)


@rule("MatMulBnb4", domain="com.microsoft")
def matmul_bnb4(site: Site) -> Result:
    """a [.., K] @ w^T, w [N, K] from places in a table, the first of two in the high bits of a byte, times one factor for each
    `block_size` elements."""
    depth, columns, size = site.get_int("K"), site.get_int("N"), site.get_int("block_size")
    kind, dtype = site.get_int("quant_type"), site.type(0).dtype
    if size < 1 or depth < 1 or columns < 1 or kind not in (0, 1):
        raise Unsupported(f"K = {depth}, N = {columns}, block_size = {size} and quant_type = {kind}")
    if not site.get_int("transB", 1):
        raise Unsupported("transB = 0 is not supported")
    site.attribute("training_mode")
    count = depth * columns
    packed = site.reshape(site.x(1), (-(-count // 2), 1))
    step = site.scalar(16, u8)
    places = site.emit("concat", site.emit("div", packed, step), site.emit("mod", packed, step), axis=1)
    places = site.slice(site.reshape(site.cast(places, i32), (-(-count // 2) * 2,)), 0, 0, count)
    table = site.constant(np.array(_BNB_TABLES[kind]), dtype)
    factors = _spread(site, site.cast(site.reshape(site.x(2), (-(-count // size),)), dtype), size, count)
    weight = site.emit("mul", site.emit("gather", table, places, axis=0), factors)
    return site.emit("matmul", site.x(0), site.transpose(site.reshape(weight, (columns, depth)), (1, 0)))
