"""Placement over several devices: exact where it says so, within every budget, never slower than one device alone."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from stratac.ir.graph import Graph
from stratac.ir.machine import Device, Link, Machine, Tier
from stratac.ir.text_placed import parse_placed, print_placed
from stratac.ir.types import TensorType, f32
from stratac.passes.place.assign import all_on, predicted
from stratac.passes.place.check import check_placement
from stratac.passes.place.cuts import best_on_chain, is_chain, minimum_cut, serial_seconds
from stratac.passes.place.devices import make_fleet
from stratac.passes.place.infeasible import Infeasible
from stratac.passes.place.place import place
from stratac.passes.place.queues import Step, Ways, simulate
from stratac.passes.place.request import Pin, PlaceRequest

from .placing import Made, chain, machine, with_gpu

ASKED = PlaceRequest(2, floor=1000, executable=False)


def sample(seed: int, count: int, devices: tuple[str, ...] = ("gpu0",), straight: bool = False) -> tuple[Graph, Made]:
    """A graph whose activations are large enough to matter, with candidates on further devices."""
    rng = random.Random(seed)
    graph, library = chain(rng, count, sizes=(1, 100, 400))
    types = dict(graph.types)
    for node in graph.nodes:
        types[node.outputs[0]] = TensorType(f32, (rng.choice((16, 20_000, 100_000)),))
        (first, *_) = library.rows[node.outputs[0]]
        for device in devices:
            work = replace(first.work, flops=first.work.flops * rng.uniform(0.2, 3))
            library.rows[node.outputs[0]].append(replace(first, device=device, executable=False, work=work))
    nodes = graph.nodes
    if straight:
        nodes = tuple(
            replace(n, inputs=(n.inputs[0], *(v for v in n.inputs[1:] if v in graph.weights))) for n in graph.nodes
        )
    return replace(graph, types=types, nodes=nodes), library


def gpu_machine(seed: int) -> Machine:
    rng = random.Random(seed)
    return with_gpu(machine(), speed=1 + 4 * rng.random(), link=rng.choice((1e9, 4e9, 20e9)))


@pytest.mark.parametrize("seed", range(40))
def test_minimum_cut_is_the_least_sum(seed: int) -> None:
    graph, library = sample(seed, 1 + seed % 7)
    fleet = make_fleet(graph, library, gpu_machine(seed), ASKED)
    cut = minimum_cut(fleet)
    assert cut is not None
    best = min(serial_seconds(fleet, devices) for devices in itertools.product(*(row.spots for row in fleet.rows)))
    assert serial_seconds(fleet, cut) == pytest.approx(best, rel=1e-9)


def three(seed: int) -> Machine:
    base = gpu_machine(seed)
    other = Device("gpu1", "gpu", "sm_90", "portable", 1, 9e9, 1.0, (), 5e-6, "gpu1")
    links = (*base.links, Link("ram", "gpu1", 2e9, 1e-5), Link("gpu1", "ram", 2e9, 1e-5))
    return replace(
        base, devices=(*base.devices, other), tiers=(*base.tiers, Tier("gpu1", 1 << 34, 1e15, 1e15)), links=links
    )


@pytest.mark.parametrize("seed", range(20))
def test_dynamic_programming_is_the_least_sum_on_chains(seed: int) -> None:
    graph, library = sample(seed, 1 + seed % 5, ("gpu0", "gpu1"), straight=True)
    fleet = make_fleet(graph, library, three(seed), ASKED)
    assert is_chain(fleet) and minimum_cut(fleet) is None
    best = min(serial_seconds(fleet, devices) for devices in itertools.product(*(row.spots for row in fleet.rows)))
    assert serial_seconds(fleet, best_on_chain(fleet)) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_within_budgets_and_never_slower_than_one_device(seed: int, objective: str) -> None:
    graph, library = sample(seed, 2 + seed % 9)
    target = gpu_machine(seed)
    for budget in (1 << 40, 3_000_000, 2_000_000, 1_200_000, 400_000):
        asked = replace(ASKED, budgets={"ram": budget, "gpu0": budget}, objective=objective)
        try:
            placed = place(graph, library, target, asked)
        except Infeasible as error:
            assert error.short_bytes > 0
            continue
        assert check_placement(placed, target, asked) == [] and placed.solution is not None
        assert print_placed(parse_placed(print_placed(placed))) == print_placed(placed)
        fleet = make_fleet(graph, library, target, asked)
        for device in fleet.devices:
            alone = all_on(fleet, device)
            seconds = None if alone is None else predicted(fleet, alone)
            assert seconds is None or placed.solution.seconds <= seconds * (1 + 1e-12)
        assert placed.solution.lower_bound <= placed.solution.seconds
        if len(fleet.rows) <= 7:
            every = itertools.product(*(row.spots for row in fleet.rows))
            best = min(seconds for devices in every if (seconds := predicted(fleet, devices)) is not None)
            assert placed.solution.lower_bound <= best * (1 + 1e-9)
            assert placed.solution.seconds <= 1.3 * best


def test_pins_and_devices_without_links() -> None:
    graph, library = sample(3, 6)
    target = gpu_machine(3)
    pinned = place(graph, library, target, replace(ASKED, pins=(Pin("^v[0-2]$", "gpu0"), Pin("v[3-5]", "!gpu0"))))
    devices = [pinned.choices[f"v{n}"].chosen.candidate.device for n in range(6)]
    assert devices == ["gpu0"] * 3 + ["cpu"] * 3 and pinned.choices["v0"].binding == "pin"
    assert {(t.source, t.target) for t in pinned.transfers} == {("ram", "gpu0"), ("gpu0", "ram")}
    alone = place(graph, library, replace(target, links=()), ASKED)
    assert {c.chosen.candidate.device for c in alone.choices.values()} == {"cpu"} and not alone.transfers


def test_queues_run_side_by_side() -> None:
    """Two calls of a second on two devices; what one sends the other takes a second more; weights come while calls run."""
    target = with_gpu(machine(), link=1e9)
    ways = Ways(target)
    second = 1_000_000_000
    sizes = {"x": 0, "a": second, "b": 0, "c": 0}
    steps = [
        Step("cpu", "ram", 1.0, ("x",), ("a",), ()),
        Step("gpu0", "gpu0", 1.0, ("x",), ("b",), ()),
        Step("gpu0", "gpu0", 1.0, ("a", "b"), ("c",), ()),
    ]
    found = simulate(steps, sizes, ["x"], ["c"], ways)
    assert found.seconds == pytest.approx(3.0, abs=1e-3)
    assert found.busy["gpu0"] == pytest.approx(2.0) and found.throughput == pytest.approx(2.0)
    streamed = [replace(step, fetches=(("ram", second),)) if step.tier == "gpu0" else step for step in steps]
    assert simulate(streamed, sizes, ["x"], ["c"], ways).seconds == pytest.approx(4.0, abs=1e-3)
