"""Rows of ops on strings: tensors of bytes whose last axis holds one string each, in UTF-8 with zeros behind it."""

from __future__ import annotations

from .dims import Dim
from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, fail, given
from .types import TensorType, bool_, f32, f64, i32, i64, u8, u64


def _strings(node: Node, types: Types, index: int) -> tuple[tuple[Dim, ...], int]:
    """The shape and the width of a tensor of strings."""
    found = given(node, types, index)
    if found.dtype != u8 or found.rank < 1 or not isinstance(found.shape[-1], int) or found.shape[-1] < 1:
        raise fail(node, f"input {index} is no tensor of strings: {found}")
    return found.shape[:-1], found.shape[-1]


def string_find(node: Node, types: Types) -> list[TensorType]:
    shape, _ = _strings(node, types, 0)
    keys, _ = _strings(node, types, 1)
    if len(keys) != 1:
        raise fail(node, f"the strings looked for are a list, got {types[1]}")
    return [TensorType(i64, shape)]


def string_concat(node: Node, types: Types) -> list[TensorType]:
    (shape, width), (other, more) = (_strings(node, types, i) for i in range(2))
    if shape != other:
        raise fail(node, f"joins {types[0]} and {types[1]}")
    return [TensorType(u8, (*shape, width + more))]


def string_case(node: Node, types: Types) -> list[TensorType]:
    shape, _ = _strings(node, types, 0)
    table, width = given(node, types, 1), node.attr("width")
    if table.dtype != i64 or table.rank != 2 or table.shape[1] != 2 or width < 1:
        raise fail(node, f"no table of characters: {table}, or no width: {width}")
    return [TensorType(u8, (*shape, width))]


def string_match(node: Node, types: Types) -> list[TensorType]:
    shape, _ = _strings(node, types, 0)
    table = given(node, types, 1)
    if table.dtype != i32 or table.rank != 2 or table.shape[1] != 257:
        raise fail(node, f"no table of an automaton: {table}")
    return [TensorType(bool_, shape)]


def string_split(node: Node, types: Types) -> list[TensorType]:
    shape, width = _strings(node, types, 0)
    delimiter = given(node, types, 1)
    if delimiter.dtype != u8 or delimiter.rank != 1:
        raise fail(node, f"the delimiter is bytes, got {delimiter}")
    return [TensorType(u8, (*shape, node.attr("count"), width)), TensorType(i64, shape)]


#: The width of slots that any number fits into, as text.
NUMBER_WIDTH = 24


def string_number(node: Node, types: Types) -> list[TensorType]:
    shape, _ = _strings(node, types, 0)
    if node.attr("to") not in (f64, i64):
        raise fail(node, f"reads f64 or i64, not {node.attr('to')}")
    return [TensorType(node.attr("to"), shape)]


def number_string(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    if x.dtype not in (f32, f64, i64, u64):
        raise fail(node, f"writes f32, f64, i64 or u64, not {x}")
    return [TensorType(u8, (*x.shape, NUMBER_WIDTH))]


ROWS = (
    Op(
        *("string_find", "routine", (2, 2), string_find, {}, 8),
        "where each string is in a list without repetitions, in the order of its bytes; -1 where it is not",
    ),
    Op(*("string_concat", "routine", (2, 2), string_concat, {}, 1), "strings with others behind them"),
    Op(
        *(
            "string_case",
            "routine",
            (2, 2),
            string_case,
            {"width": AttrSpec("int"), "sigma": AttrSpec("bool", False)},
            4,
        ),
        "characters by a table [n, 2] in order of those that have case: a character, and what takes its place, up to 7 bytes from "
        "the lowest, their number in the highest; with `sigma`, a capital sigma between one of them and none becomes the final one",
    ),
    Op(
        *("string_match", "routine", (2, 2), string_match, {}, 2),
        "whether an automaton accepts all of a string: rows are states, from 0; a column for each byte holds the next state or -1, "
        "the last column is not 0 where the string may end",
    ),
    Op(
        *("string_split", "routine", (2, 2), string_split, {"count": AttrSpec("sets"), "most": AttrSpec("int", -1)}, 4),
        "pieces between delimiters (without bytes: white space), split at most `most` times, and how many each string has; the "
        "greatest number becomes the dim `count`, and empty strings fill up",
    ),
    Op(
        *("string_number", "routine", (1, 1), string_number, {"to": AttrSpec("dtype")}, 16),
        "the numbers that strings spell in decimal, rounded to the nearest, to whole numbers towards zero; what spells none is NaN "
        "or 0",
    ),
    Op(
        *("number_string", "routine", (1, 1), number_string, {}, 256),
        "numbers in decimal: of floats the fewest digits that read back as the same, plain from 1e-4 up to 1e16",
    ),
)
