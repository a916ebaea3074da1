"""Rules of elementwise operators; they fold when all their inputs have known contents."""

from __future__ import annotations

import math
from contextlib import suppress

from ....ir.dims import Expr
from ....ir.graph import Attr, Node
from ....ir.rules import broadcast_shapes
from ....ir.types import DType, bool_, f8e8m0, f64
from .. import scalars
from ..contents import cast_known, elementwise, expand, rounded
from ..folding import FOLDS, Fold
from ..known import Known
from ..scalars import Facts, Scalar, Undecided
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site
from .spelling import STRING, spelled
from .structured import Value

# -- one input

_UNARY = {
    **{
        name: name.lower()
        for name in ("Abs", "Relu", "Floor", "Ceil", "Round", "Sign", "Not", "Neg", "Sqrt", "Reciprocal")
    },
    **{name: name.lower() for name in ("Exp", "Log", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Softplus", "IsNaN")},
    **{name: name.lower() for name in ("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")},
    "HardSwish": "hard_swish",
}


def _fold(site: Site, dtype: DType, function: Fold | None) -> Known | None:
    inputs = site.all_known() if function is not None else None
    if inputs is None or function is None:
        return None
    return elementwise(site.facts, dtype, rounded(dtype, function), *inputs)


@rule(*_UNARY)
def unary(site: Site) -> Result:
    op = _UNARY[site.op]
    return _fold(site, site.type().dtype, FOLDS.get(op)) or site.emit(op, site.x())


@rule("LeakyRelu")
def leaky_relu(site: Site) -> Result:
    return site.emit("leaky_relu", site.x(), alpha=site.get_float("alpha", 0.01))


@rule("Elu")
def elu(site: Site) -> Result:
    return site.emit("elu", site.x(), alpha=site.get_float("alpha", 1.0))


@rule("HardSigmoid")
def hard_sigmoid(site: Site) -> Result:
    return site.emit("hard_sigmoid", site.x(), alpha=site.get_float("alpha", 0.2), beta=site.get_float("beta", 0.5))


@rule("Selu")
def selu(site: Site) -> Result:
    alpha, gamma = (
        site.get_float("alpha", 1.67326319217681884765625),
        site.get_float("gamma", 1.05070102214813232421875),
    )
    value = site.emit("elu", site.x(), alpha=alpha)
    return site.emit("mul", value, site.scalar(gamma, site.type().dtype))


@rule("Celu")
def celu(site: Site) -> Result:
    """alpha * (exp(x / alpha) - 1) below 0, else x."""
    x, dtype, alpha = site.x(), site.type().dtype, site.get_float("alpha", 1.0)
    below = site.emit("elu", site.emit("div", x, site.scalar(alpha, dtype)), alpha=alpha)
    return site.emit("where", site.emit("lt", x, site.scalar(0.0, dtype)), below, x)


@rule("ThresholdedRelu")
def thresholded_relu(site: Site) -> Result:
    x, dtype = site.x(), site.type().dtype
    above = site.emit("gt", x, site.scalar(site.get_float("alpha", 1.0), dtype))
    return site.emit("where", above, x, site.scalar(0.0, dtype))


@rule("PRelu")
def prelu(site: Site) -> Result:
    """Slopes broadcast to x; a row of them that does not counts channels."""
    x, slope, shape, have = site.x(0), site.x(1), site.type(0).shape, site.type(1).shape
    if len(have) == 1 and have[0] != 1 and len(shape) > 1 and have[0] != shape[-1]:
        slope = site.reshape(slope, (*have, *(1,) * (len(shape) - 2)))
    negative = site.emit("lt", x, site.scalar(0, site.type().dtype))
    return site.emit("where", negative, site.emit("mul", x, slope), x)


@rule("Softsign")
def softsign(site: Site) -> Result:
    x = site.x()
    return site.emit("div", x, site.emit("add", site.emit("abs", x), site.scalar(1, site.type().dtype)))


@rule("Mish")
def mish(site: Site) -> Result:
    x = site.x()
    return site.emit("mul", x, site.emit("tanh", site.emit("softplus", x)))


@rule("Swish")
def swish(site: Site) -> Result:
    x, alpha = site.x(), site.get_float("alpha", 1.0)
    if alpha == 1.0:
        return site.emit("silu", x)
    return site.emit("mul", x, site.emit("sigmoid", site.emit("mul", x, site.scalar(alpha, site.type().dtype))))


@rule("Shrink")
def shrink(site: Site) -> Result:
    """Integers shrink as floats do and are truncated."""
    dtype = site.type().dtype
    wide = dtype if dtype.is_float else f64
    x, lambd = site.cast(site.x(), wide), site.get_float("lambd", 0.5)
    bias = site.scalar(site.get_float("bias", 0.0), wide)
    low, high = site.emit("lt", x, site.scalar(-lambd, wide)), site.emit("gt", x, site.scalar(lambd, wide))
    inner = site.emit("where", high, site.emit("sub", x, bias), site.scalar(0, wide))
    return site.cast(site.emit("where", low, site.emit("add", x, bias), inner), dtype)


@rule("IsInf")
def isinf(site: Site) -> Result:
    x, dtype = site.x(), site.type().dtype
    infinite = site.emit("isinf", x)
    for sign, compare in (("positive", "lt"), ("negative", "gt")):
        if not site.get_int(f"detect_{sign}", 1):
            infinite = site.emit("and", infinite, site.emit(compare, x, site.scalar(0, dtype)))
    return infinite


@rule("Gelu")
@rule("Gelu", domain="com.microsoft")
def gelu(site: Site) -> Result:
    approximate = site.get_str("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise Unsupported(f"approximate={approximate!r} is not supported", "use 'none' or 'tanh'")
    return site.emit("gelu", site.x(), approximate=approximate)


@rule("FastGelu", domain="com.microsoft")
def fast_gelu(site: Site) -> Result:
    x = site.emit("add", site.x(0), site.x(1)) if site.has(1) else site.x()
    return site.emit("gelu", x, approximate="tanh")


@rule("QuickGelu", domain="com.microsoft")
def quick_gelu(site: Site) -> Result:
    x = site.x()
    scaled = site.emit("mul", x, site.scalar(site.get_float("alpha", 1.702), site.type().dtype))
    return site.emit("mul", x, site.emit("sigmoid", scaled))


@rule("Identity")
def identity(site: Site) -> Value:
    return site.value()


# -- casts


def _cast(site: Site, to: DType) -> Result:
    known = site.known()
    saturate = site.get_int("saturate", 1) != 0
    rounding = site.get_str("round_mode", "up")
    if rounding not in ("up", "down", "nearest"):
        raise Unsupported(f"round_mode={rounding!r} is not supported", "use 'up', 'down' or 'nearest'")
    if to.is_float and to.bits <= 8:
        # types without infinity saturate anyway
        special: dict[str, Attr] = {"rounding": rounding} if to == f8e8m0 else {}
        same = site.type().dtype == to
        return site.x() if same else site.emit("cast", site.x(), to=to, saturate=saturate, **special)
    folded = cast_known(site.facts, known, to) if known is not None else None
    return folded or site.cast(site.x(), to)


@rule("Cast")
def cast(site: Site) -> Value:
    if site.get_int("to") == STRING:
        return spelled(site, site.known() or site.x())
    return _cast(site, site.dtype_of(site.get_int("to")))


@rule("BitCast")
def bit_cast(site: Site) -> Result:
    to, have = site.dtype_of(site.get_int("to")), site.type().dtype
    if to.bits != have.bits:
        raise Unsupported(f"{have} has {have.bits} bits, {to} has {to.bits}")
    return site.emit("bitcast", site.x(), to=to)


@rule("CastLike")
def cast_like(site: Site) -> Result:
    return _cast(site, site.type(1).dtype)


# -- two inputs


@rule("Add", "Sub", "Mul", "Div")
def arithmetic(site: Site) -> Result:
    dtype, op = site.type().dtype, site.op.lower()
    function = FOLDS[op] if op != "div" or dtype.is_float else lambda f, a, b: f.truncated_div(a, b)
    return _fold(site, dtype, function) or site.emit(op, site.x(0), site.x(1))


#: operator -> what it makes of known elements, and the element that changes nothing
_LOGICAL: dict[str, tuple[Fold, int]] = {
    "And": (lambda f, a, b: min(scalars.integer(a), scalars.integer(b)), 1),  # type: ignore[type-var]
    "Or": (lambda f, a, b: max(scalars.integer(a), scalars.integer(b)), 0),  # type: ignore[type-var]
    "Xor": (lambda f, a, b: int(a != b), 0),
}


@rule(*_LOGICAL)
def logical(site: Site) -> Result:
    function, neutral = _LOGICAL[site.op]
    folded = _fold(site, bool_, function)
    if folded is not None:
        return folded
    for this, other in ((0, 1), (1, 0)):
        known = site.known(this)
        if known is not None and known.uniform is not None and known.uniform == neutral:
            return _spread_over(site, other, (this,))
    return site.emit(site.op.lower(), site.x(0), site.x(1))


def _spread_over(site: Site, index: int, others: tuple[int, ...]) -> Result:
    """One input, broadcast together with the shapes of others."""
    node = Node(site.op, (), (), source=site.source)
    shape = broadcast_shapes(node, [site.type(i).shape for i in (index, *others)])
    known = site.known(index)
    widened = expand(known, shape) if known is not None else None
    return widened or site.expand(site.x(index), shape)


_COMPARE = {"Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge"}


@rule(*_COMPARE)
def compare(site: Site) -> Result:
    op = _COMPARE[site.op]
    if site.type(0).dtype != site.type(1).dtype:
        raise Unsupported(f"compares {site.type(0).dtype} with {site.type(1).dtype}")
    return _fold(site, bool_, FOLDS[op]) or site.emit(op, site.x(0), site.x(1))


@rule("Mod")
def mod(site: Site) -> Result:
    dtype, fmod = site.type().dtype, bool(site.get_int("fmod"))
    folded = None
    if dtype.is_integer and not fmod:
        folded = _fold(site, dtype, FOLDS["mod"])
    return folded or site.emit("mod", site.x(0), site.x(1), fmod=fmod)


def _power(facts: Facts, base: Scalar, exponent: Scalar) -> Scalar:
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)
    if isinstance(exponent, int) and 0 <= exponent <= (64 if isinstance(base, int) else 4):
        value: Scalar = 1
        for _ in range(exponent):
            value = scalars.times(value, base)
        return value
    if isinstance(base, float) and isinstance(exponent, (int, float)) and base > 0:
        with suppress(OverflowError):
            return math.pow(base, exponent)
    raise Undecided


@rule("Pow")
def power(site: Site) -> Result:
    dtype = site.type().dtype
    folded = _fold(site, dtype, _power)
    if folded is not None:
        return folded
    wide = f64 if dtype.is_integer and site.type(1).dtype.is_float else dtype
    return site.cast(site.emit("pow", site.cast(site.x(0), wide), site.cast(site.x(1), wide)), dtype)


@rule("Where")
def where(site: Site) -> Result:
    folded = _fold(site, site.type(1).dtype, FOLDS["where"])
    if folded is not None:
        return folded
    condition = site.known(0)
    if condition is not None and condition.uniform is not None:
        chosen = 1 if condition.uniform else 2
        return _spread_over(site, chosen, (0, 3 - chosen))
    return site.emit("where", *site.xs())


# -- any number of inputs


@rule("Sum", "Mean", "Min", "Max")
def variadic(site: Site) -> Result:
    dtype, op = site.type().dtype, {"Sum": "add", "Mean": "add", "Min": "min", "Max": "max"}[site.op]

    def fold(facts: Facts, *values: Scalar) -> Scalar:
        total = values[0]
        for value in values[1:]:
            if isinstance(total, float) or isinstance(value, float):
                if total == total:  # else it is NaN, and stays it
                    smaller = facts.less(value, total)
                    total = value if value != value or smaller == (op == "min") else total
            else:
                total = facts.minimum(total, value) if op == "min" else facts.maximum(total, value)
        return total

    if op in ("min", "max"):
        folded = _fold(site, dtype, fold)
        if folded is not None:
            return folded
    total = site.chain(op, site.xs())
    if site.op == "Mean" and site.count > 1:
        total = site.emit("div", total, site.scalar(site.count, dtype))
    return total


@rule("Clip")
def clip(site: Site) -> Result:
    """Limits are attributes before opset 11 and inputs since."""
    x, dtype = site.x(), site.type().dtype
    limits: list[float | int | None] = [None, None]
    if site.opset < 11:
        limits = [site.get_float(n) if site.has_attribute(n) else None for n in ("min", "max")]
    else:
        for index in (1, 2):
            known = site.known(index) if site.has(index) else None
            value = known.scalar() if known is not None else None
            if site.has(index) and (value is None or not dtype.is_float):
                x = site.emit(("max", "min")[index - 1], x, site.reshape(site.x(index), ()))
            elif not isinstance(value, Expr):
                limits[index - 1] = value
    if limits == [None, None]:
        return x
    low, high = limits
    return site.emit("clip", x, min=None if low is None else float(low), max=None if high is None else float(high))
