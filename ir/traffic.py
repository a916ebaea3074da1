"""Bytes a good kernel moves for a cluster: attention never writes its scores, a lookup reads its rows alone, a cache is appended to
in place, and of a mixture of experts only the expected number of different experts is read."""

from __future__ import annotations

from .dims import typical
from .graph import Graph, Node


def expected_experts(experts: int, top_k: int, tokens: int) -> float:
    """How many different experts so many tokens use, if each picks `top_k` of them evenly: E * (1 - (1 - k / E) ^ tokens)."""
    return experts * (1.0 - (1.0 - top_k / experts) ** tokens)


def appended(node: Node, graph: Graph) -> str:
    """The input of the model that a concat grows into an output of the model, such as cached keys, or the empty string."""
    grown = node.op == "concat" and node.inputs[0] in graph.input_values and node.output in graph.output_values
    return node.inputs[0] if grown else ""


def moved(cluster: Node, graph: Graph) -> dict[str, float]:
    """For each value a cluster reads or writes, the bytes that come from or go to memory at least once, at the typical sizes."""
    symbols = graph.symbols
    found = {v: float(typical(graph.types[v].nbytes, symbols)) for v in (*cluster.used, *cluster.outputs)}
    for node in cluster.body:
        match node.op:
            case "gather" if node.inputs[0] in found:  # the rows read are as many as those written
                rows = float(typical(graph.types[node.output].nbytes, symbols))
                found[node.inputs[0]] = min(found[node.inputs[0]], rows)
            case "moe":
                tokens = typical(graph.types[node.inputs[0]].shape[0], symbols)
                for value in node.inputs[2:]:
                    experts = graph.types[value].shape[0]
                    if value in found and isinstance(experts, int):
                        found[value] *= expected_experts(experts, node.attr("top_k"), tokens) / experts
            case "concat" if appended(node, graph) in found:
                old = found.pop(appended(node, graph))
                found[node.output] = max(found.get(node.output, old) - old, 0.0)
    return found
