"""Rules of elementwise operators; they fold when all their inputs have known contents."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ....ir.dims import Expr
from ....ir.types import DType, bool_
from .. import contents, scalars
from ..folding import FOLDS, Fold
from ..scalars import Facts, Scalar, Undecided
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

# -- one input


@rule("rsqrt", "reciprocal", "exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "round", "silu")
@rule("neg", "abs", "relu", "floor", "ceil", "sqrt", "sign")
def unary(site: Site) -> Result:
    """Whole numbers become floats where torch makes them so."""
    dtype = site.result().dtype
    return site.fold(dtype, dtype, FOLDS.get(site.name), "self") or site.emit(site.name, site.x("self", dtype))


@rule("isnan", "isinf")
def float_class(site: Site) -> Result:
    dtype = site.type("self").dtype
    if not dtype.is_float:
        return contents.full(bool_, site.type("self").shape, 0)
    return site.emit(site.name, site.x("self"))


@rule("logical_not", "bitwise_not")
def inverted(site: Site) -> Result:
    """Of truth values; the bits of whole numbers are those of -1 - x."""
    dtype = site.type("self").dtype
    if site.name == "bitwise_not" and dtype != bool_:
        return site.emit("sub", site.scalar(-1, dtype), site.x("self"))
    return site.fold(bool_, bool_, FOLDS["not"], "self") or site.emit("not", site.x("self", bool_))


@rule("gelu")
def gelu(site: Site) -> Result:
    return site.emit("gelu", site.x("self"), approximate=str(site.get("approximate", "none")))


@rule("softplus")
def softplus(site: Site) -> Result:
    """log(1 + exp(beta * x)) / beta, and x itself from threshold / beta on, where the two differ by rounding alone."""
    beta, x = site.number("beta", 1.0), site.x("self")
    if beta == 1.0:
        return site.emit("softplus", x)
    factor = site.scalar(beta, site.type("self").dtype)
    return site.emit("div", site.emit("softplus", site.emit("mul", x, factor)), factor)


@rule("leaky_relu")
def leaky_relu(site: Site) -> Result:
    return site.emit("leaky_relu", site.x("self"), alpha=site.number("negative_slope", 0.01))


@rule("elu", "celu", "selu")
def elu(site: Site) -> Result:
    """scale * (x where that is positive, else alpha * (exp(input_scale * x) - 1)); celu is the one of slope 1 at zero."""
    x, dtype = site.x("self"), site.type("self").dtype
    match site.name:
        case "selu":
            alpha, scale, inner = 1.6732632423543772, 1.0507009873554805, 1.0
        case "celu":
            alpha, scale = site.number("alpha", 1.0), 1.0
            inner = 1 / alpha
        case _:
            alpha, scale, inner = (site.number(name, 1.0) for name in ("alpha", "scale", "input_scale"))
    value = site.emit("elu", site.emit("mul", x, site.scalar(inner, dtype)) if inner != 1.0 else x, alpha=alpha)
    if inner != 1.0:
        value = site.emit("where", site.emit("gt", x, site.scalar(0, dtype)), x, value)
    return value if scale == 1.0 else site.emit("mul", value, site.scalar(scale, dtype))


@rule("hardtanh", "relu6")
def hardtanh(site: Site) -> Result:
    low, high = (0.0, 6.0) if site.name == "relu6" else (site.number("min_val", -1.0), site.number("max_val", 1.0))
    return site.emit("clip", site.x("self"), min=low, max=high)


@rule("hardsigmoid", "hardswish")
def hard(site: Site) -> Result:
    if site.name == "hardswish":
        return site.emit("hard_swish", site.x("self"))
    return site.emit("hard_sigmoid", site.x("self"), alpha=1 / 6, beta=0.5)


@rule("mish")
def mish(site: Site) -> Result:
    x = site.x("self")
    return site.emit("mul", x, site.emit("tanh", site.emit("softplus", x)))


@rule("log_sigmoid")
def log_sigmoid(site: Site) -> Result:
    return site.emit("neg", site.emit("softplus", site.emit("neg", site.x("self"))))


@rule("tan", "sinh", "cosh", "log1p", "expm1", "log2", "log10", "exp2", "square", "trunc", "frac", "erfc")
def composed(site: Site) -> Result:
    """Short compositions; log1p and expm1 lose what lies below the rounding of 1 + x."""
    dtype = site.result().dtype
    x = site.x("self", dtype)
    one = site.scalar(1, dtype)
    match site.name:
        case "tan":
            return site.emit("div", site.emit("sin", x), site.emit("cos", x))
        case "sinh" | "cosh":
            ends = site.emit("exp", x), site.emit("exp", site.emit("neg", x))
            both = site.emit("sub" if site.name == "sinh" else "add", *ends)
            return site.emit("mul", both, site.scalar(0.5, dtype))
        case "log1p":
            return site.emit("log", site.emit("add", x, one))
        case "expm1":
            return site.emit("sub", site.emit("exp", x), one)
        case "log2" | "log10":
            base = math.log(2.0 if site.name == "log2" else 10.0)
            return site.emit("mul", site.emit("log", x), site.scalar(1 / base, dtype))
        case "exp2":
            return site.emit("exp", site.emit("mul", x, site.scalar(math.log(2.0), dtype)))
        case "square":
            return site.emit("mul", x, x)
        case "erfc":
            return site.emit("sub", one, site.emit("erf", x))
    if dtype.is_integer:
        return x
    whole = truncated(site, x)
    return whole if site.name == "trunc" else site.emit("sub", x, whole)


def truncated(site: Site, x: str) -> str:
    """Towards zero."""
    zero = site.scalar(0, site.type_of(x).dtype)
    return site.emit("where", site.emit("lt", x, zero), site.emit("ceil", x), site.emit("floor", x))


# -- casts, and what leaves a value as it is


@rule("clone", "detach", "alias", "contiguous", "lift_fresh_copy", "lift_fresh", "dropout", "feature_dropout")
@rule("native_dropout", "positive", "lift", "detach_copy", "alias_copy")
def identity(site: Site) -> Result:
    if site.flag("train"):
        raise Unsupported("drops elements at random in training", "call eval() before exporting")
    return site.tensor_of(site.get("self", site.get("input")))


@rule("_to_copy", "to.dtype", "to.device", "to.dtype_layout", "to.other", "type_as")
def cast(site: Site) -> Result:
    return site.tensor("self", site.result().dtype)


@rule("_local_scalar_dense")
def scalar_of(site: Site) -> Result:
    raise Unsupported("takes a number out of a tensor, which is known only when running", "use torch.where, or fix it")


# -- two inputs


def _floor_div(facts: Facts, a: Scalar, b: Scalar) -> Scalar:
    if isinstance(a, float) or isinstance(b, float):
        raise Undecided
    if isinstance(a, int) and isinstance(b, int) and b:
        return a // b
    return facts.truncated_div(a, b)  # decided only where nothing is negative


#: What the ops are called here.
_BINARY = {"true_divide": "div", "maximum": "max", "minimum": "min", "fmod": "mod", "remainder": "mod"}


@rule("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar", "mul.Tensor", "mul.Scalar", "div.Tensor", "div.Scalar")
@rule("maximum", "minimum", "fmod.Tensor", "fmod.Scalar", "remainder.Tensor", "remainder.Scalar", "true_divide.Tensor")
@rule("rsub.Tensor", "rsub.Scalar")
def arithmetic(site: Site) -> Result:
    """In the element type of the result; `alpha` multiplies what is added or subtracted."""
    dtype, (first, second) = site.result().dtype, ("self", "other")
    name = site.name
    if name == "rsub":
        name, first, second = "sub", second, first
    if dtype == bool_:
        return _of_bools(site, name)
    op = _BINARY.get(name, name)
    alpha = site.get("alpha", 1)
    if alpha == 1 and name != "fmod" and not (dtype.is_integer and op == "div"):
        folded = site.fold(dtype, dtype, FOLDS[op], first, second)
        if folded is not None:
            return folded
    a, b = site.x(first, dtype), site.x(second, dtype)
    if alpha != 1:
        b = site.emit("mul", b, site.value_of(alpha, dtype))
    if op == "mod":
        return site.emit("mod", a, b, fmod=name == "fmod")
    return site.emit(op, a, b)


def _of_bools(site: Site, name: str) -> str:
    op = {"add": "or", "mul": "and", "maximum": "or", "minimum": "and"}.get(name)
    if op is None:
        raise Unsupported("of truth values is not supported")
    return site.emit(op, site.x("self", bool_), site.x("other", bool_))


@rule("div.Tensor_mode", "div.Scalar_mode", "floor_divide", "floor_divide.Scalar")
def rounded_division(site: Site) -> Result:
    dtype = site.result().dtype
    mode = "floor" if site.name == "floor_divide" else site.get("rounding_mode")
    if mode is None:
        return site.emit("div", site.x("self", dtype), site.x("other", dtype))
    if dtype.is_integer:
        function: Fold = _floor_div if mode == "floor" else lambda f, a, b: f.truncated_div(a, b)
        folded = site.fold(dtype, dtype, function, "self", "other")
        if folded is not None:
            return folded
    a, b = site.x("self", dtype), site.x("other", dtype)
    if dtype.is_float:
        quotient = site.emit("div", a, b)
        return site.emit("floor", quotient) if mode == "floor" else truncated(site, quotient)
    if mode == "floor":  # what is left after the remainder, which has the divisor's sign
        a = site.emit("sub", a, site.emit("mod", a, b, fmod=False))
    return site.emit("div", a, b)


def _truth(op: str) -> Callable[[Facts, Scalar, Scalar], Scalar]:
    def fold(facts: Facts, a: Scalar, b: Scalar) -> Scalar:
        left, right = scalars.integer(a), scalars.integer(b)
        if isinstance(left, Expr) or isinstance(right, Expr):
            raise Undecided
        return {"and": left & right, "or": left | right, "xor": left ^ right}[op]

    return fold


_LOGICAL = {"and": "and", "or": "or", "xor": "xor"}


@rule("logical_and", "logical_or", "logical_xor")
@rule(*(f"bitwise_{name}.{kind}" for name in _LOGICAL for kind in ("Tensor", "Scalar")))
@rule(*(f"__{name}__.{kind}" for name in _LOGICAL for kind in ("Tensor", "Scalar")))
def logical(site: Site) -> Result:
    """Of truth values, or of the bits of whole numbers. What decides nothing is left out."""
    op = site.name.strip("_").rpartition("_")[2]
    dtype = bool_ if site.name.startswith("logical") else site.result().dtype
    folded = site.fold(dtype, dtype, _truth(op), "self", "other")
    if folded is not None:
        return folded
    for this, other in (("self", "other"), ("other", "self")) if dtype == bool_ else ():
        known = site.known(this, dtype)
        if known is not None and known.uniform == (1 if op == "and" else 0):
            return site.expand(site.x(other, dtype), site.result().shape)
    return site.emit(op, site.x("self", dtype), site.x("other", dtype))


@rule(*(f"{name}.{kind}" for name in ("eq", "ne", "lt", "le", "gt", "ge") for kind in ("Tensor", "Scalar")))
def compare(site: Site) -> Result:
    dtype = site.promoted("self", "other")
    folded = site.fold(bool_, dtype, FOLDS[site.name], "self", "other")
    return folded or site.emit(site.name, site.x("self", dtype), site.x("other", dtype))


@rule("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def power(site: Site) -> Result:
    """Small whole exponents, roots and reciprocals without `pow`."""
    dtype, exponent = site.result().dtype, site.get("exponent")
    if isinstance(exponent, (int, float)) and site.name == "pow" and site.op.endswith("Tensor_Scalar"):
        x = site.x("self", dtype)
        match float(exponent):
            case 1.0:
                return x
            case 2.0:
                return site.emit("mul", x, x)
            case 3.0:
                return site.emit("mul", site.emit("mul", x, x), x)
        if dtype.is_float:
            found = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}.get(float(exponent))
            if found is not None:
                return site.emit(found, x)
    return site.emit("pow", site.x("self", dtype), site.x("exponent", dtype))


# -- choices


@rule("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(site: Site) -> Result:
    """A condition that is known chooses at once."""
    dtype = site.result().dtype
    condition = site.known("condition")
    if condition is not None:
        sides = site.known("self", dtype), site.known("other", dtype)
        if sides[0] is not None and sides[1] is not None:
            known = (condition, *(side for side in sides if side is not None))
            folded = contents.elementwise(site.facts, dtype, FOLDS["where"], *known)
            if folded is not None:
                return folded
        if condition.uniform is not None:
            chosen = "self" if condition.uniform else "other"
            return _widened(site, chosen, dtype)
    return site.emit("where", site.x("condition", bool_), site.x("self", dtype), site.x("other", dtype))


def _widened(site: Site, name: str, dtype: DType) -> Result:
    known = site.known(name, dtype)
    shape = site.result().shape
    folded = contents.expand(known, shape) if known is not None else None
    return folded or site.expand(site.x(name, dtype), shape)


@rule("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(site: Site) -> Result:
    dtype = site.result().dtype
    mask = site.known("mask")
    if mask is not None and mask.uniform == 0:
        return _widened(site, "self", dtype)
    return site.emit("where", site.x("mask", bool_), site.x("value", dtype), site.x("self", dtype))


@rule("clamp", "clamp.Tensor", "clamp_min", "clamp_max", "clamp_min.Tensor", "clamp_max.Tensor")
def clamp(site: Site) -> Result:
    """Numbers that a float holds are limits of `clip`; others meet the elements as tensors."""
    dtype, x = site.result().dtype, site.x("self", site.result().dtype)
    numbers: dict[str, float] = {}
    for name, op in (("min", "max"), ("max", "min")):
        limit = site.get(name)
        if limit is None:
            continue
        if isinstance(limit, (int, float)) and dtype.is_float:
            if math.isnan(limit):
                raise Unsupported(f"{name} is not a number")
            numbers[name] = float(limit)
        else:
            x = site.emit(op, x, site.x(name, dtype))
    if len(numbers) == 2 and numbers["min"] > numbers["max"]:
        numbers["min"] = numbers["max"]  # torch lets the greater limit win
    return site.emit("clip", x, **numbers) if numbers else x


@rule("nan_to_num")
def nan_to_num(site: Site) -> Result:
    x, dtype = site.x("self"), site.type("self").dtype
    if not dtype.is_float:
        return x
    limits = np.finfo(dtype.np)
    for test, name, otherwise in (("gt", "posinf", float(limits.max)), ("lt", "neginf", float(limits.min))):
        value = site.get(name)
        infinite = site.emit("eq", x, site.scalar(math.inf if test == "gt" else -math.inf, dtype))
        x = site.emit("where", infinite, site.scalar(otherwise if value is None else float(value), dtype), x)
    nan = site.get("nan")
    return site.emit("where", site.emit("isnan", x), site.scalar(0.0 if nan is None else float(nan), dtype), x)


@rule("glu")
def glu(site: Site) -> Result:
    kind = site.type("self")
    axis = site.axis_at("dim", kind.rank, -1)
    half = site.result().shape[axis]
    x = site.x("self")
    gate = site.emit("sigmoid", site.slice(x, axis, half, half))
    return site.emit("mul", site.slice(x, axis, 0, half), gate)


@rule("lerp.Scalar", "lerp.Tensor", "addcmul", "addcdiv")
def mixed(site: Site) -> Result:
    dtype = site.result().dtype
    a = site.x("self", dtype)
    if site.name == "lerp":
        return site.emit("add", a, site.emit("mul", site.x("weight", dtype), site.emit("sub", site.x("end", dtype), a)))
    op = "mul" if site.name == "addcmul" else "div"
    term = site.emit(op, site.x("tensor1", dtype), site.x("tensor2", dtype))
    value = site.get("value", 1)
    if value != 1:
        term = site.emit("mul", term, site.value_of(value, dtype))
    return site.emit("add", a, term)


@rule("prelu", "_prelu_kernel")
def prelu(site: Site) -> Result:
    x, kind = site.x("self"), site.type("self")
    slope = site.x("weight")
    weight = site.type_of(slope)
    if weight.rank == 1 and kind.rank > 1 and weight.shape[0] != 1:
        slope = site.reshape(slope, (*weight.shape, *(1,) * (kind.rank - 2)))
    elif weight.rank == 1:
        slope = site.reshape(slope, ())
    below = site.emit("lt", x, site.scalar(0, kind.dtype))
    return site.emit("where", below, site.emit("mul", x, slope), x)


@rule("threshold")
def threshold(site: Site) -> Result:
    x, dtype = site.x("self"), site.type("self").dtype
    low = site.emit("le", x, site.value_of(site.get("threshold"), dtype))
    return site.emit("where", low, site.value_of(site.get("value"), dtype), x)
