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
from stratac.passes.graph.narrow_values import narrow_values
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest

from .harness import ISAS, check_bits, check_instructions, tiled
from .test_tiles import Tiles

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
        for columns in (17, 150):
            y = b.op("matmul", x, b.constant(rng.standard_normal((depth, columns)).astype(np.float32)))
            outputs.append(Port(f"y{depth}_{columns}", b.op("add", y, b.constant(np.float32(0.25)))))
    heads = b.op("mul", b.input("heads", TensorType(f32, (2, 70, 3, 64))), b.constant(np.float32(2)))
    turned = b.op("transpose", heads, perm=(0, 2, 1, 3))
    y = b.op("matmul", turned, b.constant(rng.standard_normal((3, 64, 40)).astype(np.float32)))
    outputs.append(Port("heads", y))
    return b.finish(outputs)


#: in, out, kernel, stride, padding, groups
CASES = [
    (5, 17, 3, 2, 1, 1),  # rows of the filter are runs
    (16, 40, 1, 1, 0, 1),
    (64, 40, 1, 1, 0, 1),  # read in place
    (33, 16, 1, 1, 0, 1),
    (64, 33, 1, 2, 0, 1),
    (24, 96, 3, 1, 1, 4),
    (100, 20, 3, 1, 1, 1),
    (64, 40, 3, 1, 1, 1),
    (96, 33, 5, 2, 2, 3),
    (24, 12, 4, 4, 0, 2),
]


def convolutions(rng: Any) -> Graph:
    b, outputs = GraphBuilder(name="c", symbols={"side": Bounds(7, 16, 20)}), []
    side = symbol("side")
    for number, (inside, outside, kernel, stride, pad, groups) in enumerate(CASES):
        x = b.input(f"x{number}", TensorType(f32, (2, side, side, inside)))
        x = b.op("mul", b.op("transpose", x, perm=(0, 3, 1, 2)), b.constant(np.float32(2)))
        weight = b.constant(rng.standard_normal((outside, inside // groups, kernel, kernel)).astype(np.float32))
        sizes = {"strides": (stride,) * 2, "pads": (pad,) * 4, "dilations": (1, 1), "groups": groups}
        y = b.op("conv", x, weight, channels_last=False, **sizes)
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
    assert not narrow_names(wide.levels.placed.graph) and len(names) >= 5, names
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
        weight = b.constant(rng.standard_normal((channels, 1, kernel, kernel)).astype(np.float32))
        sizes = {"strides": (stride,) * 2, "pads": (pad,) * 4, "dilations": (dilation,) * 2, "groups": channels}
        y = b.op(
            "add",
            b.op("conv", x, weight, channels_last=False, **sizes),
            b.constant(rng.standard_normal((channels, 1, 1)).astype(np.float32)),
        )
        outputs.append(Port(f"y{number}", y))
        if stride == 1:  # and on to a product
            points = b.constant(rng.standard_normal((24, channels, 1, 1)).astype(np.float32))
            ones = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1}
            deep = b.op("relu", b.op("conv", x, weight, channels_last=False, **sizes))
            outputs.append(Port(f"z{number}", b.op("conv", deep, points, channels_last=False, **ones)))
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
    assert not narrow_names(run_passes(graph, CLUSTER_PASSES))
