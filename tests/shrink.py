"""A failing graph made as small as it gets while it still fails: what a failure of a random graph prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from stratac.ir.dims import Expr, evaluate
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import bind_symbols, run
from stratac.ir.ops import runtime_dims
from stratac.ir.rewrite import drop_unused
from stratac.ir.types import TensorType

Arrays = Mapping[str, Any]
Fails = Callable[[Graph, Arrays], bool]


def shrink(graph: Graph, inputs: Arrays, fails: Fails) -> tuple[Graph, Arrays]:
    """A smaller graph with inputs for which `fails` holds too. Dims become the numbers that the inputs have.

    Outputs are left out one by one, a value in the middle becomes the only output, and what leads to a value becomes an input that
    holds what the interpreter computes for it.
    """
    fixed = _fixed(graph, inputs)
    graph = fixed if _holds(fails, fixed, inputs) else graph
    changed = True
    while changed:
        changed = False
        for candidate in _smaller(graph, inputs):
            if len(candidate[0].nodes) + len(candidate[0].outputs) < len(graph.nodes) + len(graph.outputs):
                if _holds(fails, *candidate):
                    (graph, inputs), changed = candidate, True
                    break
    return graph, inputs


def _fixed(graph: Graph, inputs: Arrays) -> Graph:
    """With the numbers that the inputs give to the symbols; as it is where the run itself finds some."""
    if runtime_dims(graph):
        return graph
    values = bind_symbols(graph, inputs)

    def number(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(number, value))
        return evaluate(value, values) if isinstance(value, Expr) else value

    nodes = tuple(replace(node, attrs=tuple((k, number(v)) for k, v in node.attrs)) for node in graph.nodes)
    types = {name: replace(kind, shape=number(kind.shape)) for name, kind in graph.types.items()}
    return replace(graph, symbols={}, nodes=nodes, types=types)


def _holds(fails: Fails, graph: Graph, inputs: Arrays) -> bool:
    try:
        return fails(graph, inputs)
    except Exception:  # another failure than the one looked for, or a graph that is none
        return False


def _smaller(graph: Graph, inputs: Arrays) -> list[tuple[Graph, Arrays]]:
    """Candidates, the smallest first."""
    found = [_with_outputs(graph, inputs, [port]) for port in graph.outputs if len(graph.outputs) > 1]
    found += [_with_outputs(graph, inputs, [Port("output_0", v)]) for node in graph.nodes for v in node.outputs]
    for node in reversed(graph.nodes):
        found.append(_cut(graph, inputs, node.outputs))
    return found


def _with_outputs(graph: Graph, inputs: Arrays, ports: list[Port]) -> tuple[Graph, Arrays]:
    return _tidy(replace(graph, outputs=tuple(ports)), inputs)


def _cut(graph: Graph, inputs: Arrays, values: tuple[str, ...]) -> tuple[Graph, Arrays]:
    """These values as inputs."""
    known = run(graph, inputs, keep=values)
    ports = tuple(Port(f"cut_{value}", value) for value in values)
    nodes = tuple(node for node in graph.nodes if node.outputs != values)
    types = dict(graph.types)
    for value in values:
        types[value] = TensorType(types[value].dtype, known[value].shape)
    cut = replace(graph, inputs=(*graph.inputs, *ports), nodes=nodes, types=types)
    return _tidy(cut, {**inputs, **{port.name: np.asarray(known[port.value]) for port in ports}})


def _tidy(graph: Graph, inputs: Arrays) -> tuple[Graph, Arrays]:
    """Without what no output needs; inputs that settle a symbol stay."""
    graph = drop_unused(graph)
    used = {v for node in graph.nodes for v in node.used} | set(graph.output_values)
    if not graph.symbols:
        gone = {port.value for port in graph.inputs} - used
        types = {name: kind for name, kind in graph.types.items() if name not in gone}
        graph = replace(graph, inputs=tuple(port for port in graph.inputs if port.value in used), types=types)
    return graph, {port.name: inputs[port.name] for port in graph.inputs}
