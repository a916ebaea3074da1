"""Activations of the form c * x * gate(x): gelu, silu, hard swish, however the product and the gate's argument are factored.

The product is flattened into a number, x, and a gate; the argument of the gate is read as a polynomial in x. What exporters vary
(where 0.5 stands, x^3 as a power or as products, Horner's rule) is then the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...ir.graph import Node
from .match import TOLERANCE, close, either, first, number, op, scaled, var
from .rebuild import Rebuild

Polynomial = dict[int, float]

_DEGREE, _DEPTH = 3, 8
_TANH = {1: math.sqrt(2 / math.pi), 3: 0.044715 * math.sqrt(2 / math.pi)}


def polynomial(work: Rebuild, value: str, x: str, depth: int = _DEPTH) -> Polynomial | None:
    """The coefficients by power, where `value` is a polynomial in `x` of degree 3 at most."""
    if value == x:
        return {1: 1.0}
    constant = work.scalar(value)
    if constant is not None:
        return {0: constant}
    node = work.producer(value)
    if node is None or depth == 0 or node.op not in ("add", "sub", "mul", "div", "neg", "pow"):
        return None
    parts = [polynomial(work, v, x, depth - 1) for v in node.inputs]
    left, right = parts[0], parts[-1]
    if left is None or right is None:
        return None
    match node.op:
        case "add" | "sub":
            sign = 1.0 if node.op == "add" else -1.0
            total = {k: left.get(k, 0.0) + sign * right.get(k, 0.0) for k in left.keys() | right.keys()}
        case "mul":
            total = _product(left, right)
        case "neg":
            total = {k: -c for k, c in left.items()}
        case "div":
            if set(right) != {0} or right[0] == 0:
                return None
            total = {k: c / right[0] for k, c in left.items()}
        case _:
            if set(right) != {0} or right[0] not in (1.0, 2.0, 3.0):
                return None
            total = {0: 1.0}
            for _ in range(int(right[0])):
                total = _product(total, left)
    return total if max(total) <= _DEGREE else None


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    total: Polynomial = {}
    for i, c in a.items():
        for j, d in b.items():
            total[i + j] = total.get(i + j, 0.0) + c * d
    return total


def _is(found: Polynomial | None, wanted: Polynomial, factor: float = 1.0) -> bool:
    """Equal up to the rounding of constants; what should be 0 is 0."""
    if found is None:
        return False
    return all(
        math.isclose(found.get(k, 0.0), factor * wanted.get(k, 0.0), rel_tol=TOLERANCE, abs_tol=0.0)
        for k in found.keys() | wanted.keys()
    )


@dataclass(frozen=True)
class _Gate:
    """`factor * function(argument)`, function shifted as the op says: 1 + erf(u), 1 + tanh(u), sigmoid(u), clip(u), ..."""

    op: str
    argument: str
    factor: float = 1.0
    low: float = 0.0
    high: float = 0.0


def _gate(work: Rebuild, value: str) -> _Gate | None:
    node = work.producer(value)
    if node is None:
        return None
    match node.op:
        case "sigmoid":
            return _Gate("sigmoid", node.inputs[0])
        case "hard_sigmoid":
            if close(node.attr("alpha"), 1 / 6) and close(node.attr("beta"), 0.5):
                return _Gate("hard_sigmoid", node.inputs[0])
        case "clip":
            return _Gate("clip", node.inputs[0], 1.0, node.attr("min", -math.inf), node.attr("max", math.inf))
        case "min":
            for inner, top in (node.inputs, node.inputs[::-1]):
                relu, high = work.producer(inner, "relu"), work.scalar(top)
                if relu is not None and high is not None:
                    return _Gate("clip", relu.inputs[0], 1.0, 0.0, high)
        case "add":
            for inner, one in (node.inputs, node.inputs[::-1]):
                source, factor = work.producer(inner), 1.0
                if source is not None and (step := scaled(work, source)) is not None:
                    source, factor = work.producer(step[0]), step[1]
                if source is not None and source.op in ("erf", "tanh") and close(work.scalar(one), factor):
                    return _Gate(source.op, source.inputs[0], factor)
    return None


def _composite(work: Rebuild, gate: _Gate, x: str, factor: float) -> tuple[str, dict[str, object]] | None:
    """The op that factor * x * gate is, with its attributes."""
    argument, total = polynomial(work, gate.argument, x), factor * gate.factor
    match gate.op:
        case "erf":
            if close(total, 0.5) and _is(argument, {1: math.sqrt(0.5)}):
                return "gelu", {"approximate": "none"}
        case "tanh":
            if close(total, 0.5) and _is(argument, _TANH):
                return "gelu", {"approximate": "tanh"}
        case "sigmoid":
            if close(total, 1.0) and _is(argument, {1: 1.0}):
                return "silu", {}
            if close(total, 1.0) and _is(argument, _TANH, 2.0):
                return "gelu", {"approximate": "tanh"}
        case "hard_sigmoid":
            if close(total, 1.0) and _is(argument, {1: 1.0}):
                return "hard_swish", {}
        case _:
            six = gate.low == 0.0 and close(gate.high, 6.0) and close(total, 1 / 6) and _is(argument, {0: 3.0, 1: 1.0})
            one = gate.low == 0.0 and close(gate.high, 1.0) and close(total, 1.0) and _is(argument, {0: 0.5, 1: 1 / 6})
            if six or one:
                return "hard_swish", {}
    return None


def _factors(work: Rebuild, value: str, x: str, depth: int = _DEPTH) -> tuple[float, tuple[str, ...]]:
    """A number and what it is multiplied with: products are taken apart down to `x`."""
    if value == x:
        return 1.0, (value,)
    constant = work.scalar(value)
    if constant is not None:
        return constant, ()
    node = work.producer(value)
    return (1.0, (value,)) if node is None or depth == 0 else _factors_of(work, node, x, depth, value)


def _factors_of(work: Rebuild, node: Node, x: str, depth: int, value: str) -> tuple[float, tuple[str, ...]]:
    step = scaled(work, node)
    if step is not None:
        factor, rest = _factors(work, step[0], x, depth - 1)
        return factor * step[1], rest
    if node.op != "mul":
        return 1.0, (value,)
    (a, left), (b, right) = (_factors(work, v, x, depth - 1) for v in node.inputs)
    return a * b, left + right


def _terms(work: Rebuild, node: Node, depth: int = _DEPTH) -> Iterator[str]:
    """Every value that may be x or a gate: the operands of the product, inner products too."""
    if node.op not in ("mul", "div") or depth == 0:
        return
    for value in node.inputs if node.op == "mul" else node.inputs[:1]:
        if work.scalar(value) is None:
            yield value
            inner = work.producer(value)
            if inner is not None:
                yield from _terms(work, inner, depth - 1)


def gated(work: Rebuild, node: Node) -> str | None:
    """c * x * gate(x), for a product or a division by a number."""
    terms = list(dict.fromkeys(_terms(work, node)))[:12]
    for value in terms:
        gate = _gate(work, value)
        if gate is None:
            continue
        for x in terms:
            if x == value or not work.type(x).dtype.is_float:
                continue
            factor, rest = _factors_of(work, node, x, _DEPTH, "")
            if sorted(rest) != sorted((x, value)):
                continue
            found = _composite(work, gate, x, factor)
            if found is not None:
                return work.emit(found[0], x, like=node, **found[1])
    return None


_X = var("x")
_ONE_PLUS = op("add", op("exp", either(op("neg", _X), op("mul", _X, number(-1)))), number(1))
_SIGMOID = either(op("reciprocal", _ONE_PLUS), op("div", number(1), _ONE_PLUS))


def sigmoid(work: Rebuild, node: Node) -> str | None:
    """1 / (1 + exp(-x))"""
    found = first(work, node, _SIGMOID)
    return None if found is None else work.emit("sigmoid", found.value("x"), like=node)
