"""Which values become bf16: those that bf16 products read, and none that somebody outside sees."""

from __future__ import annotations

import numpy as np
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Node, Port
from stratac.ir.interp import run
from stratac.ir.lower import lower_cluster
from stratac.ir.types import TensorType, bf16, f32
from stratac.passes.base import Pass, run_passes
from stratac.passes.graph.narrow_values import narrow_values
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES


def left_operands(cluster: Node, graph: Graph) -> frozenset[str]:
    """As a library whose every product rounds its left operand."""
    found = set()
    for node in cluster.body:
        if node.op == "matmul":
            made = {child.output: child for child in cluster.body}
            value = node.inputs[0]
            while value in made:
                value = made[value].inputs[0]
            found.add(value)
    return frozenset(found)


def block() -> Graph:
    """A norm in front of two products, gelu, a residual that a product reads too, and what has to stay as it is."""
    b, rng = GraphBuilder(name="block"), np.random.default_rng(0)

    def weight(*shape: int) -> str:
        return b.constant(rng.standard_normal(shape).astype(np.float32) / 8)

    x = b.input("x", TensorType(f32, (64, 80)))
    normed = b.op("softmax", x, axis=1)
    one, two = (b.op("matmul", normed, weight(80, 96)) for _ in range(2))
    hidden = b.op("gelu", b.op("add", one, two))
    residual = b.op("add", b.op("matmul", hidden, weight(96, 80)), x)
    seen = b.op("relu", residual)
    last = b.op("add", b.op("matmul", residual, weight(80, 80)), residual)
    few = b.op("reduce_mean", seen, axes=(0,), keepdims=True)
    return b.finish(
        [
            Port("y", b.op("softmax", last, axis=1)),
            Port("seen", seen),
            Port("out", b.op("matmul", seen, weight(80, 7))),
            Port("few", b.op("matmul", few, weight(80, 7))),
        ]
    )


def test_values_of_products_are_narrow_and_all_others_stay() -> None:
    graph = run_passes(run_passes(block(), GRAPH_PASSES), CLUSTER_PASSES)
    step = Pass("narrow_values", lambda g: narrow_values(g, left_operands), "clusters", "clusters")
    narrow = run_passes(graph, (step,))
    changed = {v for v, kind in graph.types.items() if narrow.types[v] != kind}
    assert all(graph.types[v].dtype == f32 and narrow.types[v].dtype == bf16 for v in changed)
    readers = {v: node for node in graph.nodes for v in left_operands(node, graph)}
    kept = {*graph.input_values, *graph.output_values}
    large = {v for v in readers if graph.types[v].elements in (64 * 80, 64 * 96)}
    assert changed == large - kept and len(changed) == 3
    for node in narrow.nodes:  # whatever reads or makes them is one kernel
        lower_cluster(node, narrow.types, narrow.symbols)
    inputs = {"x": np.random.default_rng(1).standard_normal((64, 80)).astype(np.float32)}
    wide, rounded = run(graph, inputs), run(narrow, inputs)
    for name, array in wide.items():
        assert 0 < np.abs(rounded[name] - array).max() < 2**-7 * np.abs(array).max(), name


def test_nothing_to_do_leaves_the_graph() -> None:
    graph = run_passes(run_passes(block(), GRAPH_PASSES), CLUSTER_PASSES)
    assert narrow_values(graph, lambda *_: frozenset()) is graph
    outputs = frozenset(graph.output_values)
    assert narrow_values(graph, lambda node, _: outputs & frozenset(node.used)) is graph


def test_a_value_stays_where_a_reader_would_lose_its_kernel() -> None:
    """A product that reads a value on both sides cannot widen it on the right."""
    b = GraphBuilder(name="square")
    x = b.op("gelu", b.input("x", TensorType(f32, (80, 80))))
    graph = run_passes(run_passes(b.finish([Port("y", b.op("matmul", x, x))]), GRAPH_PASSES), CLUSTER_PASSES)
    assert any(left_operands(node, graph) - set(graph.input_values) for node in graph.nodes)
    assert narrow_values(graph, left_operands) is graph


def test_views_are_taken_of_the_narrow_value() -> None:
    """Rows of a batch become one axis in front of a product: behind a cast that is no view of an operand any more."""
    batch, rows = symbol("batch"), symbol("rows")
    b = GraphBuilder(name="views", symbols={"batch": Bounds(1, 2, 4), "rows": Bounds(1, 64, 64)})
    rng = np.random.default_rng(2)
    x = b.op("softmax", b.input("x", TensorType(f32, (batch, rows, 80))), axis=2)
    one, two = (
        b.op(
            "matmul",
            b.op("reshape", x, shape=(batch * rows, 80)),
            b.constant(rng.standard_normal((80, n)).astype("f4")),
        )
        for n in (96, 40)
    )
    y = b.op("add", b.op("reshape", x, shape=(batch * rows, 80)), b.constant(np.float32(1)))
    graph = run_passes(b.finish([Port("one", one), Port("two", two), Port("y", y)]), GRAPH_PASSES)
    graph = run_passes(graph, CLUSTER_PASSES)
    step = Pass("narrow_values", lambda g: narrow_values(g, left_operands), "clusters", "clusters")
    narrow = run_passes(graph, (step,))
    (changed,) = {v for v, kind in graph.types.items() if v in narrow.types and narrow.types[v] != kind}
    assert narrow.types[changed].dtype == bf16 and graph.types[changed].shape == (batch, rows, 80)
    for node in narrow.nodes:
        lower_cluster(node, narrow.types, narrow.symbols)
    inputs = {"x": rng.standard_normal((2, 5, 80)).astype(np.float32)}
    wide, rounded = run(graph, inputs), run(narrow, inputs)
    for name in ("one", "two"):
        assert 0 < np.abs(rounded[name] - wide[name]).max() < 2**-7 * np.abs(wide[name]).max(), name
    np.testing.assert_array_equal(rounded["y"], wide["y"])  # by the cluster that makes x
