"""Arithmetic on the elements of known contents: `int`, `Expr` or, where shapes pass through floating point, `float`.

Symbolic operands are decided by the bounds of their symbols; what the bounds do not decide raises Undecided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Union

from ...ir.dims import (
    Bounds,
    Dim,
    Expr,
    Shape,
    ceildiv,
    dim_max,
    dim_min,
    exact_div,
    floordiv,
    interval,
    mod,
    substitute,
    symbols_of,
    upper,
)

Scalar = Union[int, float, Expr]
#: Names of the symbols that stand for a position along an axis, in known contents only.
AXIS = "_axis"
#: Products of polynomials have so many terms at most.
_TERMS = 1 << 12


class Undecided(Exception):
    """The bounds of the dims do not decide the result."""


def axis_name(axis: int) -> str:
    return f"{AXIS}{axis}"


def used_axes(value: Scalar) -> frozenset[int]:
    """The axes whose position `value` depends on."""
    if not isinstance(value, Expr):
        return frozenset()
    return frozenset(int(name[len(AXIS) :]) for name in symbols_of(value) if name.startswith(AXIS))


def rename(value: Scalar, mapping: Mapping[int, Dim]) -> Scalar:
    """`value` with the position along axis k replaced by mapping[k]."""
    if not isinstance(value, Expr) or not mapping:
        return value
    return substitute(value, {axis_name(axis): to for axis, to in mapping.items()})


def _slope(value: Expr, name: str) -> int | None:
    """The factor of a symbol that occurs only linearly with a constant factor; else None."""
    found = 0
    for monomial, coefficient in value.terms:
        if monomial == (name,):
            found = coefficient
        elif any(
            a == name if isinstance(a, str) else name in symbols_of(a.left) | symbols_of(a.right) for a in monomial
        ):
            return None
    return found


@dataclass(frozen=True)
class Facts:
    """What is known about symbols: the bounds of the model's dims, and the extents that positions run over."""

    symbols: Mapping[str, Bounds]
    shape: Shape = ()

    def over(self, shape: Shape) -> Facts:
        return Facts(self.symbols, shape)

    def range(self, value: Dim) -> tuple[int, int]:
        """Least and greatest value `value` may take."""
        if isinstance(value, int):
            return value, value
        axes = used_axes(value)
        bounds = dict(self.symbols)
        for axis in axes:
            bounds[axis_name(axis)] = Bounds(0, 0, max(0, upper(self.shape[axis], self.symbols) - 1))
        low, high = interval(value, bounds)
        least: Dim = value
        greatest: Dim = value
        for axis in axes:
            slope = _slope(value, axis_name(axis))
            if slope is None:
                return low, high
            last = self.shape[axis] - 1
            least = rename(least, {axis: last if slope < 0 else 0})  # type: ignore[assignment]
            greatest = rename(greatest, {axis: 0 if slope < 0 else last})  # type: ignore[assignment]
        return max(low, interval(least, self.symbols)[0]), min(high, interval(greatest, self.symbols)[1])

    def at_least(self, left: Dim, right: Dim) -> bool:
        """True where left >= right surely holds."""
        return self.range(left - right)[0] >= 0

    def less(self, left: Scalar, right: Scalar) -> bool:
        if not isinstance(left, Expr) and not isinstance(right, Expr):
            return left < right
        low, high = self.range(_minus(left, right))
        if high < 0:
            return True
        if low >= 0:
            return False
        raise Undecided

    def equal(self, left: Scalar, right: Scalar) -> bool:
        if not isinstance(left, Expr) and not isinstance(right, Expr):
            return left == right
        difference = _minus(left, right)
        if difference == 0:
            return True
        low, high = self.range(difference)
        if low > 0 or high < 0:
            return False
        raise Undecided

    def minimum(self, left: Dim, right: Dim) -> Dim:
        if self.at_least(right, left):
            return left
        return right if self.at_least(left, right) else dim_min(left, right)

    def maximum(self, left: Dim, right: Dim) -> Dim:
        if self.at_least(left, right):
            return left
        return right if self.at_least(right, left) else dim_max(left, right)

    def truncated_div(self, left: Scalar, right: Scalar) -> Scalar:
        """Integer division as ONNX has it: towards zero."""
        a, b = integer(left), integer(right)
        if isinstance(a, int) and isinstance(b, int):
            if b == 0:
                raise Undecided
            return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        exact = exact_div(a, b)
        if exact is not None and self.range(b)[0] > 0:
            return exact
        if self.range(a)[0] >= 0 and self.range(b)[0] > 0:
            return floordiv(a, b)
        raise Undecided

    def remainder(self, left: Scalar, right: Scalar) -> Scalar:
        """The remainder with the divisor's sign."""
        a, b = integer(left), integer(right)
        if isinstance(a, int) and isinstance(b, int) and b:
            return a % b
        if self.range(b)[0] > 0:
            return mod(a, b)
        raise Undecided

    def clamp(self, value: Dim, low: Dim, high: Dim) -> Dim:
        return self.maximum(low, self.minimum(value, high))

    def position(self, value: Dim, extent: Dim) -> Dim:
        """An index that may count from the end, made non-negative. Raises Undecided."""
        return value + extent if self.less(value, 0) else value

    def window(self, start: Dim, end: Dim, step: int, extent: Dim) -> tuple[Dim, Dim]:
        """ONNX's Slice of an axis as (first element, count). Raises Undecided where a sign depends on a dim."""
        start, end = self.position(start, extent), self.position(end, extent)
        if step > 0:
            start, end = self.clamp(start, 0, extent), self.clamp(end, 0, extent)
            return start, self.maximum(0, ceildiv(end - start, step))
        if extent == 0:
            return 0, 0
        start = self.clamp(start, 0, extent - 1)
        end = self.clamp(end, -1, extent - 1)
        return start, self.maximum(0, ceildiv(start - end, -step))


def integer(value: Scalar) -> Dim:
    """A whole number as a dim; raises Undecided for a fraction."""
    if isinstance(value, float):
        if not value.is_integer():
            raise Undecided
        return int(value)
    return value


def _both(left: Scalar, right: Scalar, function: Callable[..., Scalar]) -> Scalar:
    if isinstance(left, Expr) or isinstance(right, Expr):
        return function(integer(left), integer(right))
    return function(left, right)


def plus(left: Scalar, right: Scalar) -> Scalar:
    return _both(left, right, lambda a, b: a + b)


def _minus(left: Scalar, right: Scalar) -> Dim:
    return integer(left) - integer(right)


def minus(left: Scalar, right: Scalar) -> Scalar:
    return _both(left, right, lambda a, b: a - b)


def times(left: Scalar, right: Scalar) -> Scalar:
    for a, b in ((left, right), (right, left)):
        if isinstance(a, Expr) and isinstance(b, float) and not b.is_integer():
            divisor = 1 / b  # a scale such as 0.5
            exact = exact_div(a, int(divisor)) if b and divisor.is_integer() else None
            if exact is None:
                raise Undecided
            return exact
    if isinstance(left, Expr) and isinstance(right, Expr) and len(left.terms) * len(right.terms) > _TERMS:
        raise Undecided
    return _both(left, right, lambda a, b: a * b)


def quotient(left: Scalar, right: Scalar) -> Scalar:
    """Division of real numbers."""
    if isinstance(left, Expr) or isinstance(right, Expr):
        exact = exact_div(integer(left), integer(right))
        if exact is None:
            raise Undecided
        return exact
    if right == 0:
        raise Undecided
    return left / right


def negate(value: Scalar) -> Scalar:
    return -value


def floor(value: Scalar) -> Scalar:
    return float(math.floor(value)) if isinstance(value, float) and math.isfinite(value) else value


def ceil(value: Scalar) -> Scalar:
    return float(math.ceil(value)) if isinstance(value, float) and math.isfinite(value) else value


def truncate(value: Scalar) -> Scalar:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Undecided
        return int(value)
    return value


def square_root(value: Scalar) -> Scalar:
    if isinstance(value, Expr) or value < 0:
        raise Undecided
    return math.sqrt(value)
