"""Graphs inside nodes: copies with new names of their own, so that a body is imported several times and may hide outer names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import onnx


def instance(graph: onnx.GraphProto, number: int) -> onnx.GraphProto:
    """A copy of a body in which every name it defines has `number` behind it; names from outside stay."""
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    _rename(copy, {name: f"{name}#{number}" for name in defined(graph)}, own=True)
    return copy


def plain_name(name: str) -> str:
    """A name as the model has it."""
    return re.sub(r"(#\d+)+$", "", name)


def defined(graph: onnx.GraphProto) -> Iterator[str]:
    """The names a graph defines itself: inputs, constants and outputs of its nodes."""
    yield from (port.name for port in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        yield from (name for name in node.output if name)


def nodes_within(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph (or function) and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from nodes_within(body)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str], own: bool = False) -> None:
    """Replace names in place. Unless `own`, what the graph defines hides the names from outside."""
    if not own:
        hidden = set(defined(graph))
        names = {old: new for old, new in names.items() if old not in hidden}
    if not names:
        return
    for named in (*graph.input, *graph.initializer, *(s.values for s in graph.sparse_initializer), *graph.output):
        named.name = names.get(named.name, named.name)
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
        for attribute in node.attribute:
            for body in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                _rename(body, names)
