"""Kernels that choose rows, and those that run over what was chosen: equal to the interpreter at every size and kind of mask."""

from __future__ import annotations

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Port
from stratac.ir.interp import run
from stratac.ir.plan_binary import decode, encode
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.types import f32

from ..ragged_samples import MOST, samples
from .cases import Net
from .harness import ISAS, check_bits, compiled, forest


@pytest.mark.parametrize("isa", ISAS)
def test_chosen_rows(isa: str) -> None:
    given = samples()
    plan = compiled(forest([sample.graph for sample in given]), isa)
    assert {"select", "attention"} <= plan.families()
    assert parse_plan(print_plan(plan.levels.plan)) == plan.levels.plan == decode(encode(plan.levels.plan))
    sizes = [MOST, {"b": 1, "s": 1}, {"b": 3, "s": 17}]
    for seed in range(18):
        inputs = [sample.make_inputs(seed, **sizes[seed // 6]) for sample in given]
        arrays = {f"g{i}.{name}": array for i, own in enumerate(inputs) for name, array in own.items()}
        one = plan.run(arrays, 1)
        check_bits(one, plan.run(arrays, 3), f"3 threads give other bits than one, seed {seed}")
        for number, (sample, own) in enumerate(zip(given, inputs, strict=True)):
            names = [port.name for port in sample.graph.outputs]
            sample.compare({name: one[f"g{number}.{name}"] for name in names}, run(sample.graph, own))


def test_what_is_made_of_a_dim_comes_after_it() -> None:
    """Counting, filling and sizes of a run-time dim read nothing else; the builder makes them wait for the node that sets it."""
    net = Net(GraphBuilder(name="late"))
    x = net.input((7,), "bool")
    net.builder.symbols["found"] = Bounds(0, 4, 7)
    found = symbol("found")
    net.nonzero(x, count=found)
    results = (
        net.mul(net.iota(extent=found), net.array(2, "int64")),
        net.expand(net.array(1.5), shape=(found, 2)),
        net.add(net.dim(value=found * 2), net.array(1, "int64")),
        net.fill(value=3.0, shape=(found,), dtype=f32),
    )
    graph = net.builder.finish([Port(f"y{i}", value) for i, value in enumerate(results)])
    plan = compiled(graph)
    for chosen in (np.zeros(7, bool), np.ones(7, bool), np.arange(7) % 2 == 0):
        got, wanted = plan.run({"x0": chosen}, 3), run(graph, {"x0": chosen})
        check_bits(wanted, got, f"{chosen.sum()} found")
