"""Equal computations are done once."""

from __future__ import annotations

from dataclasses import replace

from ...ir.graph import Derived, Graph, Inline, Node, Port, Weight
from ...ir.rewrite import drop_unused, map_updates


def _weight_key(weight: Weight) -> object:
    return (weight.type, weight.content) if isinstance(weight.content, Inline | Derived) else weight.name


def cse(graph: Graph) -> Graph:
    """Nodes with the same op, inputs and attributes are merged into the first; so are equal inline and derived weights."""
    same: dict[str, str] = {}
    weights: dict[object, str] = {}
    apart = {state.initial for state in graph.states}
    for name, weight in graph.weights.items():
        if name in apart:
            continue  # what a state starts from is nobody else's
        content = weight.content
        if isinstance(content, Derived):
            content = replace(content, inputs=tuple(same.get(v, v) for v in content.inputs))
        first = weights.setdefault(_weight_key(replace(weight, content=content)), name)
        if first != name:
            same[name] = first
    seen: dict[object, Node] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(same.get(v, v) for v in node.inputs))
        key = (node.op, node.inputs, node.attrs)
        first_node = seen.setdefault(key, node)
        if first_node is node:
            nodes.append(node)
        else:
            same.update(zip(node.outputs, first_node.outputs, strict=True))
    ports = tuple(Port(p.name, same.get(p.value, p.value)) for p in graph.outputs)
    return drop_unused(replace(graph, nodes=tuple(nodes), outputs=ports, states=map_updates(graph, same)))
