"""Directed cases of routines on strings."""

from __future__ import annotations

import numpy as np
from stratac.ir.dims import Bounds, symbol

from .cases import Net, case

_TEXTS = ["", "a", "ab", "abc", "b", "ß", "Éa b", "  x\u3000y ", "a,b,,c", "ΑΣ Σ ΑΣΑ", "12345678901234567890", "\u00a0"]
_WIDTH = 24
_DELIMITERS = ("", ",", "b", ",,", "ab")


def _slots(texts: list[str], width: int) -> np.ndarray:
    return np.array([text.encode() for text in texts], f"S{width}").view(np.uint8).reshape(len(texts), width)


@case(4, _WIDTH, 40)
def string_find(net: Net, width: int) -> str:
    """Keys that are narrower, as wide and wider than the strings."""
    keys = sorted({text.encode() for text in _TEXTS if len(text.encode()) <= width} | {b"\xff", b"abcd"})
    table = np.array(keys, f"S{width}").view(np.uint8).reshape(len(keys), width)
    return net.string_find(net.input(_slots(_TEXTS, _WIDTH)), net.array(table, table.dtype.name))


@case()
def string_concat(net: Net) -> str:
    return net.string_concat(net.input(_slots(_TEXTS, _WIDTH)), net.input(_slots(_TEXTS[::-1], 30)))


@case(True, False)
def string_case(net: Net, sigma: bool) -> str:
    """One character becomes three bytes, one vanishes into one byte, others have case but stay."""
    pairs = {"a": "A", "A": "", "b": "", "ß": "ss", "É": "é", "x": "\u3000", "Α": "α", "α": "", "Σ": "σ", "σ": ""}
    table = [[ord(k), int.from_bytes(v.encode(), "little") | len(v.encode()) << 56] for k, v in sorted(pairs.items())]
    return net.string_case(net.input(_slots(_TEXTS, _WIDTH)), net.array(table, "int64"), width=72, sigma=sigma)


@case()
def string_match(net: Net) -> str:
    """(ab)*c?"""
    table = np.full((4, 257), -1, np.int32)
    table[:, 256] = [1, 0, 1, 1]
    table[0, ord("a")] = table[2, ord("a")] = 1
    table[1, ord("b")] = 2
    table[0, ord("c")] = table[2, ord("c")] = 3
    return net.string_match(
        net.input(_slots([*_TEXTS, "abab", "ababc", "c"], _WIDTH)), net.array(table, table.dtype.name)
    )


@case(*((d, m) for d in _DELIMITERS for m in (-1, 0, 1)))
def string_split(net: Net, delimiter: str, most: int) -> tuple[str, ...]:
    """With pieces of zero bytes, a string without any and white space of several bytes."""
    name = f"pieces_{_DELIMITERS.index(delimiter)}_{most + 1}"
    net.builder.symbols[name] = Bounds(0, 4, _WIDTH + 1)
    between = net.array(np.frombuffer(delimiter.encode(), np.uint8), "uint8")
    slots = net.input(_slots(_TEXTS, _WIDTH))
    return net.many("string_split", slots, between, outputs=2, count=symbol(name), most=most)
