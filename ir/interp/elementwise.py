"""Meanings of the elementwise ops. Functions beyond IEEE arithmetic are computed in float64 and rounded once."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..narrow import encoded, widened, wrapped
from ..types import DType, i32, u64
from .registry import Array, meaning, rounded, truncating_div, wide
from .special import erf


def _is_integer(x: Array) -> bool:
    return bool(np.issubdtype(x.dtype, np.integer))


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))"""
    return np.asarray(1 / (1 + np.exp(-x)))


def _softplus(x: Array) -> Array:
    """log(1 + exp(x))"""
    return np.asarray(np.logaddexp(0, x))


def _silu(x: Array) -> Array:
    """x * sigmoid(x)"""
    return np.asarray(x * _sigmoid(x))


def _hard_swish(x: Array) -> Array:
    """x * min(max(x / 6 + 0.5, 0), 1)"""
    return np.asarray(x * np.clip(x / 6 + 0.5, 0, 1))


def _relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN"""
    return np.asarray(np.maximum(x, x.dtype.type(0)))


def _rsqrt(x: Array) -> Array:
    """1 / sqrt(x)"""
    return np.asarray(1 / np.sqrt(x))


def _reciprocal(x: Array) -> Array:
    """1 / x"""
    return np.asarray(1 / x)


def _round(x: Array) -> Array:
    """to the nearest integer, halves to even"""
    return x if _is_integer(x) else np.asarray(np.rint(x))


#: Exact in the element type itself.
_DIRECT: dict[str, Callable[..., Array]] = {
    "neg": np.negative,
    "abs": np.abs,
    "relu": _relu,
    "floor": lambda x: x if _is_integer(x) else np.floor(x),
    "ceil": lambda x: x if _is_integer(x) else np.ceil(x),
    "round": _round,
    "sign": np.sign,
    "not": np.invert,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "where": np.where,
}

#: Functions of float64.
_ROUNDED: dict[str, Callable[[Array], Array]] = {
    "sqrt": np.sqrt,
    "rsqrt": _rsqrt,
    "reciprocal": _reciprocal,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "erf": erf,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "softplus": _softplus,
    "silu": _silu,
    "hard_swish": _hard_swish,
}


def _rounding(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The same function (and docstring) of any float type."""

    @functools.wraps(function, updated=())
    def in_float64(x: Array) -> Array:
        return rounded(function(x.astype(np.float64)), x)

    return in_float64


for _name, _function in _DIRECT.items():
    meaning(_name, moves=_name == "where")(_function)
for _name, _function in _ROUNDED.items():
    meaning(_name)(_rounding(_function))


@meaning("gelu")
def gelu(x: Array, *, approximate: str) -> Array:
    """x * normal CDF(x) by erf, or by tanh as Hendrycks and Gimpel, 2016"""
    w = wide(x)
    if approximate == "tanh":
        return rounded(0.5 * w * (1 + np.tanh(np.sqrt(2 / np.pi) * (w + 0.044715 * w**3))), x)
    return rounded(0.5 * w * (1 + erf(w / np.sqrt(2))), x)


@meaning("leaky_relu")
def leaky_relu(x: Array, *, alpha: float) -> Array:
    """alpha * x below 0, else x"""
    return rounded(np.where(x < 0, alpha * wide(x), x), x)


@meaning("elu")
def elu(x: Array, *, alpha: float) -> Array:
    """alpha * (exp(x) - 1) below 0, else x"""
    return rounded(np.where(x < 0, alpha * np.expm1(wide(x)), x), x)


@meaning("hard_sigmoid")
def hard_sigmoid(x: Array, *, alpha: float, beta: float) -> Array:
    """min(max(alpha * x + beta, 0), 1)"""
    return rounded(np.clip(alpha * wide(x) + beta, 0, 1), x)


@meaning("clip")
def clip(x: Array, *, min: float, max: float) -> Array:
    """min(max(x, min), max)"""
    low, high = min, max
    if _is_integer(x):
        info = np.iinfo(x.dtype)
        low = info.min if min <= info.min else int(np.ceil(min))
        high = info.max if max >= info.max else int(np.floor(max))
    return np.asarray(np.minimum(np.maximum(x, x.dtype.type(low)), x.dtype.type(high)))


@meaning("div")
def div(a: Array, b: Array) -> Array:
    """integers divide as in C, towards zero; a zero integer divisor gives 0"""
    return truncating_div(a, b) if _is_integer(a) else np.divide(a, b)


def _shifted(shift: Callable[..., Array], a: Array, b: Array, beyond: Array) -> Array:
    """`beyond` where the distance is negative or takes every bit out."""
    bits = 8 * a.dtype.itemsize
    inside = (b >= 0) & (b < bits)
    return np.where(inside, shift(a, np.where(inside, b, 0)), beyond).astype(a.dtype)


@meaning("shift_left")
def shift_left(a: Array, b: Array) -> Array:
    """bits beyond the highest are lost; a negative distance, or one of all bits, leaves 0"""
    return _shifted(np.left_shift, a, b, np.zeros_like(a))


@meaning("shift_right")
def shift_right(a: Array, b: Array) -> Array:
    """the sign's bit fills what falls free; a negative distance, or one of all bits, leaves it alone: 0, or -1 of a negative"""
    return _shifted(np.right_shift, a, b, np.where(a < 0, a.dtype.type(0) - a.dtype.type(1), a.dtype.type(0)))


@meaning("mod")
def mod(a: Array, b: Array, *, fmod: bool) -> Array:
    """the result has the sign of the divisor, with `fmod` that of the dividend"""
    return np.fmod(a, b) if fmod else np.mod(a, b)


@meaning("pow")
def pow(a: Array, b: Array) -> Array:
    """integers wrap around; a negative integer exponent gives the truncated 1 / a ** -b"""
    if not _is_integer(a):
        return rounded(np.power(wide(a), wide(b)), a)
    a, b = np.broadcast_arrays(a, b)
    if np.issubdtype(a.dtype, np.unsignedinteger):
        return np.power(a, b)
    positive = np.power(a, np.maximum(b, 0))
    odd = np.where(b % 2 == 0, 1, a)  # 1 / a ** n for a in {1, -1}; beyond them it truncates to 0
    return np.where(b >= 0, positive, np.where(np.abs(a) == 1, odd, 0)).astype(a.dtype)


@meaning("cast", typed=True)
def cast(x: Array, *, to: DType, saturate: bool, rounding: str, types: tuple[DType, ...]) -> Array:
    """floats truncate to integers, beyond i64 (i32 for narrower integers) to its least; anything but zero is true; integers wrap"""
    source = types[0]
    if source == to:
        return x
    x = widened(x, source)
    if to.is_float and to.is_narrow:
        return encoded(x, to, saturate, rounding)
    if source.is_float and to.is_integer:
        x = _truncated(x, to)
    return wrapped(x, to) if to.is_narrow else x.astype(to.np)


def _truncated(x: Array, to: DType) -> Array:
    """Floats as integers that are still to be narrowed to a type."""
    whole = np.trunc(x.astype(np.float64))
    bits = 32 if to.bits < 32 or to == i32 else 64
    least = -(2.0 ** (bits - 1))
    fits = (whole >= least) & (whole < -least)
    found = np.where(fits, whole, least).astype(np.int64)
    if to == u64:  # the upper half of its range
        high = (whole >= -least) & (whole < -2 * least)
        found = np.where(high, np.where(high, whole + 2 * least, 0).astype(np.int64), found)
    return found


@meaning("bitcast", typed=True)
def bitcast(x: Array, *, to: DType, types: tuple[DType, ...]) -> Array:
    """integers of fewer than 8 bits hold their value, not only those bits"""
    if to.kind == "bool":
        return np.asarray(x != 0)
    if to.bits < 8:
        return wrapped(x, to) if to.is_integer else np.asarray(x & 15).astype(to.np)
    return np.asarray(np.ascontiguousarray(x).reshape(x.shape).view(to.np))
