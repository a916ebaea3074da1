"""Primitives as C: one element at a time for every dtype, and a vector of f32 (with bool masks) at a time."""

from __future__ import annotations

import math

import numpy as np

from ..ir.narrow import FORMATS, narrowed
from ..ir.scalars import CASTS
from ..ir.types import DType, bool_, f16, f32, f64, i32, u64

_INFIX = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_F32_CALLS = {
    "exp",
    "log",
    "tanh",
    "sigmoid",
    "erf",
    "sin",
    "cos",
    "pow",
    "min",
    "max",
    "at_most",
    "at_least",
    "sqrt",
    "floor",
    "ceil",
    "round",
}
#: Functions of the C library, computed in double and rounded once.
_LIBRARY_CALLS = ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")
_F64_CALLS = {
    **{name: name for name in ("exp", "log", "tanh", "erf", "sin", "cos", "pow", "sqrt", "floor", "ceil")},
    "round": "nearbyint",
    "min": "st_min_f64",
    "max": "st_max_f64",
    "sigmoid": "st_sigmoid_f64",
}
_VECTOR_CALLS = {
    **{name: f"vf_{name}" for name in ("add", "sub", "mul", "div", "min", "max", "neg", "abs", "pow")},
    "at_most": "vf_at_most",
    "at_least": "vf_at_least",
    **{name: f"vf_{name}" for name in ("sqrt", "exp", "log", "tanh", "sigmoid", "erf", "sin", "cos")},
    **{name: f"vf_{name}" for name in ("floor", "ceil", "round", *_COMPARE)},
}
_VECTOR_MASKS = {"and": "vm_and", "or": "vm_or", "xor": "vm_xor", "not": "vm_not"}


def literal(value: float | int | bool, dtype: DType) -> str:
    """A C literal of exactly this value; of a narrow float its bits."""
    if dtype.is_float and dtype.is_narrow:
        return hex(int(narrowed(np.array(float(value)), dtype).view(f"u{dtype.bytes}")))
    if dtype.is_float:
        number = float(value)
        if math.isnan(number):
            return "NAN"
        if math.isinf(number):
            return "INFINITY" if number > 0 else "(-INFINITY)"
        text = number.hex() + ("f" if dtype == f32 else "")
        return f"({text})" if number < 0 else text
    if dtype == bool_:
        return "1" if value else "0"
    if dtype.kind == "uint":
        return f"{int(value)}u" if dtype.bits < 64 else f"{int(value)}ull"
    return f"(-{-int(value) - 1}ll - 1)" if value < 0 else f"{int(value)}ll"


def scalar_code(function: str, args: list[str], kinds: list[DType], dtype: DType) -> str:
    """The C expression of a primitive on scalars; `kinds` are the arguments' dtypes."""
    kind = kinds[-1] if kinds else dtype
    if function == "select":
        return f"({args[0]} ? {args[1]} : {args[2]})"
    if function == "bitcast":
        return _bitcast(args[0], kind, dtype)
    if function in CASTS:
        return _cast(args[0], kind, dtype, function.removeprefix("cast").removeprefix("_"))
    if function in _COMPARE:
        return f"({args[0]} {_COMPARE[function]} {args[1]})"
    if function == "not":
        return f"(!{args[0]})" if kind == bool_ else f"({dtype.c})(~{args[0]})"
    if function == "isnan":
        return f"({args[0]} != {args[0]})"
    if function in _INFIX:
        return f"({dtype.c})({args[0]} {_INFIX[function]} {args[1]})"
    if dtype.is_float:
        return _float_code(function, args, dtype)
    return _integer_code(function, args, dtype)


def _float_code(function: str, args: list[str], dtype: DType) -> str:
    tail = "f" if dtype == f32 else ""
    match function:
        case "neg":
            return f"(-{args[0]})"
        case "abs":
            return f"fabs{tail}({args[0]})"
        case "div":
            return f"({args[0]} / {args[1]})"
        case "fmod" | "mod":
            return f"fmod{tail}({args[0]}, {args[1]})"
    if function in _LIBRARY_CALLS:
        return f"({dtype.c}){function}({args[0]})"
    name = f"sf_{function}" if dtype == f32 and function in _F32_CALLS else _F64_CALLS[function]
    return f"{name}({', '.join(args)})"


def _integer_code(function: str, args: list[str], dtype: DType) -> str:
    sign = "unsigned" if dtype.kind == "uint" else "signed"
    match function:
        case "neg":
            return f"({dtype.c})(-{args[0]})"
        case "abs":
            return args[0] if dtype.kind == "uint" else f"({dtype.c})({args[0]} < 0 ? -{args[0]} : {args[0]})"
        case "min" | "max":
            relation = "<" if function == "min" else ">"
            return f"({args[0]} {relation} {args[1]} ? {args[0]} : {args[1]})"
        case "div" | "mod" | "fmod" | "pow":
            return f"({dtype.c})st_{function}_{sign}({args[0]}, {args[1]})"
        case "shift_left" | "shift_right":
            return f"({dtype.c})st_{function}_{sign}({args[0]}, {args[1]}, {dtype.bits})"
        case "floor" | "ceil" | "round":
            return args[0]
    raise KeyError(f"no C for {function} on {dtype}")


def _cast(arg: str, source: DType, target: DType, how: str) -> str:
    """`how` a narrow float is rounded: saturated, down, nearest or nearest_saturated; empty for the usual way."""
    if source.is_narrow:
        arg, source = (f"st_{source}_value({arg})" if source.is_float else f"st_wrap_{source}({arg})"), source.wide
    if target.is_narrow and target.is_float:
        if (source, target, how) == (f64, f16, ""):
            return f"st_f16_of_f64({arg})"
        return f"st_{target}_{how or 'of'}((float)({arg}))"
    if target == bool_:
        return f"({arg} != 0)"
    if source.is_float and not target.is_float:
        arg = f"{'st_to_u64' if target == u64 else 'st_to_i32' if target.bits < 32 or target == i32 else 'st_to_int'}({arg})"
    return f"st_wrap_{target}({arg})" if target.is_narrow else f"({target.c})({arg})"


def _bitcast(arg: str, source: DType, target: DType) -> str:
    if target == bool_:
        return f"({arg} != 0)"
    if source in (f32, f64):
        arg = f"st_bits_of_{source}({arg})"
    if target in (f32, f64):
        return f"st_{target}_of_bits((uint{target.bits}_t)({arg}))"
    if target.bits < 8:
        return f"st_wrap_{target}({arg})" if target.is_integer else f"({target.c})(({arg}) & 15)"
    return f"({target.c})({arg})"


def has_lanes(dtype: DType) -> bool:
    """Whether vectors hold elements of a type: as floats, which those of narrow types are in vectors, or as masks."""
    return dtype in (f32, bool_) or dtype in FORMATS


def casts_lanes(dtype: DType) -> bool:
    """Whether vectors load integers of a type as floats, and store floats as such integers."""
    return dtype.is_integer and (dtype.bits < 32 or dtype == i32)


def has_vector_code(function: str, kinds: list[DType], dtype: DType) -> bool:
    """Whether a primitive has a form on vectors: lanes of floats, bools as masks."""
    if not all(map(has_lanes, (*kinds, dtype))):
        return False
    if function == "select":
        return dtype != bool_
    if function in ("cast", "cast_saturated"):
        return dtype != bool_
    if function == "isnan":
        return True
    if kinds[0] == bool_:
        return function in _VECTOR_MASKS
    return function in _VECTOR_CALLS and dtype in (f32, bool_)


def vector_code(function: str, args: list[str], kinds: list[DType], dtype: DType) -> str:
    """The C expression of a primitive on vectors."""
    if function == "select":
        return f"vf_select({', '.join(args)})"
    if function in ("cast", "cast_saturated"):
        found = f"vf_select({args[0]}, vf_set1(1.0f), vf_zero())" if kinds[0] == bool_ else args[0]
        if dtype == f32 or (kinds[0] == dtype and function == "cast"):
            return found
        return f"vf_{'saturate' if function == 'cast_saturated' else 'round'}_{dtype}({found})"
    if function == "isnan":
        return f"vf_ne({args[0]}, {args[0]})"
    table = _VECTOR_MASKS if kinds[0] == bool_ else _VECTOR_CALLS
    return f"{table[function]}({', '.join(args)})"


def accumulator_type(dtype: DType) -> DType:
    """What a scalar sum is kept in: one long chain of f32 additions would lose digits."""
    return f64 if dtype == f32 else dtype


def neutral(function: str, dtype: DType) -> str:
    """The neutral element of a fold, as a C literal."""
    if function in ("sum", "prod"):
        return literal(0 if function == "sum" else 1, dtype)
    if dtype.is_float:
        return literal(-math.inf if function == "max" else math.inf, dtype)
    if dtype == bool_:
        return literal(function == "min", dtype)
    return literal(dtype.limits[function != "max"], dtype)


FOLD_AS = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}
