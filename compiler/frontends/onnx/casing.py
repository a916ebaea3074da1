"""Upper and lower case of Unicode, as tables for `string_case`."""

from __future__ import annotations

import functools
import math

import numpy as np

_SURROGATES = range(0xD800, 0xE000)


@functools.cache
def case_table(upper: bool) -> tuple[np.ndarray, float]:
    """The rows of `string_case` for every character that has case, by this Python's Unicode data, and the greatest factor by which
    a string may grow. Rules that look at neighbours are not in it: the final sigma is the op's."""
    rows, factor = [], 1.0
    for number in range(0x110000):
        if number in _SURROGATES:
            continue
        character = chr(number)
        lower, capital = character.lower(), character.upper()
        if lower == character == capital:
            continue
        to = capital if upper else lower
        data = to.encode() if to != character else b""
        rows.append((number, int.from_bytes(data, "little") | len(data) << 56))
        factor = max(factor, len(data) / len(character.encode()))
    return np.array(rows, np.int64), factor


def grown(width: int, factor: float) -> int:
    """Bytes of the slots that strings need after a change of case."""
    return math.ceil(width * factor)
