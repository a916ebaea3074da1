"""Which device runs each cluster: exact where nothing presses on memory, a linear program where it does, then a local search over
the simulated queues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from .cuts import best_on_chain, is_chain, minimum_cut
from .fleet import Fleet, homes_for, outcome
from .milp import Rows, run_highs
from .queues import HOST

#: clusters that the local search may simulate in all: a few seconds
EFFORT = 300_000
GAIN = 1e-9


def assign(fleet: Fleet) -> tuple[tuple[str, ...] | None, str, float]:
    """The best devices found or None, how, and seconds that nothing beats."""
    starts: list[tuple[str, tuple[str, ...]]] = []
    exact = minimum_cut(fleet)
    if exact is not None:
        starts.append(("minimum cut", exact))
    elif is_chain(fleet):
        starts.append(("dynamic programming", best_on_chain(fleet)))
    if exact is None or not _all_fits(fleet, exact):
        program = linear_program(fleet)
        if program is not None:
            starts.append(("linear program", program))
    starts += [(f"all on {device}", alone) for device in fleet.devices if (alone := all_on(fleet, device)) is not None]
    found = []
    for number, (name, devices) in enumerate(starts):
        seconds = predicted(fleet, devices)
        if seconds is not None:
            found.append((seconds, number, name, devices))
    if not found:
        return None, "", 0.0
    bound = lower_bound(fleet)
    seconds, _, name, devices = min(found, key=lambda row: row[:2])
    better, faster = improve(fleet, devices, seconds, bound)
    return better, name if better == devices else f"{name} and moves", min(bound, faster)


def predicted(fleet: Fleet, devices: Sequence[str]) -> float | None:
    """Simulated seconds, None where the weights fit nowhere."""
    homes = homes_for(fleet, devices)
    return None if homes is None else outcome(fleet, devices, homes)


def _all_fits(fleet: Fleet, devices: Sequence[str]) -> bool:
    homes = homes_for(fleet, devices)
    if homes is None:
        return False
    return all(
        homes[key] == row.spots[device].tier
        for row, device in zip(fleet.rows, devices, strict=True)
        for key in row.spots[device].keys
    )


def all_on(fleet: Fleet, device: str) -> tuple[str, ...] | None:
    """The naive twin: one device for every cluster that has a kernel there, the first that has one for the others."""
    if not any(device in row.spots for row in fleet.rows):
        return None
    return tuple(
        device if device in row.spots else next(d for d in fleet.devices if d in row.spots) for row in fleet.rows
    )


def lower_bound(fleet: Fleet) -> float:
    """The critical path by the fastest device of each cluster without copies; for throughput the work shared by all devices."""
    fastest = [min(spot.priced.seconds for spot in row.spots.values()) for row in fleet.rows]
    shared = sum(fastest) / max(len(fleet.devices), 1)
    if fleet.request.objective == "throughput":
        return shared
    ready: dict[str, float] = {}
    longest = 0.0
    for row, seconds in zip(fleet.rows, fastest, strict=True):
        end = max((ready.get(v, 0.0) for v in row.node.used), default=0.0) + seconds
        ready |= dict.fromkeys(row.node.outputs, end)
        longest = max(longest, end)
    return max(longest, shared)


def improve(fleet: Fleet, devices: tuple[str, ...], seconds: float, bound: float) -> tuple[tuple[str, ...], float]:
    """Move clusters, and runs of clusters, to other devices while that saves time."""
    left = EFFORT // max(len(fleet.rows), 1)
    improved = True
    while improved and left > 0 and seconds > bound * (1 + GAIN):
        improved = False
        for moved in _moves(fleet, devices):
            left -= 1
            if left <= 0:
                break
            found = predicted(fleet, moved)
            if found is not None and found < seconds * (1 - GAIN):
                devices, seconds, improved = moved, found, True
                break
    return devices, seconds


def _moves(fleet: Fleet, devices: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Runs of one device, whole, by halves, at their borders; then single clusters."""
    count = len(devices)
    borders = [0, *(n for n in range(1, count) if devices[n] != devices[n - 1]), count]
    spans = []
    for start, end in pairwise(borders):
        middle = (start + end) // 2
        spans += [(start, end), (start, middle), (middle, end), (start, start + 1), (end - 1, end)]
    spans += [(n, n + 1) for n in range(count)] if count <= 200 else []
    for start, end in dict.fromkeys(spans):
        for device in fleet.devices:
            moved = tuple(
                device if start <= n < end and device in fleet.rows[n].spots else now for n, now in enumerate(devices)
            )
            if moved != devices:
                yield moved


def linear_program(fleet: Fleet) -> tuple[str, ...] | None:
    """Shares of clusters on devices, copies, and the bytes that overflow each memory and are copied or read in each run; a cluster
    goes where most of it is."""
    rows = Rows()
    unit = 1.0 / max(sum(row.spare[0].seconds for row in fleet.rows), 1e-12)
    big = 1.0 / max(max(fleet.budgets.values()), 1)
    period = rows.column(cost=1.0)
    tiers = {device: fleet.machine.device(device).memory for device in fleet.devices}
    memories = list(dict.fromkeys(tiers.values()))
    shares: list[dict[str, int]] = []
    time: dict[int, float] = {period: 1.0}
    load: dict[str, dict[int, float]] = {tier: {} for tier in memories}
    seen: set[tuple[str, str]] = set()
    standing: dict[str, dict[str, int]] = {}  # value -> the shares of its maker
    for row in fleet.rows:
        share = {device: rows.column(0.0, 1.0) for device in row.spots}
        shares.append(share)
        rows.at_least(dict.fromkeys(share.values(), 1.0), 1.0)
        for device, column in share.items():
            spot = row.spots[device]
            time[column] = -spot.priced.seconds * unit
            fresh = [key for key in spot.keys if (key, spot.tier) not in seen]
            seen |= {(key, spot.tier) for key in fresh}
            load[spot.tier][column] = -sum(fleet.weights[key][2] for key in fresh) * big
        for value in row.node.outputs:
            standing[value] = share
    copies: dict[tuple[str, str], int] = {}

    def copy(value: str, target: str, wanted: dict[int, float], at_least: float) -> None:
        """What is wanted in a memory and not made there is copied."""
        worst = max(
            (fleet.ways.seconds(tier, target, fleet.sizes[value]) for tier in memories if tier != target), default=0.0
        )
        if (value, target) not in copies:
            copies[value, target] = rows.column(0.0, 1.0)
            time[copies[value, target]] = -worst * unit
        made = {c: 1.0 for d, c in standing.get(value, {}).items() if tiers[d] == target}
        rows.at_least({copies[value, target]: 1.0, **wanted, **made}, at_least)

    for row, share in zip(fleet.rows, shares, strict=True):
        for value in (v for v in row.node.used if v not in fleet.graph.weights):
            for tier in memories:
                if value not in standing and tier == HOST:
                    continue
                wanted = {c: -1.0 for d, c in share.items() if tiers[d] == tier}
                if wanted:
                    copy(value, tier, wanted, 0.0)
    for value in fleet.graph.output_values:
        if value in standing:
            copy(value, HOST, {}, 1.0)
    overflow = {}
    for tier in sorted(memories, key=lambda tier: tier == HOST):  # the host's last: it takes what overflows the others
        overflow[tier] = rows.column()
        room = max(fleet.budgets[tier] - fleet.fixed[tier], 0)
        spill = {overflow[other]: -1.0 for other in overflow if other != tier} if tier == HOST else {}
        rows.at_least({overflow[tier]: 1.0, **load[tier], **spill}, -room * big)
        source = fleet.storage if tier == HOST else HOST
        if source:
            step = max(seconds for _, seconds in fleet.ways.steps(source, tier, 1 << 30)) / (1 << 30)
            rows.at_least({period: 1.0, overflow[tier]: -step * unit / big}, 0.0)
        else:
            rows.upper[overflow[tier]] = 0.0
    rows.at_least(time, 0.0)
    found = run_highs(rows, 1e-3, 1)
    if found is None:
        return None
    values, _ = found
    return tuple(max(share, key=lambda d: (round(values[share[d]], 6), -fleet.devices.index(d))) for share in shares)
