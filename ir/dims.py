"""Sizes that may be symbolic: integer polynomials over named dims, floor divisions, remainders, minima and maxima.

A dim is an `int` or an `Expr`; every operation folds to `int` as soon as nothing symbolic is left, so code that only
meets constants never sees an `Expr`. Expressions are canonical: equal polynomials are equal objects and print alike.
All symbols stand for integers >= 0 within declared bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Union

Atom = Union[str, "Call"]
Monomial = tuple[Atom, ...]


@dataclass(frozen=True)
class Bounds:
    """What a symbol may be: least, typical (what costs are computed at) and greatest value, all inclusive."""

    min: int = 1
    typical: int = 1
    max: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.typical <= self.max:
            raise ValueError(f"bounds must hold 0 <= min <= typical <= max, got {self.min}:{self.typical}:{self.max}")


@dataclass(frozen=True)
class Call:
    """A non-polynomial atom: floordiv, mod, min or max of two dims."""

    function: str
    left: Dim
    right: Dim

    def __str__(self) -> str:
        return f"{self.function}({self.left}, {self.right})"


def _atom_key(atom: Atom) -> tuple[int, str]:
    return (0, atom) if isinstance(atom, str) else (1, str(atom))


@dataclass(frozen=True)
class Expr:
    """A polynomial: sorted (monomial, non-zero coefficient) pairs with at least one non-empty monomial."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) + coefficient
        return _make(total)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return _make({m: -c for m, c in self.terms})

    def __sub__(self, other: Dim) -> Dim:
        return self + (-other)

    def __rsub__(self, other: Dim) -> Dim:
        return (-self) + other

    def __mul__(self, other: Dim) -> Dim:
        total: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                monomial = tuple(sorted(m1 + m2, key=_atom_key))
                total[monomial] = total.get(monomial, 0) + c1 * c2
        return _make(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return mod(other, self)

    def __bool__(self) -> bool:
        raise TypeError(f"the symbolic dim {self} has no truth value; compare with ==, or use bounds()")

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            factors = "*".join(str(a) for a in monomial)
            magnitude = abs(coefficient)
            body = factors if factors and magnitude == 1 else "*".join(filter(None, (str(magnitude), factors)))
            sign = "-" if coefficient < 0 else "+"
            text += f" {sign} {body}" if text else (f"-{body}" if sign == "-" else body)
        return text

    __repr__ = __str__


Dim = Union[int, Expr]
Shape = tuple[Dim, ...]


def _terms(dim: Dim) -> Iterable[tuple[Monomial, int]]:
    return dim.terms if isinstance(dim, Expr) else (((), dim),)


def _make(total: Mapping[Monomial, int]) -> Dim:
    terms = [(m, c) for m, c in total.items() if c]
    if not terms:
        return 0
    if len(terms) == 1 and terms[0][0] == ():
        return terms[0][1]
    terms.sort(key=lambda t: (-len(t[0]), tuple(_atom_key(a) for a in t[0])))
    return Expr(tuple(terms))


def symbol(name: str) -> Expr:
    """The dim `name`."""
    if not name.isidentifier():
        raise ValueError(f"a dim's name must be an identifier, got {name!r}")
    return Expr((((name,), 1),))


def symbol_of(dim: Dim) -> str | None:
    """The name of the symbol that `dim` is, if it is one by itself."""
    if not isinstance(dim, Expr) or len(dim.terms) != 1:
        return None
    ((monomial, coefficient),) = dim.terms
    name = monomial[0] if len(monomial) == 1 and coefficient == 1 else None
    return name if isinstance(name, str) else None


def _call(function: str, left: Dim, right: Dim) -> Expr:
    return Expr((((Call(function, left, right),), 1),))


def _split(dim: Dim, divisor: int) -> tuple[Dim, Dim]:
    """dim = divisor * quotient + rest, where rest keeps only the terms that `divisor` does not divide."""
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in _terms(dim):
        if coefficient % divisor == 0:
            quotient[monomial] = coefficient // divisor
        else:
            rest[monomial] = coefficient
    return _make(quotient), _make(rest)


def exact_div(left: Dim, right: Dim) -> Dim | None:
    """left / right when right divides left as a polynomial (term by term for a monomial divisor), else None."""
    if left == right:
        return 1
    if isinstance(right, int):
        if right == 0:
            return None
        quotient, rest = _split(left, right)
        return quotient if rest == 0 else None
    if isinstance(left, int):
        return 0 if left == 0 else None
    if len(right.terms) != 1:
        # a polynomial divisor: try left = right * q with q from the leading terms (enough for q constant or monomial)
        (lead_m, lead_c) = right.terms[0]
        first = exact_div(_make(dict([left.terms[0]])), _make({lead_m: lead_c}))
        if first is None or right * first != left:
            return None
        return first
    (divisor, scale) = right.terms[0]
    result: dict[Monomial, int] = {}
    for monomial, coefficient in left.terms:
        left_over = list(monomial)
        for atom in divisor:
            if atom not in left_over:
                return None
            left_over.remove(atom)
        if coefficient % scale:
            return None
        result[tuple(left_over)] = coefficient // scale
    return _make(result)


def floordiv(left: Dim, right: Dim) -> Dim:
    """floor(left / right); right must be positive."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    exact = exact_div(left, right)
    if exact is not None:
        return exact
    if isinstance(right, int) and right > 0:
        quotient, rest = _split(left, right)
        if isinstance(rest, int):
            return quotient + rest // right
        if quotient != 0:
            return quotient + floordiv(rest, right)
        inner = _nested(rest)
        if inner is not None:
            return floordiv(inner[0], inner[1] * right)
    return _call("floordiv", left, right)


def _nested(dim: Dim) -> tuple[Dim, int] | None:
    """(a, b) where dim is floor(a / b) with a number b, a whole number added to it taken inside: a second division joins it."""
    found: Call | None = None
    added = 0
    for monomial, coefficient in _terms(dim):
        if not monomial:
            added = coefficient
        elif found is None and coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Call):
            found = monomial[0]
        else:
            return None
    if found is None or found.function != "floordiv" or not isinstance(found.right, int) or found.right < 1:
        return None
    return found.left + added * found.right, found.right


def mod(left: Dim, right: Dim) -> Dim:
    """left - right * floor(left / right)."""
    if isinstance(left, int) and isinstance(right, int):
        return left % right
    return left - right * floordiv(left, right)


def dim_max(left: Dim, right: Dim) -> Dim:
    if left == right:
        return left
    if isinstance(left, int) and isinstance(right, int):
        return max(left, right)
    first, second = sorted((left, right), key=str)
    return _call("max", first, second)


def dim_min(left: Dim, right: Dim) -> Dim:
    if left == right:
        return left
    if isinstance(left, int) and isinstance(right, int):
        return min(left, right)
    first, second = sorted((left, right), key=str)
    return _call("min", first, second)


def ceildiv(left: Dim, right: Dim) -> Dim:
    """ceil(left / right); right must be positive."""
    return floordiv(left + right - 1, right)


def product(dims: Iterable[Dim]) -> Dim:
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


_FUNCTIONS: Mapping[str, Callable[[int, int], int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "min": min,
    "max": max,
}


def _atom_value(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        return values[atom]
    return int(_FUNCTIONS[atom.function](evaluate(atom.left, values), evaluate(atom.right, values)))


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The value of `dim` where each symbol has its value in `values`. Raises KeyError for a missing symbol."""
    total = 0
    for monomial, coefficient in _terms(dim):
        term = coefficient
        for atom in monomial:
            term *= _atom_value(atom, values)
        total += term
    return total


def evaluate_shape(shape: Shape, values: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(d, values) for d in shape)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with symbols replaced by dims."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                term = term * values.get(atom, symbol(atom))
            else:
                left, right = substitute(atom.left, values), substitute(atom.right, values)
                function = {"floordiv": floordiv, "mod": mod, "min": dim_min, "max": dim_max}[atom.function]
                term = term * function(left, right)
        total = total + term
    return total


def symbols_of(dim: Dim) -> frozenset[str]:
    if isinstance(dim, int):
        return frozenset()
    found: set[str] = set()
    for monomial, _ in dim.terms:
        for atom in monomial:
            found |= {atom} if isinstance(atom, str) else symbols_of(atom.left) | symbols_of(atom.right)
    return frozenset(found)


def _call_range(call: Call, symbols: Mapping[str, Bounds]) -> tuple[int, int]:
    (a, b), (c, d) = interval(call.left, symbols), interval(call.right, symbols)
    if call.function == "min":
        return min(a, c), min(b, d)
    if call.function == "max":
        return max(a, c), max(b, d)
    if call.function == "mod":
        return 0, max(0, d - 1)
    corners = [x // y for x in (a, b) for y in (max(1, c), max(1, d))]
    return min(corners), max(corners)


def interval(dim: Dim, symbols: Mapping[str, Bounds]) -> tuple[int, int]:
    """A range that surely holds `dim`, by interval arithmetic; exact where each symbol occurs once."""
    if isinstance(dim, int):
        return dim, dim
    low = high = 0
    for monomial, coefficient in dim.terms:
        lo = hi = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                bounds = symbols[atom]
                a, b = bounds.min, bounds.max
            else:
                a, b = _call_range(atom, symbols)
            corners = (lo * a, lo * b, hi * a, hi * b)
            lo, hi = min(corners), max(corners)
        low, high = low + lo, high + hi
    return low, high


def upper(dim: Dim, symbols: Mapping[str, Bounds]) -> int:
    """The greatest value `dim` can take (an upper bound where a symbol occurs more than once)."""
    return interval(dim, symbols)[1]


def lower(dim: Dim, symbols: Mapping[str, Bounds]) -> int:
    """The least value `dim` can take (a lower bound where a symbol occurs more than once)."""
    return interval(dim, symbols)[0]


def typical(dim: Dim, symbols: Mapping[str, Bounds]) -> int:
    """The value of `dim` at the typical sizes."""
    return evaluate(dim, {name: b.typical for name, b in symbols.items()})


def to_c(dim: Dim, name: Mapping[str, str]) -> str:
    """`dim` as a C expression over int64_t; `name` maps a symbol to its C spelling. Divisions assume operands >= 0."""
    if isinstance(dim, int):
        return str(dim)

    def atom_text(atom: Atom) -> str:
        if isinstance(atom, str):
            return name[atom]
        left, right = to_c(atom.left, name), to_c(atom.right, name)
        if atom.function == "floordiv":
            return f"(({left}) / ({right}))"
        if atom.function == "mod":
            return f"(({left}) % ({right}))"
        sign = "<" if atom.function == "min" else ">"
        return f"(({left}) {sign} ({right}) ? ({left}) : ({right}))"

    parts = []
    for monomial, coefficient in dim.terms:
        factors = [atom_text(a) for a in monomial]
        if coefficient != 1 or not factors:
            factors.insert(0, str(coefficient))
        parts.append(" * ".join(factors))
    return parts[0] if len(parts) == 1 and "*" not in parts[0] else "(" + " + ".join(parts) + ")"
