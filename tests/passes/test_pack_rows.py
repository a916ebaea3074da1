"""Encoders whose rows are packed: equal to the original on valid rows, zeros elsewhere, and left alone where that shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, Dim, symbol
from stratac.ir.errors import StratacError
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.ops import runtime_dims
from stratac.ir.types import TensorType, bool_, f32, i64
from stratac.ir.verify import verify_graph
from stratac.passes.base import run_passes
from stratac.passes.graph.pack_rows import pack_rows
from stratac.passes.pipelines import GRAPH_PASSES, SIMPLIFY
from stratac.tests.codegen.harness import check_bits, compiled

HEADS, WIDTH, WORDS = 2, 8, 11
LOW = float(np.finfo(np.float32).min)
MASKS = ("holes", "right", "left", "full", "none", "one empty")


class Encoder(GraphBuilder):
    """A small encoder of layers with attention, in the ways exporters write them."""

    def __init__(self, batch: Dim, seq: Dim, seed: int = 0) -> None:
        super().__init__(symbols={"b": Bounds(1, 2, 4), "s": Bounds(1, 6, 20)})
        self.b, self.s, self.rng = batch, seq, np.random.default_rng(seed)
        self.ids = self.input("ids", TensorType(i64, (batch, seq)))
        self.mask_input = self.input("mask", TensorType(i64, (batch, seq)))

    def array(self, *shape: int) -> str:
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32))

    def number(self, value: float) -> str:
        return self.op("fill", value=value, shape=(), dtype=f32)

    def where_mask(self, low: float = LOW) -> str:
        seen = self.op("reshape", self.op("cast", self.mask_input, to=bool_), shape=(self.b, 1, 1, self.s))
        return self.op("where", seen, self.number(0.0), self.number(low))

    def arithmetic_mask(self) -> str:
        """As older exporters write it."""
        wide = self.op("reshape", self.mask_input, shape=(self.b, 1, 1, self.s))
        less = self.op("sub", self.number(1.0), self.op("cast", wide, to=f32))
        return self.op("mul", less, self.number(-10000.0))

    def embedded(self) -> str:
        words = self.op("gather", self.array(WORDS, WIDTH), self.ids, axis=0)
        places = self.op("slice", self.array(20, WIDTH), axis=0, start=0, extent=self.s)
        x = self.op("add", words, self.op("reshape", places, shape=(1, self.s, WIDTH)))
        return self.op("layer_norm", x, self.array(WIDTH), self.array(WIDTH), axis=2, epsilon=1e-6)

    def dense(self, x: str, width: int) -> str:
        return self.op("add", self.op("matmul", x, self.array(WIDTH, width)), self.array(width))

    def split(self, x: str) -> str:
        heads = self.op("reshape", x, shape=(self.b, self.s, HEADS, WIDTH // HEADS))
        return self.op("transpose", heads, perm=(0, 2, 1, 3))

    def layer(self, x: str, mask: str, flat: bool = False, causal: bool = False) -> str:
        q, k, v = (self.split(self.dense(x, WIDTH)) for _ in range(3))
        inputs = (q, k, v, mask) if mask else (q, k, v)
        mixed = self.op("attention", *inputs, scale=0.5, causal=causal)
        joined = self.op("transpose", mixed, perm=(0, 2, 1, 3))
        lead = (self.b * self.s,) if flat else (self.b, self.s)
        joined = self.op("reshape", joined, shape=(*lead, WIDTH))
        y = self.op("reshape", self.dense(joined, WIDTH), shape=(self.b, self.s, WIDTH))
        y = self.op("add", y, x)
        y = self.op("layer_norm", y, self.array(WIDTH), self.array(WIDTH), axis=-1, epsilon=1e-6)
        up = self.op("gelu", self.dense(y, 3 * WIDTH), approximate="none")
        down = self.op("matmul", up, self.array(3 * WIDTH, WIDTH))
        return self.op("softmax", self.op("add", down, y), axis=2)

    def layers(self, mask: str, count: int = 2, **options: bool) -> str:
        x = self.embedded()
        for _ in range(count):
            x = self.layer(x, mask, **options)
        return x

    def pooled(self, x: str) -> str:
        """The mean of valid rows, as sentence encoders take it."""
        ones = self.op("cast", self.op("reshape", self.mask_input, shape=(self.b, self.s, 1)), to=f32)
        wide = self.op("expand", ones, shape=(self.b, self.s, WIDTH))
        total = self.op("reduce_sum", self.op("mul", x, wide), axes=(1,), keepdims=False)
        count = self.op("clip", self.op("reduce_sum", ones, axes=(1,), keepdims=False), min=1e-9)
        return self.op("div", total, count)


def encoder(make: Callable[[Encoder], str], batch: Dim = symbol("b"), seq: Dim = symbol("s"), seed: int = 0) -> Graph:
    net = Encoder(batch, seq, seed)
    graph = net.finish([Port("y", make(net))])
    verify_graph(graph)
    return graph


def packed(graph: Graph, declared: str = "") -> tuple[Graph, str]:
    found = pack_rows(run_passes(graph, GRAPH_PASSES), declared)
    return (run_passes(found.graph, SIMPLIFY) if runtime_dims(found.graph) else found.graph), found.note


def inputs(kind: str, b: int, s: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, s + 1, (b, 1))
    mask = {
        "holes": rng.random((b, s)) < 0.6,
        "right": np.arange(s) < lengths,
        "left": np.arange(s) >= s - lengths,
        "full": np.ones((b, s), bool),
        "none": np.zeros((b, s), bool),
        "one empty": (np.arange(s) < lengths) & (np.arange(b)[:, None] != 0),
    }[kind]
    return {"ids": rng.integers(0, WORDS, (b, s)), "mask": mask.astype(np.int64)}


WAYS: dict[str, Callable[[Encoder], str]] = {
    "where": lambda net: net.layers(net.where_mask()),
    "arithmetic": lambda net: net.layers(net.arithmetic_mask()),
    "flat": lambda net: net.layers(net.where_mask(), flat=True),
    "causal": lambda net: net.layers(net.where_mask(), causal=True),
    "low enough": lambda net: net.layers(net.where_mask(-1e30)),
}


@pytest.mark.parametrize("way", WAYS)
def test_valid_rows_are_those_of_the_original(way: str) -> None:
    graph = encoder(WAYS[way])
    rows, note = packed(graph, "mask")
    assert "2 attentions run on valid rows; 'y' gets zeros at padded positions" in note
    assert runtime_dims(rows) == {"rows"} and not any(node.op == "attention" for node in rows.nodes)
    assert sum(node.op == "pad" for node in rows.nodes) == 1
    for seed, kind in enumerate(MASKS):
        for b, s in ((3, 7), (1, 1), (4, 20)):
            given = inputs(kind, b, s, seed)
            ours, theirs, valid = run(rows, given)["y"], run(graph, given)["y"], given["mask"] != 0
            np.testing.assert_allclose(ours[valid], theirs[valid], rtol=1e-5, atol=1e-6)
            assert not ours[~valid].any()


@pytest.mark.parametrize(("batch", "seq"), [(3, 7), (1, symbol("s")), (symbol("b"), 5), (1, 4)])
def test_fixed_sizes(batch: Dim, seq: Dim) -> None:
    graph = encoder(WAYS["where"], batch, seq)
    rows, _ = packed(graph, "mask")
    size = tuple(d if isinstance(d, int) else 4 for d in (batch, seq))
    for seed, kind in enumerate(MASKS):
        given = inputs(kind, *size, seed)
        ours, theirs, valid = run(rows, given)["y"], run(graph, given)["y"], given["mask"] != 0
        np.testing.assert_allclose(ours[valid], theirs[valid], rtol=1e-5, atol=1e-6)


def test_what_is_multiplied_by_the_mask_needs_no_word() -> None:
    graph = encoder(lambda net: net.pooled(net.layers(net.where_mask())))
    rows, note = packed(graph)
    assert note.endswith("by the mask 'mask', 2 attentions run on valid rows; no output tells them from zeros")
    for seed, kind in enumerate(MASKS):
        given = inputs(kind, 3, 7, seed)
        np.testing.assert_allclose(run(rows, given)["y"], run(graph, given)["y"], rtol=1e-5, atol=1e-6)


def _where_valid(net: Encoder) -> str:
    seen = net.op("reshape", net.op("cast", net.mask_input, to=bool_), shape=(net.b, net.s, 1))
    wide = net.op("expand", seen, shape=(net.b, net.s, WIDTH))
    kept = net.op("where", wide, net.layers(net.where_mask()), net.number(0.0))
    return net.op("reduce_max", kept, axes=(1,), keepdims=False)


def test_what_is_chosen_by_the_mask_needs_no_word() -> None:
    graph = encoder(_where_valid)
    rows, note = packed(graph)
    assert runtime_dims(rows), note
    for seed, kind in enumerate(MASKS):
        given = inputs(kind, 3, 7, seed)
        np.testing.assert_allclose(run(rows, given)["y"], run(graph, given)["y"], rtol=1e-5, atol=1e-6)


def _mean(net: Encoder) -> str:
    return net.op("reduce_mean", net.layers(net.where_mask()), axes=(1,), keepdims=False)


def _first(net: Encoder) -> str:
    return net.op("slice", net.layers(net.where_mask()), axis=1, start=0, extent=1)


def _two_masks(net: Encoder) -> str:
    other = net.op("reshape", net.op("gt", net.ids, net.constant(np.array(3))), shape=(net.b, 1, 1, net.s))
    x = net.layer(net.embedded(), net.where_mask())
    return net.layer(x, net.op("where", other, net.number(0.0), net.number(LOW)))


def _wrong_axis(net: Encoder) -> str:
    """A mask of queries hides no keys."""
    seen = net.op("reshape", net.op("cast", net.mask_input, to=bool_), shape=(net.b, 1, net.s, 1))
    return net.layers(net.op("where", seen, net.number(0.0), net.number(LOW)))


def _of_one_size(net: Encoder) -> str:
    """A mask over queries and keys of 4 sequences of 4, which has as many elements as there are tokens."""
    seen = net.op("reshape", net.op("cast", net.mask_input, to=bool_), shape=(1, 1, 4, 4))
    return net.layers(net.op("where", seen, net.number(0.0), net.number(LOW)))


def test_the_axes_of_a_mask_count_not_its_elements() -> None:
    assert "not one value for each key" in packed(encoder(_of_one_size, 4, 4))[1]


def _bias(net: Encoder) -> str:
    wide = net.op("cast", net.op("reshape", net.mask_input, shape=(net.b, 1, 1, net.s)), to=f32)
    return net.layers(wide)


#: an encoder, what is said without a word, and with the mask declared ("" where that packs)
REASONS = [
    (WAYS["where"], "output 'y' holds what is computed at padded positions; --ragged mask says", ""),
    (WAYS["arithmetic"], "its mask may hold other values than 0 and 1", ""),
    (lambda net: net.layers(net.where_mask(-1e9)), "hides keys by too small a number", ""),
    (lambda net: net.layers(net.where_mask(-2000.0)), "is not known to hide keys", "is not known to hide keys"),
    (_mean, "may reach reduce_mean", "may reach reduce_mean"),
    (_first, "may reach slice", ""),
    (_two_masks, "its attentions hide different keys", "its attentions hide different keys"),
    (_wrong_axis, "not one value for each key", "not one value for each key"),
    (_bias, "is not known to hide keys", "is not known to hide keys"),
    (lambda net: net.layer(net.layers(net.where_mask(), 1), ""), "has no mask", "has no mask"),
]


@pytest.mark.parametrize(("make", "said", "declared"), REASONS)
def test_reasons(make: Callable[[Encoder], str], said: str, declared: str) -> None:
    graph = encoder(make)
    rows, note = packed(graph)
    assert not runtime_dims(rows) and note.startswith("padded rows are computed like all others: ") and said in note
    if declared:
        with pytest.raises(StratacError, match=f"cannot be packed by 'mask': .*{declared}"):
            packed(graph, "mask")
    else:
        assert runtime_dims(packed(graph, "mask")[0])
    with pytest.raises(StratacError, match="cannot be packed by 'ids'"):
        packed(graph, "ids")


def test_models_without_attention_are_left_alone() -> None:
    graph = encoder(lambda net: net.embedded())
    assert packed(graph)[1] == ""
    with pytest.raises(StratacError, match="it has no attention"):
        packed(graph, "mask")


def test_a_mask_of_padding() -> None:
    """Keys are seen where the input is zero; its zeros are the valid tokens."""

    def make(net: Encoder) -> str:
        hidden = net.op("reshape", net.op("cast", net.mask_input, to=bool_), shape=(net.b, 1, 1, net.s))
        return net.layers(net.op("where", hidden, net.number(LOW), net.number(0.0)))

    graph = encoder(make)
    rows, _ = packed(graph, "mask")
    given = inputs("right", 3, 7)
    ours, theirs, valid = run(rows, given)["y"], run(graph, given)["y"], given["mask"] == 0
    np.testing.assert_allclose(ours[valid], theirs[valid], rtol=1e-5, atol=1e-6)
    assert not ours[~valid].any()


def test_compiled() -> None:
    """What the padded plan gives; the same bits at any number of threads and whatever the neighbours are."""
    graph = encoder(WAYS["where"])
    rows, _ = packed(graph, "mask")
    plain, ragged = compiled(graph), compiled(rows, passes=())
    for seed, kind in enumerate(MASKS):
        for b, s in ((4, 20), (3, 7), (1, 1)):
            given = inputs(kind, b, s, seed)
            one, expected, valid = ragged.run(given, 1), run(graph, given)["y"], given["mask"] != 0
            check_bits(one, ragged.run(given, 3), "3 threads give other bits than one")
            np.testing.assert_allclose(one["y"][valid], expected[valid], rtol=1e-4, atol=1e-5)
            assert not one["y"][~valid].any()
            np.testing.assert_allclose(one["y"][valid], plain.run(given, 1)["y"][valid], rtol=1e-4, atol=1e-5)
            alone = {name: array[:1] if len(array) == b else array for name, array in given.items()}
            check_bits({"y": one["y"][:1]}, ragged.run(alone, 1), "a sequence alone has other bits than among others")
