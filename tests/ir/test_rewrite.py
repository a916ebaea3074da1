"""Graph edits keep meaning, types and order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratac.ir import rewrite
from stratac.ir.builder import GraphBuilder
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.interp.registry import Array
from stratac.ir.parse import parse_graph
from stratac.ir.text import print_graph
from stratac.ir.types import TensorType, f32
from stratac.ir.verify import verify_graph
from stratac.tests.random_graphs import Sample, clustered, random_graphs

RANDOM = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
CUTS = st.sets(st.integers(1, 20), max_size=4)


def assert_same(a: Mapping[str, Array], b: Mapping[str, Array]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@RANDOM
@given(random_graphs(), CUTS)
def test_clusters_inline_to_the_same_graph(sample: Sample, cuts: set[int]) -> None:
    graph, inputs = sample.graph, sample.make_inputs(1)
    fused = clustered(graph, cuts)
    assert rewrite.is_topological(fused)
    assert_same(run(fused, inputs), run(graph, inputs))
    inlined = rewrite.inline_clusters(fused)
    verify_graph(inlined)
    assert inlined.nodes == graph.nodes


@RANDOM
@given(random_graphs(), CUTS)
def test_renumber_forgets_names(sample: Sample, cuts: set[int]) -> None:
    for graph, level in ((sample.graph, "graph"), (clustered(sample.graph, cuts), "clusters")):
        canonical = rewrite.renumber(graph)
        verify_graph(canonical, level=level)
        assert print_graph(rewrite.renumber(canonical)) == print_graph(canonical)
        renamed = rewrite.rename_values(graph, {name: f"other.{name}" for name in graph.types})
        shuffled = replace(renamed, weights=dict(reversed(renamed.weights.items())))
        assert print_graph(rewrite.renumber(shuffled)) == print_graph(canonical)
        assert_same(run(canonical, sample.make_inputs(2)), run(graph, sample.make_inputs(2)))


@RANDOM
@given(random_graphs(), CUTS, st.data())
def test_drop_unused_after_losing_an_output(sample: Sample, cuts: set[int], data: st.DataObject) -> None:
    for graph, level in ((sample.graph, "graph"), (clustered(sample.graph, cuts), "clusters")):
        keep = data.draw(st.sampled_from(graph.outputs))
        cut = rewrite.drop_unused(replace(graph, outputs=(keep,)))
        verify_graph(cut, level=level)
        read = {value for node in cut.nodes for value in node.used} | {keep.value}
        assert all(set(node.outputs) & read for node in cut.nodes)
        inputs = sample.make_inputs(3)
        np.testing.assert_array_equal(run(cut, inputs)[keep.name], run(graph, inputs)[keep.name])
        assert rewrite.drop_unused(cut) == cut


@RANDOM
@given(random_graphs(), st.randoms())
def test_sort_nodes_repairs_any_order(sample: Sample, random: object) -> None:
    nodes = list(sample.graph.nodes)
    random.shuffle(nodes)  # type: ignore[attr-defined]
    again = rewrite.sort_nodes(replace(sample.graph, nodes=tuple(nodes)))
    assert rewrite.is_topological(again)
    verify_graph(again)
    assert rewrite.sort_nodes(sample.graph).nodes == sample.graph.nodes


def chain() -> Graph:
    builder = GraphBuilder(name="chain")
    x = builder.input("x", TensorType(f32, (2,)))
    y = builder.op("relu", x)
    z = builder.op("relu", y)
    return builder.finish([Port("out", builder.op("neg", z))])


def test_replace_values_follows_chains_and_outputs() -> None:
    graph = chain()
    relu, second, neg = graph.nodes
    short = rewrite.replace_values(graph, {second.output: relu.output, relu.output: graph.inputs[0].value})
    assert short.nodes[2].inputs == (graph.inputs[0].value,)
    slim = rewrite.drop_unused(short)
    assert [node.op for node in slim.nodes] == ["neg"]
    verify_graph(slim)
    out = rewrite.drop_unused(rewrite.replace_values(graph, {neg.output: relu.output}))
    assert out.output_values == (relu.output,)
    with pytest.raises(ValueError, match="back to itself"):
        rewrite.replace_values(graph, {"a": "b", "b": "a"})


def test_replace_values_inside_clusters_declares_what_bodies_read() -> None:
    text = """
    graph @g {
      input %x "x" : f32[2]
      %y = cluster(%x) : f32[2] { %y = neg(%x) : f32[2] }
      %z = cluster(%y) : f32[2] { %a = relu(%y) : f32[2] %z = exp(%a) : f32[2] }
      output "z" = %z
    }
    """
    graph = rewrite.replace_values(parse_graph(text), {"a": "x"})
    assert graph.nodes[1].inputs == ("y", "x")
    verify_graph(graph, level="clusters")
    slim = rewrite.drop_unused(graph)
    assert len(slim.nodes) == 1 and slim.nodes[0].inputs == ("x",)
    verify_graph(slim, level="clusters")


def test_bases_of_derived_weights_stay() -> None:
    text = """
    graph @g {
      weight %a : f32[2] = [1.0, 2.0]
      weight %b : f32[2] = neg(%a)
      weight %c : f32[2] = neg(%b)
      weight %d : f32[2] = neg(%b)
      %y = relu(%c) : f32[2]
      output "y" = %y
    }
    """
    slim = rewrite.drop_unused(parse_graph(text))
    assert list(slim.weights) == ["a", "b", "c"]
    assert set(slim.types) == {"a", "b", "c", "y"}
    assert list(rewrite.renumber(slim).weights) == ["w0", "w1", "w2"]
    merged = rewrite.drop_unused(rewrite.replace_values(slim, {"b": "a"}))
    assert list(merged.weights) == ["a", "c"]


def test_a_cycle_is_an_error() -> None:
    graph = chain()
    relu = replace(graph.nodes[0], inputs=(graph.nodes[1].output,))
    broken = replace(graph, nodes=(relu, *graph.nodes[1:]))
    assert not rewrite.is_topological(broken)
    with pytest.raises(ValueError, match="cycle"):
        rewrite.sort_nodes(broken)


def test_renaming_must_keep_names_apart() -> None:
    graph = chain()
    with pytest.raises(ValueError, match="two values one name"):
        rewrite.rename_values(graph, dict.fromkeys(graph.types, "same"))
