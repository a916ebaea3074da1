"""What an elementwise op is as a scalar expression over primitives. The primitives are what the C and CUDA printers know."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from .graph import Node
from .kernel import Apply, Const, Scalar, indices_of, walk
from .types import DType, bool_, f8e8m0

#: Primitives that convert to the result's dtype. A float that is too large becomes infinity or NaN, or with `saturated` the
#: greatest finite number; to f8e8m0 the size is rounded up, `down` or to the `nearest` power. `bitcast` takes the bits as they are.
CASTS = ("cast", "cast_saturated", "cast_down", "cast_nearest", "cast_nearest_saturated", "bitcast")
#: primitive -> number of arguments. Comparisons give bool; `select` takes (bool, a, b).
PRIMITIVES = {
    **dict.fromkeys(("neg", "abs", "sqrt", "exp", "log", "tanh", "sigmoid", "erf", "sin", "cos"), 1),
    **dict.fromkeys(("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"), 1),
    **dict.fromkeys(("floor", "ceil", "round", "not", "isnan", *CASTS), 1),
    **dict.fromkeys(("add", "sub", "mul", "div", "min", "max", "pow", "mod", "fmod", "and", "or", "xor"), 2),
    **dict.fromkeys(("shift_left", "shift_right"), 2),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), 2),
    "select": 3,
}
#: Primitives whose result is a bool; those of the others have the type of their last argument.
TO_BOOL = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "isnan"})
#: relative cost of a primitive, in units of one vector add
COST = {
    "exp": 10,
    "log": 12,
    "tanh": 14,
    "sigmoid": 12,
    "erf": 16,
    "sin": 16,
    "cos": 16,
    **dict.fromkeys(("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"), 60),
    "pow": 30,
    "div": 4,
    "sqrt": 4,
}


def apply(function: str, *args: Scalar, dtype: DType | None = None) -> Scalar:
    """A primitive applied; the dtype defaults to the last argument's, bool for comparisons and `isnan`."""
    if dtype is None:
        dtype = bool_ if function in TO_BOOL else args[-1].dtype
    if function in ("cast", "bitcast") and args[0].dtype == dtype:
        return args[0]
    return Apply(function, args, dtype)


def const(value: float | int | bool, like: Scalar | DType) -> Const:
    dtype = like if isinstance(like, DType) else like.dtype
    if dtype.is_float:
        return Const(float(value), dtype)
    return Const(bool(value) if dtype == bool_ else int(value), dtype)


def _relu(x: Scalar) -> Scalar:
    return apply("max", x, const(0, x))


def _gelu(x: Scalar, approximate: str) -> Scalar:
    if approximate == "tanh":
        # x (1 + tanh u) / 2 = x sigmoid(2u): one branch less, and nothing cancels where u is far below 0
        rate = 2 * math.sqrt(2 / math.pi)
        bend = apply("mul", const(0.044715 * rate, x), apply("mul", x, x))
        return apply("mul", x, apply("sigmoid", apply("mul", x, apply("add", const(rate, x), bend))))
    bell = apply("erf", apply("mul", x, const(math.sqrt(0.5), x)))
    return apply("mul", apply("mul", x, const(0.5, x)), apply("add", bell, const(1, x)))


def _clip(x: Scalar, low: float, high: float) -> Scalar:
    if x.dtype.is_integer:
        least, most = x.dtype.limits
        low, high = -math.inf if low <= least else math.ceil(low), math.inf if high >= most else math.floor(high)
    if low != -math.inf:
        x = apply("max", x, const(low, x))
    return apply("min", x, const(high, x)) if high != math.inf else x


def _mod(a: Scalar, b: Scalar, truncated: bool) -> Scalar:
    """The remainder with the sign of the divisor; with `truncated`, of the dividend."""
    if truncated or not a.dtype.is_float:
        return apply("fmod" if truncated else "mod", a, b)
    rest, zero = apply("fmod", a, b), const(0, a)
    crosses = apply("ne", apply("lt", rest, zero), apply("lt", b, zero), dtype=bool_)
    moved = apply("and", apply("ne", rest, zero), crosses, dtype=bool_)
    return apply("select", moved, apply("add", rest, b), rest)


def _hard_sigmoid(x: Scalar, alpha: float, beta: float) -> Scalar:
    return _clip(apply("add", apply("mul", x, const(alpha, x)), const(beta, x)), 0.0, 1.0)


def _softplus(x: Scalar) -> Scalar:
    # max(x, 0) + log(1 + exp(-|x|)) does not overflow
    tail = apply("log", apply("add", apply("exp", apply("neg", apply("abs", x))), const(1, x)))
    return apply("add", _relu(x), tail)


def _sign(x: Scalar) -> Scalar:
    positive = apply("select", apply("gt", x, const(0, x)), const(1, x), apply("mul", x, const(0, x)))
    return positive if x.dtype.kind == "uint" else apply("select", apply("lt", x, const(0, x)), const(-1, x), positive)


def _isinf(x: Scalar) -> Scalar:
    return apply("eq", apply("abs", x), const(math.inf, x)) if x.dtype.is_float else Const(False, bool_)


def _negative_part(x: Scalar, below: Scalar) -> Scalar:
    return apply("select", apply("lt", x, const(0, x)), below, x)


def _cast(x: Scalar, to: DType, saturate: bool, rounding: str) -> Scalar:
    if to == bool_ and x.dtype != bool_:
        x = widen(x)
        return apply("ne", x, const(0, x))
    if not to.is_narrow or not to.is_float or x.dtype == to:
        return apply("cast", x, dtype=to)
    kind = f"cast_{rounding}" if to == f8e8m0 and rounding != "up" else "cast"
    return apply(f"{kind}_saturated" if saturate and kind != "cast_down" else kind, x, dtype=to)


def widen(x: Scalar) -> Scalar:
    """As it is computed with."""
    return apply("cast", x, dtype=x.dtype.wide)


def narrow(x: Scalar, dtype: DType) -> Scalar:
    """The result of a computation in the type that it has: rounded where that is narrower than what it was computed in."""
    return apply("cast", x, dtype=dtype) if dtype.is_narrow else x


#: Elementwise ops that take narrow elements as they are.
KEEPING = frozenset({"cast", "bitcast", "where"})
_BUILD: dict[str, Callable[..., Scalar]] = {
    "relu": lambda n, x: _relu(x),
    "sign": lambda n, x: _sign(x),
    "rsqrt": lambda n, x: apply("div", const(1, x), apply("sqrt", x)),
    "reciprocal": lambda n, x: apply("div", const(1, x), x),
    "softplus": lambda n, x: _softplus(x),
    "silu": lambda n, x: apply("mul", x, apply("sigmoid", x)),
    "gelu": lambda n, x: _gelu(x, n.attr("approximate", "none")),
    "leaky_relu": lambda n, x: _negative_part(x, apply("mul", x, const(n.attr("alpha"), x))),
    "elu": lambda n, x: _negative_part(
        x, apply("mul", const(n.attr("alpha"), x), apply("sub", apply("exp", x), const(1, x)))
    ),
    "hard_sigmoid": lambda n, x: _hard_sigmoid(x, n.attr("alpha"), n.attr("beta")),
    "hard_swish": lambda n, x: apply("mul", x, _hard_sigmoid(x, 1 / 6, 0.5)),
    "clip": lambda n, x: _clip(x, n.attr("min", -math.inf), n.attr("max", math.inf)),
    "isnan": lambda n, x: apply("isnan", x) if x.dtype.is_float else Const(False, bool_),
    "isinf": lambda n, x: _isinf(x),
    "cast": lambda n, x: _cast(x, n.attr("to"), n.attr("saturate", False), n.attr("rounding", "up")),
    "bitcast": lambda n, x: apply("bitcast", x, dtype=n.attr("to")),
    "mod": lambda n, a, b: _mod(a, b, n.attr("fmod", False)),
    "where": lambda n, c, a, b: apply("select", c, a, b),
}


def scalar_of(node: Node, args: tuple[Scalar, ...]) -> Scalar:
    """The scalar expression of an elementwise node over its (aligned) argument expressions. Narrow elements are widened, and the
    node's result, no part of it, is rounded; those that are only moved stay as they are."""
    build = _BUILD.get(node.op)
    if build is None:
        build = lambda n, *parts: apply(n.op, *parts)  # noqa: E731
    if node.op in KEEPING:
        return build(node, *args)
    result = build(node, *map(widen, args))
    return result if result.dtype == bool_ else narrow(result, args[-1].dtype)


def cost(expression: Scalar, axes: Collection[str] | None = None) -> int:
    """Rough cost of evaluating an expression once, in vector adds: reads count one, repeated parts nothing, and with `axes`
    neither what stays the same along all of them."""
    parts = {e for e in walk(expression) if axes is None or varies(e, axes)}
    return sum(COST.get(e.function, 1) if isinstance(e, Apply) else 1 for e in parts)


def varies(expression: Scalar, axes: Collection[str]) -> bool:
    """Whether an expression differs along any of the axes."""
    return any(name in axes for index in indices_of(expression) for name, _ in index.terms)
