"""Placement by trying everything: every candidate of every cluster, every set of resident weights, every ring. For a few clusters.

Each trial is a placed graph that is scheduled, measured and simulated as a whole plan; nothing of the search is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...ir.candidate import KernelLibrary, Priced
from ...ir.errors import StratacError
from ...ir.graph import Graph
from ...ir.machine import Machine
from ...ir.placed import DENSE, Choice, Home, Placed, home_key
from ...ir.plan import Plan
from ..schedule.order import order
from ..schedule.schedule import schedule
from ..schedule.stream_weights import padded, ring_sizes
from .cost import price
from .request import PlaceRequest

MOST = 8  # clusters


def place_exhaustively(
    graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest
) -> tuple[Placed, Plan] | None:
    """The fastest plan within the budgets, or None. Pins and the rule that small weights stay are not looked at."""
    if len(graph.nodes) > MOST:
        raise StratacError(f"{len(graph.nodes)} clusters are too many to try everything", hint=f"at most {MOST}")
    best: tuple[Placed, Plan] | None = None
    names = {node.outputs[0]: f"k{number}" for number, node in enumerate(graph.nodes)}
    for placed in _every_placed(graph, library, machine, request):
        least = _held(placed, request)
        room = request.budgets.get("ram", machine.tier("ram").bytes) - least
        for ring in _rings(placed, room):
            plan = schedule(replace(placed, ring_bytes=ring), machine, names, request.threads)
            if plan.peak_bytes() + request.floor > request.budgets.get("ram", machine.tier("ram").bytes):
                continue
            if plan.weights_bytes > request.budgets.get("disk", plan.weights_bytes):
                continue
            if best is None or plan.seconds < best[1].seconds:
                best = replace(placed, ring_bytes=ring), plan
    return best


def _every_placed(graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest) -> Iterator[Placed]:
    storage = [tier.name for tier in machine.tiers if tier.kind == "disk"][:1]
    trips = graph.trips()
    rows: list[Sequence[Priced]] = [
        [
            price(c, machine, request.threads, trips.get(node.outputs[0], 1))
            for c in library.candidates(node, graph, machine)
        ]
        for node in graph.nodes
    ]
    for some in itertools.product(*rows):
        choices = {n.outputs[0]: Choice(n.outputs[0], p, None, "tried") for n, p in zip(graph.nodes, some, strict=True)}
        wanted: dict[str, Home] = {}
        direct = set()
        for node, priced in zip(graph.nodes, some, strict=True):
            formats = dict(priced.candidate.formats)
            for value in (v for v in node.used if v in graph.weights):
                format = formats.get(value, DENSE)
                nbytes = library.packed_bytes(graph, value, format, machine)
                wanted[home_key(value, format)] = Home(value, "ram", format, nbytes)
                if value in priced.candidate.direct:
                    direct.add(home_key(value, format))
        places = [storage if key in direct else ["ram", *storage] for key in wanted]
        for tiers in itertools.product(*places):
            homes = {key: replace(home, tier=t) for (key, home), t in zip(wanted.items(), tiers, strict=True)}
            yield Placed(graph, machine.name, choices, homes)


def _held(placed: Placed, request: PlaceRequest) -> int:
    """No more than what a plan holds without its ring: resident weights and the process."""
    return request.floor + sum(home.nbytes for home in placed.homes.values() if home.tier == "ram")


def _rings(placed: Placed, room: int) -> list[int]:
    nodes, _ = order(placed.graph)
    users, sizes = [], []
    for call, node in enumerate(nodes):
        candidate = placed.choices[node.outputs[0]].chosen.candidate
        formats = dict(candidate.formats)
        for value in node.used:
            if value in placed.graph.weights and value not in candidate.direct:
                home = placed.homes[home_key(value, formats.get(value, DENSE))]
                if home.tier != "ram":
                    users.append(call)
                    sizes.append(padded(home.nbytes))
    return ring_sizes(users, sizes, max(room, 0)) if users else [0]
