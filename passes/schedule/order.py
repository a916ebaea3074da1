"""The order of clusters: the model's own, or one that keeps fewer bytes alive; whichever has the lower peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...ir.graph import Graph, Node
from ...ir.guards import Guards, find_guards
from .liveness import NO_GUARDS, liveness, peak, value_bytes
from .regions import conditions


def order_as_given(graph: Graph) -> tuple[Node, ...]:
    """The naive twin: clusters as they stand; states are read before they are written over."""
    return graph.nodes


def order_greedily(graph: Graph, guards: Mapping[str, Guards] = NO_GUARDS) -> tuple[Node, ...]:
    """List scheduling: among the ready clusters the one that frees most, net of what it makes; ties by position. A cluster is ready
    when what it reads and what guards it is known."""
    used = [tuple(dict.fromkeys((*node.used, *conditions(node, guards)))) for node in graph.nodes]
    readers: dict[str, list[int]] = {}
    for position, values in enumerate(used):
        for value in values:
            readers.setdefault(value, []).append(position)
    free = {*graph.input_values, *graph.weights, *graph.output_values}
    sizes = {v: 0 if v in free else value_bytes(graph, v, graph.symbols) for node in graph.nodes for v in node.outputs}
    made = {value: sum(sizes[v] for v in node.outputs) for node in graph.nodes for value in node.outputs[:1]}
    left = {value: len(positions) for value, positions in readers.items()}
    missing = [sum(v in sizes for v in values) for values in used]
    numbers = {node.outputs[0]: position for position, node in enumerate(graph.nodes)}
    overwriting: dict[int, list[int]] = {}  # who waits for a reader of a state to be done
    for _, writer, before in graph.overwrites():
        position = numbers[writer.outputs[0]]
        missing[position] += len(before)
        for node in before:
            overwriting.setdefault(numbers[node.outputs[0]], []).append(position)

    def growth(position: int) -> int:
        freed = sum(sizes.get(v, 0) for v in used[position] if left[v] == 1)
        return made[graph.nodes[position].outputs[0]] - freed

    ready = {position: growth(position) for position, count in enumerate(missing) if not count}
    result: list[Node] = []
    while ready:
        chosen = min(ready, key=lambda position: (ready[position], position))
        del ready[chosen]
        node = graph.nodes[chosen]
        result.append(node)
        for value in used[chosen]:
            left[value] -= 1
            if left[value] == 1:
                ready |= {p: growth(p) for p in readers[value] if p in ready}
        waiting = [position for value in node.outputs for position in readers.get(value, ())]
        for position in (*waiting, *overwriting.get(chosen, ())):
            missing[position] -= 1
            if not missing[position]:
                ready[position] = growth(position)
    assert len(result) == len(graph.nodes)
    return tuple(result)


def order(graph: Graph) -> tuple[tuple[Node, ...], str]:
    """The order with the least peak of live bytes, and which one it was. The model's own order wins ties; with loops it is the only
    one, which keeps their clusters together."""
    if graph.loops:
        return order_as_given(graph), "as given"
    guards = find_guards(graph)
    orders: Sequence[tuple[str, tuple[Node, ...]]] = (
        ("as given", order_as_given(graph)),
        ("fewest live bytes first", order_greedily(graph, guards)),
    )
    name, nodes = min(orders, key=lambda pair: peak(liveness(pair[1], graph, guards)))
    return nodes, name
