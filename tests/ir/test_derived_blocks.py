"""Large derived weights are evaluated block by block, or not copied at all: the same bits, and little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.graph import Derived, Graph, Weight
from stratac.ir.interp import evaluate, evaluate_weight
from stratac.ir.types import TensorType, f32

SHAPES = {"x": (1, 37, 24), "row": (24,), "column": (37, 1), "one": (1,), "scalar": (), "first": (1, 1, 24)}


def derived(op: str, *inputs: str, shape: tuple[int, ...] = SHAPES["x"], **attrs: object) -> Graph:
    builder = GraphBuilder()
    rng = np.random.default_rng(0)
    names = {name: builder.constant(rng.uniform(0.5, 2, extents).astype("f4")) for name, extents in SHAPES.items()}
    content = Derived(op, tuple(names[name] for name in inputs), tuple(sorted(attrs.items())))  # type: ignore[arg-type]
    builder.weight(Weight("d", TensorType(f32, shape), content))
    return builder.finish([])


@pytest.mark.parametrize(
    "graph",
    [
        derived("gelu", "x", approximate="tanh"),
        *(derived("pow", "x", other) for other in ("row", "column", "one", "scalar", "first", "x")),
        derived("mul", "column", "x"),
    ],
)
@pytest.mark.parametrize("block", [1, 100, 1000, 1 << 20])
def test_blocks_have_the_bits_of_the_whole(graph: Graph, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = evaluate_weight(graph, "d")
    monkeypatch.setattr(evaluate, "_BLOCK_BYTES", block)
    got = evaluate_weight(graph, "d")
    assert got.shape == wanted.shape and got.tobytes() == wanted.tobytes()


def test_what_widens_is_not_widened_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = GraphBuilder()
    name = builder.constant(np.ones((1024, 1024), "f4"))
    builder.weight(Weight("d", TensorType(f32, (1024, 1024)), Derived("gelu", (name,))))
    graph = builder.finish([])
    monkeypatch.setattr(evaluate, "_BLOCK_BYTES", 1 << 16)
    tracemalloc.start()
    evaluate_weight(graph, "d")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20, "the result of 4 MiB, and blocks"


def test_a_slice_is_a_view() -> None:
    graph = derived("slice", "x", shape=(1, 37, 5), axis=-1, start=3, extent=5, step=2)
    base = next(name for name, weight in graph.weights.items() if weight.type.shape == SHAPES["x"])
    got = evaluate_weight(graph, "d")
    assert np.shares_memory(got, np.frombuffer(graph.weights[base].content.data, np.uint8))  # type: ignore[union-attr]
    assert got.tobytes() == evaluate_weight(graph, base)[..., 3:13:2].tobytes()
    back = derived("slice", "x", shape=(1, 4, 24), axis=1, start=10, extent=4, step=-3)
    assert evaluate_weight(back, "d").tobytes() == evaluate_weight(back, base)[:, 10:0:-3].tobytes()
