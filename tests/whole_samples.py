"""Products and convolutions of 8-bit integers: sizes around words, panels and blocks, extremes of both operands, zero points, and what
follows a product in quantised models."""

from __future__ import annotations

from typing import Any

import numpy as np
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, Dim, symbol
from stratac.ir.graph import Port
from stratac.ir.types import DType, TensorType, f32, i8, i32, u8

from .random_graphs import Sample

ROWS = Bounds(1, 29, 61)
#: depth, columns, type and zero point of the left operand, type and zero point of the right one
PRODUCTS = (
    *((depth, columns, u8, 3, i8, 0) for depth, columns in ((1, 33), (2, 1), (4, 16), (31, 33), (257, 1))),
    *((64, columns, u8, zero, i8, 0) for columns, zero in ((100, 0), (17, 255), (32, 128))),
    *((depth, 37, i8, zero, i8, 0) for depth, zero in ((5, -128), (64, 127))),
    (8, 37, u8, 7, u8, 128),
    (35, 37, i8, -7, u8, 0),
    (64, 37, u8, 7, u8, 131),
    (3100, 300, u8, 128, i8, 0),
    (4097, 20, i8, 5, i8, 3),
)
#: channels in and out, side, kernel, stride, padding, dilation, groups, type of the image, zero point
CONVOLUTIONS = (
    (3, 17, 9, 3, 2, 1, 1, 1, u8, 200),
    (16, 40, 7, 1, 1, 0, 1, 1, u8, 5),
    (6, 5, 8, 1, 1, 0, 1, 1, i8, -3),
    (8, 33, 15, 3, 1, 1, 1, 1, u8, 255),
    (8, 12, 14, 3, 1, 2, 2, 1, i8, 100),
    (12, 8, 11, 5, 2, 2, 1, 2, u8, 1),
    (24, 30, 28, 3, 1, 1, 1, 3, u8, 0),
    (352, 9, 5, 3, 1, 1, 1, 1, u8, 77),
)


def numbers(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Any integers; along `axis` first only the least ones, then only the greatest."""
    low, high = dtype.limits
    found = np.moveaxis(rng.integers(low, high + 1, shape), axis, 0)
    found[:1], found[1:2] = low, high
    return np.moveaxis(found, 0, axis).astype(dtype.np)


def centred(b: GraphBuilder, value: str, zero: int | str) -> str:
    wide = b.op("cast", value, to=i32)
    return b.op("sub", wide, b.constant(np.array(zero, np.int32)) if isinstance(zero, int) else zero)


def quantised(b: GraphBuilder, value: str, factor: np.ndarray, to: DType, zero: int) -> str:
    """clip(round(value * factor) + zero) as `to`: what follows a product in quantised models."""
    scaled = b.op("mul", b.op("cast", value, to=f32), b.constant(factor.astype(np.float32)))
    low, high = (float(limit) for limit in to.limits)
    rounded = b.op("add", b.op("round", scaled), b.constant(np.float32(zero)))
    return b.op("cast", b.op("clip", rounded, min=low, max=high), to=to)


def products() -> Sample:
    b, rng = GraphBuilder(name="whole_products", symbols={"r": ROWS}), np.random.default_rng(1)
    outputs, kinds = [], {}
    for number, (depth, columns, left, zero, right, other) in enumerate(PRODUCTS):
        name = f"x{number}"
        kinds[name] = (left, (symbol("r"), depth))
        x = b.input(name, TensorType(*kinds[name]))
        w = centred(b, b.constant(numbers(rng, right, (depth, columns), 1)), other)
        value = b.op("matmul", centred(b, x, zero), w)
        outputs.append(Port(f"y{number}", value))
        if number % 2:
            factor = rng.uniform(0.5, 2.0, columns) / (64 * np.sqrt(depth))
            outputs.append(Port(f"q{number}", quantised(b, value, factor, left, zero // 2)))
    return _sample(b, outputs, kinds)


def batches() -> Sample:
    """A batch of weights, a left operand that lies the other way round, and a zero point found out during the run."""
    b, rng = GraphBuilder(name="whole_batches", symbols={"r": ROWS}), np.random.default_rng(2)
    kinds: dict[str, tuple[DType, tuple[Dim, ...]]] = {
        "x": (u8, (3, symbol("r"), 24)),
        "t": (u8, (24, symbol("r"))),
        "s": (i8, (symbol("r"), 24)),
        "z": (u8, ()),
        "zs": (i8, (1,)),
    }
    x, t, s, z, zs = (b.input(name, TensorType(*kind)) for name, kind in kinds.items())
    zero, signed = b.op("cast", z, to=i32), b.op("reshape", b.op("cast", zs, to=i32), shape=())
    apart = b.op("cast", b.constant(numbers(rng, i8, (3, 24, 19), 2)), to=i32)
    shared = b.op("cast", b.constant(numbers(rng, i8, (24, 40), 1)), to=i32)
    outputs = {
        "apart": b.op("matmul", centred(b, x, zero), apart),
        "shared": b.op("matmul", centred(b, x, 4), shared),
        "turned": b.op("matmul", b.op("transpose", centred(b, t, zero), perm=(1, 0)), shared),
        "signed": b.op("matmul", centred(b, s, signed), shared),
    }
    outputs["quantised"] = quantised(b, outputs["shared"], np.full(40, 1e-2), u8, 128)
    return _sample(b, [Port(name, value) for name, value in outputs.items()], kinds)


def convolutions() -> Sample:
    b, rng = GraphBuilder(name="whole_convolutions", symbols={"b": Bounds(1, 2, 3)}), np.random.default_rng(3)
    outputs, kinds = [], {}
    for number, (inside, outside, side, kernel, stride, pad, dilation, groups, dtype, zero) in enumerate(CONVOLUTIONS):
        name = f"x{number}"
        last = bool(number % 2)
        shape = (side, side + 1, inside) if last else (inside, side, side + 1)
        kinds[name] = (dtype, (symbol("b"), *shape))
        x = centred(b, b.input(name, TensorType(*kinds[name])), zero)
        w = b.op("cast", b.constant(numbers(rng, i8, (outside, inside // groups, kernel, kernel), 0)), to=i32)
        window = {"strides": (stride,) * 2, "pads": (pad,) * 4, "dilations": (dilation,) * 2}
        value = b.op("conv", x, w, **window, groups=groups, channels_last=last)
        outputs.append(Port(f"y{number}", value))
        factor = rng.uniform(0.5, 2.0, (outside,) if last else (outside, 1, 1)) / (64 * kernel * np.sqrt(inside))
        outputs.append(Port(f"q{number}", quantised(b, value, factor, u8, 17)))
    return _sample(b, outputs, kinds)


def _sample(b: GraphBuilder, outputs: list[Port], kinds: dict[str, Any]) -> Sample:
    def make_inputs(seed: int = 0, **sizes: int) -> dict[str, Any]:
        rng, found = np.random.default_rng(seed), {}
        for name, (dtype, shape) in kinds.items():
            extents = tuple(d if isinstance(d, int) else sizes[str(d)] for d in shape)
            low, high = dtype.limits
            whole = rng.integers(low, high + 1, extents).astype(dtype.np)
            found[name] = numbers(rng, dtype, extents, 0) if whole.ndim > 1 and seed % 2 else whole
        return found

    graph = b.finish(outputs)
    return Sample(graph, make_inputs, dict.fromkeys((port.name for port in graph.outputs), 0.0))


def samples() -> list[Sample]:
    return [products(), batches(), convolutions()]
