"""The state of a random graph under construction: values, the range they surely stay in and the error they may carry.

`err` bounds how far a float32 implementation that rounds differently (other summation orders, fused multiply-adds,
functions to a few units in the last place) may be from the interpreter. A value with `err` 0 is the same to the bit
everywhere, so only such values may feed discontinuous ops (floor, comparisons, argmax, float to int). What would leave
the limits is not added: graphs are free of NaN, of overflow and of ill-conditioned steps by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, Dim, Expr, lower, symbol, upper
from stratac.ir.errors import Source, VerifyError
from stratac.ir.graph import Derived, Node, Weight, make_attrs
from stratac.ir.ops import infer
from stratac.ir.types import DType, TensorType, bool_, f32, from_numpy, i64

T = TypeVar("T")
#: Four units in the last place of float32: what one rounding step of any sane implementation stays within.
UNIT = 4 * 2.0**-24
#: Limits on |x|, on `err` and on the elements of one value.
GREATEST, WORST, ELEMENTS = 1e3, 2e-3, 6000


@dataclass(frozen=True)
class Value:
    """A value of the graph: all elements lie in lo..hi; implementations may differ by `err`."""

    name: str
    type: TensorType
    lo: float
    hi: float
    err: float = 0.0

    @property
    def size(self) -> float:
        """The greatest magnitude."""
        return max(abs(self.lo), abs(self.hi))

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    @property
    def rank(self) -> int:
        return self.type.rank

    @property
    def exact(self) -> bool:
        return self.err == 0


def is_float(value: Value) -> bool:
    return value.type.dtype == f32


def is_int(value: Value) -> bool:
    return value.type.dtype.is_integer


def is_bool(value: Value) -> bool:
    return value.type.dtype == bool_


@dataclass
class Maker:
    """Draws choices from hypothesis and adds nodes to a builder. A builder function returns None where nothing fits."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    builder: GraphBuilder
    extents: list[Dim]
    values: list[Value] = field(default_factory=list)

    # choices

    def integer(self, least: int, most: int) -> int:
        return int(self.draw(st.integers(least, most)))

    def flag(self) -> bool:
        return bool(self.draw(st.booleans()))

    def choice(self, options: Sequence[T]) -> T:
        found: T = self.draw(st.sampled_from(options))
        return found

    def pick(self, accept: Callable[[Value], bool]) -> Value | None:
        """One of the values that fit; the simplest choice is the latest, so that graphs grow deep."""
        options = [value for value in reversed(self.values) if accept(value)]
        return options[self.integer(0, min(len(options), 8) - 1)] if options else None

    # facts about dims

    @property
    def symbols(self) -> dict[str, Bounds]:
        return self.builder.symbols

    def least(self, extent: Dim) -> int:
        return lower(extent, self.symbols)

    def most(self, extent: Dim) -> int:
        return upper(extent, self.symbols)

    # new values

    def add(self, op: str, *inputs: Value | None, lo: float, hi: float, err: float = 0.0, **attrs: Any) -> Value | None:
        """The op applied, unless its output would leave the limits."""
        found = self.add_all(op, *inputs, facts=((lo, hi, err),), **attrs)
        return found[0] if found else None

    def add_all(
        self, op: str, *inputs: Value | None, facts: Sequence[tuple[float, float, float]], **attrs: Any
    ) -> list[Value]:
        """The op applied, with the range and error of each output; nothing if one would leave the limits."""
        if not all(max(abs(lo), abs(hi)) <= GREATEST and err <= WORST for lo, hi, err in facts):
            return []
        outputs = tuple(self.builder.fresh() for _ in facts)
        source = Source("random.onnx", f"node_{op}_{outputs[0]}") if self.integer(0, 3) == 3 else Source()
        node = Node(op, tuple(v.name if v else "" for v in inputs), outputs, make_attrs(attrs), source)
        kinds = infer(node, self.builder.types, self.symbols)
        for kind in kinds:
            if self.most(kind.elements) > ELEMENTS or any(self.least(d) < 1 for d in kind.shape):
                return []
        self.builder.add(node)
        found = [Value(name, kind, *fact) for name, kind, fact in zip(outputs, kinds, facts, strict=True)]
        self.values += found
        return found

    def rounded(self, op: str, *inputs: Value | None, lo: float, hi: float, err: float, **attrs: Any) -> Value | None:
        """As `add`, with the rounding of the op itself added to `err` and to the range (floats only)."""
        slack = UNIT * max(abs(lo), abs(hi), 1e-3)
        if not all(is_float(value) for value in inputs if value):
            return self.add(op, *inputs, lo=lo, hi=hi, **attrs)
        return self.add(op, *inputs, lo=lo - slack, hi=hi + slack, err=err + slack, **attrs)

    def try_add(self, op: str, *inputs: Value | None, **facts: Any) -> Value | None:
        """As `add`, but None where the type rule says no (two symbolic extents that do not broadcast, say)."""
        try:
            return self.rounded(op, *inputs, **facts)
        except VerifyError:
            return None

    def constant(self, shape: Sequence[int], lo: float = -1.0, hi: float = 1.0, dtype: DType = f32) -> Value:
        """A constant with random elements in lo..hi (integers: inclusive)."""
        rng = np.random.default_rng(self.integer(0, 9))
        array = random_array(rng, tuple(shape), lo, hi, dtype)
        return Value(self.builder.constant(array), TensorType(from_numpy(array.dtype), tuple(shape)), lo, hi)

    def transposed(self, shape: Sequence[int], perm: Sequence[int], lo: float, hi: float) -> Value:
        """A constant of this shape that is stored in another order and derived from it."""
        stored = [0] * len(perm)
        for axis, extent in zip(perm, shape, strict=True):
            stored[axis] = extent
        base = self.constant(stored, lo, hi)
        content = Derived("transpose", (base.name,), make_attrs({"perm": tuple(perm)}))
        kind = TensorType(f32, tuple(shape))
        name = self.builder.weight(Weight(self.builder.fresh("d"), kind, content, "derived"))
        return Value(name, kind, lo, hi)

    def shape(self, least: int = 0, most: int = 4) -> tuple[Dim, ...]:
        """A shape over this graph's extents, small enough."""
        found: list[Dim] = []
        total = 1
        for _ in range(self.integer(least, most)):
            extent = self.choice(self.extents)
            if total * self.most(extent) > ELEMENTS // 4:
                extent = 1
            total *= self.most(extent)
            found.append(extent)
        return tuple(found)

    def fitting(self, shape: Sequence[Dim]) -> tuple[int, ...]:
        """A constant shape that broadcasts to `shape`."""
        start = self.integer(0, len(shape))
        return tuple(1 if isinstance(d, Expr) or self.integer(0, 3) == 3 else d for d in shape[start:])


def random_array(rng: np.random.Generator, shape: tuple[int, ...], lo: float, hi: float, dtype: DType) -> Any:
    """Elements in lo..hi: floats uniform, integers inclusive, bools fair."""
    if dtype.is_float:
        return np.clip(rng.uniform(lo, hi, shape).astype(dtype.np), lo, hi).astype(dtype.np)
    if dtype == bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    return rng.integers(int(lo), int(hi) + 1, shape).astype(dtype.np)


def symbol_dim(name: str) -> Dim:
    return symbol(name)


__all__ = ["UNIT", "Maker", "Value", "f32", "i64", "is_bool", "is_float", "is_int", "random_array", "symbol_dim"]
