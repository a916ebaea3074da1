"""Rules of operators that draw numbers: each is a hash of its element's position and a seed, so that a plan gives the same
numbers at every run and any thread count.

A seed that the model does not give follows from the node's name, so that nodes draw apart from each other.
"""

from __future__ import annotations

import hashlib
import math
import struct

from ....ir.dims import Shape, product
from ....ir.types import DType, bool_, f32, f64, i64, u64
from .. import contents
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

#: Steps and multipliers of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
_GAMMA = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _origin(site: Site, stream: int) -> int:
    """Where a node's sequence begins; each stream of a node is a sequence of its own."""
    seed = site.get_float("seed", math.nan) if site.op != "Dropout" else float(site.get_int("seed", -1))
    given = site.has_attribute("seed") and not math.isnan(seed)
    key = struct.pack("<d", seed) if given else "\n".join([site.node.name, *site.node.output]).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8, salt=bytes([stream])).digest(), "little")


def _bits(site: Site, shape: Shape, stream: int = 0) -> str:
    """64 random bits for each element."""

    def number(value: int) -> str:
        return site.scalar(value, u64)

    position = site.emit("iota", extent=product(shape), dtype=u64)
    state = site.emit("add", site.emit("mul", position, number(_GAMMA)), number(_origin(site, stream)))
    for distance, factor in _MIX:
        state = site.emit("xor", state, site.emit("shift_right", state, number(distance)))
        state = site.emit("mul", state, number(factor))
    state = site.emit("xor", state, site.emit("shift_right", state, number(31)))
    return site.reshape(state, shape)


def _uniform(site: Site, shape: Shape, dtype: DType, stream: int = 0) -> str:
    """Multiples of 2 ** -24 (of f64: 2 ** -53) within [0, 1)."""
    digits = 53 if dtype == f64 else 24
    top = site.emit("shift_right", _bits(site, shape, stream), site.scalar(64 - digits, u64))
    return site.emit("mul", site.cast(top, dtype), site.scalar(2.0**-digits, dtype))


def _normal(site: Site, shape: Shape, dtype: DType) -> str:
    """sqrt(-2 log(u)) * cos(2 pi v), u and v uniform, u not 0 (Box and Muller, 1958)."""
    digits = 53 if dtype == f64 else 32
    top = site.emit("shift_right", _bits(site, shape), site.scalar(64 - digits, u64))
    whole = site.cast(site.emit("add", top, site.scalar(1, u64)), dtype)
    u = site.emit("mul", whole, site.scalar(2.0**-digits, dtype))
    radius = site.emit("sqrt", site.emit("mul", site.emit("log", u), site.scalar(-2.0, dtype)))
    turn = site.emit("mul", _uniform(site, shape, dtype, 1), site.scalar(2 * math.pi, dtype))
    return site.emit("mul", radius, site.emit("cos", turn))


def _wide(dtype: DType) -> DType:
    """What numbers of a type are drawn in."""
    return f64 if dtype == f64 else f32


@rule("RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike")
def random(site: Site) -> Result:
    code = site.get_int("dtype")
    if site.op.endswith("Like"):
        shape, dtype = site.type().shape, site.dtype_of(code) if code else site.type().dtype
    else:
        shape, dtype = site.get_ints("shape") or (), site.dtype_of(code or f32.onnx)
    wide = _wide(dtype)
    if "Uniform" in site.op:
        low, high = site.get_float("low", 0.0), site.get_float("high", 1.0)
        value, offset, scale = _uniform(site, shape, wide), low, high - low
    else:
        offset, scale = site.get_float("mean", 0.0), site.get_float("scale", 1.0)
        value = _normal(site, shape, wide)
    if scale != 1.0:
        value = site.emit("mul", value, site.scalar(scale, wide))
    if offset != 0.0:
        value = site.emit("add", value, site.scalar(offset, wide))
    return site.cast(value, dtype)


@rule("Bernoulli")
def bernoulli(site: Site) -> Result:
    """1 with the probability that the input says, else 0."""
    dtype, code = site.type().dtype, site.get_int("dtype")
    wide = _wide(dtype)
    drawn = site.emit("lt", _uniform(site, site.type().shape, wide), site.cast(site.x(), wide))
    return site.cast(drawn, site.dtype_of(code) if code else dtype)


@rule("Multinomial")
def multinomial(site: Site) -> Result:
    """Classes by their logarithms of probabilities [rows, classes]: how many of the running sums a uniform number reaches."""
    x, type = site.x(), site.type()
    if type.rank != 2:
        raise Unsupported(f"takes [batch, classes], got {type}")
    wide, (rows, classes), size = _wide(type.dtype), type.shape, site.get_int("sample_size", 1)
    shares = site.emit("softmax", site.cast(x, wide), axis=1)
    reached = site.reshape(site.emit("cumsum", shares, axis=1), (rows, 1, classes))
    drawn = site.reshape(_uniform(site, (rows, size), wide), (rows, size, 1))
    passed = site.cast(site.emit("le", reached, drawn), i64)
    count = site.emit("reduce_sum", passed, axes=(2,), keepdims=False)
    last = site.emit("sub", site.scalar(classes, i64), site.scalar(1, i64))
    return site.cast(site.emit("min", count, last), site.dtype_of(site.get_int("dtype", 6)))


@rule("Dropout")
def dropout(site: Site) -> list[Result]:
    """The input itself and a mask that keeps everything; in training, elements vanish with the probability `ratio`."""
    type = site.type()
    if site.opset < 12 or not site.has(2):
        return [site.known() or site.x(), contents.full(bool_, type.shape, 1)]
    training = site.known(2)
    if training is not None and training.uniform is not None and not training.uniform:
        return [site.known() or site.x(), contents.full(bool_, type.shape, 1)]
    wide = _wide(type.dtype)
    ratio = site.cast(site.reshape(site.x(1), ()), wide) if site.has(1) else site.scalar(0.5, wide)
    ratio = site.emit("where", site.reshape(site.x(2), ()), ratio, site.scalar(0.0, wide))
    keep = site.emit("ge", _uniform(site, type.shape, wide), ratio)
    scale = site.emit("div", site.scalar(1.0, wide), site.emit("sub", site.scalar(1.0, wide), ratio))
    scaled = site.cast(site.emit("mul", site.cast(site.x(), wide), scale), type.dtype)
    return [site.emit("where", keep, scaled, site.scalar(0.0, type.dtype)), keep]
