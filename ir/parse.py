"""Reads the IR's text. The small readers (`read_dim`, `read_type`, `read_attr`, ..) serve the texts of every level.

A reader takes a lexer, consumes what it reads and returns its value; it raises ParseError, which says line, column and
what was expected. Parsing checks the grammar only: what the text means is the verifier's to judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from .dims import Bounds, Dim, dim_max, dim_min, floordiv, mod, symbol
from .errors import Source
from .graph import (
    Attr,
    Attrs,
    Carried,
    Derived,
    FileBytes,
    Graph,
    Inline,
    Loop,
    Node,
    Port,
    State,
    Weight,
    make_attrs,
)
from .lexer import Lexer, ParseError, parse
from .text import number_from_text, readable_dtype
from .types import DTYPES, TensorType

__all__ = [
    "Lexer",
    "ParseError",
    "parse",
    "parse_graph",
    "read_attr",
    "read_attrs",
    "read_call",
    "read_dim",
    "read_factor",
    "read_graph",
    "read_source",
    "read_symbol",
    "read_type",
]


def read_dim(lexer: Lexer) -> Dim:
    """A sum of products of integers, symbols, calls and parentheses."""
    total: Dim = -_read_product(lexer) if lexer.accept("-") else _read_product(lexer)
    while lexer.at("+", "-"):
        total = total + _read_product(lexer) if lexer.next().kind == "+" else total - _read_product(lexer)
    return total


def _read_product(lexer: Lexer) -> Dim:
    total = read_factor(lexer)
    while lexer.accept("*"):
        total = total * read_factor(lexer)
    return total


_DIM_FUNCTIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "floordiv": floordiv,
    "mod": mod,
    "min": dim_min,
    "max": dim_max,
}


def read_factor(lexer: Lexer) -> Dim:
    """An integer, a symbol, a call or a dim in parentheses."""
    if lexer.accept("("):
        inner = read_dim(lexer)
        lexer.expect(")")
        return inner
    if lexer.at("int"):
        return lexer.integer()
    position = lexer.token.position
    name = lexer.name("a dim")
    if name not in _DIM_FUNCTIONS:
        return symbol(name)
    lexer.expect("(")
    left = read_dim(lexer)
    lexer.expect(",")
    right = read_dim(lexer)
    lexer.expect(")")
    if right == 0 and name in ("floordiv", "mod"):
        lexer.fail(f"{name} by zero", position)
    return _DIM_FUNCTIONS[name](left, right)


def read_type(lexer: Lexer) -> TensorType:
    """`f32[batch, 128]`."""
    if lexer.token.kind != "name" or lexer.token.text not in DTYPES:
        lexer.expected("an element type such as f32")
    dtype = DTYPES[lexer.name()]
    return TensorType(dtype, lexer.list("[", read_dim, "]"))


def read_attr(lexer: Lexer) -> Attr:
    """An attribute value; in front of one, a parenthesis opens a tuple."""
    if lexer.at("("):
        return lexer.list("(", read_attr, ")")
    if lexer.at("string"):
        return lexer.string()
    if lexer.at("name"):
        for word, constant in (("true", True), ("false", False)):
            if lexer.accept_word(word):
                return constant
        if lexer.token.text in DTYPES:
            return DTYPES[lexer.name()]
    negative = lexer.accept("-")
    if lexer.at("float") or lexer.at_word("inf") or lexer.at_word("nan"):
        number = lexer.number()
        return -number if negative else number
    if not lexer.at("int", "name"):
        lexer.expected("an attribute value")
    first = _read_product(lexer)
    total: Dim = -first if negative else first
    return total + read_dim(lexer) if _at_sum(lexer) else total


def _at_sum(lexer: Lexer) -> bool:
    """Whether a sum goes on; a plus is consumed, a minus belongs to the next term."""
    return lexer.accept("+") or lexer.at("-")


def read_attrs(lexer: Lexer) -> Attrs:
    """`{name = value, ..}` or nothing."""
    if not lexer.at("{"):
        return ()
    found: dict[str, Attr] = {}

    def read_pair(lexer: Lexer) -> None:
        position, name = lexer.token.position, lexer.name("an attribute's name")
        if name in found:
            lexer.fail(f"attribute {name!r} is given twice", position)
        lexer.expect("=")
        found[name] = read_attr(lexer)

    lexer.list("{", read_pair, "}")
    return make_attrs(dict(found))


def read_source(lexer: Lexer) -> Source:
    """`@ "file":"node"`, either part optional, or nothing."""
    if not lexer.accept("@"):
        return Source()
    file = lexer.string() if lexer.at("string") else ""
    if not file and not lexer.at(":"):
        lexer.expected('"file", "file":"node" or :"node"')
    return Source(file, lexer.string() if lexer.accept(":") else "")


def read_call(lexer: Lexer) -> tuple[str, tuple[str, ...], Attrs]:
    """`op(%a, _, %b) {name = value}`: op, inputs, attributes."""

    def read_input(lexer: Lexer) -> str:
        return "" if lexer.accept_word("_") else lexer.value("a value such as %0, or _ for an absent input")

    op = lexer.name("an op")
    return op, lexer.list("(", read_input, ")"), read_attrs(lexer)


@dataclass
class _Parts:
    """A graph under way."""

    symbols: dict[str, Bounds]
    inputs: list[Port]
    outputs: list[Port]
    weights: dict[str, Weight]
    nodes: list[Node]
    types: dict[str, TensorType]
    states: list[State] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)

    def declare(self, lexer: Lexer, value: str, kind: TensorType, position: int) -> None:
        """A value may be annotated twice (inside its cluster and on it) if both agree."""
        if self.types.setdefault(value, kind) != kind:
            lexer.fail(f"%{value} is {kind} here and {self.types[value]} elsewhere", position)


def read_graph(lexer: Lexer, folder: str = "") -> Graph:
    """`graph @name { .. }`."""
    lexer.expect_word("graph")
    name = lexer.global_name()
    lexer.expect("{")
    parts = _Parts({}, [], [], {}, [], {})
    while not lexer.accept("}"):
        if lexer.at("value"):
            parts.nodes.append(_read_node(lexer, parts))
        elif lexer.at("name") and lexer.token.text in _READERS:
            _READERS[lexer.next().text](lexer, parts)
        else:
            lexer.expected(f"{', '.join(_READERS)}, a node such as %0 = op(..), or '}}'")
    return Graph(
        name,
        parts.symbols,
        tuple(parts.inputs),
        tuple(parts.outputs),
        parts.weights,
        tuple(parts.nodes),
        parts.types,
        folder,
        states=tuple(parts.states),
        loops=tuple(parts.loops),
    )


def read_symbol(lexer: Lexer) -> tuple[str, Bounds]:
    """`name = min:typical:max`."""
    position = lexer.token.position
    name = lexer.name("a dim's name")
    lexer.expect("=")
    least = lexer.integer()
    lexer.expect(":")
    usual = lexer.integer()
    lexer.expect(":")
    try:
        return name, Bounds(least, usual, lexer.integer())
    except ValueError as error:
        lexer.fail(str(error), position)


def _read_symbol(lexer: Lexer, parts: _Parts) -> None:
    position = lexer.token.position
    name, bounds = read_symbol(lexer)
    if name in parts.symbols:
        lexer.fail(f"dim {name} is declared twice", position)
    parts.symbols[name] = bounds


def _read_input(lexer: Lexer, parts: _Parts) -> None:
    position, value = lexer.token.position, lexer.value()
    parts.inputs.append(Port(lexer.string("the input's name in quotes"), value))
    lexer.expect(":")
    parts.declare(lexer, value, read_type(lexer), position)


def _read_output(lexer: Lexer, parts: _Parts) -> None:
    name = lexer.string("the output's name in quotes")
    lexer.expect("=")
    parts.outputs.append(Port(name, lexer.value()))


def _read_state(lexer: Lexer, parts: _Parts) -> None:
    position, value = lexer.token.position, lexer.value()
    name = lexer.string("the state's name in quotes")
    lexer.expect(":")
    parts.declare(lexer, value, read_type(lexer), position)
    lexer.expect("=")
    initial = "" if lexer.accept_word("zeros") else lexer.value("a weight such as %w0, or zeros")
    parts.states.append(State(name, value, value, initial))


def _read_next(lexer: Lexer, parts: _Parts) -> None:
    position, name = lexer.token.position, lexer.string("the state's name in quotes")
    place = next((k for k, state in enumerate(parts.states) if state.name == name), None)
    if place is None:
        lexer.fail(f"there is no state {name!r}", position)
    lexer.expect("=")
    parts.states[place] = replace(parts.states[place], update=lexer.value())


def _read_loop(lexer: Lexer, parts: _Parts) -> None:
    """`loop trip %a:%b (%c to %d, ..) while %e "why"`."""

    def read_carried(lexer: Lexer) -> Carried:
        value = lexer.value()
        lexer.expect_word("to")
        return Carried(value, lexer.value())

    trip = lexer.name("the dim that counts trips")
    first = lexer.value("the first node's first output")
    lexer.expect(":")
    last = lexer.value("the last node's first output")
    carried = lexer.list("(", read_carried, ")")
    condition = lexer.value() if lexer.accept_word("while") else ""
    parts.loops.append(Loop(trip, first, last, carried, condition, lexer.string() if lexer.at("string") else ""))


def _read_weight(lexer: Lexer, parts: _Parts) -> None:
    position, name = lexer.token.position, lexer.value()
    label = lexer.string() if lexer.at("string") else ""
    lexer.expect(":")
    kind = read_type(lexer)
    lexer.expect("=")
    if name in parts.weights:
        lexer.fail(f"weight %{name} is given twice", position)
    parts.declare(lexer, name, kind, position)
    parts.weights[name] = Weight(name, kind, _read_content(lexer, kind), label)


def _read_content(lexer: Lexer, kind: TensorType) -> FileBytes | Inline | Derived:
    if lexer.accept_word("file"):
        file = lexer.string("a file name in quotes")
        lexer.expect("@")
        offset = lexer.integer("an offset")
        lexer.expect("+")
        return FileBytes(file, offset, lexer.integer("a number of bytes"))
    if lexer.at_word("hex"):
        lexer.next()
        position = lexer.token.position
        try:
            return Inline(bytes.fromhex(lexer.string("hexadecimal digits in quotes")))
        except ValueError:
            lexer.fail("expected pairs of hexadecimal digits", position)
    if lexer.at("["):
        return Inline(_read_numbers(lexer, kind))
    if not lexer.at("name"):
        lexer.expected("file, hex, [numbers] or an op")
    return Derived(*read_call(lexer))


def _read_numbers(lexer: Lexer, kind: TensorType) -> bytes:
    dtype = kind.dtype
    if not readable_dtype(dtype):
        lexer.fail(f"constants of type {dtype} are written in hex")

    def read_number(lexer: Lexer) -> object:
        sign = "-" if lexer.accept("-") else ""
        position = lexer.token.position
        if not lexer.at("int", "float", "name"):
            lexer.expected(f"a number of type {dtype}")
        text = sign + lexer.next().text
        try:
            return number_from_text(text, dtype)
        except (ValueError, OverflowError, KeyError):
            lexer.fail(f"{text} is no {dtype}", position)

    numbers = lexer.list("[", read_number, "]")
    return np.array(numbers, dtype=dtype.np.newbyteorder("<")).tobytes()


def _read_node(lexer: Lexer, parts: _Parts) -> Node:
    position = lexer.token.position
    outputs = [lexer.value()]
    while lexer.accept(","):
        outputs.append(lexer.value())
    lexer.expect("=")
    op, inputs, attrs = read_call(lexer)
    lexer.expect(":")
    for index, value in enumerate(outputs):
        if index:
            lexer.expect(",", f"',' and the type of %{value}")
        parts.declare(lexer, value, read_type(lexer), position)
    source = read_source(lexer)
    body: list[Node] = []
    graph = None
    if lexer.accept("{"):
        if lexer.at_word("graph"):
            graph = read_graph(lexer)
        while not lexer.accept("}"):
            if not lexer.at("value") or graph is not None:
                lexer.expected("'}'" if graph is not None else "a node such as %0 = op(..), a graph, or '}'")
            body.append(_read_node(lexer, parts))
    return Node(op, inputs, tuple(outputs), attrs, source, tuple(body), graph)


_READERS: dict[str, Callable[[Lexer, _Parts], None]] = {
    "dim": _read_symbol,
    "input": _read_input,
    "state": _read_state,
    "weight": _read_weight,
    "output": _read_output,
    "next": _read_next,
    "loop": _read_loop,
}


def parse_graph(text: str, folder: str = "") -> Graph:
    """A graph from its text; `folder` is where the files of its weights lie. Raises ParseError."""
    return parse(text, lambda lexer: read_graph(lexer, folder))
