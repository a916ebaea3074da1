"""Directed cases of routines on strings."""

from __future__ import annotations

import numpy as np
from stratac.ir.dims import Bounds, symbol
from stratac.ir.types import DType, f64, i64

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


_NUMBERS = (
    *("0", "-0", "1", "+17", " 42 ", "007", "1.5", ".25", "-3.", "1e3", "1E-5", "12.5e+2", "nan", "inf", "-Infinity"),
    *("", "x", "1x", "1e", "--1", "e5", ".", "0.1", "3.14159265358979323846", "9007199254740993", "9007199254740995"),
    *("1.7976931348623157e308", "1.7976931348623159e308", "1e400", "-1e-400", "4.9e-324", "2.4703282292062327e-324"),
    *("2.4703282292062328e-324", "2.2250738585072011e-308", "9223372036854775807", "-9223372036854775808", "1e30"),
    *(
        "9223372036854775808",
        "-9223372036854775809",
        "2.9",
        "-2.9",
        "123456789012345678901234567890",
        "0." + "0" * 50 + "7",
    ),
)


@case(f64, i64)
def string_number(net: Net, to: DType) -> str:
    return net.string_number(net.input(_slots(list(_NUMBERS), 64)), to=to)


@case("float32", "float64", "int64", "uint64")
def number_string(net: Net, dtype: str) -> str:
    """Powers of two and ten, and numbers that need all their digits."""
    rng = np.random.default_rng(5)
    if dtype in ("int64", "uint64"):
        limits = np.iinfo(dtype)
        values = [0, 1, 7, 10, 99, 10**18, int(limits.max), int(limits.min), int(limits.max) // 3]
        return net.number_string(net.input(np.array(values, dtype)))
    bits = rng.integers(0, 1 << 32, 200, np.uint32).view(np.float32)
    if dtype == "float64":
        bits = rng.integers(0, 1 << 63, 200, np.uint64).view(np.float64)
    tens = [
        float(f"{sign}{digits}e{exponent}") for sign in "+-" for digits in ("1", "2.5") for exponent in range(-7, 19)
    ]
    twos = [2.0**exponent for exponent in range(-149, 127, 7)]
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 0.1, 0.3, 1 / 3, 16777216.0, 123456790.0, 5e-324]
    with np.errstate(over="ignore"):
        return net.number_string(
            net.input(np.concatenate([np.array(special + tens + twos, dtype), bits.astype(dtype)]))
        )
