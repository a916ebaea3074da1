"""Graphs whose kernels stand for those of real models: blocks of transformers and of convolutional networks, and plain loops.

Real blocks in real order, not single kernels: weights come cold from memory, activations warm from the kernel before, and
epilogues are what fusion makes of them. Sizes differ from any model's on purpose.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ...ir.builder import GraphBuilder
from ...ir.graph import Graph, Port
from ...ir.types import TensorType, f32, i32, i64, u8

_NOISE = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)


def _weight(b: GraphBuilder, *shape: int) -> str:
    """Values of usual size: no denormals, no overflow through many layers."""
    return b.constant(np.resize(_NOISE, shape) * np.float32(1 / math.sqrt(max(math.prod(shape[:-1]), 1))))


def _positive(b: GraphBuilder, *shape: int) -> str:
    return b.constant(np.abs(np.resize(_NOISE, shape)) + np.float32(0.5))


def _linear(b: GraphBuilder, x: str, inside: int, outside: int) -> str:
    return b.op("add", b.op("matmul", x, _weight(b, inside, outside)), _weight(b, outside))


def _norm(b: GraphBuilder, x: str, width: int, kind: str = "layer_norm") -> str:
    extra = (_weight(b, width),) if kind == "layer_norm" else ()
    return b.op(kind, x, _positive(b, width), *extra, axis=-1, epsilon=1e-5)


def _heads(b: GraphBuilder, x: str, batch: int, rows: int, heads: int, width: int) -> str:
    split = b.op("reshape", x, shape=(batch, rows, heads, width // heads))
    return b.op("transpose", split, perm=(0, 2, 1, 3))


def _block(
    b: GraphBuilder, batch: int, rows: int, width: int, heads: int, inner: int, act: str = "gelu", norm: str = "layer_norm",
    causal: bool = False, mask: bool = False,
) -> str:  # fmt: skip
    """One transformer block; returns its output."""
    x = b.input(f"x{len(b.inputs)}", TensorType(f32, (batch, rows, width)))
    flat = _norm(b, b.op("add", x, _weight(b, rows, width)), width, norm)
    q, k, v = (_heads(b, _linear(b, flat, width, width), batch, rows, heads, width) for _ in range(3))
    masks = []
    if mask:
        seen = b.input(f"m{len(b.inputs)}", TensorType(f32, (batch, 1, 1, rows)))
        masks = [b.op("expand", b.op("mul", seen, b.constant(np.float32(1))), shape=(batch, 1, rows, rows))]
    attended = b.op("attention", q, k, v, *masks, scale=(width // heads) ** -0.5, causal=causal)
    joined = b.op("reshape", b.op("transpose", attended, perm=(0, 2, 1, 3)), shape=(batch, rows, width))
    x = b.op("add", _linear(b, joined, width, width), flat)
    flat = _norm(b, x, width, norm)
    hidden = _linear(b, flat, width, inner)
    hidden = b.op(act, hidden, approximate="tanh") if act == "gelu_tanh" else b.op(act, hidden)
    return _norm(b, b.op("add", _linear(b, hidden, inner, width), x), width, norm)


#: (batch, heads, heads of keys, queries, keys, width): attention to keys kept from before, from one query on, and to many
_ATTENDED = (
    (1, 8, 8, 1, 900, 64),
    (1, 12, 4, 1, 1300, 96),
    (1, 6, 6, 5, 700, 64),
    (1, 10, 10, 11, 600, 64),
    (2, 8, 2, 100, 330, 64),
    (1, 3, 3, 200, 1400, 80),
    (1, 2, 2, 900, 1100, 48),
)


def transformer() -> Graph:
    """Blocks over a range of rows and widths, attention of other shapes, classifiers, an embedding."""
    b = GraphBuilder(name="transformer")
    outputs = [
        _block(b, 1, 96, 448, 7, 1792),
        _block(b, 1, 24, 640, 10, 2560),
        _block(b, 3, 50, 320, 5, 1280, mask=True),
        _block(b, 1, 210, 256, 4, 1024, act="silu", norm="rms_norm"),
        _block(b, 1, 1, 512, 8, 2048),
        _block(b, 1, 7, 384, 6, 1536, causal=True),
        _block(b, 1, 700, 192, 3, 768, act="tanh"),
        _block(b, 2, 160, 512, 8, 1024, act="relu", causal=True),
        _block(b, 1, 56, 832, 13, 3328, mask=True),
    ]
    for batch, heads, kv_heads, rows, keys, width in _ATTENDED:
        shapes = ((batch, heads, rows, width), *((batch, kv_heads, keys, width),) * 2)
        q, k, v = (b.input(f"x{len(b.inputs)}", TensorType(f32, shape)) for shape in shapes)
        outputs.append(b.op("attention", q, k, v, scale=width**-0.5, causal=False))
    for rows, inside, outside in (
        (1, 1152, 1000),
        (1, 2048, 700),
        (4, 640, 2000),
        (48, 640, 9001),
        (33, 100, 77),
        (260, 1600, 96),
    ):
        x = b.input(f"x{len(b.inputs)}", TensorType(f32, (rows, inside)))
        outputs.append(_linear(b, x, inside, outside))
    for batch, rows, inside, outside in ((6, 70, 96, 160), (2, 300, 64, 420), (1, 8, 512, 640)):
        x, y = (
            b.input(f"x{len(b.inputs)}", TensorType(f32, s)) for s in ((batch, rows, inside), (batch, outside, inside))
        )
        outputs.append(b.op("matmul", x, b.op("transpose", y, perm=(0, 2, 1))))
        outputs.append(b.op("matmul", outputs[-1], y))
    for rows, width in ((20, 640), (120, 384)):
        tokens = b.input(f"tokens{len(b.inputs)}", TensorType(i64, (1, rows)))
        table = b.op("gather", _weight(b, 6000, width), tokens, axis=0)
        outputs.append(_norm(b, b.op("add", table, _weight(b, rows, width)), width))
    return b.finish(Port(f"y{i}", value) for i, value in enumerate(outputs))


def brief() -> Graph:
    """Next to no work, a few arrays: what a run takes beside its calls is most of it."""
    b = GraphBuilder(name="brief")
    x, y = (b.input(name, TensorType(f32, (32, 384))) for name in ("x", "y"))
    return b.finish([Port("z", _norm(b, _linear(b, b.op("add", x, y), 384, 384), 384))])


def _conv(
    b: GraphBuilder,
    x: str,
    inside: int,
    outside: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    pad: int | None = None,
) -> str:
    side = (kernel // 2 if pad is None else pad,) * 4
    weight = np.resize(_NOISE, (outside, inside // groups, kernel, kernel)) / np.float32(
        math.sqrt(inside // groups) * kernel
    )
    made = b.op(
        "conv",
        x,
        b.constant(weight),
        strides=(stride,) * 2,
        pads=side,
        dilations=(1, 1),
        groups=groups,
        channels_last=False,
    )
    return b.op("add", made, _weight(b, outside, 1, 1))


def _clip(b: GraphBuilder, x: str) -> str:
    return b.op("clip", x, min=0.0, max=6.0)


def _pooled(b: GraphBuilder, x: str) -> str:
    """The end of a branch: one number for each channel."""
    return b.op("reduce_mean", b.op("relu", x), axes=(2, 3), keepdims=True)


def _bottleneck(b: GraphBuilder, x: str, width: int, inner: int, groups: int = 1) -> str:
    y = b.op("relu", _conv(b, x, width, inner))
    y = b.op("relu", _conv(b, y, inner, inner, 3, groups=groups))
    return b.op("relu", b.op("add", _conv(b, y, inner, width), x))


def _inverted(
    b: GraphBuilder, x: str, inside: int, inner: int, outside: int, kernel: int, stride: int, squeeze: bool
) -> str:
    if not squeeze:
        y = _clip(b, _conv(b, x, inside, inner))
        return _conv(b, _clip(b, _conv(b, y, inner, inner, kernel, stride, inner)), inner, outside)
    y = b.op("silu", _conv(b, x, inside, inner))
    y = b.op("silu", _conv(b, y, inner, inner, kernel, stride, inner))
    mean = b.op("reduce_mean", y, axes=(2, 3), keepdims=True)
    gate = b.op("sigmoid", _conv(b, b.op("silu", _conv(b, mean, inner, inner // 4)), inner // 4, inner))
    return _conv(b, b.op("mul", y, gate), inner, outside)


def convolutional() -> Graph:
    """Stems, bottlenecks, inverted bottlenecks with and without squeeze, wide depthwise windows, pools."""
    b = GraphBuilder(name="convolutional")
    outputs = []

    def image(channels: int, side: int, batch: int = 1) -> str:
        return b.input(f"x{len(b.inputs)}", TensorType(f32, (batch, channels, side, side)))

    x = b.op("relu", _conv(b, image(3, 192), 3, 48, 7, 2, pad=3))
    x = b.op("max_pool", x, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1), channels_last=False)
    outputs.append(_pooled(b, _bottleneck(b, _conv(b, x, 48, 192), 192, 48)))
    outputs.append(_clip(b, _conv(b, image(3, 160), 3, 32, 3, 2)))
    outputs.append(b.op("relu", _conv(b, image(3, 96), 3, 24, 3, 1)))
    for side, width, inner, groups in (
        (30, 320, 80, 1),
        (15, 640, 160, 1),
        (8, 1280, 320, 1),
        (52, 96, 96, 1),
        (20, 128, 128, 4),
    ):
        outputs.append(_pooled(b, _bottleneck(b, image(width, side), width, inner, groups)))
    outputs.append(_pooled(b, _bottleneck(b, image(256, 14, 2), 256, 96)))
    for side, inside, inner, outside, kernel, stride, squeeze in (
        (96, 16, 64, 24, 3, 2, False),
        (60, 24, 144, 24, 3, 1, False),
        (31, 40, 240, 48, 5, 1, True),
        (28, 48, 288, 64, 3, 2, True),
        (14, 88, 528, 88, 3, 1, False),
        (14, 96, 576, 112, 5, 2, True),
        (7, 144, 864, 176, 3, 1, False),
        (80, 24, 96, 32, 5, 2, False),
    ):
        outputs.append(_pooled(b, _inverted(b, image(inside, side), inside, inner, outside, kernel, stride, squeeze)))
    for side, width in ((48, 80), (28, 208), (12, 352), (7, 640)):
        y = _conv(b, b.op("relu", _conv(b, image(width, side), width, width)), width, width, 7, 1, width)
        outputs.append(_pooled(b, _conv(b, y, width, 64)))
    for side, inside, outside, kernel, stride in (
        (56, 80, 160, 2, 2),
        (26, 160, 96, 3, 2),
        (64, 36, 36, 3, 1),
        (192, 3, 112, 16, 16),
    ):
        outputs.append(
            _conv(b, image(inside, side), inside, outside, kernel, stride, pad=kernel // 2 if kernel == 3 else 0)
        )
    y = b.op(
        "avg_pool", image(96, 28), kernel=(2, 2), strides=(2, 2), pads=(0,) * 4, dilations=(1, 1), channels_last=False
    )
    outputs += [y, b.op("reduce_mean", image(640, 7), axes=(2, 3), keepdims=True)]
    return b.finish(Port(f"y{i}", value) for i, value in enumerate(outputs))


def _centred(b: GraphBuilder, x: str, zero: int) -> str:
    wide = b.op("cast", x, to=i32)
    return b.op("sub", wide, b.constant(np.int32(zero))) if zero else wide


def _bytes(b: GraphBuilder, *shape: int) -> str:
    """A constant of bytes, as products take it."""
    return b.op("cast", b.constant((np.resize(_NOISE, shape) * 40).clip(-127, 127).astype(np.int8)), to=i32)


def _quantised(b: GraphBuilder, sums: str, channels: tuple[int, ...]) -> str:
    """What follows a product in quantised models."""
    value = b.op("add", b.op("mul", b.op("cast", sums, to=f32), _weight(b, *channels)), _weight(b, *channels))
    value = b.op("clip", b.op("add", b.op("round", value), b.constant(np.float32(3))), min=0.0, max=255.0)
    return b.op("cast", value, to=u8)


def whole() -> Graph:
    """Products and convolutions of whole numbers, one after the other: results quantised, as floats, or as they are."""
    b = GraphBuilder(name="whole")
    outputs = []
    for rows, zero, *widths in (
        (96, 128, 448, 1792, 448),
        (24, 0, 640, 2560, 640),
        (700, 7, 192, 768, 192),
        (1, 3, 1152, 2048, 1000),
        (260, 128, 800, 96, 1600),
        (33, 5, 99, 77, 50),
        (7, 0, 384, 4096, 384),
    ):
        x = b.input(f"x{len(b.inputs)}", TensorType(u8, (rows, widths[0])))
        for inside, outside in itertools.pairwise(widths[:-1]):
            x = _quantised(b, b.op("matmul", _centred(b, x, zero), _bytes(b, inside, outside)), (outside,))
        last = b.op("matmul", _centred(b, x, zero), _bytes(b, *widths[-2:]))
        outputs.append(b.op("mul", b.op("cast", last, to=f32), _weight(b, widths[-1])) if rows > 7 else last)
    for side, zero, groups, *steps in (
        (96, 100, 1, (3, 24, 3, 2), (24, 40, 1, 1), (40, 40, 3, 1)),
        (30, 0, 1, (320, 80, 1, 1), (80, 80, 3, 1), (80, 320, 1, 1)),
        (15, 0, 1, (640, 160, 1, 1), (160, 160, 3, 1), (160, 640, 1, 1)),
        (8, 9, 1, (320, 320, 3, 1), (320, 1280, 1, 1)),
        (52, 0, 1, (96, 96, 3, 1), (96, 160, 3, 2), (160, 96, 1, 1)),
        (20, 3, 4, (128, 128, 3, 1), (128, 64, 5, 1)),
        (44, 12, 1, (30, 50, 3, 1), (50, 70, 1, 1)),
    ):
        x = b.input(f"x{len(b.inputs)}", TensorType(u8, (1, side, side, steps[0][0])))
        for inside, outside, kernel, stride in steps:
            window: dict[str, Any] = {"strides": (stride,) * 2, "pads": (kernel // 2,) * 4, "dilations": (1, 1)}
            filters = _bytes(b, outside, inside // groups, kernel, kernel)
            sums = b.op("conv", _centred(b, x, zero), filters, **window, groups=groups, channels_last=True)
            x = _quantised(b, sums, (outside,))
        outputs.append(x)
    return b.finish(Port(f"y{i}", value) for i, value in enumerate(outputs))


def products(mode: str) -> list[Graph]:
    """Graphs whose products can be computed in a mode."""
    return [whole()] if mode == "i8" else [transformer(), convolutional()]


#: elementwise functions with a price of their own, as ops of one input
FUNCTIONS = ("exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "sqrt", "gelu", "silu")


def loops(elements: int, quick: bool = False) -> Graph:
    """Plain loops over tensors of about so many elements: functions, arithmetic, rows, movement, windows, integers."""
    b = GraphBuilder(name=f"loops_{elements}")
    rows, width = max(elements // 256, 1), 256
    square = max(int(math.sqrt(elements / 32)), 4)
    outputs = []

    def value(*shape: int) -> str:
        return b.input(f"x{len(b.inputs)}", TensorType(f32, shape))

    for function in ("exp", "erf") if quick else FUNCTIONS:
        outputs.append(b.op(function, value(rows, width)))
    x, y = value(rows, width), value(rows, width)
    outputs += [
        b.op("add", x, y),
        b.op("div", value(rows, width), _positive(b, width)),
        b.op("pow", _positive(b, width), y),
    ]
    z = b.op("mul", b.op("sub", x, y), b.op("add", x, b.constant(np.float32(0.5))))
    outputs.append(b.op("max", b.op("mul", z, z), b.op("min", z, b.op("mul", x, z))))
    for wide in (64, 256, 1000):
        x = value(max(elements // wide, 1), wide)
        outputs += [b.op("softmax", x, axis=-1), _norm(b, x, wide), b.op("reduce_mean", x, axes=(1,), keepdims=True)]
        outputs.append(b.op("reduce_max", value(max(elements // wide, 1), wide), axes=(0,), keepdims=False))
    outputs.append(_norm(b, value(rows, width), width, "rms_norm"))
    outputs.append(b.op("transpose", value(rows, width), perm=(1, 0)))
    outputs.append(b.op("transpose", value(32, square, square), perm=(1, 2, 0)))
    outputs.append(b.op("transpose", value(2, rows // 2 or 1, 8, width // 8), perm=(0, 2, 1, 3)))
    for side in (square, 24):  # columns of an image picked by number: no tile can be turned
        picked = b.op("gather", value(32, side, side), b.constant(np.arange(side - 1, -1, -1)), axis=2)
        outputs.append(b.op("transpose", picked, perm=(1, 2, 0)))
    outputs.append(b.op("concat", value(rows, width), value(rows, width // 2), axis=1))
    outputs.append(b.op("pad", value(1, 32, square, square), pads=(0, 0, 1, 1, 0, 0, 1, 1), value=0.0))
    window: dict[str, Any] = {
        "kernel": (3, 3),
        "strides": (2, 2),
        "pads": (1,) * 4,
        "dilations": (1, 1),
        "channels_last": True,
    }
    outputs.append(b.op("max_pool", value(1, square, square, 32), **window))
    outputs.append(b.op("avg_pool", value(1, square, square, 32), **{**window, "strides": (1, 1)}))
    index = b.input("index", TensorType(i64, (rows,)))
    outputs.append(b.op("gather", value(rows + 8, width), index, axis=0))
    outputs.append(b.op("cumsum", value(rows, width), axis=1))
    whole = b.op("add", b.op("mul", index, b.constant(np.int64(3))), b.constant(np.int64(1)))
    outputs += [whole, b.op("cast", b.op("mod", index, b.constant(np.int64(7))), to=f32)]
    return b.finish(Port(f"y{i}", value) for i, value in enumerate(outputs))
