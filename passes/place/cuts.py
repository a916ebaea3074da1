"""Exact answers for several devices where nothing presses on memory: the least sum of all calls and copies.

Two memories: a minimum cut. A value is copied once however many read it on the other side, which takes one node of the cut for
each direction. Any number of devices on a chain: dynamic programming.
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx

from .fleet import Fleet
from .queues import HOST


def serial_seconds(fleet: Fleet, devices: Sequence[str]) -> float:
    """All calls and copies one after the other, with every weight where it is used."""
    total = 0.0
    tier_of = dict.fromkeys(fleet.graph.input_values, HOST)
    sent: set[tuple[str, str]] = set()

    def send(value: str, target: str) -> float:
        if tier_of[value] == target or (value, target) in sent:
            return 0.0
        sent.add((value, target))
        return fleet.ways.seconds(tier_of[value], target, fleet.sizes[value])

    for row, device in zip(fleet.rows, devices, strict=True):
        spot = row.spots[device]
        total += spot.priced.seconds
        for value in row.node.used:
            if value not in fleet.graph.weights:
                total += send(value, spot.tier)
        for value in row.node.outputs:
            tier_of[value] = spot.tier
    return total + sum(send(value, HOST) for value in fleet.graph.output_values if value in tier_of)


def minimum_cut(fleet: Fleet) -> tuple[str, ...] | None:
    """The best devices where there are two, one of them the host's; None otherwise."""
    if len(fleet.devices) != 2:
        return None
    host, other = fleet.devices
    tiers = {device: fleet.machine.device(device).memory for device in fleet.devices}
    if tiers[host] != HOST or tiers[other] == HOST:
        return None
    net = networkx.DiGraph()
    net.add_node("host")
    net.add_node("other")
    maker: dict[str, object] = dict.fromkeys(fleet.graph.input_values, "host")
    readers: dict[str, list[object]] = {}
    for number, row in enumerate(fleet.rows):
        for device, source, target in ((other, "host", number), (host, number, "other")):
            if device in row.spots:  # cut where the cluster stands on that device's side
                net.add_edge(source, target, capacity=row.spots[device].priced.seconds)
            else:
                net.add_edge(source, target)
        for value in row.node.used:
            if value not in fleet.graph.weights:
                readers.setdefault(value, []).append(number)
        maker |= dict.fromkeys(row.node.outputs, number)
    for value in fleet.graph.output_values:
        readers.setdefault(value, []).append("host")
    for value, nodes in readers.items():
        if value not in maker:
            continue
        away = fleet.ways.seconds(HOST, tiers[other], fleet.sizes[value])
        back = fleet.ways.seconds(tiers[other], HOST, fleet.sizes[value])
        net.add_edge(maker[value], ("away", value), capacity=away)
        net.add_edge(("back", value), maker[value], capacity=back)
        for node in dict.fromkeys(nodes):
            net.add_edge(("away", value), node)
            net.add_edge(node, ("back", value))
    _, (near, _) = networkx.minimum_cut(net, "host", "other")
    return tuple(host if number in near else other for number in range(len(fleet.rows)))


def is_chain(fleet: Fleet) -> bool:
    """Whether every cluster reads at most the values of the one before, or the graph's inputs if it is the first."""
    before = set(fleet.graph.input_values)
    for row in fleet.rows:
        if not {v for v in row.node.used if v not in fleet.graph.weights} <= before:
            return False
        before = set(row.node.outputs)
    return set(fleet.graph.output_values) <= before


def best_on_chain(fleet: Fleet) -> tuple[str, ...]:
    """The best devices of a chain, by what the best way to each device of each cluster costs."""
    tiers = {device: fleet.machine.device(device).memory for device in fleet.devices}
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    for number, row in enumerate(fleet.rows):
        values = [v for v in row.node.used if v not in fleet.graph.weights]
        now: dict[str, tuple[float, tuple[str, ...]]] = {}
        for device, spot in row.spots.items():

            def copies(source: str, spot_tier: str = spot.tier, values: Sequence[str] = values) -> float:
                return sum(fleet.ways.seconds(source, spot_tier, fleet.sizes[v]) for v in values)

            ways = (
                [(cost + copies(tiers[d]), path) for d, (cost, path) in best.items()]
                if number
                else [(copies(HOST), ())]
            )
            cost, path = min(ways)
            now[device] = (cost + spot.priced.seconds, (*path, device))
        best = now
    last = [v for v in fleet.graph.output_values if fleet.rows and v in fleet.rows[-1].node.outputs]
    ends = [
        (cost + sum(fleet.ways.seconds(tiers[d], HOST, fleet.sizes[v]) for v in last), path)
        for d, (cost, path) in best.items()
    ]
    return min(ends)[1] if ends else ()
