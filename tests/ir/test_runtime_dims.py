"""Dims whose values nodes find out: what is legal, what they mean, and the kernels that set them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol, symbol_of
from stratac.ir.errors import StratacError, VerifyError
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.kernel import Selection
from stratac.ir.lower import lower_cluster
from stratac.ir.ops import dims_set, runtime_dims
from stratac.ir.parse import parse_graph
from stratac.ir.parse_kernel import parse_kernel
from stratac.ir.text import print_graph
from stratac.ir.text_kernel import print_kernel
from stratac.ir.types import TensorType, bool_, f32
from stratac.ir.verify import verify_graph
from stratac.ir.verify_kernel import verify_kernel
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES

from ..ragged_samples import samples

N, K = symbol("n"), symbol("k")


def net(most: int = 8) -> tuple[GraphBuilder, str, str]:
    builder = GraphBuilder(symbols={"n": Bounds(0, 4, 8), "k": Bounds(0, 4, most)})
    x, m = builder.input("x", TensorType(f32, (N, 3))), builder.input("m", TensorType(bool_, (N,)))
    return builder, x, m


def test_symbols_by_themselves() -> None:
    assert symbol_of(K) == "k"
    assert [symbol_of(dim) for dim in (3, K + 1, 2 * K, K * N, K // 2)] == [None] * 5


def test_a_node_sets_a_dim() -> None:
    builder, x, m = net()
    rows = builder.op("gather", x, builder.op("nonzero", m, count=K), axis=0)
    graph = builder.finish([Port("y", builder.op("reduce_sum", rows, axes=(0,), keepdims=False))])
    verify_graph(graph)
    assert runtime_dims(graph) == {"k"} and dims_set(graph.nodes[0]) == ("k",) and not dims_set(graph.nodes[1])
    assert parse_graph(print_graph(graph)) == graph
    clusters = run_passes(graph, CLUSTER_PASSES)
    verify_graph(clusters, level="clusters")
    assert runtime_dims(clusters) == {"k"}
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    for m in ([1, 0, 1, 0, 0], [0] * 5, [1] * 5):
        given = {"x": x, "m": np.array(m, bool)}
        for level in (graph, clusters):
            np.testing.assert_array_equal(run(level, given)["y"], x[given["m"]].sum(0))


def test_bounds_are_held() -> None:
    builder, x, m = net(most=4)
    rows = builder.op("gather", x, builder.op("nonzero", m, count=K), axis=0)
    graph = builder.finish([Port("y", builder.op("reduce_max", rows, axes=(0, 1), keepdims=False))])
    with pytest.raises(StratacError, match=r"dim k comes out as 5, its bounds are 0\.\.4"):
        run(graph, {"x": np.zeros((5, 3), np.float32), "m": np.ones(5, bool)})


def test_outputs_have_the_extents_found() -> None:
    builder, x, m = net()
    at = builder.op("nonzero", m, count=K)
    graph = builder.finish([Port("at", at), Port("rows", builder.op("gather", x, at, axis=0))])
    verify_graph(graph)
    given = np.arange(15, dtype=np.float32).reshape(5, 3)
    for mask in ([1, 0, 0, 1, 1], [0] * 5, [1] * 5):
        found = run(graph, {"x": given, "m": np.array(mask, bool)})
        np.testing.assert_array_equal(found["at"], np.flatnonzero(mask))
        np.testing.assert_array_equal(found["rows"], given[np.flatnonzero(mask)])


def twice(b: GraphBuilder, x: str, m: str) -> str:
    at = [b.op("nonzero", m, count=K) for _ in range(2)]
    return b.op("reduce_sum", b.op("add", *at), axes=(0,))


def unsettled(b: GraphBuilder, x: str, m: str) -> str:
    early = b.op("expand", b.op("reduce_sum", x, axes=(0, 1), keepdims=False), shape=(K,))
    return b.op("reduce_sum", b.op("gather", early, b.op("nonzero", m, count=K), axis=0), axes=(0,))


def not_a_symbol(b: GraphBuilder, x: str, m: str) -> str:
    return b.op("nonzero", m, count=K + 1)


def wrong_type(b: GraphBuilder, x: str, m: str) -> str:
    return b.op("nonzero", x, count=K)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (twice, "sets the dim k, which another node sets"),
        (unsettled, "uses the dim k and reads nothing that depends on the node that sets it"),
        (not_a_symbol, "is not a sets"),
        (wrong_type, "takes bool of rank 1"),
    ],
)
def test_illegal_graphs(make: Callable[[GraphBuilder, str, str], str], said: str) -> None:
    builder, x, m = net()
    with pytest.raises(VerifyError, match=said):
        verify_graph(builder.finish([Port("y", make(builder, x, m))]))


def kernels(graph: Graph) -> list[str]:
    texts = []
    for cluster in run_passes(graph, CLUSTER_PASSES).nodes:
        clusters = run_passes(graph, CLUSTER_PASSES)
        kernel = lower_cluster(cluster, clusters.types, clusters.symbols)
        sizes = [clusters.types[v].elements for v in (*cluster.used, *cluster.outputs)]
        verify_kernel(kernel, clusters.symbols, sizes)
        assert parse_kernel(print_kernel(kernel)) == kernel
        texts.append(print_kernel(kernel))
    return texts


def test_kernels() -> None:
    texts = [text for sample in samples() for text in kernels(sample.graph)]
    assert sum("kernel selection" in text for text in texts) == 4
    assert sum("longest s" in text for text in texts) == 2


SELECTION = """
kernel selection {
  a0 : in bool
  a1 : out i64
  axis %i < n
  condition = a0[%i]
  count k
}
"""
RAGGED = """
kernel attention {
  a0 : in f32
  a1 : in i64
  a2 : out f32
  batch %b < 2
  heads %h < 4
  row %i < n
  column %col < 6
  keys n
  kv_heads 4
  width 6
  scale 0.5
  q = a0 + 0 by (0, 6, 24)
  k = a0 + 0 by (0, 6, 24)
  v = a0 + 0 by (0, 6, 24)
  ends = a1 + 0 by (1)
  longest 5
  store a2[6*%h + 24*%i + %col] = acc
}
"""
SYMBOLS = {"n": Bounds(0, 4, 8), "k": Bounds(0, 4, 8)}


def test_kernel_texts() -> None:
    for text, sizes in ((SELECTION, (N, K)), (RAGGED, (24 * N, 2, 24 * N))):
        kernel = parse_kernel(text)
        verify_kernel(kernel, SYMBOLS, sizes)
        assert print_kernel(kernel).strip() == text.strip()
    assert isinstance(parse_kernel(SELECTION), Selection)


@pytest.mark.parametrize(
    ("text", "old", "new", "said"),
    [
        (SELECTION, "out i64", "out f32", "one out operand, of i64"),
        (SELECTION, "count k", "count z", "'z', which is not declared"),
        (SELECTION, "a0[%i]", "a0[%i + 1]", "a0 at 1..4"),
        (SELECTION, "condition = a0[%i]", "condition = 1.0", "the condition gives f32, expected bool"),
        (RAGGED, "in i64", "in f32", "expected in i64"),
        (RAGGED, "q = a0 + 0 by (0,", "q = a0 + 0 by (24,", "have a batch stride"),
        (RAGGED, "keys n", "keys 5", "other keys than queries"),
        (RAGGED, "ends = a1 + 0", "ends = a1 + 1", "a1 at 1..2"),
        (RAGGED, "longest 5", "longest 5\n  score = add(acc, 1.0)", "have a score change"),
    ],
)
def test_broken_kernels(text: str, old: str, new: str, said: str) -> None:
    assert old in text
    with pytest.raises(VerifyError, match=said):
        verify_kernel(
            parse_kernel(text.replace(old, new)), SYMBOLS, (N, K) if text is SELECTION else (24 * N, 2, 24 * N)
        )
