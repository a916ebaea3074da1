"""Choosing between two values by a condition that is known only when the plan runs."""

from __future__ import annotations

import numpy as np

from ....ir.dims import Dim, dim_max
from ....ir.types import i64
from .. import contents
from ..draft import Draft
from ..known import Known
from ..unsupported import Unsupported
from .structured import Items, Maps, Nothing, Strings, Value


class Differs(Unsupported):
    """Two values have no type in common."""


def merge(site: Draft, condition: str, first: Value, second: Value) -> Value:
    """`first` where the scalar `condition` is true, else `second`: both are in the graph. Raises Differs."""
    if isinstance(first, Nothing) and isinstance(second, Nothing):
        return first
    if isinstance(first, Items) and isinstance(second, Items):
        if len(first.items) != len(second.items):
            raise Differs(f"one is a sequence of {len(first.items)}, the other of {len(second.items)}")
        return Items(tuple(merge(site, condition, a, b) for a, b in zip(first.items, second.items, strict=True)))
    if isinstance(first, Strings) and isinstance(second, Strings):
        width = max(first.width, second.width)
        chosen = _where(site, condition, widened(site, first, width), widened(site, second, width))
        return Strings(chosen, site.type_of(chosen))
    if isinstance(first, (Items, Nothing, Strings, Maps)) or isinstance(second, (Items, Nothing, Strings, Maps)):
        raise Differs("one is a tensor, the other is not" if isinstance(first, (str, Known)) else "their kinds differ")
    if isinstance(first, Known) and isinstance(second, Known) and _equal(first, second):
        return first
    return first if first == second else _where(site, condition, site.data(first), site.data(second))


def widened(site: Draft, strings: Strings, width: int) -> str:
    """The slots of strings at a greater width."""
    missing = width - strings.width
    if not missing:
        return strings.value
    rank = strings.type.rank
    return site.emit("pad", strings.value, pads=(*(0,) * (2 * rank - 1), missing), value=0.0, mode="constant")


def _equal(first: Known, second: Known) -> bool:
    return (
        first.type == second.type
        and first.cells.shape == second.cells.shape
        and bool(np.all(np.equal(first.cells, second.cells)))
    )


def _where(site: Draft, condition: str, first: str, second: str) -> str:
    """The choice. Where extents differ both are filled up to the greater, and a run finds out which part of it there is."""
    one, other = site.type_of(first), site.type_of(second)
    if (one.dtype, one.rank) != (other.dtype, other.rank):
        raise Differs(f"one is {one}, the other {other}")
    open = [(axis, pair) for axis, pair in enumerate(zip(one.shape, other.shape, strict=True)) if pair[0] != pair[1]]
    for axis, pair in open:
        first, second = (_filled(site, value, axis, dim_max(*pair)) for value in (first, second))
    chosen = site.emit("where", condition, first, second)
    for axis, pair in open:
        extents = (site.data(contents.scalar(i64, extent)) for extent in pair)
        positions = site.data(contents.arange(i64, 0, 1, dim_max(*pair)))
        there = site.emit("lt", positions, site.emit("where", condition, *extents))
        count = site.runtime_dim("chosen", dim_max(*pair))
        chosen = site.emit("gather", chosen, site.emit("nonzero", there, count=count), axis=axis)
    return chosen


def _filled(site: Draft, value: str, axis: int, extent: Dim) -> str:
    """A value with zeros behind it up to an extent of one axis."""
    type = site.type_of(value)
    missing = extent - type.shape[axis]
    if missing == 0:
        return value
    zeros = site.data(contents.full(type.dtype, (*type.shape[:axis], missing, *type.shape[axis + 1 :]), 0))
    return site.emit("concat", value, zeros, axis=axis)
