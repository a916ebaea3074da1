"""Kernels that choose rows, and those that run over what was chosen: equal to the interpreter at every size and kind of mask."""

from __future__ import annotations

import pytest
from stratac.ir.interp import run
from stratac.ir.plan_binary import decode, encode
from stratac.ir.text_plan import parse_plan, print_plan

from ..ragged_samples import MOST, samples
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
