"""Large results are written past the caches: the same values, seen by every thread, and only where nothing reads them again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stratac.codegen.families.loops import past_caches
from stratac.codegen.library import Library
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, Dim, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.kernel import Loops
from stratac.ir.machine import Cache, Machine
from stratac.ir.types import TensorType, f32

from ..graph_samples import theme_samples
from .harness import ISAS, Compiled, check_samples, compile_levels, compiled, machine_for


def small(isa: str, nbytes: int = 512) -> Machine:
    """A machine whose one cache is so small that results of half its bytes count as large."""
    machine = machine_for(isa)
    return replace(machine, devices=(replace(machine.device("cpu"), caches=(Cache(1, nbytes, 1e11),)),))


def source(plan: Compiled) -> str:
    return "".join(text for _, text in plan.levels.kernels.units)


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa in ("avx512", "avx2")])
@pytest.mark.parametrize("theme", ["anything", "pictures"])
def test_values_and_bits_are_the_same(theme: str, isa: str, round_: int) -> None:
    plan = check_samples(theme_samples(theme, 14, 70_000 + round_), isa, machine=small(isa))
    lines = isa == "avx512"  # elsewhere a vector is less than one
    assert ("vf_store_past" in source(plan)) == ("vf_settle" in source(plan)) == lines


def pair(extent: Dim, **bounds: Bounds) -> Graph:
    b = GraphBuilder(name="pair", symbols=bounds)
    x = b.input("x", TensorType(f32, (extent, 64)))
    y = b.op("transpose", b.op("softmax", x, axis=1), perm=(1, 0))
    return b.finish([Port("y", b.op("softmax", y, axis=1)), Port("z", y)])


def test_at_any_number_of_threads_and_extent() -> None:
    """What one thread put past its caches the next reads right behind a barrier."""
    if "avx512" not in ISAS:
        pytest.skip("vectors of this CPU are no whole lines")
    plan = compiled(pair(symbol("rows"), rows=Bounds(1, 500, 1000)), "avx512", machine=small("avx512", 1 << 16))
    for rows in (1, 127, 128, 1000):
        x = np.random.default_rng(rows).standard_normal((rows, 64)).astype(np.float32)
        one = plan.run({"x": x}, 1)
        weights = np.exp(x - x.max(1, keepdims=True))
        np.testing.assert_allclose(one["z"], (weights / weights.sum(1, keepdims=True)).T, rtol=1e-5)
        for threads in (2, 4):
            found = plan.run({"x": x}, threads)
            assert all(found[name].tobytes() == one[name].tobytes() for name in one)


def test_which_results_are_large() -> None:
    """And that they are priced as moved once."""
    clusters = compile_levels(pair(100), "avx512").clusters
    kernels = [k for node in clusters.nodes for k in Library().kernels(node, clusters) if isinstance(k, Loops)]

    def found(nbytes: int, isa: str = "avx512") -> list[list[Dim]]:
        return [list(past_caches(k, {}, small(isa, nbytes).device("cpu")).values()) for k in kernels]

    assert any(found(8 * 6400)) and {n for row in found(8 * 6400) for n in row} == {6400}
    assert not any(found(8 * 6401)) and not any(found(8 * 6400, "avx2"))
    nothing = replace(small("avx512").device("cpu"), caches=())
    assert not any(past_caches(k, {}, nothing) for k in kernels)

    for isa, once in (("avx512", True), ("avx2", False)):
        graph = pair(symbol("rows"), rows=Bounds(1, 101, 1000))
        choices = compile_levels(graph, isa, machine=small(isa, 8 * 6400)).placed.choices.values()
        terms = [dict(c.chosen.candidate.work.terms) for c in choices]
        assert any("ram" in t for t in terms) and any("to_ram" in t for t in terms) != once
