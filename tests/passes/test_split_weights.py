"""Products taken apart by columns: which parts come out, that fusion takes what follows along, and that no bit changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Derived, Graph, Port
from stratac.ir.interp import run
from stratac.ir.types import TensorType, f32, i64
from stratac.passes.base import Pass, run_passes
from stratac.passes.graph.split_weights import oversized, split_weights
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.tests.codegen.harness import ISAS, compiled

S = symbol("s")
QUIET = ("reshape", "slice", "fill", "expand", "transpose")


def splitting(limit: int) -> tuple[Pass, ...]:
    return (*GRAPH_PASSES, Pass("split_weights", split_weights(limit)))


class Model:
    """A graph under construction, with random weights."""

    def __init__(self) -> None:
        self.b = GraphBuilder(symbols={"s": Bounds(1, 5, 9)})
        self.rng = np.random.default_rng(3)

    def weight(self, *shape: int) -> str:
        return self.b.constant(self.rng.standard_normal(shape).astype("f4") / np.float32(shape[0] ** 0.5))

    def finish(self, *values: str) -> Graph:
        return self.b.finish([Port(f"y{k}", v) for k, v in enumerate(values)])


def feed_forward() -> Graph:
    """x + down(gelu(up(x))), with reshapes around as exporters put them, then a norm and a head."""
    m = Model()
    b = m.b
    x = b.input("x", TensorType(f32, (1, S, 48)))
    flat = b.op("reshape", x, shape=(S, 48))
    wide = b.op("reshape", b.op("add", b.op("matmul", flat, m.weight(48, 320)), m.weight(320)), shape=(1, S, 320))
    wide = b.op("reshape", b.op("gelu", wide, approximate="tanh"), shape=(S, 320))
    down = b.op("reshape", b.op("add", b.op("matmul", wide, m.weight(320, 136)), m.weight(136)), shape=(1, S, 136))
    more = b.op("matmul", x, m.weight(48, 136))
    y = b.op("layer_norm", b.op("add", down, more), m.weight(136), m.weight(136), axis=-1, epsilon=1e-5)
    head = b.op("transpose", m.weight(1003, 136), perm=(1, 0))
    return m.finish(b.op("matmul", y, head))


def gated() -> Graph:
    """silu(gate) * up, both split alike, and a value that two ops read."""
    m = Model()
    b = m.b
    x = b.input("x", TensorType(f32, (S, 32)))
    gate, up = (b.op("matmul", x, m.weight(32, 200)) for _ in range(2))
    both = b.op("mul", b.op("silu", gate), up)
    twice = b.op("matmul", x, m.weight(32, 256))
    scores = b.op("softmax", twice, axis=-1)
    return m.finish(both, b.op("add", b.op("relu", twice), scores))


def ops(graph: Graph) -> list[list[str]]:
    return [[n.op for n in c.body if n.op not in QUIET] for c in run_passes(graph, CLUSTER_PASSES).nodes]


@pytest.mark.parametrize("make", [feed_forward, gated])
@pytest.mark.parametrize("limit", [1, 20_000, 40_000, 1 << 30])
def test_bits_are_those_of_the_whole_product(make: object, limit: int) -> None:
    graph = make()  # type: ignore[operator]
    shape = [9 if d is S else d for d in graph.types[graph.inputs[0].value].shape]
    x = {"x": np.random.default_rng(0).standard_normal(shape).astype("f4")}
    whole, parts = compiled(graph, ISAS[0]), compiled(graph, ISAS[0], passes=splitting(limit))
    one, other = whole.run(x, 1), parts.run(x, 2)
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes(), name
    for name, array in run(graph, x).items():
        np.testing.assert_allclose(one[name], array, rtol=1e-4, atol=1e-4)


def test_every_part_is_within_the_limit_and_keeps_its_epilogue() -> None:
    limit = 20_000
    graph = run_passes(feed_forward(), splitting(limit))
    assert set(oversized(graph, limit).values()) == {4 * 64 * 320, 4 * 64 * 136, 4 * 43 * 136}, (
        "64 columns are the least"
    )
    found = ops(graph)
    assert found.count(["matmul", "add", "gelu"]) == 5, "320 columns of 48 floats, 64 to a part"
    assert all("matmul" in body or body in (["concat"], ["layer_norm"]) for body in found), (
        "nothing is left beside products"
    )
    heads = [w for w in graph.weights.values() if isinstance(w.content, Derived) and w.content.op == "slice"]
    assert sum(w.type.shape[1] for w in heads if w.type.shape[0] == 136) == 1003


def test_parts_are_whole_panels_and_even() -> None:
    m = Model()
    y = m.b.op("matmul", m.b.input("x", TensorType(f32, (S, 16))), m.weight(16, 50257 // 16))
    graph = split_weights(16 * 4 * 700)(m.finish(y))
    widths = [w.type.shape[1] for w in graph.weights.values() if w.type.shape[0] == 16 and w.type.shape[1] != 3141]
    assert sum(widths) == 3141 and len(widths) == 5
    assert all(width == 640 for width in widths[:-1]) and widths[-1] == 581


def test_gates_of_one_width_stay_elementwise_part_by_part() -> None:
    graph = run_passes(gated(), splitting(10_000))
    found = ops(graph)
    assert sum("matmul" in body for body in found) == 4 * 2 + 4
    assert sum("concat" in body for body in found) == 2, "one for each product or chain that somebody reads whole"


def test_small_weights_and_other_ops_are_left() -> None:
    m = Model()
    b = m.b
    ids = b.input("ids", TensorType(i64, (S,)))
    rows = b.op("gather", m.weight(500, 64), ids, axis=0)
    columns = b.op("gather", m.weight(64, 500), ids, axis=1)
    graph = m.finish(b.op("matmul", rows, m.weight(64, 64)), columns)
    assert run_passes(graph, splitting(64 * 64 * 4)).nodes == run_passes(graph, GRAPH_PASSES).nodes
    assert list(oversized(graph, 100_000).values()) == [128_000], "the rows of the first are looked up one by one"


def test_a_plan_without_large_weights_is_the_same() -> None:
    graph = run_passes(feed_forward(), GRAPH_PASSES)
    assert replace(split_weights(1 << 30)(graph), types=graph.types) == graph
