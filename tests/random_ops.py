"""One function for each kind of op: draws operands that fit, and adds the node with its range and error.

See random_values. The error rules are Lipschitz bounds: an op's output differs by at most its slope times the inputs'
difference, plus rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from stratac.ir.dims import product
from stratac.ir.types import DTYPES, DType

from .random_values import UNIT, Maker, Value, is_bool, is_float, is_int

Builder = Callable[[Maker], "Value | None"]
BUILDERS: dict[str, Builder] = {}


def builder(function: Builder) -> Builder:
    BUILDERS[function.__name__.rstrip("_")] = function
    return function


def _log1pexp(x: float) -> float:
    return float(np.logaddexp(0, x))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(min(-x, 700.0)))


#: op -> (slope on the range, function if monotone, else its extreme values); all defined everywhere
_SMOOTH: dict[str, tuple[float, Callable[[float], float]]] = {
    "tanh": (1, math.tanh),
    "sigmoid": (0.25, _sigmoid),
    "erf": (1.13, math.erf),
    "softplus": (1, _log1pexp),
}


@builder
def exact_unary(m: Maker) -> Value | None:
    """Ops that only select or flip: no rounding."""
    op = m.choice(("relu", "neg", "abs", "clip"))
    x = m.pick(lambda v: is_float(v) or is_int(v))
    if x is None:
        return None
    if op == "relu":
        return m.add(op, x, lo=max(0.0, x.lo), hi=max(0.0, x.hi), err=x.err)
    if op == "neg":
        return m.add(op, x, lo=-x.hi, hi=-x.lo, err=x.err)
    if op == "abs":
        return m.add(op, x, lo=max(0.0, x.lo, -x.hi), hi=x.size, err=x.err)
    low, high = m.choice(((0.0, 6.0), (-1.0, 1.0), (float("-inf"), 2.0)))
    return m.add(op, x, lo=min(max(x.lo, low), high), hi=min(max(x.hi, low), high), err=x.err, min=low, max=high)


@builder
def unary(m: Maker) -> Value | None:
    x = m.pick(is_float)
    if x is None:
        return None
    op = m.choice((*_SMOOTH, "silu", "gelu", "hard_swish", "leaky_relu", "elu", "hard_sigmoid", "sin", "cos"))
    if op in _SMOOTH:
        slope, function = _SMOOTH[op]
        return m.rounded(op, x, lo=function(x.lo), hi=function(x.hi), err=slope * x.err)
    if op in ("sin", "cos"):
        return m.rounded(op, x, lo=-1, hi=1, err=x.err + UNIT * x.size)  # range reduction
    if op == "leaky_relu":
        return m.rounded(op, x, lo=min(x.lo, 0.25 * x.lo), hi=max(x.hi, 0.25 * x.hi), err=x.err, alpha=0.25)
    if op == "elu":
        return m.rounded(op, x, lo=-1.0, hi=max(x.hi, 0.0), err=x.err, alpha=1.0)
    if op == "hard_sigmoid":
        return m.rounded(op, x, lo=0, hi=1, err=0.2 * x.err, alpha=0.2, beta=0.5)
    approximate = {"approximate": m.choice(("none", "tanh"))} if op == "gelu" else {}
    return m.rounded(op, x, lo=-0.4, hi=max(x.hi, 0.0), err=1.5 * x.err, **approximate)


#: op -> the part of the line it is drawn over, the greatest slope there (0: its own value), the function; all monotone there
Part = tuple[float, float, float, Callable[[float], float]]
_GUARDED: dict[str, Part] = {
    "sqrt": (0.25, 50.0, 1.0, math.sqrt),
    "rsqrt": (0.25, 50.0, 4.0, lambda x: x**-0.5),
    "reciprocal": (0.25, 50.0, 16.0, lambda x: 1 / x),
    "log": (0.25, 50.0, 4.0, math.log),
    "exp": (-4.0, 4.0, 0.0, math.exp),
}
_LIBRARY: dict[str, Part] = {
    "tan": (-1.2, 1.2, 8.0, math.tan),
    "asin": (-0.9, 0.9, 2.5, math.asin),
    "acos": (-0.9, 0.9, 2.5, math.acos),
    "atan": (-50.0, 50.0, 1.0, math.atan),
    "sinh": (-4.0, 4.0, 28.0, math.sinh),
    "cosh": (0.0, 4.0, 28.0, math.cosh),
    "asinh": (-50.0, 50.0, 1.0, math.asinh),
    "acosh": (1.1, 50.0, 2.5, math.acosh),
    "atanh": (-0.9, 0.9, 6.0, math.atanh),
}


def _of_a_part(m: Maker, table: Mapping[str, Part]) -> Value | None:
    """A value that is not within the part of the line is first clipped into it."""
    op = m.choice(tuple(table))
    low, high, slope, function = table[op]
    x = m.pick(is_float)
    if x is not None and not (low <= x.lo and x.hi <= high):
        clipped = (min(max(bound, low), high) for bound in (x.lo, x.hi))
        x = m.add("clip", x, lo=next(clipped), hi=next(clipped), err=x.err, min=low, max=high)
    if x is None:
        return None
    lo, hi = sorted((function(x.lo), function(x.hi)))
    return m.rounded(op, x, lo=lo, hi=hi, err=(slope or hi) * x.err)


@builder
def guarded_unary(m: Maker) -> Value | None:
    """Functions that need part of the line only."""
    return _of_a_part(m, _GUARDED)


@builder
def library(m: Maker) -> Value | None:
    """Functions that the C library computes."""
    return _of_a_part(m, _LIBRARY)


def _operand(m: Maker, x: Value, accept: Callable[[Value], bool], lo: float, hi: float) -> Value | None:
    """A second operand: another value, or a constant that broadcasts to x."""
    if m.flag():
        return m.pick(lambda v: v.type.dtype == x.type.dtype and accept(v))
    return m.constant(m.fitting(x.shape), lo, hi, x.type.dtype)


@builder
def binary(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) or is_int(v))
    y = _operand(m, x, lambda v: True, -2, 2) if x else None
    if x is None or y is None:
        return None
    if m.flag():
        x, y = y, x
    match m.choice(("add", "sub", "mul", "min", "max")):
        case "add":
            return m.try_add("add", x, y, lo=x.lo + y.lo, hi=x.hi + y.hi, err=x.err + y.err)
        case "sub":
            return m.try_add("sub", x, y, lo=x.lo - y.hi, hi=x.hi - y.lo, err=x.err + y.err)
        case "mul":
            ends = [a * b for a in (x.lo, x.hi) for b in (y.lo, y.hi)]
            return m.try_add("mul", x, y, lo=min(ends), hi=max(ends), err=x.size * y.err + y.size * x.err)
        case op:
            choose = min if op == "min" else max
            lo, hi = choose(x.lo, y.lo), choose(x.hi, y.hi)
            if m.builder.types and _broadcasts(m, x, y):
                return m.add(op, x, y, lo=lo, hi=hi, err=max(x.err, y.err))
            return None


def _broadcasts(m: Maker, x: Value, y: Value) -> bool:
    pairs = zip(reversed(x.shape), reversed(y.shape), strict=False)
    return all(a == b or a == 1 or b == 1 for a, b in pairs)


@builder
def division(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) or is_int(v))
    if x is None:
        return None
    y = m.constant(m.fitting(x.shape), 1, 3, x.type.dtype)
    if is_int(x):
        if m.flag():
            return m.add("mod", x, y, lo=-3, hi=3, fmod=m.flag())
        return m.add("div", x, y, lo=-x.size, hi=x.size)
    if x.exact and m.flag():
        return m.add("mod", x, y, lo=-3, hi=3, fmod=True)
    return m.rounded("div", x, y, lo=min(x.lo, 0), hi=max(x.hi, 0), err=x.err)


@builder
def power(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.lo >= 0.2 and v.hi <= 8)
    if x is None:
        return None
    exponent = m.choice((2.0, 0.5, 3.0, -1.0))
    y = m.constant((), exponent, exponent)
    ends = sorted((x.lo**exponent, x.hi**exponent))
    slope = abs(exponent) * max(x.lo ** (exponent - 1), x.hi ** (exponent - 1))
    return m.rounded("pow", x, y, lo=ends[0], hi=ends[1], err=slope * x.err + 4 * UNIT * ends[1])


@builder
def discontinuous(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.exact)
    if x is None:
        return None
    op = m.choice(("floor", "ceil", "round", "sign", "isnan", "isinf", "cast"))
    if op in ("isnan", "isinf"):
        return m.add(op, x, lo=0, hi=1)
    if op == "cast":
        kind = m.choice(("i64", "i32"))
        return m.add(op, x, lo=math.trunc(x.lo), hi=math.trunc(x.hi), to=dtype_named(kind))
    return m.add(op, x, lo=math.floor(x.lo), hi=math.ceil(x.hi)) if op != "sign" else m.add(op, x, lo=-1, hi=1)


def dtype_named(name: str) -> DType:
    return DTYPES[name]


@builder
def cast(m: Maker) -> Value | None:
    """Integers and bools to floats and wider integers: exact."""
    x = m.pick(lambda v: is_int(v) or is_bool(v))
    return m.add("cast", x, lo=x.lo, hi=x.hi, to=dtype_named(m.choice(("f32", "i64", "i32")))) if x else None


@builder
def compare(m: Maker) -> Value | None:
    x = m.pick(lambda v: v.exact and not is_bool(v))
    y = _operand(m, x, lambda v: v.exact, -1, 1) if x else None
    if x is None or y is None or not _broadcasts(m, x, y):
        return None
    return m.add(m.choice(("eq", "ne", "lt", "le", "gt", "ge")), x, y, lo=0, hi=1)


@builder
def logic(m: Maker) -> Value | None:
    x = m.pick(is_bool)
    if x is None:
        return None
    op = m.choice(("and", "or", "xor", "not"))
    if op == "not":
        return m.add(op, x, lo=0, hi=1)
    y = _operand(m, x, lambda v: True, 0, 1)
    return m.add(op, x, y, lo=0, hi=1) if y and _broadcasts(m, x, y) else None


@builder
def where(m: Maker) -> Value | None:
    x = m.pick(is_float)
    y = _operand(m, x, lambda v: True, -2, 2) if x else None
    if x is None or y is None:
        return None
    condition = m.pick(is_bool)
    if condition is None or m.flag():
        condition = m.constant(m.fitting(x.shape), 0, 1, dtype_named("bool"))
    if not (_broadcasts(m, x, y) and _broadcasts(m, condition, x) and _broadcasts(m, condition, y)):
        return None
    return m.add("where", condition, x, y, lo=min(x.lo, y.lo), hi=max(x.hi, y.hi), err=max(x.err, y.err))


def _sum_bounds(x: Value, count: int) -> tuple[float, float] | None:
    """The size and the error of a sum of so many elements."""
    total = count * x.size
    return total, count * (x.err + UNIT * total)


def _product_bounds(x: Value, count: int) -> tuple[float, float] | None:
    """The same of a product; None where it may be too large."""
    size = max(x.size, 1.0)
    if count * math.log(size) > 6:
        return None
    top = size**count
    return top, count * top * (x.err / size + UNIT)


_BOUNDS = {"sum": _sum_bounds, "prod": _product_bounds}


@builder
def reduce(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.rank > 0)
    if x is None:
        return None
    axes = tuple(i for i in range(x.rank) if m.flag()) or (m.integer(0, x.rank - 1),)
    if m.flag():
        axes = tuple(axis - x.rank for axis in axes)
    count = m.most(product(x.shape[a] for a in axes))
    keep = {"axes": axes, "keepdims": m.flag()}
    match m.choice(("sum", "mean", "max", "min", "prod")):
        case "mean":
            return m.rounded("reduce_mean", x, lo=x.lo, hi=x.hi, err=x.err + count * UNIT * x.size, **keep)
        case "sum" | "prod" as op:
            bounds = _BOUNDS[op](x, count)
            return m.rounded(f"reduce_{op}", x, lo=-bounds[0], hi=bounds[0], err=bounds[1], **keep) if bounds else None
        case op:
            return m.add(f"reduce_{op}", x, lo=x.lo, hi=x.hi, err=x.err, **keep)


@builder
def arg_reduce(m: Maker) -> Value | None:
    x = m.pick(lambda v: v.exact and v.rank > 0 and not is_bool(v))
    if x is None:
        return None
    axis = m.integer(-x.rank, x.rank - 1)
    facts = {"axis": axis, "keepdims": m.flag(), "select_last": m.flag()}
    return m.add(m.choice(("argmax", "argmin")), x, lo=0, hi=m.most(x.shape[axis]) - 1, **facts)


def _running(m: Maker, fold: str) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.rank > 0)
    if x is None:
        return None
    axis = m.integer(0, x.rank - 1)
    bounds = _BOUNDS[fold](x, m.most(x.shape[axis]))
    if bounds is None:
        return None
    facts = {"axis": axis, "exclusive": m.flag(), "reverse": m.flag()}
    return m.rounded(f"cum{fold}", x, lo=-bounds[0], hi=bounds[0], err=bounds[1], **facts)


@builder
def cumsum(m: Maker) -> Value | None:
    return _running(m, "sum")


@builder
def cumprod(m: Maker) -> Value | None:
    return _running(m, "prod")


@builder
def shift(m: Maker) -> Value | None:
    """By a constant; what is shifted is not negative."""
    x = m.pick(lambda v: is_int(v) and v.lo >= 0)
    if x is None:
        return None
    bits = m.integer(0, 5)
    y = m.constant((), bits, bits, x.type.dtype)
    if m.flag():
        return m.add("shift_left", x, y, lo=int(x.lo) << bits, hi=int(x.hi) << bits)
    return m.add("shift_right", x, y, lo=int(x.lo) >> bits, hi=int(x.hi) >> bits)


@builder
def isnan(m: Maker) -> Value | None:
    x = m.pick(is_float)
    return m.add("isnan", x, lo=0, hi=0) if x else None


@builder
def narrowed(m: Maker) -> Value | None:
    """Through a narrow type and back. (What it may be off by is more than a step of the narrow type where values differ.)"""
    x = m.pick(is_float)
    if x is None or x.size > 200:
        return None
    name, step = m.choice((("f16", 2.0**-10), ("bf16", 2.0**-7), ("f8e5m2", 0.25), ("f64", 0.0)))
    slack = step * max(x.size, 2.0**-14)
    err = x.err + slack if x.err else 0.0
    narrow = m.add("cast", x, lo=x.lo - slack, hi=x.hi + slack, err=err, to=dtype_named(name))
    if narrow is None:
        return None
    m.values.remove(narrow)  # the other builders do not know its type
    return m.add("cast", narrow, lo=narrow.lo, hi=narrow.hi, err=err, to=dtype_named("f32"))


@builder
def bits(m: Maker) -> Value | None:
    """A float as an integer and back."""
    x = m.pick(is_float)
    whole = m.add("bitcast", x, lo=0, hi=0, err=x.err, to=dtype_named("i32")) if x else None
    if x is None or whole is None:
        return None
    m.values.remove(whole)  # its elements are any numbers
    return m.add("bitcast", whole, lo=x.lo, hi=x.hi, err=x.err, to=dtype_named("f32"))
