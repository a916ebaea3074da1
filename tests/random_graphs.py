"""Random valid graphs, as a hypothesis strategy, for property tests of passes, codegen and the runtime.

    @given(random_graphs())
    def test_something(sample):
        graph, make_inputs, tolerance = sample
        inputs = make_inputs(seed=0)                    # or make_inputs(seed=0, s=3) to choose a symbol's value
        expected = run(graph, inputs)
        sample.compare(actual, expected)                # AssertionError where an output leaves its tolerance

Values stay finite and within |x| <= 1e3; `tolerance[output]` bounds how far a float32 implementation may be off (see
random_values), 0 meaning equal to the bit. `kinds` restricts the ops to some of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, Dim, evaluate_shape, symbol
from stratac.ir.graph import Graph, Node, Port
from stratac.ir.rewrite import drop_unused, free_values
from stratac.ir.types import TensorType, bool_, f32, i32, i64

from . import random_heavy, random_routines, random_shapes
from .random_ops import BUILDERS
from .random_values import Maker, Value, random_array

assert random_heavy and random_routines and random_shapes  # register their builders
#: What `kinds` may name: one builder each.
KINDS = tuple(BUILDERS)
Arrays = dict[str, npt.NDArray[Any]]
_WEIGHT = {"binary": 3, "unary": 2, "matmul": 2, "conv": 2, "reduce": 2}
_EXTENTS = (1, 2, 3, 4, 6, 8, 16, 17)


class Sample(NamedTuple):
    """A graph, a maker of inputs (`make_inputs(seed=0, **symbols)`), and an absolute tolerance for each output."""

    graph: Graph
    make_inputs: Callable[..., Arrays]
    tolerance: Mapping[str, float]

    def compare(self, actual: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, npt.NDArray[Any]]) -> None:
        """Raise AssertionError unless every output has the expected dtype and shape and lies within its tolerance."""
        for port in self.graph.outputs:
            a, b = np.asarray(actual[port.name]), np.asarray(expected[port.name])
            assert a.dtype == b.dtype and a.shape == b.shape, f"{port.name}: {a.dtype}{a.shape}, not {b.dtype}{b.shape}"
            np.testing.assert_allclose(a, b, rtol=0, atol=self.tolerance[port.name], err_msg=port.name)


@st.composite
def random_graphs(
    draw: st.DrawFn, *, max_nodes: int = 20, symbolic: bool | None = None, kinds: Collection[str] = KINDS
) -> Sample:
    """Graphs of up to about `max_nodes` nodes. `symbolic`: with symbolic dims always, never, or (None) sometimes."""
    names = [name for name in ("b", "s") if symbolic is not False and draw(st.booleans())]
    if symbolic and not names:
        names = ["s"]
    bounds = {"b": Bounds(1, 2, 3), "s": Bounds(1, 4, 7)}
    builder = GraphBuilder(name="random", symbols={name: bounds[name] for name in names})
    pool: list[Dim] = [symbol(name) for name in names]
    pool += draw(st.lists(st.sampled_from(_EXTENTS), min_size=2, max_size=3))
    maker = Maker(draw, builder, pool)
    specs = _inputs(maker)
    order = [kind for kind in KINDS if kind in kinds for _ in range(_WEIGHT.get(kind, 1))]
    for _ in range(maker.integer(1, max_nodes)):
        BUILDERS[maker.choice(order)](maker)
    if not builder.nodes:
        value = maker.values[0]
        maker.add("neg", value, lo=-value.hi, hi=-value.lo)
    graph, tolerance = _finish(maker)
    return Sample(graph, _input_maker(graph, specs), tolerance)


def _inputs(maker: Maker) -> dict[str, Value]:
    """One to three inputs; the first is a float, and every symbol is an extent of some input."""
    specs: dict[str, Value] = {}

    def declare(shape: tuple[Dim, ...], dtype: Any, lo: float, hi: float) -> None:
        name = f"input_{len(specs)}"
        kind = TensorType(dtype, shape)
        specs[name] = Value(maker.builder.input(name, kind), kind, lo, hi)
        maker.values.append(specs[name])

    images = maker.flag()
    declare(maker.shape(3, 4) if images else maker.shape(0, 3), f32, *maker.choice(((-2.0, 2.0), (0.5, 3.0))))
    for _ in range(maker.integer(0, 1)):
        dtype, lo, hi = maker.choice(((f32, -1.0, 1.0), (i64, 0, 0), (i64, -3, 5), (i32, 0, 4), (bool_, 0, 1)))
        declare(maker.shape(0, 3), dtype, lo, hi)
    settled = {extent for value in specs.values() for extent in value.shape}
    if missing := [symbol(name) for name in maker.symbols if symbol(name) not in settled]:
        declare((*missing, 2), f32, -1.0, 1.0)
    return specs


def _finish(maker: Maker) -> tuple[Graph, dict[str, float]]:
    """Every value that no node reads is an output, so that nothing is dead; sometimes one more."""
    read = {value for node in maker.builder.nodes for value in node.used}
    made = {value for node in maker.builder.nodes for value in node.outputs}
    sinks = [v for v in maker.values if v.name in made and v.name not in read]
    inner = [v for v in maker.values if v.name in made and v.name in read]
    if inner and maker.integer(0, 3) == 3:
        sinks.append(maker.choice(inner))
    ports = [Port(f"output_{i}", value.name) for i, value in enumerate(sinks)]
    graph = drop_unused(maker.builder.finish(ports))
    return graph, {port.name: value.err for port, value in zip(ports, sinks, strict=True)}


def _input_maker(graph: Graph, specs: Mapping[str, Value]) -> Callable[..., Arrays]:
    def make_inputs(seed: int = 0, **sizes: int) -> Arrays:
        """Arrays for every input; symbols without a given value take a random one within their bounds."""
        rng = np.random.default_rng(seed)
        values = {name: int(rng.integers(b.min, b.max + 1)) for name, b in graph.symbols.items()} | sizes
        return {
            name: random_array(rng, evaluate_shape(spec.shape, values), spec.lo, spec.hi, spec.type.dtype)
            for name, spec in specs.items()
        }

    return make_inputs


def clustered(graph: Graph, cuts: Collection[int]) -> Graph:
    """The same graph with each run of nodes between `cuts` (positions in `graph.nodes`) made one cluster."""
    edges = [0, *sorted({c for c in cuts if 0 < c < len(graph.nodes)}), len(graph.nodes)]
    builder = GraphBuilder(graph)
    for first, last in pairwise(edges):
        body = graph.nodes[first:last]
        after = {value for node in graph.nodes[last:] for value in node.used} | set(graph.output_values)
        outputs = tuple(value for node in body for value in node.outputs if value in after)
        builder.add(Node("cluster", free_values(body), outputs, (), body[0].source, body))
    return builder.finish(graph.outputs)
