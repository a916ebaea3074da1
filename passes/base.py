"""A pass is a value: name, levels, a pure function. The runner verifies after every pass and names the guilty one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..ir.graph import Graph, Node
from ..ir.verify import verify_graph


@dataclass(frozen=True)
class Pass:
    """Graph -> graph. `source` and `target` are the levels (`graph` or `clusters`) before and after."""

    name: str
    run: Callable[[Graph], Graph]
    source: str = "graph"
    target: str = "graph"
    summary: str = ""


Trace = Callable[[str, Graph], None]


def run_passes(graph: Graph, passes: Sequence[Pass], trace: Trace | None = None) -> Graph:
    """Apply the passes in order, to the bodies of loops as to the graph; verify before the first and after each. Raises VerifyError
    naming the pass."""
    verify_graph(graph, level=passes[0].source if passes else "graph", pass_name="import")
    for step in passes:
        graph = step.run(_within(graph, step))
        verify_graph(graph, level=step.target, pass_name=step.name)
        if trace is not None:
            trace(step.name, graph)
    return graph


def _within(graph: Graph, step: Pass) -> Graph:
    """The graph, a pass applied to the bodies of its loops."""

    def edit(node: Node) -> Node:
        if node.graph is not None:
            return replace(node, graph=step.run(_within(node.graph, step)))
        return replace(node, body=tuple(map(edit, node.body))) if any(child.graph for child in node.body) else node

    if not any(child.graph for child in graph.walk()):
        return graph
    return replace(graph, nodes=tuple(map(edit, graph.nodes)))
