"""The table of meanings: for each op row, a numpy function that is its definition.

A meaning is called as `meaning(*inputs, **attributes)`: one array per input (None for an absent optional one) and every
attribute of the row by name, defaults filled in and dims evaluated. It returns one array (a tuple of arrays for several
outputs). Elements that are narrower than what they are computed in (`ir/narrow.py`) come widened, and results are rounded, unless
a meaning `moves` elements as they are. One registered as `typed` gets them as they are too, and `types`, those of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Meaning:
    """A registered function, whether it wants the element types of its inputs, and whether it only moves elements."""

    function: Callable[..., Any]
    typed: bool = False
    moves: bool = False


MEANINGS: dict[str, Meaning] = {}


def meaning(
    name: str, *, typed: bool = False, moves: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the meaning of the op row `name`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in MEANINGS:
            raise ValueError(f"op {name} has two meanings")
        MEANINGS[name] = Meaning(function, typed, moves)
        return function

    return register


def wide(x: Array) -> Array:
    """`x` in the type that sums, products and functions are computed in: float64 for floats, else its own."""
    return x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x


def rounded(x: Any, like: Array) -> Array:
    """`x` rounded once to the element type of `like`."""
    return np.asarray(x).astype(like.dtype)


def truncating_div(a: Array, b: Array) -> Array:
    """C's integer division: rounds towards zero. A zero divisor yields 0 (C leaves it undefined)."""
    quotient = np.floor_divide(a, b)
    inexact = quotient * b != a
    return np.asarray(np.where(b == 0, 0, quotient + ((quotient < 0) & inexact)).astype(a.dtype))
