"""Placement: for every cluster the candidate with the least predicted time, for every weight a home tier and a format.

One CPU and one tier make every choice independent, so the cheapest candidate of each cluster is the optimum. `place_first` is
the naive twin: the first candidate a library offers, without looking at prices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir.candidate import Candidate, KernelLibrary, Priced
from ...ir.errors import VerifyError
from ...ir.graph import Graph, Node
from ...ir.machine import Machine
from ...ir.placed import DENSE, Choice, Home, Placed, home_key
from .cost import price


def place(graph: Graph, library: KernelLibrary, machine: Machine, threads: int) -> Placed:
    """The cheapest candidate for each cluster. Raises VerifyError for a cluster without candidates."""
    return _place(graph, library, machine, threads, lambda priced: sorted(priced, key=lambda p: p.seconds))


def place_first(graph: Graph, library: KernelLibrary, machine: Machine, threads: int) -> Placed:
    """The naive twin of `place`: no decision is made at all."""
    return _place(graph, library, machine, threads, list)


def _place(
    graph: Graph,
    library: KernelLibrary,
    machine: Machine,
    threads: int,
    rank: Callable[[Sequence[Priced]], Sequence[Priced]],
) -> Placed:
    choices: dict[str, Choice] = {}
    homes: dict[str, Home] = {}
    for cluster in graph.nodes:
        ranked = rank([price(c, machine, threads) for c in library.candidates(cluster, graph, machine)])
        if not ranked:
            raise VerifyError(
                "no kernel of this machine can run it", op="cluster", level="placed", source=cluster.source
            )
        runner_up = ranked[1] if len(ranked) > 1 else None
        choices[cluster.outputs[0]] = Choice(cluster.outputs[0], ranked[0], runner_up, _why(ranked[0], runner_up))
        for home in weight_homes(cluster, ranked[0].candidate, graph, library, machine):
            homes.setdefault(home_key(home.weight, home.format), home)
    return Placed(graph, machine.name, choices, homes)


def weight_homes(
    cluster: Node, candidate: Candidate, graph: Graph, library: KernelLibrary, machine: Machine
) -> list[Home]:
    """One home for each weight the cluster reads, in the format the candidate wants."""
    formats = dict(candidate.formats)
    found = []
    for value in cluster.used:
        if value in graph.weights:
            format = formats.get(value, DENSE)
            found.append(Home(value, "ram", format, library.packed_bytes(graph, value, format, machine)))
    return found


def _why(chosen: Priced, runner_up: Priced | None) -> str:
    if runner_up is None:
        return f"{chosen.candidate.name}: the only candidate; {chosen.bound} bound"
    gain = runner_up.seconds / chosen.seconds if chosen.seconds else 1.0
    return f"{chosen.candidate.name}: {gain:.2f}x faster than {runner_up.candidate.name}; {chosen.bound} bound"
