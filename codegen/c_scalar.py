"""Primitives as C: one element at a time for every dtype, and a vector of f32 (with bool masks) at a time."""

from __future__ import annotations

import math

from ..ir.types import DType, bool_, f32, f64

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
    **{name: f"vf_{name}" for name in ("sqrt", "exp", "log", "tanh", "sigmoid", "erf", "sin", "cos")},
    **{name: f"vf_{name}" for name in ("floor", "ceil", "round", *_COMPARE)},
}
_VECTOR_MASKS = {"and": "vm_and", "or": "vm_or", "xor": "vm_xor", "not": "vm_not"}


def literal(value: float | int | bool, dtype: DType) -> str:
    """A C literal of exactly this value."""
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
    if function == "cast":
        return _cast(args[0], kind, dtype)
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


def _cast(arg: str, source: DType, target: DType) -> str:
    if source.is_float and not target.is_float:
        return f"({target.c})({arg} != 0)" if target == bool_ else f"({target.c})st_to_int({arg})"
    if target == bool_:
        return f"({arg} != 0)"
    return f"({target.c})({arg})"


def has_vector_code(function: str, kinds: list[DType], dtype: DType) -> bool:
    """Whether a primitive has a form on vectors: f32 lanes, bools as masks."""
    if any(k not in (f32, bool_) for k in (*kinds, dtype)):
        return False
    if function == "select":
        return dtype == f32
    if function == "cast":
        return kinds[0] == bool_ and dtype == f32
    if function == "isnan":
        return True
    if kinds[0] == bool_:
        return function in _VECTOR_MASKS
    return function in _VECTOR_CALLS


def vector_code(function: str, args: list[str], kinds: list[DType]) -> str:
    """The C expression of a primitive on vectors."""
    if function == "select":
        return f"vf_select({', '.join(args)})"
    if function == "cast":
        return f"vf_select({args[0]}, vf_set1(1.0f), vf_zero())"
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
