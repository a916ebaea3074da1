"""Choosing between two values by a condition that is known only when the plan runs."""

from __future__ import annotations

import numpy as np

from ..draft import Draft
from ..known import Known
from ..unsupported import Unsupported
from .structured import Items, Maps, Nothing, Strings, Value


class Differs(Unsupported):
    """Two values have no type in common."""


def merge(site: Draft, condition: str, first: Value, second: Value) -> Value:
    """`first` where the scalar `condition` is true, else `second`: both are computed. Raises Differs."""
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
    types = site.type_of(first), site.type_of(second)
    if types[0] != types[1]:
        raise Differs(f"one is {types[0]}, the other {types[1]}")
    return site.emit("where", condition, first, second)
