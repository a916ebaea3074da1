"""Attention comes back whole from every exporter's spelling: scales, masks, causality, guards, shapes, repeated heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stratac.ir.dims import evaluate_shape
from stratac.ir.graph import Graph, Node
from stratac.ir.interp import run
from stratac.ir.types import bool_, f32, i64
from stratac.passes.base import run_passes
from stratac.passes.graph.recompose import recompose
from stratac.passes.pipelines import GRAPH_PASSES
from stratac.tests.passes.test_recompose import S, Sketch, rebuilt

LOWEST = float(np.finfo(np.float32).min)
TOLERANCE = 1e-5


def only(graph: Graph) -> Node:
    """The attention of the graph after the passes; checks that nothing of it stayed apart, and that it means the same."""
    ops = rebuilt(graph, TOLERANCE)
    assert ops["attention"] == 1 and not ops.keys() & {"softmax", "matmul", "isnan"}, ops
    (node,) = [n for n in run_passes(graph, GRAPH_PASSES).nodes if n.op == "attention"]
    return node


def heads(s: Sketch, count: int = 3, length: Any = S, batch: Any = 2) -> str:
    """[batch, count, length, 4] from an input as models have it."""
    x = s.input(batch, length, 4 * count)
    return s.transpose(s.reshape(x, shape=(batch, length, count, 4)), perm=(0, 2, 1, 3))


def turned(s: Sketch, k: str) -> str:
    return s.transpose(k, perm=(0, 1, 3, 2))


def attend(s: Sketch, q: str, k: str, v: str, mask: str = "", scale: float = 0.5) -> str:
    scores = s.mul(s.matmul(q, turned(s, k)), scale)
    return s.matmul(s.softmax(s.add(scores, mask) if mask else scores, axis=-1), v)


# -- scales and shapes ---------------------------------------------------------------------------------------------


def _sdpa(s: Sketch) -> str:
    """torch.onnx: roots of the scale on both sides, keys turned in three dims, NaN guarded."""
    q, k, v = heads(s), heads(s), heads(s)
    k = s.reshape(s.transpose(s.reshape(k, shape=(6, S, 4)), perm=(0, 2, 1)), shape=(2, 3, 4, S))
    root = math.sqrt(0.5)
    p = s.softmax(s.matmul(s.mul(q, root), s.mul(k, root)), axis=3)
    return s.matmul(s.where(s.isnan(p), 0.0, p), v)


def _scale_before_heads(s: Sketch) -> str:
    """whisper: the projection of q is scaled."""
    x = s.mul(s.input(2, S, 12), 0.5)
    q = s.transpose(s.reshape(x, shape=(2, S, 3, 4)), perm=(0, 2, 1, 3))
    return s.matmul(s.softmax(s.matmul(q, turned(s, heads(s))), axis=-1), heads(s))


def _merged_heads(s: Sketch) -> str:
    """OPT, BART: batch and heads are one axis."""
    q, k, v = (s.reshape(heads(s), shape=(6, S, 4)) for _ in range(3))
    scores = s.matmul(s.mul(q, 0.5), s.transpose(k, perm=(0, 2, 1)))
    masked = s.add(s.reshape(scores, shape=(2, 3, S, S)), s.input(2, 1, S, S))
    p = s.softmax(s.reshape(s.max(masked, LOWEST), shape=(6, S, S)), axis=-1)
    return s.reshape(s.matmul(p, v), shape=(2, 3, S, 4))


def _bloom(s: Sketch) -> str:
    """Merged heads throughout, and a mask expanded to them."""
    q, k, v = (s.reshape(heads(s), shape=(6, S, 4)) for _ in range(3))
    mask = s.reshape(s.expand(s.input(2, 1, 1, S), shape=(2, 3, S, S)), shape=(6, S, S))
    scores = s.add(s.mul(s.matmul(q, s.transpose(k, perm=(0, 2, 1))), 0.5), mask)
    return s.matmul(s.softmax(scores, axis=-1), v)


def _split_softmax(s: Sketch) -> str:
    """BLOOM, DeBERTa: heads merged with the batch in both products, and apart in the softmax."""
    q, k, v = (s.reshape(heads(s), shape=(6, S, 4)) for _ in range(3))
    scores = s.reshape(s.mul(s.matmul(q, s.transpose(k, perm=(0, 2, 1))), 0.5), shape=(2, 3, S, S))
    p = s.softmax(s.add(scores, s.input(2, 1, S, S)), axis=-1)
    return s.reshape(s.matmul(s.reshape(p, shape=(6, S, S)), v), shape=(2, 3, S, 4))


SHAPES: dict[str, Callable[[Sketch], str]] = {
    "plain": lambda s: attend(s, heads(s), heads(s), heads(s)),
    "divided": lambda s: s.matmul(s.softmax(s.div(s.matmul(heads(s), turned(s, heads(s))), 2.0), axis=-1), heads(s)),
    "sdpa": _sdpa,
    "scale before heads": _scale_before_heads,
    "merged heads": _merged_heads,
    "bloom": _bloom,
    "split softmax": _split_softmax,
    "three dims": lambda s: s.matmul(
        s.softmax(s.mul(s.matmul(s.input(5, S, 4), s.input(5, 4, 7)), 0.5), axis=-1), s.input(5, 7, 3)
    ),
    "two dims": lambda s: s.matmul(
        s.softmax(s.mul(s.matmul(s.input(S, 4), s.input(4, 7)), 0.5), axis=-1), s.input(7, 3)
    ),
    "five dims": lambda s: s.matmul(
        s.softmax(
            s.add(s.mul(s.matmul(s.input(2, S, 3, 5, 4), s.input(2, S, 3, 4, 5)), 0.5), s.input(S, 1, 5, 5)), axis=-1
        ),
        s.input(2, S, 3, 5, 6),
    ),
    "other lengths": lambda s: attend(s, heads(s), heads(s, length=7), heads(s, length=7)),
    "shared keys": lambda s: attend(s, heads(s), heads(s, 1, batch=1), heads(s, 1, batch=1)),
    "windows": lambda s: _windows(s),
}


def _windows(s: Sketch) -> str:
    """Swin: a bias for each head, then a mask for each window of a picture."""
    q, k, v = (s.input(4, 3, 5, 4) for _ in range(3))
    scores = s.add(s.mul(s.matmul(q, turned(s, k)), 0.5), s.weight(1, 3, 5, 5))
    scores = s.add(s.reshape(scores, shape=(2, 2, 3, 5, 5)), s.weight(1, 2, 1, 5, 5))
    return s.matmul(s.softmax(s.reshape(scores, shape=(4, 3, 5, 5)), axis=-1), v)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    s = Sketch()
    y = SHAPES[name](s)
    assert only(s.finish(y)).attr("scale") == pytest.approx(0.5)


def test_repeated_heads_are_taken_back() -> None:
    s = Sketch()
    q = heads(s, 6)
    k, v = (
        s.reshape(s.expand(s.reshape(heads(s, 2), shape=(2, 2, 1, S, 4)), shape=(2, 2, 3, S, 4)), shape=(2, 6, S, 4))
        for _ in range(2)
    )
    node = only(graph := s.finish(attend(s, q, k, v)))
    assert run_passes(graph, GRAPH_PASSES).types[node.inputs[1]].shape[1] == 2


def test_probabilities_that_are_an_output_stay() -> None:
    s = Sketch()
    p = s.softmax(s.matmul(heads(s), turned(s, heads(s))), axis=-1)
    assert "attention" not in rebuilt(s.finish(p, s.matmul(p, heads(s))), TOLERANCE)


def test_softmax_over_queries_stays() -> None:
    s = Sketch()
    p = s.softmax(s.matmul(heads(s), turned(s, heads(s))), axis=2)
    assert "attention" not in rebuilt(s.finish(s.matmul(p, heads(s))), TOLERANCE)


def test_a_layer_with_softmax_stays() -> None:
    s = Sketch()
    p = s.softmax(s.matmul(s.input(2, S, 4), s.weight(4, 6)), axis=-1)
    assert "attention" not in rebuilt(s.finish(s.matmul(p, s.weight(6, 4))), TOLERANCE)


# -- masks ---------------------------------------------------------------------------------------------------------


def _rows(s: Sketch, *shape: Any) -> tuple[str, str]:
    """Query and key positions, to be compared."""
    i = s.iota(extent=S)
    return s.expand(s.reshape(i, shape=(S, 1)), shape=(1, 1, S, 1)), s.expand(i, shape=(1, 1, 1, S))


def _seen(s: Sketch) -> str:
    rows, columns = _rows(s)
    return s.le(columns, rows)


def _padding(s: Sketch, first: bool = True) -> str:
    """Which keys are there: the first one always is."""
    there = s.reshape(s.cast(s.input(2, S, dtype=i64), to=bool_), shape=(2, 1, 1, S))
    if not first:
        return there
    return s.or_(there, s.eq(s.iota(extent=S), s.builder.constant(np.array(0))))


def _tril_corner(s: Sketch, hidden: float) -> str:
    """GPT-2 of old: a corner of a constant triangle chooses between the scores and a number."""
    q, k, v = heads(s), heads(s), heads(s)
    triangle = s.builder.constant(np.tril(np.ones((1, 1, 300, 300), dtype=bool)))
    corner = s.slice(s.slice(triangle, axis=2, start=0, extent=S), axis=3, start=0, extent=S)
    scores = s.where(corner, s.div(s.matmul(q, turned(s, k)), 2.0), hidden)
    return s.matmul(s.softmax(scores, axis=-1), v)


def _tril_bytes(s: Sketch) -> str:
    """The same triangle as bytes, cast where it is used."""
    q, k, v = heads(s), heads(s), heads(s)
    corner = s.builder.constant(np.tril(np.ones((40, 40), dtype=np.uint8)))
    for axis in (0, 1):
        corner = s.slice(corner, axis=axis, start=0, extent=S)
    scores = s.where(s.cast(corner, to=bool_), s.mul(s.matmul(q, turned(s, k)), 0.5), -math.inf)
    return s.matmul(s.softmax(scores, axis=-1), v)


def _fixed(s: Sketch, mask: Any) -> str:
    """All extents known: the mask is a constant."""
    q, k, v = (heads(s, length=6) for _ in range(3))
    return attend(s, q, k, v, s.value(mask))


def _three(s: Sketch, mask: str) -> str:
    return attend(s, heads(s), heads(s), heads(s), mask)


def _strictly_above(s: Sketch) -> str:
    rows, columns = _rows(s)
    return s.ge(columns, s.add(rows, s.builder.constant(np.array(1))))


_UPPER = np.triu(np.full((6, 6), -np.inf, dtype=np.float32), 1)
CAUSAL: dict[str, Callable[[Sketch], str]] = {
    "le": lambda s: _three(s, s.where(_seen(s), 0.0, -math.inf)),
    "le, finite": lambda s: _three(s, s.where(_seen(s), 0.0, LOWEST)),
    "ge": lambda s: _three(s, s.where(s.ge(*_rows(s)), 0.0, -1e9)),
    "hidden above": lambda s: _three(s, s.where(s.gt(*_rows(s)[::-1]), LOWEST, 0.0)),
    "hidden from one above": lambda s: _three(s, s.where(_strictly_above(s), -math.inf, 0.0)),
    "not": lambda s: _three(s, s.where(s.not_(_seen(s)), LOWEST, 0.0)),
    "less than one more": lambda s: _three(
        s, s.where(s.lt((rc := _rows(s))[1], s.add(rc[0], s.builder.constant(np.array(1)))), 0.0, LOWEST)
    ),
    "expanded": lambda s: _three(s, s.expand(s.where(_seen(s), 0.0, LOWEST), shape=(2, 1, S, S))),
    "choice of scores": lambda s: s.matmul(
        s.softmax(s.where(_seen(s), s.mul(s.matmul(heads(s), turned(s, heads(s))), 0.5), -1e4), axis=-1), heads(s)
    ),
    "corner of a triangle": lambda s: _tril_corner(s, -1e4),
    "corner, lowest": lambda s: _tril_corner(s, LOWEST),
    "corner of bytes": _tril_bytes,
    "constant": lambda s: _fixed(s, _UPPER),
    "constant, four dims": lambda s: _fixed(s, np.maximum(_UPPER, -1e4)[None, None]),
    "constant, chosen": lambda s: _fixed(s, s.where(s.value(np.tril(np.ones((6, 6), dtype=bool))), 0.0, -math.inf)),
}


def test_softcap() -> None:
    """gemma: c * tanh(scores / c), then the mask."""
    s = Sketch()
    q, k, v, mask = heads(s), heads(s), heads(s), s.input(2, 1, S, S)
    scores = s.mul(s.matmul(q, turned(s, k)), 0.5)
    capped = s.mul(s.tanh(s.div(scores, 2.0)), 2.0)
    node = only(s.finish(s.matmul(s.softmax(s.add(capped, mask), axis=-1), v)))
    assert (node.attr("softcap"), node.attr("scale"), len(node.inputs)) == (2.0, 0.5, 4)


@pytest.mark.parametrize("name", CAUSAL)
def test_causal(name: str) -> None:
    s = Sketch()
    node = only(s.finish(CAUSAL[name](s)))
    assert node.attr("causal") and len(node.inputs) == 3
    assert node.attr("scale") == pytest.approx(0.5)


CAUSAL_AND_MORE: dict[str, Callable[[Sketch], str]] = {
    "and": lambda s: s.where(s.and_(_seen(s), _padding(s)), 0.0, -math.inf),
    "hidden by either": lambda s: s.where(s.or_(s.not_(_seen(s)), s.not_(_padding(s))), -math.inf, 0.0),
    "choice in a choice": lambda s: s.where(_padding(s), s.where(_seen(s), 0.0, -math.inf), -math.inf),
    "sum": lambda s: s.add(s.where(_seen(s), 0.0, -math.inf), s.input(1, 3, S, S)),
}


@pytest.mark.parametrize("name", CAUSAL_AND_MORE)
def test_causal_and_more(name: str) -> None:
    s = Sketch()
    graph = s.finish(_three(s, CAUSAL_AND_MORE[name](s)))
    node = only(graph)
    assert node.attr("causal")
    shape = run_passes(graph, GRAPH_PASSES).types[node.inputs[3]].shape
    assert shape == ((1, 3, S, S) if name == "sum" else (2, 1, 1, S))


def test_a_finite_causal_mask_beside_padding_stays_a_mask() -> None:
    """A query whose visible keys are all padding averages over the hidden ones too: only minus infinity hides for good."""
    s = Sketch()
    node = only(s.finish(_three(s, s.where(s.and_(_seen(s), _padding(s)), 0.0, LOWEST))))
    assert not node.attr("causal") and len(node.inputs) == 4


def _shifted(s: Sketch) -> str:
    rows, columns = _rows(s)
    return s.where(s.le(columns, s.add(rows, s.builder.constant(np.array(1)))), 0.0, LOWEST)


NOT_CAUSAL: dict[str, Callable[[Sketch], str]] = {
    "one key too many": _shifted,
    "one key too few": lambda s: s.where(s.lt(*_rows(s)[::-1]), 0.0, LOWEST),
    "the other way": lambda s: s.where(s.le(*_rows(s)), 0.0, LOWEST),
    "a mild penalty": lambda s: s.where(_seen(s), 0.0, -2.0),
    "padding": lambda s: s.where(_padding(s), 0.0, LOWEST),
    "either": lambda s: s.where(s.or_(_seen(s), _padding(s)), 0.0, LOWEST),
    "an input": lambda s: s.input(2, 1, S, S),
}


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_not_causal(name: str) -> None:
    s = Sketch()
    node = only(s.finish(_three(s, NOT_CAUSAL[name](s))))
    assert not node.attr("causal") and len(node.inputs) == 4


def test_triangles_that_are_not_square_count_from_the_last_key() -> None:
    for above, causal in ((0, False), (2, True)):
        s = Sketch()
        mask = np.triu(np.full((4, 6), -np.inf, dtype=np.float32), 1 + above)
        y = attend(s, heads(s, length=4), heads(s, length=6), heads(s, length=6), s.value(mask))
        assert only(s.finish(y)).attr("causal") is causal


@pytest.mark.parametrize("constant", [False, True])
def test_more_keys_than_queries(constant: bool) -> None:
    """Three keys from before: the triangle's corner, or the comparison, starts three rows down."""
    s = Sketch()
    if constant:
        seen = s.builder.constant(np.tril(np.ones((64, 64), dtype=bool)))
        seen = s.slice(s.slice(seen, axis=0, start=3, extent=S), axis=1, start=0, extent=S + 3)
    else:
        rows = s.add(s.reshape(s.iota(extent=S), shape=(S, 1)), s.dim(value=3))
        seen = s.le(s.iota(extent=S + 3), rows)
    y = attend(s, heads(s), heads(s, length=S + 3), heads(s, length=S + 3), s.where(seen, 0.0, -math.inf))
    assert only(s.finish(y)).attr("causal")


def test_expansions_of_a_mask_go() -> None:
    s = Sketch()
    mask = s.where(s.expand(_padding(s), shape=(2, 1, S, S)), 0.0, LOWEST)
    graph = s.finish(_three(s, s.expand(mask, shape=(2, 3, S, S))))
    node = only(graph)
    assert run_passes(graph, GRAPH_PASSES).types[node.inputs[3]].shape == (2, 1, 1, S)


def test_a_mask_that_hides_nothing_goes() -> None:
    s = Sketch()
    mask = s.where(s.expand(s.value(np.ones((1, 1, 1, 1), dtype=bool)), shape=(2, 1, S, S)), 0.0, -math.inf)
    assert len(only(s.finish(_three(s, mask))).inputs) == 3


def test_choice_with_a_small_number_keeps_hidden_queries() -> None:
    """where(c, scores, -1e4) of a query without keys is the mean over all keys, whatever the scores are."""
    s = Sketch()
    q, k, v = heads(s), heads(s), heads(s)
    scores = s.where(s.input(2, 1, S, 1, dtype=bool_), s.matmul(q, turned(s, k)), -1e4)
    assert len(only(s.finish(s.matmul(s.softmax(scores, axis=-1), v))).inputs) == 4


def test_a_query_without_keys_behind_a_guard_is_zero() -> None:
    s = Sketch()
    q, k, v = heads(s), heads(s), heads(s)
    mask = s.where(s.input(2, 1, S, 1, dtype=bool_), 0.0, -math.inf)
    p = s.softmax(s.add(s.matmul(q, turned(s, k)), mask), axis=-1)
    graph = s.finish(s.matmul(s.where(s.isnan(p), 0.0, p), v))
    after = run_passes(graph, GRAPH_PASSES)
    assert "attention" in {node.op for node in after.nodes}
    random = np.random.default_rng(0)
    inputs = {
        port.name: random.standard_normal(evaluate_shape(graph.types[port.value].shape, {"s": 5})).astype(f32.np)
        for port in graph.inputs[:3]
    }
    inputs["input_3"] = np.arange(10).reshape(2, 1, 5, 1) % 3 != 0
    found, wanted = run(after, inputs)["output_0"], run(graph, inputs)["output_0"]
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


# -- attention that came whole -------------------------------------------------------------------------------------


def test_a_whole_attention_learns_that_it_is_causal() -> None:
    s = Sketch()
    mask = s.where(s.and_(_seen(s), _padding(s)), 0.0, -math.inf)
    graph = s.finish(s.attention(heads(s), heads(s), heads(s), mask, scale=0.5))
    node = only(graph)
    assert node.attr("causal") and run_passes(graph, GRAPH_PASSES).types[node.inputs[3]].shape == (2, 1, 1, S)


def test_a_second_walk_changes_nothing() -> None:
    s = Sketch()
    mask = s.where(s.expand(s.and_(_seen(s), _padding(s)), shape=(2, 1, S, S)), 0.0, LOWEST)
    after = run_passes(s.finish(_three(s, mask)), GRAPH_PASSES)
    assert recompose(after).nodes == after.nodes
