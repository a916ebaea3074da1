"""The verifier of placed graphs: every decision is made, refers to what exists, and agrees with the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .candidate import Priced
from .errors import Source, VerifyError
from .graph import Carried, Node
from .in_place import writes_in_place
from .machine import Machine
from .placed import DENSE, Home, Placed, Transfer, home_key
from .plan import READ_ALIGNMENT
from .types import TensorType
from .verify import verify_graph

#: The legality table of tiers: what may live in which kind of tier.
TIERS = {
    "memory": "activations; states; weights, used in place or copied over a link for each use",
    "disk": "weights that are streamed through the ring for each use, or read row by row by their kernels",
}
#: The tiers and their kinds where no machine says.
USUAL_TIERS = {"ram": "memory", "disk": "disk"}
#: The tier of inputs and outputs.
CALLERS = "ram"
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
        self.tiers = {tier.name: tier.kind for tier in machine.tiers} if machine else USUAL_TIERS
        self.memory = {device.name: device.memory for device in machine.devices} if machine else {}
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
        self.check_homes(wanted | {home_key(state.initial, DENSE) for state in self.graph.states if state.initial})
        self.check_states()
        self.check_ring()
        self.check_transfers()
        self.check_reach()
        self.check_solution()

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

        for value in candidate.direct:
            if value not in self.graph.weights or value not in node.used or candidate.direct.count(value) > 1:
                what = f"{candidate.name} reads rows of %{value} from storage"
                self.fail(what, where, node.source, "it may read its weights so, each once")
        for value in candidate.sparse:
            if value not in self.graph.weights or value not in node.used or candidate.sparse.count(value) > 1:
                what = f"{candidate.name} reads few rows of %{value}"
                self.fail(what, where, node.source, "it may read its weights so, each once")

    def check_weights(self, node: Node) -> set[str]:
        """The keys of the homes that a cluster reads from; each must exist."""
        candidate = self.placed.choices[node.outputs[0]].chosen.candidate
        formats = dict(candidate.formats)
        keys = set()
        for value in node.used:
            if value not in self.graph.weights:
                continue
            format = formats.get(value, DENSE)
            key = home_key(value, format)
            where = f"cluster %{node.outputs[0]}"
            if key not in self.placed.homes:
                self.fail(f"reads %{value} as {format!r}, but no home holds it so", where, node.source)
            tier = self.placed.homes[key].tier
            if value in candidate.direct and self.tiers.get(tier) != "disk":
                what = f"reads rows of %{value} from storage, but its home is {tier}"
                self.fail(what, where, node.source)
            if self.placed.homes[key].mapped and value not in candidate.sparse:
                hint = "what is mapped is for lookups of few rows"
                self.fail(f"reads %{value}, which is mapped", where, node.source, hint)
            keys.add(key)
        return keys

    def streamed(self, node: Node) -> list[Home]:
        """The homes in storage that a cluster reads through the ring."""
        candidate = self.placed.choices[node.outputs[0]].chosen.candidate
        formats = dict(candidate.formats)
        keys = [home_key(v, formats.get(v, DENSE)) for v in node.used if v in self.graph.weights]
        homes = [self.placed.homes[key] for key in keys]
        return [h for h in homes if self.tiers.get(h.tier) == "disk" and h.weight not in candidate.direct]

    def check_ring(self) -> None:
        """The ring holds what any one cluster streams, in whole blocks, and exists only where something is streamed."""
        ring, most = self.placed.ring_bytes, 0
        for node in self.graph.nodes:
            most = max(most, sum(-(-home.nbytes // READ_ALIGNMENT) * READ_ALIGNMENT for home in self.streamed(node)))
        if ring < most or ring % READ_ALIGNMENT or bool(ring) != bool(most):
            hint = f"one cluster streams {most} bytes; blocks have {READ_ALIGNMENT}"
            self.fail(f"has a ring of {ring} bytes", hint=hint)

    def check_homes(self, wanted: set[str]) -> None:
        storage = any(self.tiers.get(home.tier) == "disk" for home in self.placed.homes.values())
        for key, home in self.placed.homes.items():
            where = f"home of %{home.weight}"
            if home.weight not in self.graph.weights or key != home_key(home.weight, home.format):
                self.fail(f"stands under {key!r}, expected the key of a weight and its format", where)
            if key not in wanted:
                self.fail(f"nothing reads it as {home.format!r}", where, hint="a home costs memory")
            if home.tier not in self.tiers:
                self.fail(f"is in the tier {home.tier!r}", where, hint=f"there are {', '.join(sorted(self.tiers))}")
            if home.mapped and (storage or self.tiers[home.tier] != "memory"):
                self.fail(f"is mapped in {home.tier}", where, hint="only where all weights are in memory")
            kind: TensorType = self.graph.weights[home.weight].type
            if home.nbytes < 0 or (home.format == DENSE and home.nbytes != kind.nbytes):
                self.fail(f"holds {home.nbytes} bytes of {kind}, expected {kind.nbytes}", where)

    def check_states(self) -> None:
        """Every state has a home in memory, starts from memory, and is written after all that read it, by a cluster that may write
        over it."""
        for name in self.placed.states:
            if all(state.name != name for state in self.graph.states):
                self.fail(f"there is a home of the state {name!r}, which does not exist")
        for state in self.graph.states:
            where, kind = f"state {state.name!r}", self.graph.types[state.value]
            home = self.placed.states.get(state.name)
            if home is None or home.state != state.name:
                self.fail("has no home", where, hint="placement must give each state one")
            if self.tiers.get(home.tier) != "memory":
                self.fail(f"is in the tier {home.tier!r}", where, hint="states live in memory")
            if home.nbytes != kind.nbytes:
                self.fail(f"holds {home.nbytes} bytes of {kind}, expected {kind.nbytes}", where)
            initial = self.placed.homes.get(home_key(state.initial, DENSE))
            if state.initial and (initial is None or self.tiers.get(initial.tier) != "memory" or initial.mapped):
                self.fail(f"starts as %{state.initial}, which is not in memory", where)
        written = self.graph.output_values
        computed = self.graph.producers()
        for state in self.graph.states:
            where = f"state {state.name!r}"
            if state.update != state.value and (state.update not in computed or written.count(state.update) > 1):
                self.fail(f"becomes %{state.update}, which no cluster computes for it alone", where)
        place = {node.outputs[0]: number for number, node in enumerate(self.graph.nodes)}
        for state, writer, readers in self.graph.overwrites():
            where, at = f"state {state.name!r}", f"cluster %{writer.outputs[0]}"
            if late := [node for node in readers if place[node.outputs[0]] > place[writer.outputs[0]]]:
                self.fail(f"is written by {at} before %{late[0].outputs[0]} reads it", where, late[0].source)
            given = (state.value, state.update, self.graph.types, self.graph.symbols)
            if state.value in writer.used and not writes_in_place(writer, *given):
                self.fail(f"is read by {at} where that has written", where, writer.source, "it needs a copy")
        for loop in self.graph.loops:
            for one in loop.carried:
                self.check_carried(f"loop {loop.trip}", one, place)

    def check_carried(self, where: str, one: Carried, place: Mapping[str, int]) -> None:
        """What a loop carries is written over after all that read it in a trip."""
        writer = self.graph.producers()[one.update]
        at = f"cluster %{writer.outputs[0]}"
        for node in self.graph.nodes:
            if one.value in node.used and place[node.outputs[0]] > place[writer.outputs[0]]:
                self.fail(f"%{one.value} is written by {at} before %{node.outputs[0]} reads it", where, node.source)
        given = (one.value, one.update, self.graph.types, self.graph.symbols)
        if one.value in writer.used and not writes_in_place(writer, *given):
            self.fail(f"%{one.value} is read by {at} where that has written", where, writer.source, "it needs a copy")

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
            if self.placed.transfers.count(transfer) > 1:
                self.fail(f"to {transfer.target!r} is given twice", where)

    def check_reach(self) -> None:
        """Every cluster finds the values it reads in the memory of its device, and outputs end in the caller's."""
        found = {value: {CALLERS} for value in self.graph.input_values}
        copies: dict[str, list[Transfer]] = {}
        for transfer in self.placed.transfers:
            copies.setdefault(transfer.value, []).append(transfer)
        for value in self.graph.input_values:
            self.spread(value, found, copies)
        for node in self.graph.nodes:
            here = self.memory.get(self.placed.choices[node.outputs[0]].chosen.candidate.device, CALLERS)
            for value in node.used:
                if value not in self.graph.weights and here not in found.get(value, ()):
                    what = f"reads %{value} in {here!r}, where nothing brings it"
                    self.fail(what, f"cluster %{node.outputs[0]}", node.source, "it needs a transfer")
            for value in node.outputs:
                found[value] = {here}
                self.spread(value, found, copies)
        for port in self.graph.outputs:
            if port.value in found and CALLERS not in found[port.value]:
                self.fail(f"output %{port.value} is never brought to {CALLERS!r}", hint="it needs a transfer")

    def spread(self, value: str, found: dict[str, set[str]], copies: Mapping[str, Sequence[Transfer]]) -> None:
        """Add the tiers a value is copied to, in any order of its transfers."""
        waiting = list(copies.get(value, ()))
        while ready := [transfer for transfer in waiting if transfer.source in found[value]]:
            found[value] |= {transfer.target for transfer in ready}
            waiting = [transfer for transfer in waiting if transfer not in ready]
        if waiting:
            self.fail(f"copies from {waiting[0].source!r}, where it never is", f"transfer of %{value}")

    def check_solution(self) -> None:
        """What placement says of itself: numbers that are finite, and no tier over its budget."""
        solution = self.placed.solution
        if solution is None:
            return
        numbers = (solution.seconds, solution.lower_bound)
        if not all(math.isfinite(x) and x >= 0 for x in numbers) or numbers[0] < numbers[1] * (1 - 1e-9):
            self.fail(f"takes {numbers[0]} seconds with the lower bound {numbers[1]}", "solution")
        for tier, count in solution.used.items():
            if count > solution.budgets.get(tier, count):
                self.fail(f"uses {count} bytes of {tier}, budgeted {solution.budgets[tier]}", "solution")
