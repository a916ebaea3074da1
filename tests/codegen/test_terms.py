"""Counts of what kernels do: exact on small shapes, in proportion on large ones, and from the right cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stratac.codegen.facts import TILE_EXTENSION, TILES
from stratac.codegen.library import Library
from stratac.codegen.terms import Terms, product, vectors_of
from stratac.ir.builder import GraphBuilder
from stratac.ir.candidate import UNITS
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.machine import Cache, Machine
from stratac.ir.types import TensorType, f32, i64
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.tests.codegen.harness import machine_for

MACHINE = machine_for("avx512")
CPU = replace(MACHINE.device("cpu"), caches=(Cache(1, 1 << 15, 1e11), Cache(2, 1 << 20, 5e10), Cache(3, 1 << 24, 2e10)))
SIZED = replace(MACHINE, devices=(CPU,))


def clusters(graph: Graph) -> Graph:
    return run_passes(run_passes(graph, GRAPH_PASSES), CLUSTER_PASSES)


def terms_of(graph: Graph, machine: Machine = SIZED) -> list[tuple[str, dict[str, float]]]:
    """(family, terms) of the first candidate of each cluster."""
    library, made = Library(), clusters(graph)
    found = [library.candidates(node, made, machine)[0] for node in made.nodes]
    return [(c.family, dict(c.work.terms)) for c in found]


def linear(rows: object, n: int, k: int, act: str = "", **symbols: Bounds) -> Graph:
    b = GraphBuilder(symbols=symbols)
    x = b.input("x", TensorType(f32, (rows, k)))  # type: ignore[arg-type]
    y = b.op("matmul", x, b.constant(np.ones((k, n), np.float32)))
    y = b.op(act, b.op("add", y, b.constant(np.ones(n, np.float32)))) if act else y
    return b.finish([Port("y", y)])


def test_products_are_padded_to_tiles() -> None:
    ((family, terms),) = terms_of(linear(28, 64, 100))
    assert family == "matmul"
    assert terms["fma"] == 28 * 4 * 100 and terms["b_vector"] == 2 * 4 * 100 and terms["tile"] == 2 * 2
    ((_, ragged),) = terms_of(linear(29, 65, 100))
    assert ragged["fma"] == 29 * 5 * 100 and ragged["b_vector"] == 3 * 5 * 100
    assert [vectors_of(n, 16) for n in (1, 16, 17, 32, 33, 49)] == [1, 1, 2, 2, 3, 4]


def test_epilogues_are_counted_by_operation() -> None:
    plain, dressed = terms_of(linear(28, 64, 100))[0][1], terms_of(linear(28, 64, 100, "gelu"))[0][1]
    assert "erf" not in plain and "st" not in plain
    assert dressed["erf"] == 28 * 4 == dressed["st"] and dressed["ld"] == 2 * 28 * 4 and dressed["op"] >= 3 * 28 * 4
    assert dressed["fma"] == plain["fma"]


def test_counts_are_at_the_typical_sizes() -> None:
    small = terms_of(linear(symbol("m"), 64, 100, m=Bounds(1, 14, 999)))[0][1]
    large = terms_of(linear(symbol("m"), 64, 100, m=Bounds(1, 140, 999)))[0][1]
    assert large["fma"] == 10 * small["fma"]
    assert small[UNITS] == 14 and large[UNITS] == 140


@pytest.mark.parametrize("isa", sorted(TILES))
@pytest.mark.parametrize("packed", [True, False])
def test_larger_products_count_more(isa: str, packed: bool) -> None:
    def counted(m: int, n: int, k: int) -> dict[str, float]:
        terms = Terms()
        product(terms, TILES[isa], m, n, k, packed=packed)
        return terms.counts

    for m, n, k in ((1, 1, 1), (5, 40, 70), (33, 257, 1000), (300, 512, 3000)):
        base = counted(m, n, k)
        for grown in (counted(m + 1, n, k), counted(m, n + TILES[isa].panel, k), counted(m, n, k + 1)):
            assert grown["fma"] > base["fma"] >= m * n * k / TILES[isa].lanes


def test_convolutions_that_read_in_place_gather_nothing() -> None:
    def conv(kernel: int, stride: int = 1, groups: int = 1, side: int = 28, channels: int = 32) -> dict[str, float]:
        b = GraphBuilder()
        x = b.input("x", TensorType(f32, (1, channels, side, side)))
        w = b.constant(np.ones((channels, channels // groups, kernel, kernel), np.float32))
        pad = kernel // 2
        y = b.op(
            "conv", x, w, strides=(stride,) * 2, pads=(pad,) * 4, dilations=(1, 1), groups=groups, channels_last=False
        )
        y = b.op("reduce_mean", b.op("relu", y), axes=(2, 3), keepdims=True)
        found = [(f, t) for f, t in terms_of(b.finish([Port("y", y)])) if f in ("conv", "depthwise")]
        assert found[0][0] == ("depthwise" if groups == channels else "conv")
        return found[0][1]

    one = conv(1)
    assert "gather" not in one and one["fma"] == 28 * 28 * 2 * 32
    three = conv(3)
    assert three["fma"] == 9 * one["fma"] and three["gather"] > 0
    assert conv(3, side=29)["gather"] > three["gather"]  # rows of 29 pixels are no whole tiles: all is gathered
    deep, wide = conv(7, groups=32), conv(9, groups=32)
    assert deep["tap"] > 0 and "any_tap" not in deep and wide["any_tap"] > 0 and "tap" not in wide


def test_attention_counts_what_causal_queries_see() -> None:
    def attention(causal: bool) -> dict[str, float]:
        b = GraphBuilder()
        q, k, v = (b.input(n, TensorType(f32, (1, 4, 448, 32))) for n in "qkv")
        return terms_of(b.finish([Port("y", b.op("attention", q, k, v, scale=0.1, causal=causal))]))[0][1]

    full, half = attention(False), attention(True)
    assert full["soft"] == 4 * 448 * 448 / 16
    assert 0.5 <= half["soft"] / full["soft"] < 0.51 and 0.5 < half["fma"] / full["fma"] < 0.6
    assert full[UNITS] == 4 * 32


def test_attention_on_tiles_counts_whole_tiles_of_what_queries_see() -> None:
    device = replace(CPU, extensions=(TILE_EXTENSION,))
    machine = replace(MACHINE, devices=(device,))

    def attention(mode: str, causal: bool, rows: int = 448) -> dict[str, float]:
        b = GraphBuilder()
        q, k, v = (b.input(n, TensorType(f32, (1, 4, rows, 40))) for n in "qkv")
        made = clusters(b.finish([Port("y", b.op("attention", q, k, v, scale=0.1, causal=causal))]))
        found = Library(max_error=1.0).candidates(made.nodes[0], made, machine)
        return next(dict(c.work.terms) for c in found if c.family == f"attention_tiles_{mode}")

    one, three, six = (attention(mode, False) for mode in ("bf16", "bf16x3", "bf16x6"))
    assert one["dot"] == 4 * 448 * (448 // 16 * 2 + 448 // 32 * 3) and one["soft"] == 4 * 448 * 448 / 16
    assert (three["dot"], six["dot"]) == (3 * one["dot"], 6 * one["dot"]) and six["split"] == 4 * 448 * 2 * 3
    half = attention("bf16", True)
    assert 0.5 <= half["soft"] / one["soft"] < 0.51 and 0.5 < half["dot"] / one["dot"] < 0.55
    assert one[UNITS] == 4 * 14 and attention("bf16", False, 33)[UNITS] == 4 * 2


def attention_terms(rows: int, keys: int, mask: tuple[int, ...] = (), heads: int = 4) -> dict[str, float]:
    b = GraphBuilder()
    q = b.input("q", TensorType(f32, (2, heads, rows, 32)))
    k, v = (b.input(n, TensorType(f32, (2, 2, keys, 32))) for n in "kv")
    masks = (b.input("mask", TensorType(f32, mask)),) if mask else ()
    return terms_of(b.finish([Port("y", b.op("attention", q, k, v, *masks, scale=0.1, causal=False))]))[0][1]


def test_few_rows_of_attention_pack_nothing() -> None:
    few, many = attention_terms(1, 300), attention_terms(300, 300)
    assert few["dot"] == 2 * 2 * 2 * 19 * 16 * (2 + 5) and few[UNITS] == 4
    assert "turn" not in few and "pack" not in few and "dot" not in many
    assert many["turn"] == 4 * 19 * 32 and many["pack"] == 4 * 300 * 2  # heads that share keys share them packed
    assert attention_terms(300, 1100)["parked"] == 2 * 2 * 4 * 300 * 2  # rows are taken up again for two more tiles


def test_a_mask_over_the_keys_is_computed_once() -> None:
    by_key, by_query = (attention_terms(300, 300, (2, 1, rows, 300)) for rows in (1, 300))
    plain = attention_terms(300, 300)
    assert by_key["op"] < 1.1 * by_query["op"] and by_key["st"] < plain["st"] + 100 < by_query["st"]


def test_long_sequences_are_counted_by_samples() -> None:
    one, two = attention_terms(14 * 64, 512, heads=2), attention_terms(14 * 640, 512, heads=2)
    assert two["fma"] == 10 * one["fma"] and two["soft"] == pytest.approx(10 * one["soft"])


def test_loops_count_vectors_and_what_is_not_vectorised() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(f32, (100, 40)))
    n = b.input("n", TensorType(i64, (50,)))
    outputs = [b.op("exp", x), b.op("reduce_sum", x, axes=(1,), keepdims=False), b.op("mul", n, n)]
    found = terms_of(b.finish(Port(f"y{i}", v) for i, v in enumerate(outputs)))
    exp = next(t for _, t in found if "exp" in t)
    assert exp["exp"] == 250 and exp["ld"] == 250 and exp["st"] == 250
    rows = next(t for _, t in found if "reduce" in t)
    assert rows["ld"] == 100 * 3 and rows["reduce"] == 100 and rows[UNITS] == 100
    whole = next(t for _, t in found if "s_op" in t and "reduce" not in t)
    assert whole["s_op"] == 50 == whole["s_st"] and "st" not in whole


def test_bytes_come_from_where_they_still_are() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(f32, (16, 64)))
    y = b.op("softmax", b.op("matmul", x, b.constant(np.ones((64, 64), np.float32))), axis=-1)
    y = b.op("matmul", y, b.constant(np.full((64, 1 << 17), 1, np.float32)))
    found = terms_of(b.finish([Port("y", y)]))
    (_, first), (family, soft), (_, last) = found
    assert family == "loops" and "ram" not in soft and soft["l1"] == 16 * 64 * 4  # made by the kernel before
    assert first["ram"] >= 64 * 64 * 4  # a run's weights were last used a whole run ago, 40 MB earlier
    assert last["ram"] == 64 * (1 << 17) * 4 and last["to_ram"] == 16 * (1 << 17) * 4


def test_lookups_touch_the_rows_they_look_up() -> None:
    b = GraphBuilder()
    index = b.input("index", TensorType(i64, (1, 10)))
    rows = b.op("gather", b.constant(np.ones((50000, 32), np.float32)), index, axis=0)
    ((_, terms),) = terms_of(b.finish([Port("y", rows)]))
    assert terms["lookup"] == 10
    assert sum(terms.get(level, 0) for level in ("l1", "l2", "l3", "ram")) < 20 * 32 * 4
