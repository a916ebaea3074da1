"""Meanings of the ops on strings: bytes of UTF-8 along the last axis, zeros behind them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops_strings import NUMBER_WIDTH
from ..types import DType
from .registry import Array, meaning


def _texts(x: Array) -> list[bytes]:
    """The strings in row-major order."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    return [row.tobytes().split(b"\0", 1)[0] for row in rows]


def _slots(texts: list[bytes], shape: tuple[int, ...], width: int) -> Array:
    found = np.zeros((len(texts), width), np.uint8)
    for row, text in zip(found, texts, strict=True):
        row[: len(text)] = np.frombuffer(text[:width], np.uint8)
    return found.reshape(*shape, width)


def _each(x: Array, dtype: type, function: Callable[[bytes], int]) -> Array:
    return np.array([function(text) for text in _texts(x)], dtype).reshape(x.shape[:-1])


@meaning("string_find")
def string_find(x: Array, keys: Array) -> Array:
    places = {text: position for position, text in enumerate(_texts(keys))}
    return _each(x, np.int64, lambda text: places.get(text, -1))


@meaning("string_concat")
def string_concat(x: Array, y: Array) -> Array:
    joined = [a + b for a, b in zip(_texts(x), _texts(y), strict=True)]
    return _slots(joined, x.shape[:-1], x.shape[-1] + y.shape[-1])


@meaning("string_case")
def string_case(x: Array, table: Array, *, width: int, sigma: bool) -> Array:
    rows = {chr(key): packed & (1 << 64) - 1 for key, packed in table.tolist()}
    known = {key: packed.to_bytes(8, "little")[: packed >> 56].decode() for key, packed in rows.items()}

    def changed(data: bytes) -> bytes:
        text = data.decode(errors="surrogateescape")
        out = []
        for at, character in enumerate(text):
            before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
            if sigma and character == "\u03a3" and before in known and after not in known:
                out.append("\u03c2")
            else:
                out.append(known.get(character) or character)
        return "".join(out).encode(errors="surrogateescape")

    return _slots([changed(text) for text in _texts(x)], x.shape[:-1], width)


@meaning("string_match")
def string_match(x: Array, table: Array) -> Array:
    def accepted(text: bytes) -> int:
        state = 0
        for byte in text:
            state = int(table[state, byte])
            if state < 0:
                return 0
        return int(table[state, 256] != 0)

    return _each(x, np.bool_, accepted)


_WHOLE = re.compile(rb"\s*[+-]?[0-9]+\s*", re.ASCII)
_REAL = re.compile(rb"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?\s*|\s*[+-]?inf(inity)?\s*", re.ASCII | re.I)


@meaning("string_number")
def string_number(x: Array, *, to: DType) -> Array:
    def real(text: bytes) -> float:
        return float(text) if _REAL.fullmatch(text) else math.nan

    def whole(text: bytes) -> int:
        value = int(text) if _WHOLE.fullmatch(text) else real(text)
        if value != value:
            return 0
        least, most = to.limits
        return most if value > most else least if value < least else int(value)

    if to.is_float:
        return np.array([real(text) for text in _texts(x)], np.float64).reshape(x.shape[:-1])
    return _each(x, np.int64, whole)


@meaning("number_string")
def number_string(x: Array) -> Array:
    def spelled(value: Any) -> str:
        """The fewest digits of its own type, in the form that Python gives doubles."""
        return repr(float(np.format_float_scientific(value))) if x.dtype.kind == "f" else str(value)

    return _slots([spelled(value).encode() for value in x.reshape(-1)], x.shape, NUMBER_WIDTH)


@meaning("string_split")
def string_split(x: Array, delimiter: Array, *, most: int) -> tuple[Array, Array]:
    between = delimiter.tobytes().decode()
    texts = [text.decode(errors="surrogateescape") for text in _texts(x)]
    pieces = [text.split(between or None, most) for text in texts]
    count = max((len(row) for row in pieces), default=0)
    flat = [piece.encode(errors="surrogateescape") for row in pieces for piece in [*row, *[""] * (count - len(row))]]
    counts = np.array([len(row) for row in pieces], np.int64).reshape(x.shape[:-1])
    return _slots(flat, (*x.shape[:-1], count), x.shape[-1]), counts
