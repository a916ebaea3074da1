"""A pass is a value: name, levels, a pure function. The runner verifies after every pass and names the guilty one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ir.graph import Graph
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
    """Apply the passes in order; verify before the first and after each. Raises VerifyError naming the pass."""
    verify_graph(graph, level=passes[0].source if passes else "graph", pass_name="import")
    for step in passes:
        graph = step.run(graph)
        verify_graph(graph, level=step.target, pass_name=step.name)
        if trace is not None:
            trace(step.name, graph)
    return graph
