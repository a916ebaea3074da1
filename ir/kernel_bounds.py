"""Whether a kernel stays inside its operands and writes every element once, at the bounds of its dims.

At one choice of the dims every extent and coefficient is a number, and the range of an affine index over independent axes
is exact. Guards narrow it: under `0 <= 2*y + w - 1 < h` an index that contains a multiple of `2*y + w` takes that range
instead. Values that are looked up are bounded by what clamps them, and by guards that compare just them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product as choices
from math import prod

from .dims import Bounds, Dim, evaluate
from .kernel import Apply, Axis, Const, Guarded, Index, Position, Read, Scalar, Store, Strided, children
from .types import DType

Range = tuple[int, int]  # both inclusive
HUGE = 1 << 62
_NEGATED = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def corners(symbols: Mapping[str, Bounds]) -> Iterator[dict[str, int]]:
    """Choices of the dims worth looking at: all mixes of least and greatest, the typical one; few where symbols are many."""
    yield {name: b.typical for name, b in symbols.items()}
    if len(symbols) > 3:
        yield {name: b.min for name, b in symbols.items()}
        yield {name: b.max for name, b in symbols.items()}
        return
    for values in choices(*(sorted({b.min, b.max}) for b in symbols.values())):
        yield dict(zip(symbols, values, strict=True))


@dataclass(frozen=True)
class Point:
    """One choice of the dims inside some loops: extents of the axes, and what guards say about sums of axes and lookups."""

    dims: Mapping[str, int]
    extents: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[tuple[tuple[str, int], ...], Range] = field(default_factory=dict)
    values: Mapping[Scalar, Range] = field(default_factory=dict)

    def number(self, dim: Dim) -> int:
        return evaluate(dim, self.dims)

    def inside(self, axes: Sequence[Axis]) -> Point:
        return replace(self, extents={**self.extents, **{axis.name: self.number(axis.extent) for axis in axes}})

    @property
    def reached(self) -> bool:
        """Whether anything runs here at all."""
        known = (*self.facts.values(), *self.values.values())
        return all(e > 0 for e in self.extents.values()) and all(low <= high for low, high in known)

    # -- ranges ----------------------------------------------------------------------------------------------------

    def linear(self, index: Index) -> dict[str, int]:
        """The index's coefficients as numbers."""
        found: dict[str, int] = {}
        for axis, coefficient in index.terms:
            found[axis] = found.get(axis, 0) + self.number(coefficient)
        return {axis: c for axis, c in found.items() if c}

    def axes_range(self, terms: Mapping[str, int]) -> Range:
        low = sum(min(0, c * (self.extents[axis] - 1)) for axis, c in terms.items())
        return low, sum(max(0, c * (self.extents[axis] - 1)) for axis, c in terms.items())

    def terms_range(self, terms: Mapping[str, int]) -> Range:
        """The tightest of: the axes alone, with one guard, with all guards one after the other."""
        low, high = self.axes_range(terms)
        for selection in ([fact] for fact in self.facts), [list(self.facts)]:
            for facts in selection:
                rest, total = dict(terms), (0, 0)
                for fact in facts:
                    rest, part = self._take(rest, fact)
                    total = _plus(total, part)
                total = _plus(total, self.axes_range(rest))
                low, high = max(low, total[0]), min(high, total[1])
        return low, high

    def _take(self, terms: dict[str, int], fact: tuple[tuple[str, int], ...]) -> tuple[dict[str, int], Range]:
        """`terms` without a multiple of the guarded sum, and that multiple's range."""
        name, unit = fact[0]
        scale, odd = divmod(terms.get(name, 0), unit)
        if not scale or odd or any(terms.get(axis, 0) != scale * c for axis, c in fact):
            return terms, (0, 0)
        return {a: c for a, c in terms.items() if a not in dict(fact)}, _times(self.facts[fact], scale)

    def index_range(self, index: Index) -> Range:
        base = self.number(index.base)
        total = _plus((base, base), self.terms_range(self.linear(index)))
        for expression, coefficient in index.gathers:
            total = _plus(total, _times(self.value_range(expression), self.number(coefficient)))
        return total

    def value_range(self, expression: Scalar) -> Range:
        """Bounds of an integer expression."""
        if expression in self.values:
            return self.values[expression]
        whole = _dtype_range(expression.dtype)
        match expression:
            case Const(value) if not isinstance(value, float):
                return int(value), int(value)
            case Position(index):
                return self.index_range(index)
            case Guarded(_, value, otherwise):
                return _union(self.value_range(value), self.value_range(otherwise))
            case Apply(function, args) if whole is not None and all(_dtype_range(a.dtype) for a in args):
                found = _apply_range(function, [self.value_range(a) for a in args])
                return found if found and whole[0] <= found[0] and found[1] <= whole[1] else whole
        return whole or (-HUGE, HUGE)

    # -- guards ----------------------------------------------------------------------------------------------------

    def given(self, condition: Scalar, holds: bool) -> Point:
        """What is known where a condition holds, or does not."""
        if not isinstance(condition, Apply):
            return self
        if condition.function == ("and" if holds else "or"):
            point = self
            for part in condition.args:
                point = point.given(part, holds)
            return point
        if condition.function not in _NEGATED:
            return self
        relation = condition.function if holds else _NEGATED[condition.function]
        left, right = condition.args
        if not isinstance(left, Position) or not isinstance(right, Const | Position):
            return self
        terms, base = self.linear(left.index), self.number(left.index.base)
        low, high = self.value_range(right)
        low, high = {
            "lt": (-HUGE, high - 1),
            "le": (-HUGE, high),
            "gt": (low + 1, HUGE),
            "ge": (low, HUGE),
            "eq": (low, high),
            "ne": (-HUGE, HUGE),
        }[relation]
        if left.index.gathers:
            ((value, factor), *others) = left.index.gathers
            if terms or others or factor != 1:
                return self
            known = self.value_range(value)
            found = max(known[0], low - base), min(known[1], high - base)
            return replace(self, values={**self.values, value: found})
        key = tuple(sorted(terms.items()))
        if not key:  # a constant: the branch is taken or not
            return self if low <= base <= high else replace(self, facts={**self.facts, (("", 1),): (1, 0)})
        known = self.facts.get(key, self.axes_range(terms))
        return replace(self, facts={**self.facts, key: (max(known[0], low - base), min(known[1], high - base))})

    # -- what goes wrong -------------------------------------------------------------------------------------------

    def bad_read(self, expression: Scalar, sizes: Mapping[int, int]) -> str | None:
        """The first read that may leave its operand."""
        if not self.reached:
            return None
        if isinstance(expression, Guarded):
            return (
                self.bad_read(expression.condition, sizes)
                or self.given(expression.condition, True).bad_read(expression.value, sizes)
                or self.given(expression.condition, False).bad_read(expression.otherwise, sizes)
            )
        if isinstance(expression, Read) and (found := self.outside(expression.operand, expression.index, sizes)):
            return f"reads {found}"
        return next((bad for child in children(expression) if (bad := self.bad_read(child, sizes))), None)

    def outside(self, operand: int, index: Index, sizes: Mapping[int, int]) -> str | None:
        if operand not in sizes:
            return None
        low, high = self.index_range(index)
        return None if low >= 0 and high < sizes[operand] else self.message(operand, low, high, sizes[operand])

    def message(self, operand: int, low: int, high: int, size: int) -> str:
        at = "".join(f", {name} = {value}" for name, value in self.dims.items())
        return f"a{operand} at {low}..{high}, which has {size} elements{at}"

    def bad_strided(self, strided: Strided, extents: Sequence[Dim], sizes: Mapping[int, int]) -> str | None:
        """A strided operand of a root that leaves its buffer. `extents` has one for each stride, more walk with stride 1."""
        numbers = [self.number(e) for e in extents]
        if strided.operand not in sizes or 0 in numbers:
            return None
        steps = [self.number(s) for s in strided.strides]
        steps += [1] * (len(numbers) - len(steps))
        reach = [s * (e - 1) for s, e in zip(steps, numbers, strict=True)]
        low, high = (self.number(strided.offset) + sum(pick(0, r) for r in reach) for pick in (min, max))
        size = sizes[strided.operand]
        return None if low >= 0 and high < size else f"reads {self.message(strided.operand, low, high, size)}"

    def written_twice(self, store: Store, axes: Sequence[Axis]) -> bool:
        """Whether two points of `axes` may store the same element: each stride must clear what the smaller ones reach."""
        terms, reach = self.linear(store.index), 0
        if store.index.gathers:
            return True
        for stride, extent in sorted((abs(terms.get(a.name, 0)), self.extents[a.name]) for a in axes):
            if extent > 1:
                if stride <= reach:
                    return True
                reach += stride * (extent - 1)
        return False

    def count(self, axes: Sequence[Axis]) -> int:
        return prod(self.extents[axis.name] for axis in axes)


def _plus(a: Range, b: Range) -> Range:
    return a[0] + b[0], a[1] + b[1]


def _times(a: Range, factor: int) -> Range:
    return min(a[0] * factor, a[1] * factor), max(a[0] * factor, a[1] * factor)


def _union(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), max(a[1], b[1])


def _dtype_range(dtype: DType) -> Range | None:
    if dtype.kind == "bool":
        return 0, 1
    if not dtype.is_integer:
        return None
    return (
        (0, (1 << dtype.bits) - 1) if dtype.kind == "uint" else (-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1)
    )


def _apply_range(function: str, args: Sequence[Range]) -> Range | None:
    """Bounds of a primitive of integers, where they are easy."""
    match function, args:
        case "cast", [a]:
            return a
        case "neg", [a]:
            return -a[1], -a[0]
        case "abs", [a]:
            return (0 if a[0] <= 0 <= a[1] else min(abs(a[0]), abs(a[1]))), max(abs(a[0]), abs(a[1]))
        case "add", [a, b]:
            return _plus(a, b)
        case "sub", [a, b]:
            return a[0] - b[1], a[1] - b[0]
        case "min", [a, b]:
            return min(a[0], b[0]), min(a[1], b[1])
        case "max", [a, b]:
            return max(a[0], b[0]), max(a[1], b[1])
        case "div", [a, b] if a[0] >= 0 and b[0] > 0:
            return a[0] // b[1], a[1] // b[0]
        case "select", [_, a, b]:
            return _union(a, b)
    return None
