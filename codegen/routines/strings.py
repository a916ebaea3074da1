"""Routines on strings."""

from __future__ import annotations

from ...ir.dims import product
from ...ir.kernel import Routine
from .registry import NEEDS, Needs, Size, one_part


def _bytes(kernel: Routine, size: Size) -> int:
    """Every byte of the strings, read and written."""
    dense = [kernel.inputs[0], *kernel.results]
    return sum(size(product(one.shape)) for one in dense if one is not None)


def _strings(kernel: Routine, size: Size) -> int:
    (x, *_) = kernel.inputs
    assert x is not None
    return size(product(x.shape[:-1]))


def _elements(kernel: Routine, size: Size) -> int:
    (x,) = kernel.inputs
    assert x is not None
    return size(product(x.shape))


def _numbers(kernel: Routine, size: Size) -> int:
    """A few passes over some hundred digits for each number."""
    (x,), (y,) = kernel.inputs, kernel.results
    assert x is not None and y is not None
    return 500 * min(size(product(x.shape)), size(product(y.shape)))


for _op in ("string_find", "string_concat", "string_case", "string_match"):
    NEEDS[_op] = Needs(_bytes, _strings)
NEEDS["string_number"] = Needs(_numbers, _strings)
NEEDS["number_string"] = Needs(_numbers, _elements)
NEEDS["string_split"] = Needs(_bytes, one_part)  # how many pieces there are is found out over all strings
