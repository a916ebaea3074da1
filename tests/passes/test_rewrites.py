"""Single rewrites: the ops before and after, and the same meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, evaluate_shape, symbol
from stratac.ir.graph import Derived, Graph, Inline, Port
from stratac.ir.interp import run
from stratac.ir.types import TensorType, bool_, f32, i64
from stratac.ir.verify import verify_graph
from stratac.passes.graph.canonicalize import canonicalize
from stratac.passes.graph.choose_layouts import choose_layouts
from stratac.passes.graph.cse import cse
from stratac.passes.graph.fold_constants import fold_constants

S = symbol("s")
WINDOW = {"strides": (1, 1), "pads": (1, 0, 1, 0), "dilations": (1, 1)}


class Sketch:
    """A graph in a few lines."""

    def __init__(self) -> None:
        self.builder = GraphBuilder(symbols={"s": Bounds(1, 4, 8)})

    def input(self, *shape: Any, dtype: Any = f32) -> str:
        return self.builder.input(f"x{len(self.builder.inputs)}", TensorType(dtype, shape))

    def constant(self, value: Any, dtype: str = "float32") -> str:
        return self.builder.constant(np.asarray(value, dtype))

    def weight(self, *shape: int) -> str:
        return self.constant(np.random.default_rng(len(self.builder.weights)).uniform(-1, 1, shape))

    def __getattr__(self, op: str) -> Callable[..., str]:
        return lambda *inputs, **attrs: self.builder.op(op.rstrip("_"), *inputs, **attrs)

    def graph(self, *outputs: str) -> Graph:
        return self.builder.finish([Port(f"y{i}", v) for i, v in enumerate(outputs)])


def same_meaning(before: Graph, after: Graph) -> None:
    verify_graph(after)
    rng = np.random.default_rng(0)
    inputs = {
        p.name: rng.uniform(-2, 2, evaluate_shape(before.types[p.value].shape, {"s": 5})).astype(
            before.types[p.value].dtype.np
        )
        for p in before.inputs
    }
    expected, found = run(before, inputs), run(after, inputs)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)
        assert found[name].dtype == value.dtype and found[name].shape == value.shape


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def check(graph: Graph, wanted: list[str], step: Callable[[Graph], Graph] = canonicalize) -> Graph:
    after = step(graph)
    same_meaning(graph, after)
    assert ops(after) == wanted
    return after


def test_pad_goes_into_a_convolution() -> None:
    s = Sketch()
    x = s.pad(s.input(S, 3, 6, 6), pads=(0, 0, 1, 2, 0, 0, 0, 1))
    after = check(s.graph(s.conv(x, s.weight(4, 3, 3, 3), groups=1, **WINDOW)), ["conv"])
    assert after.nodes[0].attr("pads") == (2, 2, 1, 1)


@pytest.mark.parametrize(
    "attrs",
    [
        {"pads": (0, 1, 0, 0, 0, 0, 0, 0)},
        {"pads": (0, 0, 1, 1, 0, 0, 1, 1), "value": 1.0},
        {"pads": (0, 0, 1, 1, 0, 0, 1, 1), "mode": "edge"},
    ],
    ids=["channels", "ones", "edge"],
)
def test_other_pads_stay(attrs: dict[str, Any]) -> None:
    s = Sketch()
    x = s.pad(s.input(S, 3, 6, 6), **attrs)
    channels = s.builder.types[x].shape[1]
    check(s.graph(s.conv(x, s.weight(4, channels, 3, 3), groups=1, **WINDOW)), ["pad", "conv"])


@pytest.mark.parametrize("last", [False, True])
def test_bias_is_split_off(last: bool) -> None:
    s = Sketch()
    x = s.input(*((S, 6, 6, 3) if last else (S, 3, 6, 6)))
    y = s.conv(x, s.weight(4, 3, 3, 3), s.weight(4), groups=1, channels_last=last, **WINDOW)
    check(s.graph(y), ["conv", "add"] if last else ["conv", "reshape", "add"])


def test_gather_of_one_is_a_slice() -> None:
    s = Sketch()
    x = s.input(S, 4, 5)
    outputs = [
        s.gather(x, s.constant(-1, "int64"), axis=1),
        s.gather(x, s.constant([2], "int64"), axis=2),
        s.gather(x, s.constant(-1, "int64"), axis=0),
    ]
    check(s.graph(*outputs), ["slice", "reshape", "slice", "slice", "reshape"])


def test_transposes_compose() -> None:
    s = Sketch()
    x = s.input(S, 3, 4)
    there = s.transpose(x, perm=(1, 2, 0))
    check(s.graph(s.neg(s.transpose(there, perm=(2, 0, 1)))), ["neg"])
    check(s.graph(s.transpose(there, perm=(0, 2, 1))), ["transpose"])


def test_views_that_change_nothing_vanish() -> None:
    s = Sketch()
    x = s.input(S, 3, 1)
    same = s.slice(s.expand(s.reshape(x, shape=(S, 3, 1)), shape=(S, 1, 1)), axis=1, start=0, extent=3)
    y = s.reshape(s.reshape(s.pad(s.cast(same, to=f32), pads=(0,) * 6), shape=(3 * S,)), shape=(S, 3))
    check(s.graph(s.neg(y), s.transpose(x, perm=(2, 0, 1))), ["reshape", "neg", "reshape"])


def test_neutral_elements_vanish() -> None:
    s = Sketch()
    x = s.input(S, 3)
    y = s.div(s.mul(s.add(s.sub(x, s.constant(0.0)), s.constant([[0.0]])), s.constant([1.0])), s.constant(1.0))
    wider = s.add(x, s.constant(np.zeros((2, 1, 3))))
    after = check(s.graph(s.neg(y), wider, s.sub(s.constant(0.0), x)), ["add", "neg", "fill", "sub"])
    assert after.types[after.outputs[1].value].shape == (2, S, 3)


@pytest.mark.parametrize(
    ("exponent", "wanted"), [(1, ["neg"]), (2, ["mul", "neg"]), (3, ["mul", "mul", "neg"]), (0.5, ["sqrt", "neg"])]
)
def test_small_powers(exponent: float, wanted: list[str]) -> None:
    s = Sketch()
    x = s.abs(s.input(S, 3))
    check(s.graph(s.neg(s.pow(x, s.constant(exponent)))), ["abs", *wanted])


def test_a_wide_exponent_keeps_its_shape() -> None:
    s = Sketch()
    after = canonicalize(s.graph(s.pow(s.abs(s.input(3)), s.constant(np.full((2, 3), 2.0)))))
    assert after.types[after.outputs[0].value].shape == (2, 3)
    t = Sketch()
    graph = t.graph(t.pow(t.abs(t.input(1)), t.constant([2.0, 2.0, 2.0])))
    same_meaning(graph, canonicalize(graph))


def test_constant_conditions() -> None:
    s = Sketch()
    x, y = s.input(S, 3), s.input(S, 3)
    m = s.input(S, 3, dtype=bool_)
    yes, no = s.constant(True, "bool"), s.constant([False], "bool")
    check(s.graph(s.where(yes, x, y), s.where(no, x, y), s.and_(m, yes)), [])
    narrow = s.where(yes, s.constant(1.0), x)
    assert ops(canonicalize(s.graph(narrow)))[-1] == "where"


def test_products_of_vectors_are_products_of_matrices() -> None:
    s = Sketch()
    v, a = s.input(4), s.input(S, 2, 4)
    after = canonicalize(s.graph(s.matmul(v, v), s.matmul(a, v), s.matmul(v, s.input(4, 3))))
    assert all(len(after.types[x].shape) > 1 for n in after.nodes if n.op == "matmul" for x in n.inputs)
    same_meaning(s.graph(s.matmul(v, v), s.matmul(a, v)), canonicalize(s.graph(s.matmul(v, v), s.matmul(a, v))))


def test_one_element_constants_are_literals() -> None:
    s = Sketch()
    x = s.input(S, 3)
    check(s.graph(s.add(x, s.constant([[2.5]]))), ["fill", "add"])
    large = s.add(s.cast(x, to=i64), s.constant((1 << 60) + 1, "int64"))
    assert ops(canonicalize(s.graph(large))) == ["cast", "add"]  # a float cannot hold it


def test_small_constants_are_folded_and_large_ones_derived() -> None:
    s = Sketch()
    small, large = s.weight(4, 4), s.weight(200, 200)
    x, y = s.input(S, 4), s.input(S, 200)
    outputs = s.matmul(x, s.transpose(s.neg(small), perm=(1, 0))), s.matmul(y, s.transpose(large, perm=(1, 0)))
    graph = s.graph(*outputs, s.expand(s.constant(1.0), shape=(300, 300)))
    after = check(graph, ["matmul", "matmul", "expand"], fold_constants)
    kinds = [type(after.weights[n.inputs[1]].content) for n in after.nodes if n.op == "matmul"]
    assert kinds == [Inline, Derived]


def test_equal_computations_are_merged() -> None:
    s = Sketch()
    x = s.input(S, 3)
    one, two = s.constant([1.0, 2.0, 3.0]), s.constant([1.0, 2.0, 3.0])
    y = s.add(s.exp(s.mul(x, one)), s.exp(s.mul(x, two)))
    after = check(s.graph(y, s.exp(s.mul(x, one))), ["mul", "exp", "add"], cse)
    assert len(after.weights) == 1
    differ = s.graph(s.reduce_sum(x, axes=(0,)), s.reduce_sum(x, axes=(1,)))
    check(differ, ["reduce_sum", "reduce_sum"], cse)


def test_layouts_move_to_the_borders() -> None:
    s = Sketch()
    x = s.input(S, 3, 8, 8)
    y = s.relu(s.conv(x, s.weight(4, 3, 3, 3), groups=1, **WINDOW))
    z = s.add(s.max_pool(y, kernel=(2, 2), **{**WINDOW, "pads": (0, 0, 0, 0)}), s.weight(4, 1, 1))
    outputs = s.reduce_mean(s.concat(z, s.neg(z), axis=1), axes=(2, 3)), s.slice(z, axis=1, start=1, extent=2)
    after = choose_layouts(s.graph(*outputs))
    same_meaning(s.graph(*outputs), after)
    windowed = [n for n in after.nodes if n.op in ("conv", "max_pool")]
    assert len(windowed) == 2 and all(n.attr("channels_last") for n in windowed)
    assert next(n.attr("perm") for n in after.nodes if n.op == "transpose") == (0, 2, 3, 1)
    assert ops(after).count("transpose") <= 5
