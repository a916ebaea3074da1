"""The order of clusters: the model's own, or one that keeps fewer bytes alive; whichever has the lower peak."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.graph import Graph, Node
from .liveness import liveness, peak, value_bytes


def order_as_given(graph: Graph) -> tuple[Node, ...]:
    """The naive twin: clusters as they stand."""
    return graph.nodes


def order_greedily(graph: Graph) -> tuple[Node, ...]:
    """List scheduling: among the ready clusters the one that frees most, net of what it makes; ties by position."""
    remaining = {id(node): node for node in graph.nodes}
    readers: dict[str, int] = {}
    for node in graph.nodes:
        for value in node.used:
            readers[value] = readers.get(value, 0) + 1
    outside = {*graph.input_values, *graph.weights}
    kept = set(graph.output_values)
    known = set(outside)
    sizes: dict[str, int] = {}

    def size(value: str) -> int:
        if value not in sizes:
            sizes[value] = 0 if value in outside or value in kept else value_bytes(graph, value, graph.symbols)
        return sizes[value]

    def growth(node: Node) -> int:
        freed = sum(size(v) for v in node.used if readers[v] == 1)
        return sum(size(v) for v in node.outputs) - freed

    result: list[Node] = []
    waiting = list(graph.nodes)
    while waiting:
        ready = [n for n in waiting if all(v in known for v in n.used)]
        chosen = min(ready, key=growth)
        waiting.remove(chosen)
        known |= set(chosen.outputs)
        for value in chosen.used:
            readers[value] -= 1
        result.append(chosen)
    assert len(result) == len(remaining)
    return tuple(result)


def order(graph: Graph) -> tuple[tuple[Node, ...], str]:
    """The order with the least peak of live bytes, and which one it was. The model's own order wins ties."""
    orders: Sequence[tuple[str, tuple[Node, ...]]] = (
        ("as given", order_as_given(graph)),
        ("fewest live bytes first", order_greedily(graph)),
    )
    name, nodes = min(orders, key=lambda pair: peak(liveness(pair[1], graph)))
    return nodes, name
