"""Loops laid out flat: the clusters of a body stand among the others, once, and the graph says which are repeated.

What a loop carries starts as a copy; the cluster of the body that computes it anew writes over that (`store_states` has seen to
it). What is behind the loop reads what is there in the end.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.graph import Carried, Derived, Graph, Loop, Node, Weight, make_attrs
from ...ir.types import TensorType


def lay_loops(graph: Graph) -> Graph:
    """A graph of clusters without loops as nodes."""
    if not any(child.graph for child in graph.walk()):
        return graph
    flat = _Flat(graph)
    for node in graph.nodes:
        loop = node.body[0]
        if loop.graph is None:
            flat.nodes.append(node)
        else:
            flat.lay(node, loop, loop.graph)
    return replace(
        graph,
        symbols=flat.symbols,
        weights=flat.weights,
        nodes=tuple(flat.nodes),
        types=flat.types,
        loops=tuple(flat.loops),
    )


class _Flat:
    """The graph under way."""

    def __init__(self, graph: Graph) -> None:
        self.symbols, self.weights, self.types = dict(graph.symbols), dict(graph.weights), dict(graph.types)
        self.kept = set(graph.output_values)
        self.nodes: list[Node] = []
        self.loops: list[Loop] = []

    def lay(self, cluster: Node, loop: Node, body: Graph) -> None:
        """One loop. Its values are called after its first output; what it gives is computed by the clusters of its body."""
        count = len(body.states)
        outputs = dict(zip(body.states, loop.outputs, strict=True))
        changing = [state for state in body.states if state.update != state.value]
        names = {value: f"{cluster.outputs[0]}.{value}" for value in body.types}
        names |= {port.value: value for port, value in zip(body.inputs, loop.inputs[count:], strict=True)}
        starts = dict(zip(body.states, loop.inputs, strict=False))
        names |= {state.value: starts[state] for state in body.states if state.update == state.value}
        names |= self.weights_of(body, names)
        own = {value for value in loop.outputs if value in self.kept}  # whose bytes are elsewhere
        for state in changing:
            names[state.update] = f"{outputs[state]}.last" if outputs[state] in own else outputs[state]
        self.types |= {names[value]: kind for value, kind in body.types.items() if names[value] not in self.types}
        self.symbols |= {name: bounds for name, bounds in body.symbols.items() if name not in self.symbols}
        inside = [_renamed(node, names) for node in body.nodes]
        for state in changing:
            self.copy(starts[state], names[state.value], loop)
        self.nodes += inside
        if inside:
            carried = tuple(Carried(names[state.value], names[state.update]) for state in changing)
            asked = names[body.states[0].value] if loop.attr("while", False) else ""
            first, last = inside[0].outputs[0], inside[-1].outputs[0]
            trip, why = loop.attr("trip"), loop.attr("why", "")
            self.loops.append(Loop(trip, first, last, carried, asked, why))
            self.loops += [_renamed_loop(one, names) for one in body.loops]
        for state in body.states:
            if outputs[state] not in cluster.outputs and state not in changing:
                self.types.pop(outputs[state], None)
            elif state not in changing:
                self.copy(starts[state], outputs[state], loop)
            elif outputs[state] in own:
                self.copy(names[state.update], outputs[state], loop)

    def weights_of(self, body: Graph, names: dict[str, str]) -> dict[str, str]:
        """The body's weights under the names they get: those of equal ones that are there already, else new ones."""
        known = {_key(weight): name for name, weight in self.weights.items()}
        found = {
            name: known.get(_key(weight), names[name])
            for name, weight in body.weights.items()
            if not isinstance(weight.content, Derived)
        }
        found |= {name: names[name] for name in body.weights if name not in found}
        for name, weight in body.weights.items():
            content = weight.content
            if isinstance(content, Derived):
                content = replace(content, inputs=tuple(found.get(value, value) for value in content.inputs))
            self.weights.setdefault(found[name], replace(weight, name=found[name], content=content))
        return found

    def copy(self, source: str, value: str, loop: Node) -> None:
        """A cluster that copies a value."""
        kind: TensorType = self.types[source]
        self.types[value] = kind
        body = Node("reshape", (source,), (value,), make_attrs({"shape": kind.shape}), loop.source)
        self.nodes.append(Node("cluster", (source,), (value,), (), loop.source, (body,)))


def _key(weight: Weight) -> object:
    return weight.type, weight.content


def _renamed(node: Node, names: dict[str, str]) -> Node:
    return replace(
        node,
        inputs=tuple(dict.fromkeys(names.get(v, v) for v in node.inputs))
        if node.op == "cluster"
        else tuple(names.get(v, v) for v in node.inputs),
        outputs=tuple(names.get(v, v) for v in node.outputs),
        body=tuple(_renamed(child, names) for child in node.body),
    )


def _renamed_loop(loop: Loop, names: dict[str, str]) -> Loop:
    return replace(
        loop,
        first=names[loop.first],
        last=names[loop.last],
        carried=tuple(Carried(names[one.value], names[one.update]) for one in loop.carried),
        condition=names.get(loop.condition, ""),
    )
