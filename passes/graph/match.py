"""Patterns over the graph under construction: what a rule looks for, written as the expression it stands for.

    x, eps = var("x"), any_number("eps")
    mean_square = reduced("reduce_mean", op("mul", x, x), "axes")
    norm = op("div", x, op("sqrt", op("add", mean_square, eps)))
    found = first(work, node, norm)         # found.value("x"), found.number("eps"), found.axes("axes")

A name bound twice must mean the same both times. Commutative ops match in either order, with full backtracking. Nothing is
looked through but where `through` or `reduced` says so, and nothing asks for a single use: what is left over is dead code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ...ir.dims import Shape
from ...ir.graph import Node
from .rebuild import Rebuild

COMMUTATIVE = frozenset({"add", "mul", "min", "max", "and", "or", "eq"})
#: Exporters round constants: 0.7071 stands for 1 / sqrt(2), but 0.708 does not.
TOLERANCE = 3e-5

Bound = str | float | tuple[int, ...]


def close(a: float | None, b: float) -> bool:
    """Whether a constant is the one meant."""
    return a is not None and math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=0.0)


@dataclass(frozen=True)
class Match:
    """What the names of a pattern stand for."""

    bound: Mapping[str, Bound] = field(default_factory=dict)

    def bind(self, name: str, thing: Bound) -> Match | None:
        """With one more name; None where it already means something else."""
        if name in self.bound:
            return self if self.bound[name] == thing else None
        return Match({**self.bound, name: thing})

    def value(self, name: str) -> str:
        found = self.bound[name]
        assert isinstance(found, str)
        return found

    def number(self, name: str) -> float:
        found = self.bound[name]
        assert isinstance(found, float)
        return found

    def axes(self, name: str) -> tuple[int, ...]:
        found = self.bound[name]
        assert isinstance(found, tuple)
        return found


@dataclass(frozen=True)
class Pattern:
    """`at_value` gives every way a value fits, `at_node` every way a node fits that is not part of the graph yet."""

    at_value: Callable[[Rebuild, str, Match], Iterator[Match]]
    at_node: Callable[[Rebuild, Node, Match], Iterator[Match]]


def _never(work: Rebuild, node: Node, found: Match) -> Iterator[Match]:
    return iter(())


def var(name: str) -> Pattern:
    """Any value."""

    def at_value(work: Rebuild, value: str, found: Match) -> Iterator[Match]:
        bound = found.bind(name, value) if value else None
        return iter(()) if bound is None else iter((bound,))

    return Pattern(at_value, _never)


def number(wanted: float) -> Pattern:
    """A constant whose elements are all about `wanted`."""

    def at_value(work: Rebuild, value: str, found: Match) -> Iterator[Match]:
        if value and close(work.scalar(value), wanted):
            yield found

    return Pattern(at_value, _never)


def any_number(name: str) -> Pattern:
    """A constant whose elements are all equal."""

    def at_value(work: Rebuild, value: str, found: Match) -> Iterator[Match]:
        scalar = work.scalar(value) if value else None
        bound = None if scalar is None else found.bind(name, scalar)
        if bound is not None:
            yield bound

    return Pattern(at_value, _never)


def op(name: str, *parts: Pattern) -> Pattern:
    """A node of the op `name`, its attributes unseen; a commutative one in either order."""

    def arguments(work: Rebuild, inputs: tuple[str, ...], index: int, found: Match) -> Iterator[Match]:
        if index == len(inputs):
            yield found
            return
        for bound in parts[index].at_value(work, inputs[index], found):
            yield from arguments(work, inputs, index + 1, bound)

    def at_node(work: Rebuild, node: Node, found: Match) -> Iterator[Match]:
        if node.op != name or len(node.inputs) != len(parts):
            return
        yield from arguments(work, node.inputs, 0, found)
        if name in COMMUTATIVE and node.inputs[0] != node.inputs[1]:
            yield from arguments(work, node.inputs[::-1], 0, found)

    def at_value(work: Rebuild, value: str, found: Match) -> Iterator[Match]:
        node = work.producer(value, name)
        if node is not None:
            yield from at_node(work, node, found)

    return Pattern(at_value, at_node)


def either(*patterns: Pattern) -> Pattern:
    """Any of these, the first that fits first."""

    def at_value(work: Rebuild, value: str, found: Match) -> Iterator[Match]:
        for pattern in patterns:
            yield from pattern.at_value(work, value, found)

    def at_node(work: Rebuild, node: Node, found: Match) -> Iterator[Match]:
        for pattern in patterns:
            yield from pattern.at_node(work, node, found)

    return Pattern(at_value, at_node)


def through(ops: frozenset[str], pattern: Pattern) -> Pattern:
    """The pattern, or nodes of `ops` over it."""

    def at_value(work: Rebuild, value: str, found: Match) -> Iterator[Match]:
        yield from pattern.at_value(work, value, found)
        node = work.producer(value)
        if node is not None and node.op in ops:
            yield from at_value(work, node.inputs[0], found)

    return Pattern(at_value, pattern.at_node)


def reduced(name: str, part: Pattern, axes: str) -> Pattern:
    """A reduction that keeps its dims, as an attribute or by a reshape after it. Binds the axes, sorted and not negative."""

    def at_node(work: Rebuild, node: Node, found: Match) -> Iterator[Match]:
        source = node if node.op == name else None
        if node.op == "reshape":
            source = work.producer(node.inputs[0], name)
        if source is None:
            return
        shape = work.shape(source.inputs[0])
        folded = tuple(sorted({a % len(shape) for a in source.attr("axes")}))
        kept = tuple(1 if i in folded else d for i, d in enumerate(shape))
        result = node.attr("shape") if node.op == "reshape" else kept if node.attr("keepdims", True) else None
        bound = found.bind(axes, folded) if result == kept else None
        if bound is not None:
            yield from part.at_value(work, source.inputs[0], bound)

    def at_value(work: Rebuild, value: str, found: Match) -> Iterator[Match]:
        node = work.producer(value)
        if node is not None:
            yield from at_node(work, node, found)

    return Pattern(at_value, at_node)


def first(work: Rebuild, node: Node, pattern: Pattern) -> Match | None:
    """The first way `node` fits."""
    return next(pattern.at_node(work, node, Match()), None)


def every(work: Rebuild, node: Node, pattern: Pattern) -> Iterator[Match]:
    """All ways `node` fits, for rules with conditions a pattern cannot say."""
    return pattern.at_node(work, node, Match())


# -- questions rules ask beside patterns ---------------------------------------------------------------------------


def uses(work: Rebuild, value: str) -> int:
    """How often the graph being rewritten reads a value, outputs included."""
    names = [old for old, new in work.mapping.items() if new == value]
    if value not in work.mapping:
        names.append(value)
    return sum(work.use_count.get(name, 0) for name in dict.fromkeys(names))


def broadcasts_to(shape: Shape, target: Shape) -> bool:
    """Whether `shape` widens to `target` and no further."""
    missing = len(target) - len(shape)
    return missing >= 0 and all(a in (1, b) for a, b in zip(shape, target[missing:], strict=True))


def is_constant(work: Rebuild, value: str) -> bool:
    """A weight, a literal, or computed from these alone. What was found is kept: a value never changes its producer."""
    known, pending = work.computed, [value]
    while pending:
        at = pending[-1]
        node = work.producer(at)
        if at in work.builder.weights or (node is not None and node.op == "fill"):
            known[at] = True
        elif node is None or not node.used or any(known.get(v) is False for v in node.used):
            known[at] = False
        elif missing := [v for v in node.used if v not in known]:
            pending += missing
            continue
        else:
            known[at] = True
        pending.pop()
    return known[value]


def scaled(work: Rebuild, node: Node) -> tuple[str, float] | None:
    """(x, c) where the node is x * c, c * x, x / c or -x with a scalar constant that does not widen x."""
    if node.op == "neg":
        return node.inputs[0], -1.0
    if node.op not in ("mul", "div"):
        return None
    for keep, other in ((0, 1), (1, 0)) if node.op == "mul" else ((0, 1),):
        x, c = node.inputs[keep], node.inputs[other]
        factor = work.scalar(c)
        if factor is None or not broadcasts_to(work.shape(c), work.shape(x)) or not work.type(x).dtype.is_float:
            continue
        if node.op == "mul":
            return x, factor
        if factor != 0:
            return x, 1.0 / factor
    return None
