"""No pass changes what a graph means: every pass alone, and the whole pipeline, on random graphs against the interpreter."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from stratac.ir.graph import Graph
from stratac.ir.interp import run
from stratac.ir.ops import OPS
from stratac.ir.rewrite import is_topological, renumber
from stratac.ir.verify import verify_graph
from stratac.passes.base import Pass, run_passes
from stratac.passes.graph.canonicalize import canonicalize
from stratac.passes.graph.cse import cse
from stratac.passes.graph.fold_constants import fold_constants
from stratac.passes.graph.fuse import fuse
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES

from ..graph_samples import THEMES, theme_samples
from ..random_graphs import Sample

COUNT = 25
PASSES: dict[str, Pass] = {step.name: step for step in (*GRAPH_PASSES, *CLUSTER_PASSES) if step.source == "graph"}
FREE = ("view", "source")


@functools.cache
def samples(theme: str, round_: int) -> list[tuple[Sample, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Samples with two sets of inputs and what the interpreter makes of them."""
    found = []
    for sample in theme_samples(theme, COUNT, 60_000 + 100 * list(THEMES).index(theme) + round_):
        given = [sample.make_inputs(seed) for seed in (0, 1)]
        found.append((sample, given, [run(sample.graph, inputs) for inputs in given]))
    return found


def check(sample: Sample, given: list[dict[str, Any]], wanted: list[dict[str, Any]], after: Graph) -> None:
    assert [(p.name, after.types[p.value]) for p in after.outputs] == [
        (p.name, sample.graph.types[p.value]) for p in sample.graph.outputs
    ]
    assert after.inputs == sample.graph.inputs and is_topological(after)
    for inputs, expected in zip(given, wanted, strict=True):
        sample.compare(run(after, inputs), expected)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("theme", THEMES)
def test_pass_alone(theme: str, name: str, round_: int) -> None:
    step = PASSES[name]
    for sample, given, wanted in samples(theme, round_):
        after = step.run(sample.graph)
        verify_graph(after, level=step.target, pass_name=name)
        check(sample, given, wanted, after)


@pytest.mark.parametrize("theme", THEMES)
def test_pipeline(theme: str, round_: int) -> None:
    for sample, given, wanted in samples(theme, round_):
        simple = run_passes(sample.graph, GRAPH_PASSES)
        check(sample, given, wanted, simple)
        check(sample, given, wanted, run_passes(simple, CLUSTER_PASSES))


@pytest.mark.parametrize("step", [canonicalize, cse, fold_constants], ids=lambda step: step.__name__)
@pytest.mark.parametrize("theme", THEMES)
def test_twice_is_once(theme: str, step: Any, round_: int) -> None:
    for sample, _, _ in samples(theme, round_):
        once = step(sample.graph)
        assert renumber(step(once)) == renumber(once)


@pytest.mark.parametrize("theme", THEMES)
def test_each_op_is_computed_once(theme: str, round_: int) -> None:
    """Clusters share no op but views and sources, and no cluster is without use."""
    for sample, _, _ in samples(theme, round_):
        graph = run_passes(sample.graph, GRAPH_PASSES)
        clusters = fuse(graph)
        read = {v for node in clusters.nodes for v in node.used} | set(clusters.output_values)
        assert all(set(node.outputs) <= read for node in clusters.nodes)
        before = [n for n in graph.nodes if OPS[n.op].category not in FREE]
        after = [n for n in clusters.walk() if n.op != "cluster" and OPS[n.op].category not in FREE]
        assert sorted(n.outputs[0] for n in after) == sorted(n.outputs[0] for n in before)
