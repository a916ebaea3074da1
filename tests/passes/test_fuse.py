"""Which clusters come of small known graphs, and clear errors for what no kernel can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.errors import VerifyError
from stratac.ir.graph import Graph, Port
from stratac.ir.kernel import Contraction, Loops
from stratac.ir.lower import lower_cluster
from stratac.ir.types import TensorType, c64, f32
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES

S = symbol("s")
WINDOW = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
QUIET = ("fill", "reshape", "transpose", "expand", "slice", "iota", "dim")


class Sketch:
    """A graph in a few lines; `clusters` gives the ops of each cluster, views and sources left out."""

    def __init__(self) -> None:
        self.builder = GraphBuilder(symbols={"s": Bounds(1, 64, 128)})

    def input(self, *shape: Any, dtype: Any = f32) -> str:
        return self.builder.input(f"x{len(self.builder.inputs)}", TensorType(dtype, shape))

    def weight(self, *shape: int) -> str:
        return self.builder.constant(np.random.default_rng(0).uniform(-1, 1, shape).astype("f4"))

    def __getattr__(self, op: str) -> Callable[..., str]:
        return lambda *inputs, **attrs: self.builder.op(op.rstrip("_"), *inputs, **attrs)

    def fused(self, *outputs: str) -> Graph:
        graph = self.builder.finish([Port(f"y{i}", v) for i, v in enumerate(outputs)])
        return run_passes(run_passes(graph, GRAPH_PASSES), CLUSTER_PASSES)

    def clusters(self, *outputs: str) -> list[list[str]]:
        return [[n.op for n in c.body if n.op not in QUIET] for c in self.fused(*outputs).nodes]


def test_linear_layer_is_one_kernel() -> None:
    s = Sketch()
    x = s.input(S, 32)
    y = s.gelu(s.add(s.matmul(x, s.weight(32, 32)), s.weight(32)))
    assert s.clusters(s.add(y, x)) == [["matmul", "add", "gelu", "add"]]


def test_norm_takes_what_stands_around_it() -> None:
    s = Sketch()
    x, y = s.input(S, 48), s.input(S, 48)
    total = s.add(x, y)
    normed = s.layer_norm(total, s.weight(48), s.weight(48), axis=-1, epsilon=1e-5)
    assert s.clusters(s.relu(normed), total) == [["add", "layer_norm", "relu"]]


def test_convolution_with_bias_residual_and_relu() -> None:
    s = Sketch()
    x = s.input(S, 6, 6, 8)
    y = s.conv(x, s.weight(8, 8, 3, 3), s.weight(8), groups=1, channels_last=True, **WINDOW)
    assert s.clusters(s.relu(s.add(y, x))) == [["conv", "add", "add", "relu"]]


def test_concat_is_a_copy_that_computes_its_parts() -> None:
    s = Sketch()
    x, y = s.input(S, 8), s.input(S, 8)
    joined = s.concat(s.relu(x), s.tanh(y), axis=1)
    assert [sorted(ops) for ops in s.clusters(joined)] == [["concat", "relu", "tanh"]]
    assert len(s.clusters(s.neg(joined))) == 2  # nothing reads through a concat


def test_a_value_with_two_consumers_is_computed_once() -> None:
    s = Sketch()
    x = s.matmul(s.input(S, 16), s.weight(16, 16))
    shared = s.tanh(x)
    one = s.matmul(shared, s.weight(16, 8))
    two = s.reduce_sum(shared, axes=(1,))
    found = s.clusters(one, two)
    assert sum(ops.count("tanh") for ops in found) == 1 and ["matmul", "tanh"] in found


def test_diamond_has_no_cycle() -> None:
    """a -> (softmax) -> c and a -> c: a and c may not be one kernel around the softmax of the other axis."""
    s = Sketch()
    a = s.exp(s.input(8, 8))
    rows = s.softmax(a, axis=1)
    columns = s.softmax(s.add(rows, a), axis=0)
    graph = s.fused(s.add(s.mul(columns, rows), a))
    known = {*graph.input_values, *graph.weights}
    for node in graph.nodes:
        assert set(node.used) <= known
        known |= set(node.outputs)


def test_copies_of_a_view_for_two_heavy_readers() -> None:
    """A view that one reader can absorb and another cannot is one copy for both."""
    s = Sketch()
    x = s.log(s.abs(s.input(S, 6, 6, 1)))
    turned = s.transpose(x, perm=(0, 2, 3, 1))
    other = s.sub(x, turned)
    outputs = s.attention(turned, turned, turned, scale=0.5), s.attention(other, other, other, scale=0.5)
    s.fused(*outputs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_contraction_is_heavy_only_in_f32(dtype: str) -> None:
    s = Sketch()
    w = s.builder.constant(np.ones((4, 3), dtype))
    graph = s.fused(s.matmul(s.input(S, 4, dtype=s.builder.types[w].dtype), w))
    (cluster,) = graph.nodes
    kernel = lower_cluster(cluster, graph.types, graph.symbols)
    assert isinstance(kernel, Contraction if dtype == "float32" else Loops)


def test_heavy_kernels_stay_apart() -> None:
    s = Sketch()
    y = s.matmul(s.relu(s.matmul(s.input(S, 16), s.weight(16, 16))), s.weight(16, 4))
    assert s.clusters(y) == [["matmul", "relu"], ["matmul"]]


def test_costly_work_is_not_repeated_for_a_broadcast() -> None:
    s = Sketch()
    row = s.exp(s.input(16))
    assert len(s.clusters(s.mul(s.input(S, 16), row))) == 2
    cheap = Sketch()
    assert len(cheap.clusters(cheap.mul(cheap.input(S, 16), cheap.neg(cheap.input(16))))) == 1


def test_costly_work_is_not_repeated_for_a_window_or_a_concat() -> None:
    s = Sketch()
    window = {"kernel": (3, 3), **WINDOW}
    x = s.input(S, 4, 8, 8)
    assert s.clusters(s.max_pool(s.exp(x), **window)) == [["exp"], ["max_pool"]]
    assert s.clusters(s.max_pool(s.neg(x), **window)) == [["neg", "max_pool"]]
    y = s.exp(x)
    assert s.clusters(s.concat(y, x, axis=1), y) == [["exp"], ["concat"]]


def test_long_chains_stay_small() -> None:
    """Every silu uses its input twice: written out, the expression doubles with each."""
    s = Sketch()
    x = s.input(S, 16)
    for _ in range(60):
        x = s.silu(x)
    assert 1 < len(s.clusters(x)) < 12


def test_what_has_no_kernel_says_so() -> None:
    s = Sketch()
    with pytest.raises(VerifyError, match=r"has no kernel") as caught:
        s.fused(s.reduce_sum(s.input(S, 4, dtype=c64), axes=(0,)))
    assert "reduce_sum" in str(caught.value)
