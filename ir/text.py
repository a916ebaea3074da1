"""Prints the IR. One canonical text for each value: what `parse` reads back is equal, and prints the same.

The helpers here (`dim_text`, `type_text`, `attr_text`, `value_text`, `string_text`, ..) and the `Lexer` are shared by
the texts of every level. `docs/ir.md` has the grammar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .dims import Dim
from .errors import Source
from .graph import Attr, Attrs, Derived, FileBytes, Graph, Inline, Loop, Node, Weight
from .types import DTYPES, DType, TensorType

#: Words that mean something else in an attribute value, so no symbol may be called like them.
RESERVED = frozenset({"true", "false", "inf", "nan", "floordiv", "mod", "min", "max", *DTYPES})
#: Constants up to this many elements print as numbers.
READABLE = 16
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.$-]+")
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")


def string_text(text: str) -> str:
    """A quoted string with JSON's escapes; everything beyond ASCII is escaped where something is not printable."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def value_text(value: str) -> str:
    """The use or definition of a value: `%name`, `%"odd name"`, or `_` for an absent optional input."""
    if not value:
        return "_"
    return f"%{value}" if _PLAIN_VALUE.fullmatch(value) else f"%{string_text(value)}"


def name_text(name: str) -> str:
    """A global name: `@name` or `@"odd name"`."""
    plain = _PLAIN_NAME.fullmatch(name) and name.isidentifier()
    return f"@{name}" if plain else f"@{string_text(name)}"


def float_text(number: float) -> str:
    """The shortest decimal that reads back as the same float64; `inf`, `-inf`, `nan`."""
    return repr(float(number))


def dim_text(dim: Dim) -> str:
    return str(dim)


def type_text(kind: TensorType) -> str:
    return str(kind)


def attr_text(value: Attr) -> str:
    """An attribute value. Ints and floats stay apart: a float always has a point, an exponent, or is inf or nan."""
    if isinstance(value, tuple):
        inner = ", ".join(attr_text(part) for part in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, str):
        return string_text(value)
    return value.name if isinstance(value, DType) else str(value)


def attrs_text(attrs: Attrs) -> str:
    """` {name = value, ..}`, or nothing."""
    return f" {{{', '.join(f'{name} = {attr_text(value)}' for name, value in attrs)}}}" if attrs else ""


def source_text(source: Source) -> str:
    """` @ "file":"node"`; either may be missing, both print nothing."""
    if not source.file and not source.node:
        return ""
    node = f":{string_text(source.node)}" if source.node else ""
    return f" @ {string_text(source.file) if source.file else ''}{node}"


def call_text(op: str, inputs: Iterable[str], attrs: Attrs) -> str:
    """`op(%a, _, %b) {name = value}`."""
    return f"{op}({', '.join(map(value_text, inputs))}){attrs_text(attrs)}"


def nodes_text(nodes: Iterable[Node], types: Mapping[str, TensorType], indent: str = "  ") -> Iterator[str]:
    """One line for each node, a cluster's body or a loop's graph indented between braces."""
    for node in nodes:
        outputs = ", ".join(map(value_text, node.outputs))
        kinds = ", ".join(type_text(types[value]) for value in node.outputs)
        line = f"{indent}{outputs} = {call_text(node.op, node.inputs, node.attrs)} : {kinds}{source_text(node.source)}"
        if node.graph is not None:
            yield f"{line} {{"
            yield from graph_lines(node.graph, indent + "  ")
            yield f"{indent}}}"
        elif node.body:
            yield f"{line} {{"
            yield from nodes_text(node.body, types, indent + "  ")
            yield f"{indent}}}"
        else:
            yield line


def readable_dtype(dtype: DType) -> bool:
    """Whether constants of this type can print as numbers."""
    return dtype.name in ("f64", "f32", "f16", "bool") or (dtype.is_integer and dtype.bits >= 8)


def number_from_text(text: str, dtype: DType) -> Any:
    """A constant's element from its text. Raises ValueError or OverflowError where it does not fit."""
    if dtype.kind == "bool":
        return {"true": True, "false": False}[text]
    return dtype.np.type(text) if dtype.is_float else dtype.np.type(int(text))


def _numbers(weight: Weight, data: bytes) -> str | None:
    """Small constants as numbers, where these stand for exactly the same bytes."""
    dtype = weight.type.dtype
    if not readable_dtype(dtype) or len(data) > READABLE * dtype.bytes or len(data) % dtype.bytes:
        return None
    array = np.frombuffer(data, dtype=dtype.np.newbyteorder("<"))
    words = [str(x).lower() for x in array]
    again = np.array([number_from_text(word, dtype) for word in words], dtype=dtype.np)
    return f"[{', '.join(words)}]" if again.tobytes() == data else None


def weight_text(weight: Weight) -> str:
    """One line: `weight %name "label" : type = content`."""
    match weight.content:
        case FileBytes(file, offset, nbytes):
            content = f"file {string_text(file)} @ {offset} + {nbytes}"
        case Inline(data):
            content = _numbers(weight, data) or f'hex "{data.hex()}"'
        case Derived(op, inputs, attrs):
            content = call_text(op, inputs, attrs)
    label = f" {string_text(weight.label)}" if weight.label else ""
    return f"weight {value_text(weight.name)}{label} : {type_text(weight.type)} = {content}"


def _loop_text(loop: Loop) -> str:
    """`loop trip %a:%b (%c to %d, ..) while %e "why"`."""
    carried = ", ".join(f"{value_text(one.value)} to {value_text(one.update)}" for one in loop.carried)
    condition = f" while {value_text(loop.condition)}" if loop.condition else ""
    span = f"{value_text(loop.first)}:{value_text(loop.last)}"
    return f"loop {loop.trip} {span} ({carried}){condition}{f' {string_text(loop.why)}' if loop.why else ''}"


def graph_lines(graph: Graph, indent: str = "") -> Iterator[str]:
    """The lines of a graph, for texts of other levels that contain one."""
    yield f"{indent}graph {name_text(graph.name)} {{"
    inner = indent + "  "
    for name, bounds in graph.symbols.items():
        yield f"{inner}dim {name} = {bounds.min}:{bounds.typical}:{bounds.max}"
    for port in graph.inputs:
        kind = type_text(graph.types[port.value])
        yield f"{inner}input {value_text(port.value)} {string_text(port.name)} : {kind}"
    for state in graph.states:
        kind = type_text(graph.types[state.value])
        initial = value_text(state.initial) if state.initial else "zeros"
        yield f"{inner}state {value_text(state.value)} {string_text(state.name)} : {kind} = {initial}"
    for weight in graph.weights.values():
        yield f"{inner}{weight_text(weight)}"
    yield from nodes_text(graph.nodes, graph.types, inner)
    for port in graph.outputs:
        yield f"{inner}output {string_text(port.name)} = {value_text(port.value)}"
    for state in graph.states:
        yield f"{inner}next {string_text(state.name)} = {value_text(state.update)}"
    for loop in graph.loops:
        yield f"{inner}{_loop_text(loop)}"
    yield f"{indent}}}"


def print_graph(graph: Graph) -> str:
    """The text of a graph that `verify_graph` accepts, at any level; ends with a newline."""
    return "\n".join(graph_lines(graph)) + "\n"
