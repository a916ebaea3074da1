"""An independent checker of placements: from the placed graph alone, with its own sums, whether it keeps what was asked."""

from __future__ import annotations

import re

from ...ir.dims import upper
from ...ir.machine import Machine
from ...ir.placed import DENSE, Placed, home_key
from .request import PlaceRequest

_BLOCK, _LINE = 4096, 64


def check_placement(placed: Placed, machine: Machine, request: PlaceRequest) -> list[str]:
    """Every violation found: budgets, pins, tiers, candidates that cannot run, what `Placed.solution` says of bytes."""
    problems = []
    kinds = {tier.name: tier.kind for tier in machine.tiers}
    solution = placed.solution
    several = len({device.memory for device in machine.devices}) > 1 and not request.executable
    for name, choice in placed.choices.items():
        if request.executable and not choice.chosen.candidate.executable:
            problems.append(f"%{name} runs {choice.chosen.candidate.name}, which is only priced")
    for key, home in placed.homes.items():
        if home.tier not in kinds:
            problems.append(f"{key} lives in {home.tier!r}, which does not exist")
    problems += _check_pins(placed, machine, request)
    if solution is None:
        return [*problems, "there is no solution to hold against the budgets"]
    for tier, budget in request.budgets.items():
        if solution.used.get(tier, 0) > budget:
            problems.append(f"{solution.used[tier]} bytes of {tier} are more than the budget of {budget}")
    if several:
        return problems
    initial = {state.initial for state in placed.graph.states}  # whole blocks in front of all other weights
    first = sum(-(-home.nbytes // _LINE) * _LINE for home in placed.homes.values() if home.weight in initial)
    kept = [h.nbytes for h in placed.homes.values() if kinds.get(h.tier) == "memory" and h.weight not in initial]
    apart = [home.nbytes for home in placed.homes.values() if kinds.get(home.tier) == "disk"]
    resident = sum(-(-count // _LINE) * _LINE for count in kept)
    if apart:
        resident = -(-resident // _BLOCK) * _BLOCK
    resident += -(-first // _BLOCK) * _BLOCK
    workspace = max((c.chosen.candidate.work.workspace for c in placed.choices.values()), default=0)
    states = sum(-(-home.nbytes // _LINE) * _LINE for home in placed.states.values())
    sure = request.floor + states + resident + placed.ring_bytes + request.threads * (-(-workspace // _LINE) * _LINE)
    said = solution.used.get("ram", 0)
    if not sure + _live_bytes(placed) <= said <= sure + _all_bytes(placed):
        problems.append(f"says {said} bytes of ram; weights, ring, workspace and process alone take {sure}")
    stored = resident + sum(-(-count // _BLOCK) * _BLOCK for count in apart)
    for tier, kind in kinds.items():
        if kind == "disk" and tier in solution.used and solution.used[tier] != stored:
            problems.append(f"says {solution.used[tier]} bytes of {tier}, but weights.bin has {stored}")
    return problems


def _bytes(placed: Placed, value: str) -> int:
    count = upper(placed.graph.types[value].nbytes, placed.graph.symbols)
    return -(-count // _LINE) * _LINE


def _inner(placed: Placed) -> list[str]:
    outside = {*placed.graph.input_values, *placed.graph.output_values}
    return [value for node in placed.graph.nodes for value in node.outputs if value not in outside]


def _all_bytes(placed: Placed) -> int:
    return sum(_bytes(placed, value) for value in _inner(placed))


def _live_bytes(placed: Placed) -> int:
    """What any order has in memory at once: what one cluster reads and writes."""
    inner = set(_inner(placed))
    touched = [sum(_bytes(placed, v) for v in {*n.used, *n.outputs} & inner) for n in placed.graph.nodes]
    return max(touched, default=0)


def _check_pins(placed: Placed, machine: Machine, request: PlaceRequest) -> list[str]:
    problems = []
    devices = {device.name for device in machine.devices}
    for pin in request.pins:
        target, forbidden = pin.where.removeprefix("!"), pin.where.startswith("!")
        for node in placed.graph.nodes:
            names = [node.outputs[0], node.source.node, *(part.source.node for part in node.body)]
            if target in devices and any(name and re.search(pin.pattern, name) for name in names):
                device = placed.choices[node.outputs[0]].chosen.candidate.device
                if (device == target) == forbidden:
                    problems.append(f"%{node.outputs[0]} is on {device} against the pin {pin.pattern}={pin.where}")
        for weight in placed.graph.weights.values():
            if target in devices or not any(re.search(pin.pattern, n) for n in (weight.name, weight.label) if n):
                continue
            homes = [home for home in placed.homes.values() if home.weight == weight.name and home.nbytes]
            for home in homes:
                assert home_key(home.weight, home.format or DENSE) in placed.homes
                if (home.tier == target) == forbidden:
                    problems.append(f"%{weight.name} lives in {home.tier} against the pin {pin.pattern}={pin.where}")
    return problems
