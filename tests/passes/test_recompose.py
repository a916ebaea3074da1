"""Softmax, norms, activations, rotary embeddings and batch norms come back whole from every exporter's spelling of them, mean the
same, and stay apart where a constant or an axis is another one. Attention has its own file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, evaluate_shape, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.types import TensorType, f32, f64
from stratac.passes.base import run_passes
from stratac.passes.graph.cse import cse
from stratac.passes.graph.recompose import recompose
from stratac.passes.pipelines import GRAPH_PASSES
from stratac.tests.random_graphs import Sample, random_graphs

Arrays = dict[str, npt.NDArray[Any]]
Spelling = Callable[["Sketch"], str]
S = symbol("s")
SIZES = {"s": 5}


class Sketch:
    """A graph in a few lines: `sketch.mul(x, 2.0)`, numbers and arrays being constants of the first value's type."""

    def __init__(self) -> None:
        self.builder = GraphBuilder(symbols={"s": Bounds(1, 4, 8)})
        self.random = np.random.default_rng(7)

    def input(self, *shape: Any, dtype: Any = f32) -> str:
        return self.builder.input(f"input_{len(self.builder.inputs)}", TensorType(dtype, shape))

    def weight(self, *shape: int, low: float = -1.0) -> str:
        return self.builder.constant(self.random.uniform(low, 1.0, shape).astype(np.float32))

    def shape(self, value: str) -> tuple[Any, ...]:
        return self.builder.types[value].shape

    def value(self, thing: Any) -> str:
        if isinstance(thing, str):
            return thing
        return self.builder.constant(np.asarray(thing, dtype=np.float32 if not isinstance(thing, np.ndarray) else None))

    def __getattr__(self, op: str) -> Callable[..., str]:
        return lambda *inputs, **attrs: self.builder.op(op.rstrip("_"), *map(self.value, inputs), **attrs)

    def mean(self, x: str, *axes: int) -> str:
        return self.reduce_mean(x, axes=axes or (-1,))

    def finish(self, *outputs: str) -> Graph:
        return self.builder.finish([Port(f"output_{i}", value) for i, value in enumerate(outputs)])


def inputs_of(graph: Graph, sizes: Mapping[str, int] = SIZES) -> Arrays:
    random = np.random.default_rng(3)
    found: Arrays = {}
    for port in graph.inputs:
        kind = graph.types[port.value]
        shape = evaluate_shape(kind.shape, sizes)
        if kind.dtype.is_float:
            found[port.name] = random.standard_normal(shape).astype(kind.dtype.np)
        else:
            found[port.name] = (random.random(shape) < 0.7).astype(kind.dtype.np)
    return found


def rebuilt(graph: Graph, tolerance: float = 2e-6, sizes: Mapping[str, int] = SIZES) -> Counter[str]:
    """How often each op stands in the graph after the passes; checks that the values are the same."""
    after = run_passes(graph, GRAPH_PASSES)
    inputs = inputs_of(graph, sizes)
    wanted, found = run(graph, inputs), run(after, inputs)
    for name, array in wanted.items():
        assert array.dtype == found[name].dtype
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance, err_msg=name)
    return Counter(node.op for node in after.nodes)


# -- softmax -------------------------------------------------------------------------------------------------------


def _exponential(s: Sketch, x: str, axis: int = -1) -> str:
    return s.exp(s.sub(x, s.reduce_max(x, axes=(axis,))))


def _softmax_keepdims_false(s: Sketch, x: str) -> str:
    top = s.reshape(s.reduce_max(x, axes=(2,), keepdims=False), shape=(2, S, 1))
    e = s.exp(s.sub(x, top))
    return s.div(e, s.reshape(s.reduce_sum(e, axes=(2,), keepdims=False), shape=(2, S, 1)))


def _log_softmax(s: Sketch, x: str) -> str:
    shifted = s.sub(x, s.reduce_max(x, axes=(-1,)))
    return s.sub(shifted, s.log(s.reduce_sum(s.exp(shifted), axes=(-1,))))


def _log_softmax_logsumexp(s: Sketch, x: str) -> str:
    top = s.reduce_max(x, axes=(-1,))
    return s.sub(x, s.add(s.log(s.reduce_sum(s.exp(s.sub(x, top)), axes=(-1,))), top))


SOFTMAX: dict[str, tuple[str, Callable[[Sketch, str], str]]] = {
    "division": ("softmax", lambda s, x: s.div(e := _exponential(s, x), s.reduce_sum(e, axes=(-1,)))),
    "reciprocal": ("softmax", lambda s, x: s.mul(s.reciprocal(s.reduce_sum(e := _exponential(s, x), axes=(2,))), e)),
    "middle axis": ("softmax", lambda s, x: s.div(e := _exponential(s, x, 1), s.reduce_sum(e, axes=(1,)))),
    "without maximum": ("softmax", lambda s, x: s.div(e := s.exp(x), s.reduce_sum(e, axes=(-1,)))),
    "reshaped reductions": ("softmax", _softmax_keepdims_false),
    "log of softmax": ("log_softmax", lambda s, x: s.log(s.softmax(x, axis=1))),
    "log": ("log_softmax", _log_softmax),
    "logsumexp": ("log_softmax", _log_softmax_logsumexp),
    "logsumexp without maximum": (
        "log_softmax",
        lambda s, x: s.sub(x, s.log(s.reduce_sum(s.exp(x), axes=(-1,)))),
    ),
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax(name: str) -> None:
    s, (op, spelling) = Sketch(), SOFTMAX[name]
    ops = rebuilt(s.finish(spelling(s, s.input(2, S, 6))))
    assert ops == Counter({op: 1})


def test_softmax_over_two_axes_stays() -> None:
    s = Sketch()
    e = s.exp(s.input(2, S, 6))
    assert "softmax" not in rebuilt(s.finish(s.div(e, s.reduce_sum(e, axes=(1, 2)))))


def test_maximum_of_another_axis_is_an_ordinary_shift() -> None:
    s = Sketch()
    e = _exponential(s, s.input(2, S, 6), 1)
    ops = rebuilt(s.finish(s.div(e, s.reduce_sum(e, axes=(2,)))))
    assert (ops["softmax"], ops["reduce_max"], ops["exp"]) == (1, 1, 0)


# -- norms ---------------------------------------------------------------------------------------------------------


def _centred(s: Sketch, x: str, *axes: int) -> tuple[str, str]:
    """x - mean, and the variance plus epsilon."""
    c = s.sub(x, s.mean(x, *axes))
    return c, s.add(s.mean(s.mul(c, c), *axes), 1e-5)


def _torchscript(s: Sketch, x: str) -> str:
    c = s.sub(x, s.mean(x))
    root = s.sqrt(s.add(s.mean(s.pow(c, 2.0)), 1e-5))
    return s.add(s.mul(s.div(c, root), s.weight(6)), s.weight(6))


def _sums(s: Sketch, x: str) -> str:
    c = s.sub(x, s.div(s.reduce_sum(x, axes=(-1,)), 6.0))
    return s.div(c, s.sqrt(s.add(s.div(s.reduce_sum(s.mul(c, c), axes=(-1,)), 6.0), 1e-5)))


def _tensorflow(s: Sketch, x: str) -> str:
    mean = s.mean(x)
    c = s.sub(x, mean)
    inverse = s.mul(s.rsqrt(s.add(s.mean(s.mul(c, c)), 1e-3)), s.weight(6))
    return s.add(s.mul(x, inverse), s.sub(s.weight(6), s.mul(mean, inverse)))


def _two_axes(s: Sketch, x: str) -> str:
    c, v = _centred(s, x, -2, -1)
    return s.add(s.weight(4, 6), s.mul(s.weight(4, 6), s.mul(s.rsqrt(v), c)))


LAYER_NORM: dict[str, Callable[[Sketch, str], str]] = {
    "torchscript": _torchscript,
    "rsqrt": lambda s, x: s.mul((cv := _centred(s, x))[0], s.rsqrt(cv[1])),
    "reciprocal": lambda s, x: s.mul(s.reciprocal(s.sqrt((cv := _centred(s, x))[1])), cv[0]),
    "one over": lambda s, x: s.mul(s.div(1.0, s.sqrt((cv := _centred(s, x))[1])), cv[0]),
    "power": lambda s, x: s.mul(s.pow((cv := _centred(s, x))[1], -0.5), cv[0]),
    "sums": _sums,
    "tensorflow": _tensorflow,
    "two axes": _two_axes,
    "scale only": lambda s, x: s.mul(s.weight(6), s.div((cv := _centred(s, x))[0], s.sqrt(cv[1]))),
    "bias only": lambda s, x: s.add(s.weight(1, 6), s.div((cv := _centred(s, x))[0], s.sqrt(cv[1]))),
}


@pytest.mark.parametrize("name", LAYER_NORM)
def test_layer_norm(name: str) -> None:
    s = Sketch()
    ops = rebuilt(s.finish(LAYER_NORM[name](s, s.input(S, 4, 6))), 1e-5)
    ops.pop("fill", None)
    # a bias with one more axis than is normalised is no bias
    assert ops == Counter({"layer_norm": 1, "add": 1} if name == "bias only" else {"layer_norm": 1})


def test_a_scale_along_other_axes_stays() -> None:
    s = Sketch()
    c, v = _centred(s, s.input(S, 4, 6))
    ops = rebuilt(s.finish(s.mul(s.div(c, s.sqrt(v)), s.weight(4, 1))), 1e-5)
    assert (ops["layer_norm"], ops["mul"]) == (1, 1)


def test_a_norm_with_two_readers_is_computed_once() -> None:
    s = Sketch()
    c, v = _centred(s, s.input(S, 4, 6))
    y = s.div(c, s.sqrt(v))
    ops = rebuilt(s.finish(s.mul(y, s.weight(6)), s.mul(y, s.weight(6))), 1e-5)
    assert (ops["layer_norm"], ops["mul"]) == (1, 2)


def test_a_norm_over_leading_axes_stays() -> None:
    s = Sketch()
    c, v = _centred(s, s.input(3, 4, 6), 0)
    assert "layer_norm" not in rebuilt(s.finish(s.div(c, s.sqrt(v))), 1e-5)


def test_sums_over_another_count_stay() -> None:
    s = Sketch()
    x = s.input(S, 6)
    c = s.sub(x, s.mean(x))
    ops = rebuilt(s.finish(s.div(c, s.sqrt(s.add(s.div(s.reduce_sum(s.mul(c, c), axes=(-1,)), 5.0), 1e-5)))), 1e-5)
    assert not ops.keys() & {"layer_norm", "rms_norm"}


def _rms_cast(s: Sketch, x: str) -> str:
    wide = s.cast(x, to=f64)
    epsilon = s.builder.constant(np.array(1e-6))
    y = s.mul(wide, s.rsqrt(s.add(s.mean(s.mul(wide, wide)), epsilon)))
    return s.mul(s.weight(6), s.cast(y, to=f32))


RMS_NORM: dict[str, Callable[[Sketch, str], str]] = {
    "llama": lambda s, x: s.mul(s.weight(6), s.mul(x, s.rsqrt(s.add(s.mean(s.pow(x, 2.0)), 1e-6)))),
    "division": lambda s, x: s.mul(s.div(x, s.sqrt(s.add(1e-6, s.mean(s.mul(x, x))))), s.weight(6)),
    "no scale": lambda s, x: s.mul(x, s.reciprocal(s.sqrt(s.add(s.mean(s.mul(x, x)), 1e-6)))),
    "gemma": lambda s, x: s.mul(s.mul(x, s.rsqrt(s.add(s.mean(s.mul(x, x)), 1e-6))), s.add(s.weight(6), 1.0)),
    "in a wider type": _rms_cast,
}


@pytest.mark.parametrize("name", RMS_NORM)
def test_rms_norm(name: str) -> None:
    s = Sketch()
    ops = rebuilt(s.finish(RMS_NORM[name](s, s.input(2, S, 6))), 1e-5)
    ops.pop("fill", None)
    assert ops == Counter({"rms_norm": 1})


def test_a_norm_without_epsilon_stays() -> None:
    s = Sketch()
    x = s.input(2, S, 6)
    assert "rms_norm" not in rebuilt(s.finish(s.div(x, s.sqrt(s.mean(s.mul(x, x))))), 1e-5)


# -- activations ---------------------------------------------------------------------------------------------------

R2, RP = math.sqrt(2), math.sqrt(2 / math.pi)


def _tanh_argument(s: Sketch, x: str) -> str:
    return s.mul(RP, s.add(x, s.mul(s.pow(x, 3.0), 0.044715)))


ACTIVATIONS: dict[str, tuple[str, Callable[[Sketch, str], str]]] = {
    "erf": ("gelu", lambda s, x: s.mul(s.mul(0.5, x), s.add(1.0, s.erf(s.div(x, R2))))),
    "erf, half last": ("gelu", lambda s, x: s.mul(s.mul(x, s.add(s.erf(s.div(x, R2)), 1.0)), 0.5)),
    "erf, half inside": ("gelu", lambda s, x: s.mul(x, s.mul(0.5, s.add(1.0, s.erf(s.mul(x, 0.70710678)))))),
    "erf, halves apart": ("gelu", lambda s, x: s.mul(x, s.add(0.5, s.mul(0.5, s.erf(s.mul(x, 1 / R2)))))),
    "erf, over two": ("gelu", lambda s, x: s.div(s.mul(x, s.add(s.erf(s.div(x, R2)), 1.0)), 2.0)),
    "tanh": ("gelu", lambda s, x: s.mul(s.mul(0.5, x), s.add(1.0, s.tanh(_tanh_argument(s, x))))),
    "tanh, products": (
        "gelu",
        lambda s, x: s.mul(
            s.mul(0.5, x), s.add(1.0, s.tanh(s.mul(s.add(x, s.mul(0.044715, s.mul(x, s.mul(x, x)))), RP)))
        ),
    ),
    "tanh, factored": (
        "gelu",
        lambda s, x: s.mul(
            s.mul(s.add(1.0, s.tanh(s.mul(s.mul(RP, x), s.add(1.0, s.mul(s.mul(0.044715, x), x))))), x), 0.5
        ),
    ),
    "tanh as sigmoid": ("gelu", lambda s, x: s.mul(x, s.sigmoid(s.mul(2.0, _tanh_argument(s, x))))),
    "silu": ("silu", lambda s, x: s.mul(s.sigmoid(x), x)),
    "silu of parts": ("silu", lambda s, x: s.mul(x, s.div(1.0, s.add(1.0, s.exp(s.neg(x)))))),
    "hard swish": ("hard_swish", lambda s, x: s.div(s.mul(x, s.clip(s.add(x, 3.0), min=0.0, max=6.0)), 6.0)),
    "hard swish, inner division": (
        "hard_swish",
        lambda s, x: s.mul(x, s.div(s.clip(s.add(x, 3.0), min=0.0, max=6.0), 6.0)),
    ),
    "hard swish, relu": ("hard_swish", lambda s, x: s.mul(s.mul(x, s.min(s.relu(s.add(3.0, x)), 6.0)), 1 / 6)),
    "hard sigmoid": ("hard_swish", lambda s, x: s.mul(x, s.hard_sigmoid(x, alpha=1 / 6, beta=0.5))),
    "product of two": ("silu", lambda s, x: s.mul(y := s.mul(x, s.tanh(x)), s.sigmoid(y))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    s, (op, spelling) = Sketch(), ACTIVATIONS[name]
    graph = s.finish(spelling(s, s.input(3, S)))
    ops = rebuilt(graph)
    assert ops == Counter({op: 1} if name != "product of two" else {op: 1, "mul": 1, "tanh": 1})
    tanh = {node.attr("approximate") for node in run_passes(graph, GRAPH_PASSES).nodes if node.op == "gelu"}
    assert tanh == ({"tanh" if "tanh" in name else "none"} if op == "gelu" else set())


NOT_ACTIVATIONS: dict[str, Callable[[Sketch, str], str]] = {
    "quick gelu": lambda s, x: s.mul(x, s.sigmoid(s.mul(1.702, x))),
    "erf of another scale": lambda s, x: s.mul(s.mul(0.5, x), s.add(1.0, s.erf(s.mul(x, 0.75)))),
    "no half": lambda s, x: s.mul(x, s.add(1.0, s.erf(s.div(x, R2)))),
    "two and erf": lambda s, x: s.mul(s.mul(0.5, x), s.add(2.0, s.erf(s.div(x, R2)))),
    "gate of another value": lambda s, x: s.mul(s.exp(x), s.sigmoid(x)),
    "another cubic": lambda s, x: s.mul(
        s.mul(0.5, x), s.add(1.0, s.tanh(s.mul(RP, s.add(x, s.mul(s.pow(x, 3.0), 0.05)))))
    ),
    "clip at five": lambda s, x: s.div(s.mul(x, s.clip(s.add(x, 3.0), min=0.0, max=5.0)), 6.0),
    "square": lambda s, x: s.mul(s.mul(x, x), s.sigmoid(x)),
}


@pytest.mark.parametrize("name", NOT_ACTIVATIONS)
def test_near_activations_stay(name: str) -> None:
    s = Sketch()
    assert not rebuilt(s.finish(NOT_ACTIVATIONS[name](s, s.input(3, S)))).keys() & {"gelu", "silu", "hard_swish"}


# -- rotary --------------------------------------------------------------------------------------------------------


def _halves(s: Sketch, x: str, swap: bool = False) -> str:
    first, second = (s.slice(x, axis=3, start=at, extent=4) for at in (0, 4))
    if swap:
        first, second = second, first
    return s.concat(s.neg(second), first, axis=-1)


def _neighbours(s: Sketch, x: str) -> str:
    even, odd = (s.slice(x, axis=3, start=at, extent=4, step=2) for at in (0, 1))
    pair = [s.reshape(v, shape=(2, 3, S, 4, 1)) for v in (s.neg(odd), even)]
    return s.reshape(s.concat(*pair, axis=4), shape=(2, 3, S, 8))


@pytest.mark.parametrize("turn, interleaved", [(_halves, False), (_neighbours, True)])
def test_rotary(turn: Callable[[Sketch, str], str], interleaved: bool) -> None:
    s = Sketch()
    x, cos, sin = s.input(2, 3, S, 8), s.input(S, 8), s.input(2, 1, S, 8)
    graph = s.finish(s.add(s.mul(turn(s, x), sin), s.mul(x, cos)))
    assert rebuilt(graph) == Counter({"rotary": 1})
    assert run_passes(graph, GRAPH_PASSES).nodes[0].attr("interleaved") is interleaved


def test_other_turns_stay() -> None:
    s = Sketch()
    x, cos, sin = s.input(2, 3, S, 8), s.input(S, 8), s.input(S, 8)
    assert "rotary" not in rebuilt(s.finish(s.add(s.mul(x, cos), s.mul(_halves(s, x, swap=True), sin))))


# -- any graph -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_graphs())
def test_any_graph_means_the_same(sample: Sample) -> None:
    inputs = sample.make_inputs(seed=1)
    sample.compare(run(recompose(cse(sample.graph)), inputs), run(sample.graph, inputs))
