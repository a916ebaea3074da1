"""Attention on tiles of bf16, with the instructions emulated: as exact as its modes say, with the same bits at any number of
threads, right about masks and about what is not finite, and left to f32 where rows are few."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from stratac.codegen.facts import TILE_EXTENSION, TILE_MODES
from stratac.codegen.library import Library, family
from stratac.ir.builder import GraphBuilder
from stratac.ir.candidate import MODE_ERRORS
from stratac.ir.dims import Bounds, Dim, evaluate_shape, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.types import TensorType, f32
from stratac.passes.base import run_passes
from stratac.passes.graph.fuse import fuse
from stratac.passes.pipelines import GRAPH_PASSES

from .harness import ISAS, Compiled, check_bits, check_instructions, compiled, machine_for, tiled, with_tiles
from .test_tiles import WITHIN, Tiles

MODES = tuple(TILE_MODES)
Inputs = dict[str, np.ndarray]


class Net:
    """A graph of attentions side by side."""

    def __init__(self, **symbols: Bounds) -> None:
        self.b, self.outputs = GraphBuilder(name="attention", symbols=symbols), 0
        self.ports: list[Port] = []

    def input(self, *shape: Dim) -> str:
        return self.b.input(f"x{len(self.b.inputs)}", TensorType(f32, shape))

    def qkv(self, batch: Dim, heads: int, kv: int, rows: Dim, keys: Dim, width: int, v_width: int = 0) -> list[str]:
        shapes = ((batch, heads, rows, width), (batch, kv, keys, width), (batch, kv, keys, v_width or width))
        return [self.input(*shape) for shape in shapes]

    def out(self, value: str) -> None:
        self.ports.append(Port(f"y{len(self.ports)}", value))

    def attention(self, qkv: Sequence[str], *mask: str, causal: bool = False, **more: float) -> str:
        return self.b.op("attention", *qkv, *mask, causal=causal, **{"scale": 0.2, **more})

    def finish(self) -> Graph:
        return self.b.finish(self.ports)


def drawn(graph: Graph, seed: int, **sizes: int) -> Inputs:
    rng, found = np.random.default_rng(seed), {}
    for port in graph.inputs:
        shape = evaluate_shape(graph.types[port.value].shape, sizes)
        found[port.name] = rng.standard_normal(shape).astype(np.float32)
    return found


def check(plan: Compiled, inputs: Inputs, mode: str) -> Inputs:
    """Outputs on one thread, which are those of the interpreter, and of three threads to the bit."""
    one, wanted = plan.run(inputs, 1), run(plan.graph, inputs)
    check_bits(one, plan.run(inputs, 3), "three threads give other bits than one")
    for name, array in wanted.items():
        assert np.array_equal(np.isnan(one[name]), np.isnan(array)), name
        off = np.where(np.isfinite(array), one[name] - array, 0)
        scale = np.linalg.norm(np.where(np.isfinite(array), array, 0))
        assert np.linalg.norm(off) <= WITHIN[mode] * scale, (name, np.linalg.norm(off) / scale)
    return one


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("isa", ISAS)
def test_sizes(isa: str, mode: str) -> None:
    """Widths that fill no tile, groups of heads, more keys than queries and fewer; dims known and not."""
    net = Net(rows=Bounds(1, 40, 131), keys=Bounds(1, 50, 140))
    rows, keys = symbol("rows"), symbol("keys")
    for heads, kv, width, v_width in ((2, 1, 16, 1), (3, 3, 64, 64), (4, 2, 33, 80), (2, 2, 256, 17), (6, 2, 80, 112)):
        net.out(net.attention(net.qkv(1, heads, kv, rows, keys, width, v_width)))
        net.out(net.attention(net.qkv(1, heads, kv, rows, rows, width, v_width), causal=True))
    for count, seen in ((17, 1), (97, 67), (32, 64), (129, 257)):
        net.out(net.attention(net.qkv(2, 2, 2, count, seen, 32), causal=count <= seen))
    graph = net.finish()
    plan = tiled(graph, isa, library=Tiles(mode))
    assert plan.families() == {f"attention_tiles_{mode}"}
    for seed, (count, seen) in enumerate(((1, 1), (3, 140), (31, 37), (131, 65))):
        check(plan, drawn(graph, seed, rows=count, keys=seen), mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("isa", ISAS)
def test_many_keys(isa: str, mode: str) -> None:
    """More than are held at once, by more rows than may be unfinished."""
    net = Net()
    net.out(net.attention(net.qkv(1, 2, 1, 50, 700, 256), causal=True))
    if isa == ISAS[0] and mode == "bf16x6":
        net.out(net.attention(net.qkv(1, 1, 1, 700, 700, 300)))
        net.out(net.attention(net.qkv(1, 1, 1, 40, 1800, 64)))
    graph = net.finish()
    check(tiled(graph, isa, library=Tiles(mode)), drawn(graph, 1), mode)


def padding(batch: int, keys: int, where: str, value: float) -> np.ndarray:
    """[batch, 1, 1, keys]: one sequence whole, one with few keys left, one with none."""
    mask, place = np.zeros((batch, 1, 1, keys), np.float32), np.arange(keys)
    few = {"left": place < keys - 5, "right": place >= 5, "middle": (place >= 5) & (place < keys - 45)}[where]
    mask[1, ..., few] = value
    mask[2] = value
    return mask


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("isa", ISAS)
def test_masks(isa: str, mode: str) -> None:
    """Over the keys alone, by query and by head; infinite and finite; with causal attention and a cap."""
    net, cases = Net(rows=Bounds(1, 30, 70)), []
    rows = symbol("rows")
    for where in ("left", "right", "middle"):
        for value in (-np.inf, float(np.finfo(np.float32).min), -1e4, -3.0):
            cases.append((where, value))
            qkv, mask = net.qkv(3, 4, 2, rows, 130, 32, 48), net.input(3, 1, 1, 130)
            net.out(net.attention(qkv, mask))
            net.out(net.attention(qkv, net.b.op("add", mask, net.input(rows, 1))))
            if where == "left":
                net.out(net.attention(qkv, mask, causal=True))
    qkv = net.qkv(2, 4, 4, rows, rows, 32)
    net.out(net.attention(qkv, net.input(1, 4, rows, rows), causal=True, softcap=1.5))
    net.out(net.b.op("relu", net.attention(qkv)))
    graph = net.finish()
    plan = tiled(graph, isa, library=Tiles(mode))
    assert f"attention_tiles_{mode}" in plan.families() and "attention" not in plan.families()
    for count in (1, 33, 70):
        inputs = drawn(graph, count, rows=count)
        by_key = [p.name for p in graph.inputs if graph.types[p.value].shape == (3, 1, 1, 130)]
        for name, (where, value) in zip(by_key, cases, strict=True):
            inputs[name] = padding(3, 130, where, value)
        one, wanted = plan.run(inputs, 1), run(graph, inputs)
        check_bits(one, plan.run(inputs, 3), "three threads give other bits than one")
        for name, array in wanted.items():  # a mask of -1e4 rounds scores to a thousandth
            assert np.array_equal(np.isnan(one[name]), np.isnan(array)), name
            assert np.abs(one[name] - array).max() < {"bf16": 6e-2}.get(mode, 2e-3), (name, count)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("isa", ISAS)
def test_what_is_not_finite(isa: str, mode: str) -> None:
    """Infinities, NaN and the greatest floats in queries, keys and values give what they give in f32."""
    net = Net()
    for _ in range(3):
        net.out(net.attention(net.qkv(1, 2, 2, 70, 90, 32)))
    net.out(net.attention(net.qkv(1, 2, 1, 70, 90, 32), net.input(70, 90), causal=False))
    net.out(net.attention(net.qkv(1, 2, 1, 70, 90, 32), net.input(1, 90)))
    graph = net.finish()
    inputs = drawn(graph, 3)
    greatest = np.finfo(np.float32).max
    q, k, v, mask, by_key = inputs["x0"], inputs["x4"], inputs["x8"], inputs["x12"], inputs["x16"]
    q[0, 0, 3, 5], q[0, 0, 40, 1], q[0, 0, 41, 2], q[0, 1, 69, 31] = np.inf, np.nan, -np.inf, greatest
    k[0, 0, 3, 5], k[0, 1, 40, 1] = np.inf, greatest
    v[0, 0, 3, 5], v[0, 0, 4, 5], v[0, 0, 40, 1], v[0, 1, 41, 2] = np.inf, -np.inf, np.nan, greatest
    mask[5, 7], mask[6, 80], mask[7], mask[8, ::2], mask[50, 3] = np.nan, np.inf, -np.inf, -np.inf, greatest
    by_key[0, 77] = np.nan
    plan = tiled(graph, isa, library=Tiles(mode))
    assert plan.families() == {f"attention_tiles_{mode}"}
    one = plan.run(inputs, 1)
    with np.errstate(all="ignore"):
        wanted = run(graph, inputs)
    check_bits(one, plan.run(inputs, 3), "three threads give other bits than one")
    for name, array in wanted.items():
        assert np.isnan(array).any(), name
        np.testing.assert_allclose(one[name], array, rtol=1e-2, atol=6e-2 if mode == "bf16" else 1e-4, err_msg=name)


@pytest.mark.parametrize("spread", ["normal", "positive", "peaked"])
def test_error(spread: str) -> None:
    """Three parts are no worse than f32; two parts and one are as far off as two products in their modes."""
    net = Net()
    for rows, width in ((33, 64), (200, 64), (600, 128)):
        net.out(net.attention(net.qkv(1, 2, 2, rows, rows, width), scale=width**-0.5))
    graph = net.finish()
    inputs = drawn(graph, 7)
    for number, array in enumerate(inputs.values()):
        if spread == "positive":
            np.abs(array, out=array)
        if spread == "peaked" and number % 3 == 0:
            array *= 4
    found = {mode: tiled(graph, library=Tiles(mode)).run(inputs) for mode in MODES}
    found["f32"] = compiled(graph).run(inputs)
    for number, name in enumerate(found["f32"]):
        q, k, v = (inputs[f"x{3 * number + i}"].astype(np.float64) for i in range(3))
        scores = q @ k.transpose(0, 1, 3, 2) * q.shape[-1] ** -0.5
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        exact = weights / weights.sum(-1, keepdims=True) @ v
        error = {m: np.linalg.norm(y[name] - exact) / np.linalg.norm(exact) for m, y in found.items()}
        assert error["bf16x6"] <= error["f32"], error
        loud = 4 if spread == "peaked" else 1  # errors of scores grow with the scores
        for mode in ("bf16x3", "bf16"):
            assert error[mode] < 2**0.5 * MODE_ERRORS[mode] * loud, (mode, error)


@pytest.mark.skipif(ISAS[0] != "avx512", reason="tiles come with avx512")
def test_the_instructions_give_the_bits_of_their_emulation(tmp_path: Path) -> None:
    net = Net()
    net.out(net.attention(net.qkv(1, 4, 2, 75, 75, 48, 80), causal=True))
    net.out(net.attention(net.qkv(2, 2, 2, 20, 100, 64), net.input(2, 1, 1, 100)))
    graph = net.finish()
    check_instructions(graph, drawn(graph, 2), {mode: Tiles(mode) for mode in MODES}, tmp_path)


def test_few_rows_and_narrow_heads_are_left_to_f32() -> None:
    machine = with_tiles(machine_for(ISAS[0]))

    def modes(heads: int, kv: int, rows: Dim, width: int) -> set[str]:
        net = Net(rows=Bounds(1, 1, 9))
        net.out(net.attention(net.qkv(1, heads, kv, rows, 300, width)))
        clusters = fuse(run_passes(net.finish(), GRAPH_PASSES))
        found = Library(max_error=1.0).candidates(clusters.nodes[0], clusters, machine)
        return {c.family for c in found if "tiles" in c.family}

    everything = {f"attention_tiles_{mode}" for mode in MODES}
    assert modes(8, 2, 3, 64) == modes(2, 2, 9, 64) == modes(2, 2, symbol("rows"), 64) == everything
    assert not modes(8, 2, 2, 64) and not modes(8, 8, 8, 64) and not modes(2, 2, 9, 8)
    assert family("attention_tiles_bf16x6").extension == TILE_EXTENSION
