"""Dims: arithmetic agrees with integers, intervals contain, substitution composes, text reads back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stratac.ir import dims
from stratac.ir.dims import Bounds, Dim, Expr, symbol
from stratac.ir.lexer import parse
from stratac.ir.parse import read_dim

SYMBOLS = {"a": Bounds(1, 2, 5), "b": Bounds(2, 3, 9), "c": Bounds(0, 1, 3)}
OPERATIONS = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "//": lambda x, y: x // y,
    "%": lambda x, y: x % y,
    "min": dims.dim_min,
    "max": dims.dim_max,
}
#: a tree: an int, a symbol's name, or (operation, left, right)
Tree = object
LEAVES = st.one_of(st.integers(-4, 12), st.sampled_from(sorted(SYMBOLS)))


def _branches(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    positive = st.one_of(st.integers(1, 6), st.sampled_from(["a", "b"]))
    return st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "min", "max"]), children, children),
        st.tuples(st.sampled_from(["//", "%"]), children, positive),
    )


TREES = st.recursive(LEAVES, _branches, max_leaves=8)
VALUES = st.fixed_dictionaries({name: st.integers(b.min, b.max) for name, b in SYMBOLS.items()})


def build(tree: Tree, leaf: Mapping[str, Dim]) -> Dim:
    if isinstance(tree, tuple):
        operation, left, right = tree
        result: Dim = OPERATIONS[operation](build(left, leaf), build(right, leaf))
        return result
    return leaf[tree] if isinstance(tree, str) else tree  # type: ignore[return-value]


NAMED: dict[str, Dim] = {name: symbol(name) for name in SYMBOLS}


@given(TREES, VALUES)
def test_evaluate_is_a_homomorphism(tree: Tree, values: dict[str, int]) -> None:
    assert dims.evaluate(build(tree, NAMED), values) == build(tree, values)


@given(TREES, VALUES)
def test_interval_contains_every_value(tree: Tree, values: dict[str, int]) -> None:
    dim = build(tree, NAMED)
    low, high = dims.interval(dim, SYMBOLS)
    assert low <= dims.evaluate(dim, values) <= high


@given(TREES, TREES, VALUES)
def test_substitute_then_evaluate(tree: Tree, inner: Tree, values: dict[str, int]) -> None:
    dim, replacement = build(tree, NAMED), build(inner, NAMED)
    new = dims.evaluate(replacement, values)
    if new > 0:  # symbols stand for sizes, and `a` may be a divisor
        replaced = dims.substitute(dim, {"a": replacement})
        assert dims.evaluate(replaced, values) == dims.evaluate(dim, {**values, "a": new})


@given(TREES, TREES)
def test_exact_div_multiplies_back(tree: Tree, other: Tree) -> None:
    left, right = build(tree, NAMED), build(other, NAMED)
    if right != 0 and (quotient := dims.exact_div(left * right, right)) is not None:
        assert quotient * right == left * right
    if right != 0 and (quotient := dims.exact_div(left, right)) is not None:
        assert quotient * right == left


@given(TREES, TREES, TREES)
def test_polynomials_are_canonical(x: Tree, y: Tree, z: Tree) -> None:
    p, q, r = (build(tree, NAMED) for tree in (x, y, z))
    assert p * (q + r) == p * q + r * p
    assert (p + q) - q == p
    assert hash(p * q) == hash(q * p)


@given(TREES)
def test_text_reads_back(tree: Tree) -> None:
    dim = build(tree, NAMED)
    again = parse(str(dim), read_dim)
    assert again == dim
    assert str(again) == str(dim)
    assert isinstance(dim, int) == isinstance(again, int)


@given(TREES)
def test_symbols_are_those_that_matter_or_more(tree: Tree) -> None:
    dim = build(tree, NAMED)
    assert dims.evaluate(dim, dict.fromkeys(dims.symbols_of(dim), 2)) is not None


def test_folding() -> None:
    a, b = symbol("a"), symbol("b")
    assert (a + b) * 2 - 2 * b == 2 * a
    assert (4 * a + 6) // 2 == 2 * a + 3
    assert (a * b) // a == b
    assert a % a == 0
    assert 7 % symbol("a") == 7 - a * dims.floordiv(7, a)
    assert dims.ceildiv(8 * a, 4) == 2 * a
    assert a - a == 0 and isinstance(a - a, int)
    assert str(a * a - 3 * b + 1) == "a*a - 3*b + 1"
    assert dims.exact_div(a * b + a, b + 1) == a
    assert dims.exact_div(2 * a, 4) is None


def test_divisions_join() -> None:
    """Strides of one convolution behind the other."""
    n = symbol("a")
    assert dims.floordiv(dims.floordiv(n, 5), 2) == dims.floordiv(n, 10)
    assert dims.floordiv(dims.floordiv(n, 10) - 3, 2) == dims.floordiv(dims.floordiv(dims.floordiv(n, 5), 2) - 3, 2)


def test_bounds_and_truth() -> None:
    with pytest.raises(ValueError, match="bounds must hold"):
        Bounds(3, 2, 1)
    with pytest.raises(TypeError, match="truth value"):
        bool(symbol("a"))
    with pytest.raises(ValueError, match="identifier"):
        symbol("a b")
    with pytest.raises(KeyError):
        dims.evaluate(symbol("a"), {})


@given(TREES, VALUES)
def test_c_text_computes_the_same(tree: Tree, values: dict[str, int]) -> None:
    """The C text read as Python, where every operand of a division is >= 0 and nothing is a ternary."""
    dim = build(tree, NAMED)
    text = dims.to_c(dim, {name: name for name in SYMBOLS})
    if "?" not in text and "%" not in text and "-" not in text:
        assert eval(text.replace("/", "//"), {}, dict(values)) == dims.evaluate(dim, values)


def test_expressions_fold_to_int() -> None:
    a = symbol("a")
    assert isinstance(a + 1, Expr)
    assert dims.substitute(a * a + 1, {"a": 3}) == 10
    assert dims.evaluate_shape((a, 2, a * 3), {"a": 2}) == (2, 2, 6)
