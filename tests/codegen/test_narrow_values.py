"""Values stored as bf16 for the products that read them: the same bits as where these round them, on every kernel that takes a left
operand of bf16, and what depthwise convolutions make of rounded pixels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stratac.codegen.library import Library
from stratac.compiler.forms import choose_form
from stratac.compiler.profiles import load_machine
from stratac.ir.builder import GraphBuilder
from stratac.ir.candidate import MODE_ERRORS
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.machine import Machine
from stratac.ir.placed import Placed
from stratac.ir.types import TensorType, bf16, f32
from stratac.passes.base import run_passes
from stratac.passes.graph.narrow_values import LEAST_ELEMENTS, narrow_values
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest

from .harness import ISAS, check_bits, check_instructions, tiled
from .test_tiles import CONVOLUTIONS, Tiles, convolution

BF16 = MODE_ERRORS["bf16"]
ODD = np.array([np.nan, np.inf, -np.inf, 3.4e38, 1e-41, -1e-39, -0.0], np.float32)


def narrowed(clusters: Graph, library: Library, machine: Machine, request: PlaceRequest) -> Placed:
    return place(narrow_values(clusters, partial(library.narrow_reads, machine=machine)), library, machine, request)


def narrow_names(graph: Graph) -> set[str]:
    return {value for node in graph.nodes for value in node.outputs if graph.types[value].dtype == bf16}


def products(rng: Any) -> Graph:
    """Doubled rows into products of many depths, with and without residuals, of several matrices too."""
    b, outputs = GraphBuilder(name="products", symbols={"rows": Bounds(1, 150, 200)}), []
    for depth in (32, 33, 48, 200, 800):
        x = b.op("mul", b.input(f"x{depth}", TensorType(f32, (symbol("rows"), depth))), b.constant(np.float32(2)))
        for columns in (17, 150, *([1100] if depth == 800 else [])):  # the last go out late
            y = b.op("matmul", x, b.constant(rng.standard_normal((depth, columns)).astype(np.float32)))
            outputs.append(Port(f"y{depth}_{columns}", b.op("add", y, b.constant(np.float32(0.25)))))
    heads = b.op("mul", b.input("heads", TensorType(f32, (2, 70, 3, 64))), b.constant(np.float32(2)))
    turned = b.op("transpose", heads, perm=(0, 2, 1, 3))
    for columns in (17, 40):  # two, or doubling would be part of the one product
        y = b.op("matmul", turned, b.constant(rng.standard_normal((3, 64, columns)).astype(np.float32)))
        outputs.append(Port(f"heads{columns}", y))
    return b.finish(outputs)


#: as in tests of tiles; one that is read in place, one whose windows are some of the pixels, one whose rows of filters are runs
CASES = [*CONVOLUTIONS, (64, 33, 1, 1, 0, 1), (64, 33, 1, 2, 0, 1), (20, 17, 3, 2, 1, 1)]


def convolutions(rng: Any) -> Graph:
    b, outputs = GraphBuilder(name="c", symbols={"side": Bounds(7, 16, 20)}), []
    side = symbol("side")
    for number, case in enumerate(CASES):
        x = b.input(f"x{number}", TensorType(f32, (2, side, side, case[0])))
        x = b.op("mul", b.op("transpose", x, perm=(0, 3, 1, 2)), b.constant(np.float32(2)))
        y = convolution(b, rng, x, case)
        outputs.append(Port(f"y{number}", b.op("relu", y) if number % 2 else y))
    return b.finish(outputs)


def drawn(graph: Graph, rng: Any, size: int, odd: bool) -> dict[str, np.ndarray]:
    """Inputs at one size of their dim, some with what is not finite or no normal number."""
    inputs = {}
    for port in graph.inputs:
        shape = [d if isinstance(d, int) else size for d in graph.types[port.value].shape]
        inputs[port.name] = rng.standard_normal(shape).astype(np.float32)
        if odd:
            flat = inputs[port.name].reshape(-1)
            flat[rng.integers(0, flat.size, len(ODD))] = ODD
    return inputs


@pytest.mark.parametrize("make", [products, convolutions])
@pytest.mark.parametrize("isa", ISAS)
def test_products_give_the_same_bits(isa: str, make: Any) -> None:
    rng = np.random.default_rng(6)
    graph = make(rng)
    wide = tiled(graph, isa, library=Tiles("bf16"))
    narrow = tiled(graph, isa, library=Tiles("bf16"), choose=narrowed)
    names = narrow_names(narrow.levels.placed.graph)
    expected = 6 if make is products else sum(2 * 16 * 16 * case[0] >= LEAST_ELEMENTS for case in CASES)
    assert not narrow_names(wide.levels.placed.graph) and len(names) == expected, names
    for size, odd in ((7, False), (20, False), (13, True)):
        inputs = drawn(graph, rng, size * (10 if make is products else 1), odd)
        one = narrow.run(inputs, 1)
        check_bits(wide.run(inputs, 1), one, f"{size}: rounded by whoever makes it")
        check_bits(one, narrow.run(inputs, 3), f"{size}: three threads")


@pytest.mark.skipif(ISAS[0] != "avx512", reason="tiles come with avx512")
def test_the_instructions_give_the_bits_of_their_emulation(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    b = GraphBuilder(name="cast")
    x = b.op("cast", b.op("mul", b.input("x", TensorType(f32, (70, 200))), b.constant(np.float32(2))), to=bf16)
    x = b.op("cast", x, to=f32)
    y = b.op("matmul", x, b.constant(rng.standard_normal((200, 100)).astype(np.float32)))
    inputs = {"x": rng.standard_normal((70, 200)).astype(np.float32)}
    inputs["x"][3, :4] = 1e-41, -1e-39, 1e38, -0.0
    check_instructions(b.finish([Port("y", y)]), inputs, {"bf16": Tiles("bf16")}, tmp_path)


DEPTHWISE = [
    (48, 3, 1, 1, 1),
    (37, 3, 2, 1, 1),
    (64, 5, 1, 2, 1),
    (40, 7, 1, 3, 1),
    (40, 7, 2, 3, 1),
    (33, 4, 1, 1, 1),
    (32, 3, 1, 2, 2),
]


@pytest.mark.parametrize("isa", ISAS)
def test_depthwise(isa: str) -> None:
    """Pixels of bf16, and results of bf16 where a product reads them: both as the interpreter has the narrowed graph."""
    b, outputs = GraphBuilder(name="d", symbols={"side": Bounds(9, 16, 20)}), []
    rng, side = np.random.default_rng(7), symbol("side")
    for number, (channels, kernel, stride, pad, dilation) in enumerate(DEPTHWISE):
        x = b.op(
            "mul",
            b.op("transpose", b.input(f"x{number}", TensorType(f32, (2, side, side, channels))), perm=(0, 3, 1, 2)),
            b.constant(np.float32(2)),
        )
        case = (channels, channels, kernel, stride, pad, channels)
        bias = b.constant(rng.standard_normal((channels, 1, 1)).astype(np.float32))
        outputs.append(Port(f"y{number}", b.op("add", convolution(b, rng, x, case, dilation), bias)))
        if stride == 1:  # and on to a product
            deep = b.op("relu", convolution(b, rng, x, case, dilation))
            outputs.append(Port(f"z{number}", convolution(b, rng, deep, (channels, 24, 1, 1, 0, 1))))
    graph = b.finish(outputs)
    plan = tiled(graph, isa, library=Tiles("bf16"), choose=narrowed)
    clusters = plan.levels.placed.graph
    assert {"depthwise", "conv_tiles_bf16"} <= plan.families() and len(narrow_names(clusters)) >= 2 * len(DEPTHWISE) - 2
    for size in (9, 20):
        inputs = drawn(graph, rng, size, False)
        one, wanted = plan.run(inputs, 1), run(clusters, inputs)
        check_bits(one, plan.run(inputs, 3), "three threads give other bits than one")
        for name, array in wanted.items():
            within = 1e-6 if name.startswith("y") else 4e-3
            assert np.linalg.norm(one[name] - array) <= within * np.linalg.norm(array), (name, size)


def test_what_a_heavy_kernel_cannot_read_narrow_stays() -> None:
    """A depthwise convolution would take the pixels so, one of too few channels for tiles and attention would not: none falls back
    to plain loops."""
    b, rng = GraphBuilder(name="others"), np.random.default_rng(3)
    two = b.constant(np.float32(2))
    x = b.op("mul", b.op("transpose", b.input("x", TensorType(f32, (2, 32, 32, 8))), perm=(0, 3, 1, 2)), two)
    deep, shallow = (convolution(b, rng, x, (8, *rest)) for rest in ((8, 3, 1, 1, 8), (24, 1, 1, 0, 1)))
    rows = b.op("mul", b.input("rows", TensorType(f32, (1, 96, 64))), two)
    heads = b.op("transpose", b.op("reshape", rows, shape=(1, 96, 2, 32)), perm=(0, 2, 1, 3))
    seen = b.op("attention", heads, heads, heads, scale=0.2, causal=False)
    product = b.op("matmul", rows, b.constant(rng.standard_normal((64, 40)).astype(np.float32)))
    graph = b.finish([Port("d", deep), Port("s", shallow), Port("a", seen), Port("p", product)])
    plan = tiled(graph, library=Tiles("bf16"), choose=narrowed)
    wanted = {"depthwise", "conv", "attention_tiles_bf16", "matmul_tiles_bf16", "loops"}
    assert plan.families() == wanted and not narrow_names(plan.levels.placed.graph)


def test_a_form_with_narrower_values_is_chosen_where_it_is_faster_and_allowed() -> None:
    rng = np.random.default_rng(1)
    b = GraphBuilder(name="block")
    x = b.op("gelu", b.input("x", TensorType(f32, (128, 768))))
    for _ in range(2):
        x = b.op("gelu", b.op("matmul", x, b.constant(rng.standard_normal((768, 768)).astype(np.float32))))
    graph = run_passes(b.finish([Port("y", x)]), GRAPH_PASSES)
    for name, error, count in (("tiles", BF16, 2), ("tiles", BF16 * 0.99, 0), ("plain", BF16, 0)):
        machine = load_machine("generic-x86_64-amx" if name == "tiles" else "generic-x86_64-avx512")
        form = choose_form(graph, machine, PlaceRequest(2), error)
        assert len(form.narrow) == count == len(narrow_names(form.placed.graph)), (name, error)
        assert form.seconds < form.other if count else form.seconds == form.other
        assert form.why_narrow.startswith(f"{count} values") == bool(count) == ("else predicted" in form.why_narrow)
    # activations of which two lie side by side: 12 MiB in f32, 6 in bf16
    b = GraphBuilder(name="large")
    x = b.op("gelu", b.input("x", TensorType(f32, (2048, 768))))
    for _ in range(3):
        x = b.op("relu", b.op("matmul", x, b.constant(rng.standard_normal((768, 768)).astype(np.float32))))
    y = b.op("matmul", x, b.constant(rng.standard_normal((768, 8)).astype(np.float32)))
    graph, machine = run_passes(b.finish([Port("y", y)]), GRAPH_PASSES), load_machine("generic-x86_64-amx")
    roomy = choose_form(graph, machine, PlaceRequest(2), BF16)
    assert roomy.placed.solution is not None
    tight = choose_form(graph, machine, PlaceRequest(2, {"ram": roomy.placed.solution.used["ram"]}), BF16)
    assert tight.other == 0.0 and tight.why_narrow.endswith("else the plan would not fit")
    assert not narrow_names(run_passes(graph, CLUSTER_PASSES))
