"""Operands of a routine, as its template sees them."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.types import DType
from ..c_scalar import literal, scalar_code


@dataclass(frozen=True)
class Array:
    """A dense row-major tensor: `shape` and `count` (its elements) are C expressions. `extents` are numbers where they are known,
    else None. Elements are of C type `value` outside of memory, so `load` and `store` stand for whatever their storage is."""

    pointer: str
    dtype: DType
    shape: tuple[str, ...]
    extents: tuple[int | None, ...]
    count: str

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def value(self) -> str:
        """The C type that holds an element."""
        return self.dtype.wide.c

    @property
    def is_float(self) -> bool:
        return self.dtype.is_float

    @property
    def lowest(self) -> str:
        """The least value of its type."""
        return literal(float("-inf") if self.is_float else self.dtype.limits[0], self.dtype.wide)

    def load(self, index: str) -> str:
        """The element at an index, in row-major order."""
        element = f"{self.pointer}[{index}]"
        return scalar_code("cast", [element], [self.dtype], self.dtype.wide) if self.dtype.is_narrow else element

    def store(self, index: str, value: str) -> str:
        """A statement that sets one."""
        stored = scalar_code("cast", [value], [self.dtype.wide], self.dtype) if self.dtype.is_narrow else value
        return f"{self.pointer}[{index}] = {stored};"

    def apply(self, function: str, *args: str) -> str:
        """A primitive of `ir/scalars.py` on values."""
        return scalar_code(function, list(args), [self.dtype.wide] * len(args), self.dtype.wide)

    def span(self, first: int, last: int) -> str:
        """How many elements the axes from `first` up to `last` have together."""
        return " * ".join(self.shape[first:last]) or "1"
