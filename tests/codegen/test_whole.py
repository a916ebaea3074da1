"""Products of 8-bit integers are exact on every ISA, with the instruction for them and without, at any number of threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stratac.codegen.library import Library
from stratac.codegen.pack import Layout, pack, pack_pieces, packed_bytes
from stratac.compiler.profiles import native_extensions
from stratac.ir.builder import GraphBuilder
from stratac.ir.graph import Port
from stratac.ir.machine import EXTENSIONS, merged_flags
from stratac.ir.types import TensorType, i8, i32, u8

from ..whole_samples import numbers, samples
from .harness import EMULATED, ISAS, check_samples, compiled, forest, machine_for

EXTENDED = {"avx512": "avx512_vnni", "avx2": "avx_vnni", "neon": "arm_dotprod"}


@pytest.mark.parametrize("isa", [*ISAS, *EMULATED])
@pytest.mark.parametrize("extended", [False, True])
def test_products_are_exact(isa: str, extended: bool) -> None:
    machine, options = machine_for(isa), {}
    if extended:
        extension = EXTENDED.get(isa)
        if extension is None or (isa not in EMULATED and extension not in native_extensions()):
            pytest.skip("no instructions for this mode here")
        device = replace(machine.device("cpu"), extensions=(extension,))
        machine = replace(machine, devices=(device,))
    if isa in EMULATED:
        return _emulated(machine, isa, extended)
    plan = check_samples(samples(), isa, machine=machine, **options)
    assert {"matmul_i8", "conv_i8"} <= plan.families()
    assert bool(EXTENSIONS[EXTENDED.get(isa, "avx512_vnni")][0] & set(plan.levels.plan.features)) == extended


def _emulated(machine: Any, isa: str, extended: bool) -> None:
    """One size, on one thread and on two."""
    from stratac.ir.interp import run

    found = samples()
    plan = compiled(forest([s.graph for s in found]), isa, machine=machine)
    assert {"matmul_i8", "conv_i8"} <= plan.families()
    inputs = [s.make_inputs(1, r=17, b=2) for s in found]
    given = {f"g{i}.{k}": v for i, arrays in enumerate(inputs) for k, v in arrays.items()}
    for threads in (1, 2):
        got = plan.run(given, threads, "max" if extended else "cortex-a72")
        for number, (sample, arrays) in enumerate(zip(found, inputs, strict=True)):
            actual = {port.name: got[f"g{number}.{port.name}"] for port in sample.graph.outputs}
            sample.compare(actual, run(sample.graph, arrays))


def test_nothing_of_it_is_a_loop() -> None:
    """Products by constants run in their family, whatever the signs and zero points, each with what is done to its result."""
    plan = compiled(forest([s.graph for s in samples()]))
    kinds = {choice.chosen.candidate.family for choice in plan.levels.placed.choices.values()}
    products = [n for n in plan.levels.placed.graph.nodes if any(c.op in ("matmul", "conv") for c in n.body)]
    chosen = {plan.levels.placed.choices[n.outputs[0]].chosen.candidate.family for n in products}
    assert chosen == {"matmul_i8", "conv_i8"} and chosen < kinds


def test_integer_products_are_offered_at_any_precision() -> None:
    assert all(
        {"matmul_i8", "conv_i8"} <= {row.name for row in Library(max_error=e).families} for e in (-1.0, 0.0, 0.1)
    )


def test_sums_wrap_around() -> None:
    """Beyond 32 bits, as integers do everywhere else."""
    depth = 70_000
    b = GraphBuilder()
    x = b.input("x", TensorType(u8, (2, depth)))
    w = b.op("cast", b.constant(np.full((depth, 3), -128, np.int8)), to=i32)
    graph = b.finish([Port("y", b.op("matmul", b.op("cast", x, to=i32), w))])
    plan = compiled(graph)
    assert "matmul_i8" in plan.families()
    got = plan.run({"x": np.full((2, depth), 255, np.uint8)}, 2)["y"]
    assert (got == np.int64(depth * 255 * -128).astype(np.int32)).all() and depth * 255 * 128 > 1 << 31


@pytest.mark.parametrize("dims", [(1, 7, 33), (2, 16, 32), (1, 1, 5), (3, 5, 100)])
def test_pieces_are_the_whole(dims: tuple[int, int, int]) -> None:
    array = numbers(np.random.default_rng(0), i8, dims, 2)
    layout = Layout(16, 0, dims, (dims[1] * dims[2], dims[2], 1), quads=True)
    text = str(layout)
    assert Layout.parse(text) == layout
    whole = pack(array, text)
    assert whole.dtype == np.int8 and whole.size == layout.elements == packed_bytes(text, array.nbytes, 1)
    assert np.concatenate(list(pack_pieces(array, text, 256))).tobytes() == whole.tobytes()
    words = -(-dims[1] // 4)
    panels = whole.reshape(dims[0], -1, words + 1, 16, 4)
    for k in range(words * 4):
        assert panels[0, 0, k // 4, 0, k % 4] == (array[0, k, 0] if k < dims[1] else 0)
    sums = panels[:, :, words].copy().view(np.int32)
    assert sums[0, 0, 0, 0] == array[0, :, 0].sum(dtype=np.int32)


def test_flags_of_two_extensions_are_one() -> None:
    both = (*EXTENSIONS["arm_bf16"][1], *EXTENSIONS["arm_dotprod"][1])
    assert merged_flags(("-march=armv8-a", *both)) == ("-march=armv8.2-a+bf16+dotprod",)
    assert merged_flags(("-mavx2", "-mfma")) == ("-mavx2", "-mfma")
