"""Several devices as a problem: what each cluster costs where, and what a choice of devices takes of every memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.candidate import Priced
from ...ir.graph import Graph, Node
from ...ir.machine import Machine
from ..schedule.liveness import aligned
from ..schedule.stream_weights import padded
from .pins import Rules
from .queues import HOST, Step, Ways, simulate
from .request import PlaceRequest


@dataclass(frozen=True)
class Spot:
    """A cluster on a device: its best candidate there, the memory it works in, and the keys of the weights it wants there."""

    priced: Priced
    tier: str
    keys: tuple[str, ...]

    @property
    def workspace(self) -> int:
        return self.priced.candidate.work.workspace


@dataclass(frozen=True)
class Row:
    """A cluster, its spots by device, and all priced candidates, cheapest first."""

    node: Node
    spots: Mapping[str, Spot]
    spare: tuple[Priced, ...]


@dataclass(frozen=True)
class Fleet:
    """Clusters in the order of the schedule. `fixed` bytes of each memory are taken whatever is decided: activations (all of them,
    in each memory), workspaces and the process."""

    graph: Graph
    machine: Machine
    request: PlaceRequest
    rules: Rules
    rows: tuple[Row, ...]
    weights: Mapping[str, tuple[str, str, int]]  # key -> weight, format, bytes
    sizes: Mapping[str, int]  # bytes of values
    fixed: Mapping[str, int]
    budgets: Mapping[str, int]
    storage: str
    ways: Ways
    devices: tuple[str, ...]

    def allowed(self, key: str, tier: str) -> bool:
        return self.rules.allows_tier(self.weights[key][0], tier)


def homes_for(fleet: Fleet, devices: Sequence[str]) -> dict[str, str] | None:
    """A tier for every weight used: the memory of its first user while there is room, then evenly spread over the run what does
    not stay there, in the host's memory or in storage. None where they fit nowhere."""
    wanted: dict[str, str] = {}
    for row, device in zip(fleet.rows, devices, strict=True):
        spot = row.spots[device]
        for key in spot.keys:
            wanted.setdefault(key, spot.tier)
    room = {
        tier: fleet.budgets[tier] - count
        for tier, count in fleet.fixed.items()
        if tier in set(wanted.values()) | {HOST}
    }
    if any(left < 0 for left in room.values()):
        return None
    homes: dict[str, str] = {}
    for tier in sorted(room, key=lambda tier: (tier == HOST, tier)):
        keys = [key for key, target in wanted.items() if target == tier and key not in homes]
        if tier == HOST:
            keys += [key for key in wanted if key not in homes and key not in keys]
        homes |= _fill(fleet, keys, tier, room[tier])
    for key in wanted:
        if key not in homes:
            if not fleet.storage or not fleet.allowed(key, fleet.storage):
                return None
            homes[key] = fleet.storage
    used = used_bytes(fleet, devices, homes)
    return homes if all(used[tier] <= fleet.budgets[tier] for tier in used) else None


def _fill(fleet: Fleet, keys: Sequence[str], tier: str, room: int) -> dict[str, str]:
    """The keys that stay in a tier: all, or an even share of them beside the staging that the others then need."""
    sizes = {key: aligned(fleet.weights[key][2]) for key in keys}
    stay = {key for key in keys if fleet.allowed(key, tier)}
    total = sum(sizes[key] for key in stay)
    if total <= room and len(stay) == len(keys):
        return dict.fromkeys(keys, tier)
    stage = 2 * max((padded(fleet.weights[key][2]) for key in keys), default=0)
    if fleet.storage and tier == HOST:
        stage *= 2  # a call may read two weights at once
    share = min(max((room - stage) / total, 0.0), 1.0) if total else 0.0
    found, carry = {}, 0.0
    for key in keys:
        carry += share * sizes[key]
        if key in stay and carry >= sizes[key]:
            found[key] = tier
            carry -= sizes[key]
    return found


def fetches(fleet: Fleet, spot: Spot, homes: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """What a cluster has to get for each use: tier and bytes."""
    return tuple((homes[key], padded(fleet.weights[key][2])) for key in spot.keys if homes[key] != spot.tier)


def used_bytes(fleet: Fleet, devices: Sequence[str], homes: Mapping[str, str]) -> dict[str, int]:
    """Bytes of every tier: what is fixed where a device of it is used, what lives there, and two of the largest sets that a call
    gets from elsewhere."""
    spots = [row.spots[device] for row, device in zip(fleet.rows, devices, strict=True)]
    used = {tier: fleet.fixed[tier] for tier in dict.fromkeys([HOST, *(spot.tier for spot in spots)])}
    for key, tier in homes.items():
        used[tier] = used.get(tier, 0) + aligned(fleet.weights[key][2])
    staged: dict[str, int] = {}
    for spot in spots:
        got = fetches(fleet, spot, homes)
        if got:
            staged[spot.tier] = max(staged.get(spot.tier, 0), sum(nbytes for _, nbytes in got))
            if spot.tier != HOST and (read := sum(n for tier, n in got if tier == fleet.storage)):
                staged[HOST] = max(staged.get(HOST, 0), read)
    for tier, count in staged.items():
        used[tier] = used.get(tier, 0) + 2 * count
    if fleet.storage:
        used[fleet.storage] = sum(padded(fleet.weights[key][2]) for key in homes)
    return used


def outcome(fleet: Fleet, devices: Sequence[str], homes: Mapping[str, str]) -> float:
    """Predicted seconds: of one run, or between runs for the objective `throughput`."""
    steps = []
    for row, device in zip(fleet.rows, devices, strict=True):
        spot = row.spots[device]
        needs = tuple(v for v in row.node.used if v not in fleet.graph.weights)
        got = fetches(fleet, spot, homes)
        steps.append(Step(device, spot.tier, spot.priced.seconds, needs, row.node.outputs, got))
    result = simulate(steps, fleet.sizes, fleet.graph.input_values, fleet.graph.output_values, fleet.ways)
    return result.throughput if fleet.request.objective == "throughput" else result.seconds
