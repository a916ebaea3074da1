"""Failing graphs are made small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from stratac.ir.graph import Graph
from stratac.ir.interp import run
from stratac.ir.verify import verify_graph

from .graph_samples import draw_samples
from .random_graphs import Sample
from .shrink import shrink

SAMPLES = draw_samples(6, 8, 10)


@pytest.mark.parametrize("sample", SAMPLES, ids=range(len(SAMPLES)))
def test_a_failing_op_is_found(sample: Sample) -> None:
    """Whichever op is at fault, what is left is that op alone."""
    inputs = sample.make_inputs(0)
    for guilty in {node.op for node in sample.graph.nodes}:

        def fails(graph: Graph, given: Mapping[str, Any], guilty: str = guilty) -> bool:
            verify_graph(graph)
            run(graph, given)
            return any(node.op == guilty for node in graph.nodes)

        small, given = shrink(sample.graph, inputs, fails)
        assert [node.op for node in small.nodes] == [guilty] and fails(small, given)
