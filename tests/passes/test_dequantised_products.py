"""Products of dequantised tensors become products of the integers: the same numbers but for rounding, in every form that quantisers
write, and not at all where kernels have no form of it or the user wants f32 itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.types import DType, TensorType, f32, i8, i32, u8
from stratac.passes.base import run_passes
from stratac.passes.pipelines import GRAPH_PASSES, exactly

ROWS, DEPTH, COLUMNS = 7, 45, 11


def dequantised(b: GraphBuilder, value: str, zero: Any, scale: Any) -> str:
    """As the importer writes it."""
    wide = b.op("cast", value, to=f32)
    if zero is not None:
        wide = b.op("sub", wide, b.op("cast", b.constant(zero), to=f32))
    return b.op("mul", wide, b.constant(np.asarray(scale, np.float32)))


def quantised(b: GraphBuilder, value: str, zero: int, scale: float, to: DType) -> str:
    low, high = (float(limit) for limit in to.limits)
    rounded = b.op("round", b.op("div", value, b.constant(np.float32(scale))))
    rounded = b.op("add", rounded, b.constant(np.float32(zero)))
    return b.op("cast", b.op("clip", rounded, min=low, max=high), to=to)


def random(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    low, high = dtype.limits
    return rng.integers(low, high + 1, shape).astype(dtype.np)


def linear(left: DType, right: DType, per_column: bool, turned: bool, zero: int) -> tuple[Graph, dict[str, Any]]:
    """y = relu(dequantised x @ w + bias), quantised again, and the same in floats."""
    b, rng = GraphBuilder(), np.random.default_rng(1)
    x = b.input("x", TensorType(left, (ROWS, DEPTH)))
    scale = rng.uniform(0.01, 0.02, COLUMNS) if per_column else np.float64(0.013)
    zeros = np.full(COLUMNS if per_column else (), zero, right.np)
    w = random(rng, right, (DEPTH, COLUMNS))
    if turned:
        columns = [a.reshape(-1, 1) if a.ndim else a for a in (zeros, np.asarray(scale))]
        weight = b.op("transpose", dequantised(b, b.constant(np.ascontiguousarray(w.T)), *columns), perm=(1, 0))
    else:
        weight = dequantised(b, b.constant(w), zeros, scale)
    value = b.op("matmul", dequantised(b, x, np.array(3, left.np), 0.02), weight)
    value = b.op("relu", b.op("add", value, b.constant(rng.standard_normal(COLUMNS).astype(np.float32))))
    floats = b.op("sqrt", value)
    graph = b.finish([Port("y", quantised(b, value, 4, 0.11, u8)), Port("floats", floats)])
    return graph, {"x": random(rng, left, (ROWS, DEPTH))}


def window(
    left: DType, right: DType, per_channel: bool, groups: int = 1, zero: int = 0
) -> tuple[Graph, dict[str, Any]]:
    b, rng = GraphBuilder(), np.random.default_rng(2)
    x = b.input("x", TensorType(left, (2, 8, 9, 10)))
    filters = b.constant(random(rng, right, (16, 8 // groups, 3, 3)))
    scale = rng.uniform(0.01, 0.02, (16, 1, 1, 1)) if per_channel else 0.017
    w = dequantised(b, filters, np.array(zero, right.np), scale)
    bias = dequantised(b, b.constant(rng.integers(-9999, 9999, 16).astype(np.int32)), None, 0.001)
    attrs = {"strides": (1, 1), "pads": (1,) * 4, "dilations": (1, 1), "groups": groups, "channels_last": False}
    value = b.op("conv", dequantised(b, x, np.array(-5 if left == i8 else 7, left.np), 0.03), w, bias, **attrs)
    value = b.op("clip", value, min=0.0, max=6.0)
    graph = b.finish([Port("y", quantised(b, value, -3, 0.031, i8)), Port("floats", b.op("neg", value))])
    return graph, {"x": random(rng, left, (2, 8, 9, 10))}


def whole(graph: Graph) -> bool:
    """Whether all products are those of whole numbers."""
    products = [node for node in graph.nodes if node.op in ("matmul", "conv")]
    return all(graph.types[node.output].dtype == i32 for node in products)


def check(graph: Graph, inputs: dict[str, Any], changed: bool = True) -> Graph:
    """Quantised results differ by one step at most, and hardly ever."""
    after = run_passes(graph, GRAPH_PASSES)
    assert whole(after) == changed and not whole(run_passes(graph, exactly(GRAPH_PASSES)))
    want, got = run(graph, inputs), run(after, inputs)
    np.testing.assert_allclose(got["floats"], want["floats"], rtol=1e-5, atol=1e-5)
    off = np.abs(got["y"].astype(int) - want["y"].astype(int))
    assert off.max() <= 1 and off.mean() < 0.01
    return after


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize(
    ("left", "right", "zero"), [(u8, i8, 0), (i8, i8, 0), (u8, u8, 128), (i8, u8, 77), (u8, i8, -9)]
)
def test_matrix_products(left: DType, right: DType, zero: int, per_column: bool, turned: bool) -> None:
    after = check(*linear(left, right, per_column, turned, zero))
    # the scale of the result is part of the product's: what is divided is at most the bias, ahead of time
    assert all(weight.type.dtype != f32 or weight.type.rank < 2 for weight in after.weights.values())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("left", "right", "zero"), [(u8, i8, 0), (i8, i8, 0), (u8, u8, 128)])
def test_convolutions(left: DType, right: DType, zero: int, per_channel: bool) -> None:
    check(*window(left, right, per_channel, 1, zero))
    check(*window(left, right, per_channel, 2, zero))


def test_what_stays_in_floats() -> None:
    """Depthwise convolutions, and those whose filters have a zero point."""
    check(*window(u8, i8, True, groups=8), changed=False)
    check(*window(u8, u8, False, zero=100), changed=False)


def test_a_result_that_only_gets_quantised_is_not_divided() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(u8, (4, 32)))
    w = dequantised(b, b.constant(random(np.random.default_rng(0), i8, (32, 8))), None, 0.01)
    value = b.op("matmul", dequantised(b, x, None, 0.1), w)
    graph = run_passes(b.finish([Port("y", quantised(b, value, 0, 0.5, u8))]), GRAPH_PASSES)
    assert whole(graph) and not any(node.op == "div" for node in graph.nodes)
