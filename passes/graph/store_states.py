"""Where states are written: the cluster that computes what a state becomes writes over it, after all that read it.

Where that cannot be, since some reader comes later or the cluster itself reads elements that it has written, a copy at the end
does it. Clusters then stand in an order that keeps every state until its last reader.
"""

from __future__ import annotations

from dataclasses import replace

import networkx

from ...ir.graph import Graph, Node, State, make_attrs
from ...ir.in_place import writes_in_place


def store_states(graph: Graph) -> Graph:
    """A graph of clusters in which each state that changes is computed by a cluster that may write over it. `fuse` has given each
    a value of its own."""
    if not graph.states:
        return graph
    stored = _Stored(graph)
    states = tuple(state if state.update == state.value else stored.state(state) for state in graph.states)
    return replace(graph, nodes=stored.sorted(), types=stored.types, states=states)


class _Stored:
    """Clusters under way; `flow` has an edge from each to those that come later, states kept until they are read included."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.types = graph, dict(graph.types)
        # what writes over a state comes last in its kernel: all else that it computes may read the state before
        updates = {state.update for state in graph.states}
        self.nodes = [replace(n, outputs=tuple(sorted(n.outputs, key=updates.__contains__))) for n in graph.nodes]
        self.maker = {value: number for number, node in enumerate(self.nodes) for value in node.outputs}
        self.flow = networkx.DiGraph()
        self.flow.add_nodes_from(range(len(self.nodes)))
        for number, node in enumerate(self.nodes):
            self.flow.add_edges_from((self.maker[value], number) for value in node.used if value in self.maker)

    def state(self, state: State) -> State:
        """The state, written by its own cluster or by a copy."""
        writer = self.maker[state.update]
        readers = [number for number, node in enumerate(self.nodes) if state.value in node.used and number != writer]
        later = networkx.descendants(self.flow, writer)
        reads = state.value in self.nodes[writer].used
        if later.isdisjoint(readers) and (not reads or self.in_place(writer, state)):
            self.flow.add_edges_from((reader, writer) for reader in readers)
            return state
        copy = f"{state.update}.kept"
        shape = self.types[state.update].shape
        body = Node("reshape", (state.update,), (copy,), make_attrs({"shape": shape}), self.nodes[writer].source)
        self.types[copy] = self.types[state.update]
        number = self.maker[copy] = len(self.nodes)
        self.nodes.append(Node("cluster", (state.update,), (copy,), (), body.source, (body,)))
        before = [writer, *readers, *([writer] if reads else [])]
        self.flow.add_edges_from((reader, number) for reader in before)
        return replace(state, update=copy)

    def in_place(self, writer: int, state: State) -> bool:
        return writes_in_place(self.nodes[writer], state.value, state.update, self.types, self.graph.symbols)

    def sorted(self) -> tuple[Node, ...]:
        """As they stood, but for what has to come later."""
        return tuple(self.nodes[number] for number in networkx.lexicographical_topological_sort(self.flow))
