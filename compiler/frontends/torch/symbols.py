"""Symbolic sizes of an exported program as dims: which symbols there are, what they are called and what bounds they have."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy
import torch

from ....ir.dims import Bounds, Dim, dim_max, dim_min, exact_div, floordiv, mod, symbol
from ....ir.errors import ModelError, Problem, Source
from ..names import identifier
from ..unsupported import Unsupported

#: Bounds of a program beyond this are none at all.
_UNBOUNDED = 1 << 31


@dataclass(frozen=True)
class Axis:
    """A dynamic axis of an input: the program's symbol, and the names it goes by, the first of which is the dim's."""

    input: str
    axis: int
    symbol: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Symbols:
    """`dims` is what each symbol of the program stands for; `bounds` those of the dims that stay symbolic."""

    dims: Mapping[str, Dim]
    bounds: Mapping[str, Bounds]

    def dim(self, size: Any) -> Dim:
        """An extent: an int, a SymInt or a sympy expression. Raises Unsupported for what no dim can express."""
        if isinstance(size, int):
            return size
        expression = size.node.expr if isinstance(size, torch.SymInt) else size
        return _convert(expression, self.dims)

    def shape(self, sizes: Iterable[Any]) -> tuple[Dim, ...]:
        return tuple(self.dim(size) for size in sizes)


def _convert(expression: Any, dims: Mapping[str, Dim]) -> Dim:
    if isinstance(expression, (int, sympy.Integer)):
        return int(expression)
    if isinstance(expression, sympy.Symbol):
        if expression.name not in dims:
            raise Unsupported(f"the size {expression} is found out while the program runs")
        return dims[expression.name]
    name = type(expression).__name__
    if isinstance(expression, sympy.Pow) and expression.exp.is_Integer and int(expression.exp) >= 0:
        base, power = _convert(expression.base, dims), int(expression.exp)
        value: Dim = 1
        for _ in range(power):
            value = value * base
        return value
    if isinstance(expression, (sympy.Add, sympy.Mul)):
        return _folded(expression, dims)
    function = _FUNCTIONS.get(name)
    if function is None:
        raise Unsupported(f"the size {expression} cannot be expressed", "fix one of its dims with --dim NAME=N")
    values = [_convert(argument, dims) for argument in expression.args]
    total = values[0]
    for value in values[1:]:
        total = function(total, value)
    return total


def _folded(expression: Any, dims: Mapping[str, Dim]) -> Dim:
    """A sum, or a product whose rational factors come out even."""
    if isinstance(expression, sympy.Add):
        total: Dim = 0
        for argument in expression.args:
            total = total + _convert(argument, dims)
        return total
    above: Dim = 1
    below: Dim = 1
    for argument in expression.args:
        if isinstance(argument, sympy.Rational) and not isinstance(argument, sympy.Integer):
            above, below = above * int(argument.p), below * int(argument.q)
        elif isinstance(argument, sympy.Pow) and argument.exp.is_Integer and int(argument.exp) < 0:
            below = below * _convert(sympy.Pow(argument.base, -argument.exp), dims)
        else:
            above = above * _convert(argument, dims)
    found = exact_div(above, below)
    if found is None:
        raise Unsupported(f"the size {expression} is no whole number", "fix one of its dims with --dim NAME=N")
    return found


def _quotient(left: Dim, right: Dim) -> Dim:
    found = exact_div(left, right)
    return floordiv(left, right) if found is None else found


_FUNCTIONS: Mapping[str, Callable[[Dim, Dim], Dim]] = {
    "FloorDiv": floordiv,
    "CleanDiv": _quotient,
    "Mod": mod,
    "PythonMod": mod,
    "Max": dim_max,
    "Min": dim_min,
}


def dynamic_axes(inputs: Mapping[str, Any], names: Mapping[tuple[str, int], str]) -> tuple[Axis, ...]:
    """The axes of the inputs, given with the tensors they stand for, that are symbols by themselves.

    `names` holds what the user calls an axis; one without a name is called after the first place it has: `<input>_<axis>`.
    """
    called: dict[str, list[str]] = {}
    places: list[tuple[str, int, str]] = []
    for name, value in inputs.items():
        for axis, size in enumerate(value.shape):
            expression = size.node.expr if isinstance(size, torch.SymInt) else None
            if isinstance(expression, sympy.Symbol):
                places.append((name, axis, expression.name))
                given = names.get((name, axis))
                if given is not None:
                    called.setdefault(expression.name, []).append(given)
    first: dict[str, str] = {}
    for name, axis, what in places:
        first.setdefault(what, f"{name}_{axis}")
    return tuple(
        Axis(name, axis, what, tuple(dict.fromkeys([*called.get(what, ()), first[what], what])))
        for name, axis, what in places
    )


def batch_axes(axes: Iterable[Axis], ranks: Mapping[str, int]) -> tuple[str, ...]:
    """Names of the dims that only ever stand first in an input of rank 2 or more: batches."""
    axes = tuple(axes)
    later = {axis.names[0] for axis in axes if axis.axis > 0}
    return tuple(sorted({a.names[0] for a in axes if a.axis == 0 and ranks[a.input] > 1} - later))


def bounded_axes(axes: Iterable[Axis], constraints: Mapping[Any, Any]) -> set[str]:
    """Names of the dims to which the program itself gives a greatest value."""
    limits = {str(key): _number(value.upper, _UNBOUNDED) for key, value in constraints.items()}
    return {axis.names[0] for axis in axes if limits.get(axis.symbol, _UNBOUNDED) < _UNBOUNDED}


def read_symbols(
    axes: Iterable[Axis], constraints: Mapping[Any, Any], given: Mapping[str, Bounds], model: str
) -> Symbols:
    """Bounds of every symbol: those given, else the program's own where it has an upper one.

    `constraints` are the program's ranges by symbol. A least extent of 2 is how an exporter says that it looked at no smaller
    one: 1 is allowed too. Raises ModelError listing every dim without bounds, every bound beyond the program's range, and every
    bound without a dim.
    """
    own = {str(key): (_number(value.lower, 0), _number(value.upper, _UNBOUNDED)) for key, value in constraints.items()}
    dims: dict[str, str] = {}
    where: dict[str, Axis] = {}
    aliases: dict[str, str] = {}
    for axis in axes:
        name = dims.setdefault(axis.symbol, identifier(axis.names[0]))
        where.setdefault(name, axis)
        aliases |= dict.fromkeys((*axis.names, name), name)
    bounds: dict[str, Bounds] = {}
    problems = []
    source = Source(model)
    for name, bound in given.items():
        if name not in aliases:
            near = difflib.get_close_matches(name, sorted(aliases), 1, 0.4)
            listed = ", ".join(dict.fromkeys(dims.values()))
            known = f"its dims are {listed}" if listed else "it has no dynamic dims; see dynamic_shapes"
            problems.append(
                Problem(
                    f"the program has no dim {name!r}",
                    source=source,
                    hint=f"did you mean {near[0]!r}?" if near else known,
                )
            )
        else:
            bounds[aliases[name]] = bound
    for what, name in dims.items():
        least, greatest = own.get(what, (0, _UNBOUNDED))
        least = least if least > 2 else 0
        if name not in bounds:
            if greatest < _UNBOUNDED:
                bounds[name] = Bounds(max(1, least), greatest, greatest)
                continue
            axis = where[name]
            text = f"dim {name!r} (axis {axis.axis} of {axis.input!r}) is dynamic and has no bounds"
            problems.append(Problem(text, source=source, hint=f"--dim {name}=MIN:TYPICAL:MAX or --dim {name}=N"))
        elif bounds[name].min < least or bounds[name].max > greatest:
            text = f"dim {name!r} is to be {bounds[name].min} to {bounds[name].max}; the program holds for {least} to {greatest}"
            problems.append(Problem(text, source=source, hint="export it with other ranges, or narrow the bounds"))
    if problems:
        raise ModelError(
            f"{model}: the dynamic dims of the program do not match the bounds given", dict.fromkeys(problems)
        )
    values: dict[str, Dim] = {}
    for what, name in dims.items():
        fixed = bounds[name].min == bounds[name].max
        values[what] = bounds[name].min if fixed else symbol(name)
    used = {name for name in dims.values() if bounds[name].min != bounds[name].max}
    return Symbols(values, {name: bounds[name] for name in dict.fromkeys(dims.values()) if name in used})


def _number(limit: Any, otherwise: int) -> int:
    """A limit of a range; infinities give `otherwise`."""
    try:
        return min(int(limit), _UNBOUNDED)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return otherwise
