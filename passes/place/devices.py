"""Placement over several devices, for estimates: which device runs each cluster and where each weight lives.

Without pressure on memory the sum of all costs is made least exactly: by a minimum cut for two devices, by dynamic programming
on a chain; otherwise by a linear program over shares of clusters and what overflows each memory, rounded. The answer, and every
device by itself, is improved by moving clusters and runs of clusters while the simulated time of the queues falls.
"""

from __future__ import annotations

from itertools import pairwise

from ...ir.candidate import KernelLibrary, Priced
from ...ir.errors import StratacError, VerifyError
from ...ir.graph import Graph
from ...ir.machine import Device, Machine
from ...ir.placed import DENSE, Choice, Home, Placed, Solution, Transfer, home_key
from ..schedule.ledger import lay_states, plan_activations
from ..schedule.liveness import aligned, value_bytes
from ..schedule.stream_weights import padded
from .assign import assign
from .build import state_homes
from .cost import price
from .fleet import Fleet, Row, Spot, homes_for, outcome, used_bytes
from .infeasible import Infeasible, text
from .pins import resolve_pins
from .queues import HOST, Ways
from .request import PlaceRequest


def has_several(machine: Machine) -> bool:
    """Whether devices have memories of their own."""
    return len({device.memory for device in machine.devices}) > 1


def place_devices(graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest) -> Placed:
    """As `place.place`; the result is an estimate, which has no plan unless only the host is used."""
    if graph.loops:
        raise StratacError(
            "a loop runs on one CPU, and several devices are priced", hint="estimate a machine with CPUs only"
        )
    fleet = make_fleet(graph, library, machine, request)
    best, method, bound = assign(fleet)
    if best is None:
        raise _infeasible(fleet)
    return _build(fleet, best, method, bound)


def make_fleet(graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest) -> Fleet:
    """Price the best candidate of each cluster on each device that can reach the host's memory."""
    rules = resolve_pins(graph, machine, request.pins)
    activations = plan_activations(graph)
    ways = Ways(machine)
    devices = {d.name: d for d in machine.devices if ways.reaches(HOST, d.memory) and ways.reaches(d.memory, HOST)}
    storage = next((tier.name for tier in machine.tiers if tier.kind == "disk"), "")
    weights: dict[str, tuple[str, str, int]] = {}
    rows = []
    for node in activations.nodes:
        found: dict[str, Spot] = {}
        spare: list[Priced] = []
        for candidate in library.candidates(node, graph, machine):
            if candidate.device not in devices or not rules.allows_device(node.outputs[0], candidate.device):
                continue
            if candidate.direct and not storage:
                continue
            priced = price(candidate, machine, request.threads)
            spare.append(priced)
            if candidate.device in found and found[candidate.device].priced.seconds <= priced.seconds:
                continue
            formats = dict(candidate.formats)
            keys = []
            for value in node.used:
                if value in graph.weights and value not in candidate.direct:
                    key = home_key(value, formats.get(value, DENSE))
                    nbytes = library.packed_bytes(graph, value, formats.get(value, DENSE), machine)
                    weights[key] = (value, formats.get(value, DENSE), nbytes)
                    keys.append(key)
            found[candidate.device] = Spot(priced, devices[candidate.device].memory, tuple(keys))
        if not found:
            pins = rules.pins(node.outputs[0])
            raise VerifyError(
                "no kernel of this machine can run it",
                op="cluster",
                level="placed",
                source=node.source,
                hint=f"pins: {pins}" if pins else "",
            )
        rows.append(Row(node, found, tuple(sorted(spare, key=lambda p: p.seconds))))
    sizes = {value: value_bytes(graph, value, graph.symbols) for value in graph.types if value not in graph.weights}
    fixed: dict[str, int] = {}
    for device in devices.values():
        workspace = max((row.spots[device.name].workspace for row in rows if device.name in row.spots), default=0)
        copies = request.threads if device.kind == "cpu" else 1
        fixed[device.memory] = fixed.get(device.memory, activations.memory.bytes) + aligned(workspace) * copies
    fixed[HOST] = fixed.get(HOST, 0) + request.floor + lay_states(graph).bytes
    tiers = (*dict.fromkeys(d.memory for d in devices.values()), *([storage] if storage else []))
    budgets = {tier: request.budgets.get(tier, machine.tier(tier).bytes) for tier in tiers}
    return Fleet(
        graph, machine, request, rules, tuple(rows), weights, sizes, fixed, budgets, storage, ways, _order(devices)
    )


def _order(devices: dict[str, Device]) -> tuple[str, ...]:
    """The host's devices first."""
    return tuple(sorted(devices, key=lambda name: (devices[name].memory != HOST, list(devices).index(name))))


def _infeasible(fleet: Fleet) -> StratacError:
    needed = fleet.fixed[HOST]
    budget = fleet.budgets[HOST]
    if needed <= budget:
        total = sum(nbytes for _, _, nbytes in fleet.weights.values())
        needed = max(budget + 1, needed + total)
    return Infeasible(
        HOST,
        needed,
        budget,
        f"{fleet.graph.name} needs up to {text(needed)} of {HOST}, {text(needed - budget)} more than the budget of {text(budget)}",
        "lower the greatest dims or threads, or allow more of it" + ("" if fleet.storage else ", or name a disk tier"),
    )


def _build(fleet: Fleet, devices: tuple[str, ...], method: str, bound: float) -> Placed:
    homes = homes_for(fleet, devices)
    assert homes is not None
    found = outcome(fleet, devices, homes)
    spots = {row.node.outputs[0]: row.spots[d] for row, d in zip(fleet.rows, devices, strict=True)}
    spare = {row.node.outputs[0]: row.spare for row in fleet.rows}
    choices: dict[str, Choice] = {}
    placed_homes: dict[str, Home] = {}
    transfers: list[Transfer] = []
    tier_of = dict.fromkeys(fleet.graph.input_values, HOST)
    sent: set[tuple[str, str]] = set()

    def send(value: str, target: str) -> None:
        source = tier_of[value]
        hops = [source, target] if len(fleet.ways.steps(source, target, 1)) < 2 else [source, HOST, target]
        for a, b in pairwise(hops):
            if a != b and (value, b) not in sent:
                sent.add((value, b))
                transfers.append(Transfer(value, a, b))

    for node in fleet.graph.nodes:
        name = node.outputs[0]
        spot = spots[name]
        runner_up = next((p for p in spare[name] if p is not spot.priced), None)
        binding = "pin" if fleet.rules.pins(name) else ""
        choices[name] = Choice(name, spot.priced, runner_up, _why(spot.priced, runner_up), binding)
        for value in node.used:
            if value not in fleet.graph.weights:
                send(value, spot.tier)
        for value in node.outputs:
            tier_of[value] = spot.tier
        candidate = spot.priced.candidate
        formats = dict(candidate.formats)
        for value in node.used:
            if value in fleet.graph.weights:
                format = formats.get(value, DENSE)
                key = home_key(value, format)
                if value in candidate.direct:
                    nbytes = fleet.graph.weights[value].type.nbytes
                    assert isinstance(nbytes, int)
                    placed_homes[key] = Home(
                        value, fleet.storage, format, nbytes, "its kernel reads rows of it from storage"
                    )
                elif key not in placed_homes:
                    why = (
                        "resident"
                        if homes[key] == spot.tier
                        else f"copied to {spot.tier} for each use; budget {spot.tier}"
                    )
                    placed_homes[key] = Home(value, homes[key], format, fleet.weights[key][2], why)
    for value in fleet.graph.output_values:
        if value in tier_of:
            send(value, HOST)
    ring = max(
        (
            sum(padded(fleet.weights[k][2]) for k in spot.keys if homes[k] == fleet.storage and fleet.storage)
            for spot in spots.values()
        ),
        default=0,
    )
    used = used_bytes(fleet, devices, homes)
    solution = Solution(fleet.request.objective, method, found, min(bound, found), dict(fleet.budgets), used)
    states = state_homes(fleet.graph)
    return Placed(fleet.graph, fleet.machine.name, choices, placed_homes, tuple(transfers), ring, solution, states)


def _why(chosen: Priced, runner_up: Priced | None) -> str:
    if runner_up is None:
        return f"{chosen.candidate.name}: the only candidate; {chosen.bound} bound"
    if runner_up.seconds >= chosen.seconds:
        gain = runner_up.seconds / chosen.seconds if chosen.seconds else 1.0
        return f"{chosen.candidate.name}: {gain:.2f}x faster than {runner_up.candidate.name}; {chosen.bound} bound"
    lost = 1e6 * (chosen.seconds - runner_up.seconds)
    return f"{chosen.candidate.name}: {lost:.3f} us slower than {runner_up.candidate.name}, which needs more copies or memory"
