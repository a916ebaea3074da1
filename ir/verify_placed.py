"""The verifier of placed graphs: every decision is made, refers to what exists, and agrees with the graph."""

from __future__ import annotations

import math
from typing import NoReturn

from .candidate import Priced
from .errors import Source, VerifyError
from .graph import Node
from .machine import Machine
from .placed import DENSE, Placed, home_key
from .types import TensorType
from .verify import verify_graph

#: The legality table of tiers: what may live in which kind of tier. Weights are used in place, so they live where
#: kernels read; activations are the plan's to lay out.
TIERS = {"ram": "weights, activations"}
#: What may bind a candidate's time.
BOUNDS = ("compute", "memory", "launch")


def verify_placed(placed: Placed, machine: Machine | None = None) -> None:
    """Raise VerifyError for the first rule that `placed` breaks. `machine` tells which tiers and devices exist."""
    verify_graph(placed.graph, level="clusters", pass_name="place")
    _Verifier(placed, machine).check()


class _Verifier:
    """One walk over one placed graph."""

    def __init__(self, placed: Placed, machine: Machine | None) -> None:
        self.placed, self.graph = placed, placed.graph
        self.tiers = {tier.name for tier in machine.tiers} if machine else set(TIERS)
        self.devices = {device.name for device in machine.devices} if machine else None
        self.machine = machine

    def fail(self, what: str, op: str = "", source: Source | None = None, hint: str = "") -> NoReturn:
        raise VerifyError(what, op=op, level="placed", source=source, hint=hint)

    def check(self) -> None:
        if self.machine is not None and self.machine.name != self.placed.machine:
            self.fail(f"was placed for {self.placed.machine!r}, not for {self.machine.name!r}")
        wanted: set[str] = set()
        for node in self.graph.nodes:
            self.check_choice(node)
            wanted |= self.check_weights(node)
        known = {node.outputs[0] for node in self.graph.nodes}
        if lost := [name for name in self.placed.choices if name not in known]:
            self.fail(f"there is a choice for %{lost[0]}, which is no cluster's first output")
        self.check_homes(wanted)
        self.check_transfers()

    def check_choice(self, node: Node) -> None:
        name = node.outputs[0]
        choice = self.placed.choices.get(name)
        where = f"cluster %{name}"
        if choice is None:
            self.fail("has no candidate chosen", where, node.source, "placement must choose one for each cluster")
        if choice.cluster != name:
            self.fail(f"has the choice of %{choice.cluster}", where, node.source)
        if not choice.why:
            self.fail("is chosen without a reason", where, node.source, "every decision says why")
        self.check_priced(choice.chosen, where, node)
        if choice.runner_up is not None:
            self.check_priced(choice.runner_up, where, node)

    def check_priced(self, priced: Priced, where: str, node: Node) -> None:
        candidate, work = priced.candidate, priced.candidate.work
        numbers = (priced.seconds, work.flops, work.bytes, work.workspace, candidate.error)
        if not all(math.isfinite(x) and x >= 0 for x in numbers):
            self.fail(f"{candidate.name} has a number that is negative or not finite", where, node.source)
        if priced.bound not in BOUNDS:
            self.fail(
                f"{candidate.name} is bound by {priced.bound!r}", where, node.source, f"one of {', '.join(BOUNDS)}"
            )
        if self.devices is not None and candidate.device not in self.devices:
            self.fail(f"runs on {candidate.device!r}, which {self.placed.machine} does not have", where, node.source)
        values = [value for value, _ in candidate.formats]
        for value in values:
            if value not in self.graph.weights or value not in node.used or values.count(value) > 1:
                self.fail(
                    f"{candidate.name} wants a format for %{value}", where, node.source, "of its weights, each once"
                )

    def check_weights(self, node: Node) -> set[str]:
        """The keys of the homes that a cluster reads from; each must exist."""
        formats = dict(self.placed.choices[node.outputs[0]].chosen.candidate.formats)
        keys = set()
        for value in node.used:
            if value not in self.graph.weights:
                continue
            format = formats.get(value, DENSE)
            key = home_key(value, format)
            if key not in self.placed.homes:
                where = f"cluster %{node.outputs[0]}"
                self.fail(f"reads %{value} as {format!r}, but no home holds it so", where, node.source)
            keys.add(key)
        return keys

    def check_homes(self, wanted: set[str]) -> None:
        for key, home in self.placed.homes.items():
            where = f"home of %{home.weight}"
            if home.weight not in self.graph.weights or key != home_key(home.weight, home.format):
                self.fail(f"stands under {key!r}, expected the key of a weight and its format", where)
            if key not in wanted:
                self.fail(f"nothing reads it as {home.format!r}", where, hint="a home costs memory")
            if home.tier not in self.tiers:
                self.fail(f"is in the tier {home.tier!r}", where, hint=f"there are {', '.join(sorted(self.tiers))}")
            kind: TensorType = self.graph.weights[home.weight].type
            if home.nbytes < 0 or (home.format == DENSE and home.nbytes != kind.nbytes):
                self.fail(f"holds {home.nbytes} bytes of {kind}, expected {kind.nbytes}", where)

    def check_transfers(self) -> None:
        for transfer in self.placed.transfers:
            where = f"transfer of %{transfer.value}"
            if transfer.value not in self.graph.types:
                self.fail("nothing defines the value", where)
            if transfer.source == transfer.target:
                self.fail(f"starts and ends in {transfer.source!r}", where)
            for tier in (transfer.source, transfer.target):
                if tier not in self.tiers:
                    self.fail(f"names the tier {tier!r}", where, hint=f"there are {', '.join(sorted(self.tiers))}")
