"""Query, key and value as one product: where attention alone reads them, with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stratac.compiler.forms import choose_form
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.types import TensorType, f32
from stratac.passes.base import run_passes
from stratac.passes.graph.merge_products import merge_products
from stratac.passes.pipelines import GRAPH_PASSES, MEMORY_PASSES
from stratac.passes.place.request import PlaceRequest

from ..codegen.harness import ISAS, check_bits, compiled, machine_for


def attention(rng: Any, biases: tuple[bool, ...], kv_heads: int = 4, spy: bool = False) -> Graph:
    """Attention over heads of 16 of projections of 64 columns, or fewer of keys and values; with `spy` an output is the keys."""
    b = GraphBuilder(name="attention", symbols={"rows": Bounds(1, 20, 40)})
    rows = symbol("rows")
    x = b.input("x", TensorType(f32, (2, rows, 48)))
    operands = []
    for bias, heads in zip(biases, (4, kv_heads, kv_heads), strict=True):
        y = b.op("matmul", x, b.constant(rng.standard_normal((48, heads * 16)).astype(np.float32)))
        if bias:
            y = b.op("add", y, b.constant(rng.standard_normal(heads * 16).astype(np.float32)))
        operands.append(b.op("transpose", b.op("reshape", y, shape=(2, rows, heads, 16)), perm=(0, 2, 1, 3)))
    out = [Port("y", b.op("attention", *operands, scale=0.25, causal=False))]
    return b.finish([*out, Port("keys", operands[1])] if spy else out)


def count(graph: Graph, op: str) -> int:
    return sum(node.op == op for node in graph.nodes)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("biases", [(True, True, True), (False, False, False), (True, False, True)])
def test_one_product_gives_the_bits_of_three(biases: tuple[bool, ...], kv_heads: int) -> None:
    rng = np.random.default_rng(0)
    graph = run_passes(attention(rng, biases, kv_heads), GRAPH_PASSES)
    merged = run_passes(graph, MEMORY_PASSES)
    assert count(graph, "matmul") == 3 and count(merged, "matmul") == 1
    assert count(merged, "add") == (1 if any(biases) else 0)
    inputs = {"x": rng.standard_normal((2, 33, 48)).astype(np.float32)}
    plans = [compiled(one, passes=()) for one in (graph, merged)]
    assert len(plans[1].levels.clusters.nodes) == len(plans[0].levels.clusters.nodes) - 2
    check_bits(plans[0].run(inputs, 1), plans[1].run(inputs, 1), "merged")
    check_bits(plans[0].run(inputs, 1), plans[1].run(inputs, 3), "merged, three threads")
    assert count(choose_form(graph, machine_for(ISAS[0]), PlaceRequest(2)).graph, "matmul") == 1


def test_what_others_read_stays() -> None:
    rng = np.random.default_rng(1)
    graph = run_passes(attention(rng, (True, True, True), spy=True), GRAPH_PASSES)
    merged = merge_products(graph)
    assert count(merged, "matmul") == 2  # keys are an output, in another order too
    b = GraphBuilder(name="gate")
    x = b.input("x", TensorType(f32, (20, 48)))
    gate, up = (b.op("matmul", x, b.constant(rng.standard_normal((48, 96)).astype(np.float32))) for _ in range(2))
    alone = run_passes(b.finish([Port("y", b.op("mul", b.op("silu", gate), up))]), GRAPH_PASSES)
    assert merge_products(alone) is alone
