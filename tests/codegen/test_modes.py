"""Numeric modes: products in bf16 are what rounding both operands and summing in f32 gives, on every ISA, with the same bits at any
number of threads; they are offered only where the user allows their error."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stratac.codegen.library import Library
from stratac.codegen.pack import DENSE, Layout, pack, pack_pieces, to_bf16
from stratac.compiler.profiles import load_machine, native_extensions
from stratac.ir.builder import GraphBuilder
from stratac.ir.candidate import MODE_ERRORS, Candidate
from stratac.ir.dims import Bounds, evaluate_shape, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.machine import Machine
from stratac.ir.types import TensorType, f32
from stratac.passes.base import run_passes
from stratac.passes.graph.fuse import fuse
from stratac.passes.pipelines import GRAPH_PASSES
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest

from .harness import EMULATED, ISAS, check_bits, compiled, machine_for

BF16 = MODE_ERRORS["bf16"]
DEPTHS, COLUMNS = (2, 31, 32, 33, 768, 3001), (1, 16, 17, 100)


class InMode(Library):
    """Offers kernels in one mode wherever there are any."""

    def __init__(self, mode: str = "bf16") -> None:
        super().__init__(max_error=MODE_ERRORS[mode])
        self.mode = mode

    def candidates(self, cluster: Any, graph: Graph, machine: Machine) -> Sequence[Candidate]:
        found = super().candidates(cluster, graph, machine)
        return [c for c in found if c.mode == self.mode] or found


def rounded(values: np.ndarray) -> np.ndarray:
    return (to_bf16(values).astype(np.uint32) << 16).view(np.float32)


def products() -> tuple[Graph, dict[str, tuple[str, np.ndarray]]]:
    """Products of many depths and widths over a dim of rows, some with what fusion makes of a prologue and an epilogue."""
    b = GraphBuilder(name="products", symbols={"rows": Bounds(1, 30, 200)})
    rng, wanted, outputs = np.random.default_rng(3), {}, []
    for depth in DEPTHS:
        x = b.input(f"x{depth}", TensorType(f32, (symbol("rows"), depth)))
        for columns in COLUMNS:
            weight = rng.standard_normal((depth, columns)).astype(np.float32)
            y = b.op("matmul", x, b.constant(weight))
            name = f"y{depth}_{columns}"
            wanted[name] = (f"x{depth}", weight)
            outputs.append(Port(name, b.op("add", y, b.constant(np.float32(0.25))) if columns > 16 else y))
    return b.finish(outputs), wanted


@pytest.mark.parametrize("isa", [*ISAS, *EMULATED[:1]])
@pytest.mark.parametrize("extended", [False, True])
def test_products(isa: str, extended: bool) -> None:
    machine, cpu = machine_for(isa), "max" if extended else "cortex-a72"
    if extended:
        extensions = ("arm_bf16",) if isa in EMULATED else ("avx512_bf16",)
        if isa not in EMULATED and (isa != ISAS[0] or extensions[0] not in native_extensions()):
            pytest.skip("no instructions for this mode here")
        machine = replace(machine, devices=(replace(machine.device("cpu"), extensions=extensions),))
    graph, wanted = products()
    plan = compiled(graph, isa, library=InMode(), machine=machine)
    features = {"avx512_bf16", "bf16"} & set(plan.levels.plan.features)
    assert "matmul_bf16" in plan.families() and bool(features) == extended
    rng = np.random.default_rng(4)
    for rows in (1, 7, 61) if isa in EMULATED else (1, 7, 61, 200):
        inputs = {p.name: rng.standard_normal((rows, int(p.name[1:]))).astype(np.float32) for p in graph.inputs}
        one = plan.run(inputs, 1, cpu)
        for threads in (2,) if isa in EMULATED else (2, 3):
            check_bits(one, plan.run(inputs, threads, cpu), f"{threads} threads give other bits than one")
        for name, (x, weight) in wanted.items():
            exact = rounded(inputs[x]).astype(np.float64) @ rounded(weight).astype(np.float64)
            exact += 0.25 if weight.shape[1] > 16 else 0.0
            error = np.linalg.norm(one[name] - exact) / max(np.linalg.norm(exact), 1e-9)
            assert error < 1e-5, (name, rows)


@pytest.mark.parametrize("seed", range(3))
def test_products_are_as_far_from_f32_as_stated(seed: int) -> None:
    """Whatever is multiplied, as long as operands lie on both sides of zero: else errors cancel while sums do not."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name="error", symbols={"rows": Bounds(1, 64, 128)})
    draw = {
        "normal": rng.standard_normal,
        "uniform": lambda shape: rng.uniform(-1, 1, shape),
        "sparse": lambda shape: rng.standard_normal(shape) * (rng.random(shape) < 0.3),
    }
    wanted, outputs = {}, []
    for name, values in draw.items():
        for depth, columns in ((64, 100), (768, 256), (3001, 64)):
            port = f"{name}{depth}"
            x = b.input(port, TensorType(f32, (symbol("rows"), depth)))
            weight = values((depth, columns)).astype(np.float32)
            outputs.append(Port(f"y_{port}", b.op("matmul", x, b.constant(weight))))
            wanted[f"y_{port}"] = (port, values((128, depth)).astype(np.float32), weight)
    plan = compiled(b.finish(outputs), ISAS[0], library=InMode())
    assert plan.families() == {"matmul_bf16"}
    found = plan.run({name: array for name, array, _ in wanted.values()}, 2)
    for name, (_, array, weight) in wanted.items():
        exact = array.astype(np.float64) @ weight.astype(np.float64)
        error = np.linalg.norm(found[name] - exact) / np.linalg.norm(exact)
        assert BF16 / 2 < error <= BF16, name


def convolutions() -> Graph:
    """Kernels, strides, paddings and groups; odd and even depths, in one block of k and in several. Weights are bf16 already."""
    b, rng, outputs = (
        GraphBuilder(name="convolutions", symbols={"side": Bounds(7, 9, 20)}),
        np.random.default_rng(5),
        [],
    )
    side = symbol("side")
    for number, (inside, outside, kernel, stride, pad, groups) in enumerate(
        [
            (3, 17, 3, 2, 1, 1),
            (16, 40, 1, 1, 0, 1),
            (33, 16, 1, 1, 0, 1),
            (24, 32, 3, 1, 1, 4),
            (200, 20, 3, 1, 1, 1),
            (5, 8, 1, 2, 0, 1),
        ]
    ):
        x = b.input(f"x{number}", TensorType(f32, (2, inside, side, side)))
        weight = rounded(rng.standard_normal((outside, inside // groups, kernel, kernel)).astype(np.float32))
        y = b.op(
            "conv",
            x,
            b.constant(weight),
            strides=(stride,) * 2,
            pads=(pad,) * 4,
            dilations=(1, 1),
            groups=groups,
            channels_last=False,
        )
        outputs.append(Port(f"y{number}", b.op("relu", y) if number % 2 else y))
    return b.finish(outputs)


@pytest.mark.parametrize("isa", [*ISAS, *EMULATED[:1]])
def test_convolutions(isa: str) -> None:
    graph = convolutions()
    plan = compiled(graph, isa, library=InMode())
    assert "conv_bf16" in plan.families() and "conv" not in plan.families()
    rng = np.random.default_rng(6)
    for side in (7, 12, 20):
        inputs = {
            p.name: rounded(rng.standard_normal((2, int(str(graph.types[p.value].shape[1])), side, side)).astype("f4"))
            for p in graph.inputs
        }
        one, wanted = plan.run(inputs, 1), run(graph, inputs)
        check_bits(one, plan.run(inputs, 3), "three threads give other bits than one")
        for name, array in wanted.items():
            assert np.linalg.norm(one[name] - array) < 1e-5 * np.linalg.norm(array), (name, side)


def attentions() -> Graph:
    """Few rows and many, one tile of keys and more, heads that share keys, with and without a mask; all values are bf16 already."""
    b = GraphBuilder(name="attentions", symbols={"rows": Bounds(1, 40, 90), "keys": Bounds(1, 600, 1100)})
    rows, keys, outputs = symbol("rows"), symbol("keys"), []
    sizes = ((4, 4, 64, 64), (6, 2, 33, 80), (2, 1, 1, 17), (1, 1, 112, 7))
    for number, (heads, kv_heads, width, v_width) in enumerate(sizes):
        names = [f"{letter}{number}" for letter in "qkv"]
        shapes = ((2, heads, rows, width), (2, kv_heads, keys, width), (2, kv_heads, keys, v_width))
        q, k, v = (b.input(name, TensorType(f32, shape)) for name, shape in zip(names, shapes, strict=True))
        mask = (b.input(f"m{number}", TensorType(f32, (2, 1, 1, keys))),) if number % 2 else ()
        attended = b.op("attention", q, k, v, *mask, scale=0.125, causal=number == 2)
        outputs.append(Port(f"y{number}", attended))
    return b.finish(outputs)


@pytest.mark.parametrize("isa", ISAS)
def test_attention(isa: str) -> None:
    graph = attentions()
    plan = compiled(graph, isa, library=InMode())
    assert plan.families() == {"attention_bf16"}
    rng = np.random.default_rng(7)
    for rows, keys in ((1, 1), (2, 1100), (90, 77), (33, 513), (90, 1031)):
        inputs = {}
        for port in graph.inputs:
            shape = tuple(int(d) for d in evaluate_shape(graph.types[port.value].shape, {"rows": rows, "keys": keys}))
            inputs[port.name] = rounded(rng.standard_normal(shape).astype(np.float32))
            if port.name.startswith("m"):
                inputs[port.name][0, ..., keys // 2 :] = -np.inf
        one, wanted = plan.run(inputs, 1), run(graph, inputs)
        for threads in (2, 3):
            check_bits(one, plan.run(inputs, threads), f"{threads} threads give other bits than one")
        for name, array in wanted.items():
            error = np.linalg.norm(one[name] - array) / np.linalg.norm(array)
            assert error < BF16, (name, rows, keys)  # the scaled queries and the weights are rounded, the others were


@pytest.mark.parametrize("seed", range(2))
def test_attention_is_as_far_from_f32_as_stated(seed: int) -> None:
    """Two products, one after the other, with scores as scaling makes them."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name="error")
    inputs = {name: rng.standard_normal((1, 4, 700, 64)).astype(np.float32) for name in "qkv"}
    q, k, v = (b.input(name, TensorType(f32, array.shape)) for name, array in inputs.items())
    graph = b.finish([Port("y", b.op("attention", q, k, v, scale=0.125, causal=False))])
    plan = compiled(graph, ISAS[0], library=InMode())
    wanted = run(graph, inputs)["y"]
    error = np.linalg.norm(plan.run(inputs, 2)["y"] - wanted) / np.linalg.norm(wanted)
    (choice,) = plan.levels.placed.choices.values()
    assert BF16 < error <= choice.chosen.candidate.error == BF16 * 2**0.5


def test_modes_are_offered_only_where_allowed() -> None:
    graph, machine = fuse(run_passes(products()[0], GRAPH_PASSES)), machine_for(ISAS[0])
    modes = {
        error: {c.mode for c in Library(max_error=error).candidates(graph.nodes[0], graph, machine)}
        for error in (0.0, BF16 / 2, BF16, 0.1)
    }
    assert modes[0.0] == modes[BF16 / 2] == {"f32"} and modes[BF16] == modes[0.1] == {"f32", "bf16"}


def test_placement_chooses_what_is_faster_and_allowed() -> None:
    """On a processor with instructions for pairs; no figure of this machine's comes in."""
    b = GraphBuilder(name="block")
    x = b.input("x", TensorType(f32, (128, 768)))
    weights = [np.zeros(shape, np.float32) for shape in ((768, 3072), (3072, 768))]
    hidden = b.op("gelu", b.op("matmul", x, b.constant(weights[0])))
    clusters = fuse(run_passes(b.finish([Port("y", b.op("matmul", hidden, b.constant(weights[1])))]), GRAPH_PASSES))
    machine = load_machine("epyc-zen4-2c")
    for error, mode in ((0.0, "f32"), (BF16 * 0.99, "f32"), (BF16, "bf16")):
        placed = place(clusters, Library(max_error=error), machine, PlaceRequest(2))
        chosen = {node.op: placed.choices[node.outputs[0]].chosen for node in placed.graph.nodes}
        assert {choice.candidate.mode for choice in chosen.values()} == {mode}, error
        assert {choice.candidate.error for choice in chosen.values()} == {BF16 if mode == "bf16" else 0.0}


def test_rounding() -> None:
    """Ties go to even, infinities and NaN stay."""
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -(2.0**-130), 3.4e38, np.inf, -np.inf, np.nan, 0.0, -0.0], "f4")
    got = rounded(values)
    assert got[:3].tolist() == [1.0, 1.0, 1 + 2**-6] and got[4] == np.inf
    assert got[5] == np.inf and got[6] == -np.inf and np.isnan(got[7])
    assert np.signbit(got[9]) and abs(got[3] / values[3] - 1) < 2**-8


@pytest.mark.parametrize("dims", [(1, 7, 33), (2, 16, 32), (1, 1, 5), (3, 5, 100)])
def test_pieces_are_the_whole(dims: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
    layout = Layout(16, 0, dims, (dims[1] * dims[2], dims[2], 1), True)
    text = str(layout)
    assert Layout.parse(text) == layout and text != DENSE
    whole = pack(array, text)
    assert whole.size == layout.elements
    assert np.concatenate(list(pack_pieces(array, text, 256))).tobytes() == whole.tobytes()
    halves = whole.view(np.uint16).reshape(dims[0], -1, -(-dims[1] // 2), 16, 2)
    assert halves[0, 0, 0, 0, 0] == to_bf16(array[:1, 0, 0])[0]
    assert halves[0, 0, 0, 0, 1] == (to_bf16(array[:1, 1, 0])[0] if dims[1] > 1 else 0)


def windows() -> tuple[Graph, dict[str, np.ndarray]]:
    """3x3 convolutions at stride 1 with every kind of padding, few and many channels, with and without an epilogue."""
    b, rng, outputs, weights = (
        GraphBuilder(name="windows", symbols={"side": Bounds(1, 14, 29)}),
        np.random.default_rng(7),
        [],
        {},
    )
    side = symbol("side")
    for number, (inside, outside, pads) in enumerate(
        [
            (16, 32, (1, 1, 1, 1)),
            (64, 100, (1, 1, 1, 1)),
            (256, 64, (1, 1, 1, 1)),
            (3, 17, (2, 1, 1, 2)),
            (130, 33, (2, 2, 2, 2)),
        ]
    ):
        x = b.input(f"x{number}", TensorType(f32, (2, inside, side, side)))
        weights[f"y{number}"] = (rng.standard_normal((outside, inside, 3, 3)) / np.sqrt(9 * inside)).astype(np.float32)
        attrs = {"strides": (1, 1), "pads": pads, "dilations": (1, 1), "groups": 1, "channels_last": False}
        y = b.op("conv", x, b.constant(weights[f"y{number}"]), **attrs)
        outputs.append(Port(f"y{number}", b.op("relu", y) if number % 2 else y))
    return b.finish(outputs), weights


def one_chain(x: np.ndarray, weights: np.ndarray, pads: tuple[int, ...]) -> np.ndarray:
    """A convolution of 3x3 whose every sum is one chain of fused multiply-adds in f32, in which a step rounds once."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    height, width = x.shape[2] - 2, x.shape[3] - 2
    total = np.zeros((len(x), len(weights), height, width), np.float32)
    for down, right, channel in np.ndindex(3, 3, x.shape[1]):
        part = x[:, channel, None, down : down + height, right : right + width]
        total = (total + part * weights[:, channel, down, right, None, None].astype(np.float64)).astype(np.float32)
    return total


@functools.cache
def pictures(side: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, float]]:
    """Random pictures, with and without negative pixels, for `windows()`; what it gives exactly; and the errors of chains of f32."""
    graph, weights = windows()
    rng = np.random.default_rng(side)
    inputs = {
        p.name: rng.standard_normal((2, int(str(graph.types[p.value].shape[1])), side, side)).astype(np.float32)
        for p in graph.inputs
    }
    inputs["x2"] = np.maximum(inputs["x2"], 0)
    exact, errors = run(graph, inputs), {}
    for (name, kernel), conv in zip(weights.items(), (n for n in graph.nodes if n.op == "conv"), strict=True):
        sums = one_chain(inputs[f"x{name[1:]}"], kernel, conv.attr("pads"))
        errors[name] = distance(np.maximum(sums, 0) if int(name[1:]) % 2 else sums, exact[name])
    return inputs, exact, errors


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Relative L2."""
    return float(np.linalg.norm(found.astype(np.float64) - wanted)) / max(float(np.linalg.norm(wanted)), 1e-9)


@pytest.mark.parametrize("isa", [*ISAS, *EMULATED[:1]])
def test_winograd_is_no_less_exact_than_chains_of_f32(isa: str) -> None:
    """And plain products, whose chains are short, are more exact than these; with the same bits at any number of threads."""
    graph, _ = windows()
    plans = {mode: compiled(graph, isa, library=InMode(mode)) for mode in ("f32", "winograd")}
    assert "winograd" in plans["winograd"].families() and "winograd" not in plans["f32"].families()
    for side in (1, 2, 7, 14, 29):
        inputs, exact, errors = pictures(side)
        one = plans["winograd"].run(inputs, 1)
        for threads in (2, 3):
            check_bits(one, plans["winograd"].run(inputs, threads), f"{threads} threads give other bits than one")
        direct = plans["f32"].run(inputs, 1)
        for name, wanted in exact.items():
            found, limit = distance(one[name], wanted), errors[name]
            # of a picture smaller than the window most taps fall outside, which the plain sum gains from
            assert found <= (max(1.1 * limit, 3e-7) if side > 2 else 6e-7), (name, side, found, limit)
            if side > 2 and windows()[1][name].shape[1] >= 64:
                assert distance(direct[name], wanted) <= 0.7 * limit, (name, side)


def test_winograd_keeps_infinities_to_where_they_reach() -> None:
    """A window's differences would spread one over its whole tile."""
    graph, _ = windows()
    plans = {mode: compiled(graph, ISAS[0], library=InMode(mode)) for mode in ("f32", "winograd")}
    rng = np.random.default_rng(9)
    inputs = {
        p.name: rng.standard_normal((2, int(str(graph.types[p.value].shape[1])), 9, 9)).astype(np.float32)
        for p in graph.inputs
    }
    for number, odd in enumerate((np.inf, -np.inf, np.nan, 3e38, -3e38)):
        inputs[f"x{number}"][0, 1, 4, 5] = odd
    found, wanted = (plans[mode].run(inputs, 1) for mode in ("winograd", "f32"))
    for name in wanted:
        assert np.array_equal(np.isnan(found[name]), np.isnan(wanted[name])), name
        assert np.array_equal(np.isposinf(found[name]), np.isposinf(wanted[name])), name
        assert np.array_equal(np.isneginf(found[name]), np.isneginf(wanted[name])), name


def test_filters_at_points_are_packed_in_pieces() -> None:
    weight = np.random.default_rng(10).standard_normal((50, 20, 3, 3)).astype(np.float32)
    layout = Layout(16, 0, (1, 3, 3, 20, 50), (0, 3, 1, 9, 180), points=True)
    assert Layout.parse(str(layout)) == layout
    whole = pack(weight, str(layout))
    assert len(whole) == layout.elements == 16 * 20 * 64
    points = whole.reshape(16, 4, 20, 16).transpose(0, 2, 1, 3).reshape(4, 4, 20, 64)
    turn = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    wanted = np.einsum("ia,jb,ocab->ijco", turn, turn, weight.astype(np.float64)).astype(np.float32)
    assert np.array_equal(points[..., :50], wanted) and not points[..., 50:].any()
    pieces = list(pack_pieces(weight, str(layout), 4096))
    assert len(pieces) > 16 and np.array_equal(np.concatenate(pieces), whole)
