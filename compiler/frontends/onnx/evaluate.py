"""The contents of a value that depends on constants alone, evaluated where a rule cannot go on without them."""

from __future__ import annotations

import numpy as np

from ....ir.builder import GraphBuilder
from ....ir.errors import StratacError
from ....ir.graph import Graph, Port
from ....ir.interp import run

#: a value that needs one of more elements is not evaluated: what decides shapes is small
_LARGEST = 1 << 20


def evaluate_constant(builder: GraphBuilder, value: str) -> np.ndarray | None:
    """The array of a graph value; None where it depends on an input or a symbolic dim, or is too large."""
    needed, nodes = {value}, []
    for node in reversed(builder.nodes):
        if needed.intersection(node.outputs):
            nodes.append(node)
            needed.update(node.used)
    made = {output for node in nodes for output in node.outputs}
    weights = {name: weight for name, weight in builder.weights.items() if name in needed}
    if needed - made - weights.keys() or any(not _small(builder.types[name].elements) for name in needed):
        return None
    port = (Port("value", value),)
    graph = Graph(
        builder.name, builder.symbols, (), port, weights, tuple(reversed(nodes)), builder.types, builder.folder
    )
    try:
        return run(graph, {})["value"]
    except StratacError:
        return None


def _small(elements: object) -> bool:
    return not isinstance(elements, int) or elements <= _LARGEST
