"""Graphs with run-time dims: rows chosen by a mask, computed with side by side, and put back."""

from __future__ import annotations

from typing import Any

import numpy as np
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Port
from stratac.ir.types import TensorType, bool_, f32, i64

from .random_graphs import Sample

MOST = {"b": 4, "s": 70}


def _mask(rng: np.random.Generator, seed: int, b: int, s: int) -> np.ndarray:
    """Every kind in turn: holes anywhere, nothing, everything, padding on the right and on the left, one sequence empty."""
    lengths = rng.integers(1, s + 1, (b, 1))
    kinds = [
        rng.random((b, s)) < 0.5,
        np.zeros((b, s), bool),
        np.ones((b, s), bool),
        np.arange(s) < lengths,
        np.arange(s) >= s - lengths,
        (np.arange(s) < lengths) & (np.arange(b)[:, None] != b // 2),
    ]
    return kinds[seed % len(kinds)].astype(np.int64)


def chosen_rows(name: str) -> Sample:
    """exp of the rows that a mask chooses, summed; `name` is that of the run-time dim."""
    b, n = symbol("b"), symbol(name)
    builder = GraphBuilder(symbols={"b": Bounds(1, 2, MOST["b"]), name: Bounds(0, 2, MOST["b"])})
    x, m = builder.input("x", TensorType(f32, (b, 5))), builder.input("m", TensorType(i64, (b,)))
    rows = builder.op("gather", x, builder.op("nonzero", builder.op("cast", m, to=bool_), count=n), axis=0)
    total = builder.op("reduce_sum", builder.op("exp", rows), axes=(0,), keepdims=False)

    def make_inputs(seed: int = 0, *, b: int, **_: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return {"x": rng.standard_normal((b, 5)).astype(np.float32), "m": _mask(rng, seed, 1, b)[0]}

    return Sample(builder.finish([Port("y", total)]), make_inputs, {"y": 1e-5})


def found(name: str) -> Sample:
    """Outputs whose extents are the run-time dim, or follow from it: positions, the rows there, and both turned and joined."""
    b, n = symbol("b"), symbol(name)
    builder = GraphBuilder(symbols={"b": Bounds(1, 2, MOST["b"]), name: Bounds(0, 2, MOST["b"])})
    x, m = builder.input("x", TensorType(f32, (b, 5))), builder.input("m", TensorType(i64, (b,)))
    at = builder.op("nonzero", builder.op("cast", m, to=bool_), count=n)
    rows = builder.op("exp", builder.op("gather", x, at, axis=0))
    turned = builder.op("transpose", rows, perm=(1, 0))
    joined = builder.op(
        "concat", builder.op("reshape", rows, shape=(n * 5,)), builder.op("reshape", x, shape=(b * 5,)), axis=0
    )
    values = {"y": rows, "at": at, "turned": turned, "joined": joined}

    def make_inputs(seed: int = 0, *, b: int, **_: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return {"x": rng.standard_normal((b, 5)).astype(np.float32), "m": _mask(rng, seed, 1, b)[0]}

    return Sample(builder.finish([Port(k, v) for k, v in values.items()]), make_inputs, dict.fromkeys(values, 1e-5))


def ragged_attention(name: str, causal: bool) -> Sample:
    """Projections and attention on packed rows, a residual, and everything put back between zeros."""
    b, s, n = symbol("b"), symbol("s"), symbol(name)
    bounds = {"b": Bounds(1, 2, MOST["b"]), "s": Bounds(1, 8, MOST["s"]), name: Bounds(0, 16, MOST["b"] * MOST["s"])}
    net = GraphBuilder(symbols=bounds)
    x, m = net.input("x", TensorType(f32, (b, s, 24))), net.input("m", TensorType(i64, (b, s)))
    valid = net.op("cast", m, to=bool_)
    flat, ones = net.op("reshape", valid, shape=(b * s,)), net.op("cast", valid, to=i64)
    at = net.op("nonzero", flat, count=n)
    ends = net.op("cumsum", net.op("reduce_sum", ones, axes=(1,), keepdims=False), axis=0)
    rows = net.op("gather", net.op("reshape", x, shape=(b * s, 24)), at, axis=0)
    rng = np.random.default_rng(3)
    weights = [net.constant((0.2 * rng.standard_normal((24, 24))).astype(np.float32)) for _ in range(4)]
    q, k, v = (net.op("reshape", net.op("matmul", rows, w), shape=(n, 3, 8)) for w in weights[:3])
    mixed = net.op("ragged_attention", q, k, v, ends, scale=0.3, causal=causal, longest=s)
    y = net.op("add", net.op("matmul", net.op("reshape", mixed, shape=(n, 24)), weights[3]), rows)
    counted = net.op("cumsum", net.op("reshape", ones, shape=(b * s,)), axis=0)
    place = net.op("where", flat, net.op("sub", counted, net.constant(np.array(1))), net.constant(np.array(-1)))
    y = net.op("gather", net.op("pad", y, pads=(0, 0, 1, 0)), place, axis=0)

    def make_inputs(seed: int = 0, *, b: int, s: int, **_: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return {"x": rng.standard_normal((b, s, 24)).astype(np.float32), "m": _mask(rng, seed, b, s)}

    return Sample(net.finish([Port("y", net.op("reshape", y, shape=(b, s, 24)))]), make_inputs, {"y": 1e-4})


def samples() -> list[Sample]:
    """With names of run-time dims of their own, so that all can be one graph."""
    return [chosen_rows("k1"), found("f1"), ragged_attention("n1", False), ragged_attention("r1", True)]
