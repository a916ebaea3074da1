"""Several devices over time: one queue for each device, link and disk, in the order of the schedule.

A value is sent once to every memory that needs it, as soon as it is there. A weight that lives elsewhere is staged for each use
in one of two places of the device's memory, while the call before runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...ir.machine import Machine
from .cost import read_seconds, transfer_seconds

HOST = "ram"


@dataclass(frozen=True)
class Ways:
    """How bytes get from one tier to another: over a link, over the host's memory, or read from storage first."""

    machine: Machine
    known: dict[tuple[str, str, int], tuple[tuple[str, float], ...]] = field(default_factory=dict, compare=False)

    def steps(self, source: str, target: str, nbytes: int) -> tuple[tuple[str, float], ...]:
        """The queues that carry the bytes, each with its seconds; empty where source is target. Raises KeyError for no way."""
        key = (source, target, nbytes)
        if key not in self.known:
            self.known[key] = self._steps(source, target, nbytes)
        return self.known[key]

    def _steps(self, source: str, target: str, nbytes: int) -> tuple[tuple[str, float], ...]:
        if source == target:
            return ()
        if self.machine.tier(source).kind == "disk":
            first = (source, read_seconds(self.machine, source, nbytes))
            return (first, *self.steps(HOST, target, nbytes))
        links = {(link.source, link.target) for link in self.machine.links}
        if (source, target) in links:
            return ((f"{source} to {target}", transfer_seconds(self.machine, source, target, nbytes)),)
        if {(source, HOST), (HOST, target)} <= links:
            return (*self.steps(source, HOST, nbytes), *self.steps(HOST, target, nbytes))
        raise KeyError((source, target))

    def reaches(self, source: str, target: str) -> bool:
        try:
            self.steps(source, target, 1)
        except KeyError:
            return False
        return True

    def seconds(self, source: str, target: str, nbytes: int) -> float:
        """Of one copy: its steps one after the other."""
        return sum(seconds for _, seconds in self.steps(source, target, nbytes))


@dataclass(frozen=True)
class Step:
    """A cluster on a device: seconds, the values it needs and makes, and weights it has to get: tier and bytes of each."""

    device: str
    tier: str
    seconds: float
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    fetches: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Makespan:
    """Seconds of one run, and for how many each queue is busy: the longest bounds runs back to back."""

    seconds: float
    busy: Mapping[str, float]

    @property
    def throughput(self) -> float:
        return max(self.busy.values(), default=0.0)


def simulate(
    steps: Sequence[Step], sizes: Mapping[str, int], inputs: Sequence[str], outputs: Sequence[str], ways: Ways
) -> Makespan:
    """One run; `sizes` gives bytes of each value. Inputs start and outputs end in the host's memory."""
    free: dict[str, float] = {}
    busy: dict[str, float] = {}
    there: dict[tuple[str, str], float] = {(value, HOST): 0.0 for value in inputs}
    origin = dict.fromkeys(inputs, HOST)
    ends: dict[str, list[float]] = {}  # of the calls that staged something, by tier

    def run(queue: str, ready: float, seconds: float) -> float:
        start = max(ready, free.get(queue, 0.0))
        free[queue] = start + seconds
        busy[queue] = busy.get(queue, 0.0) + seconds
        return start + seconds

    def bring(value: str, tier: str) -> float:
        if (value, tier) not in there:
            now = there[value, origin[value]]
            for queue, seconds in ways.steps(origin[value], tier, sizes[value]):
                now = run(queue, now, seconds)
            there[value, tier] = now
        return there[value, tier]

    finish = 0.0
    for step in steps:
        ready = max((bring(value, step.tier) for value in step.needs), default=0.0)
        for source, nbytes in step.fetches:
            now = ends.get(step.tier, [0.0, 0.0])[-2]
            for queue, seconds in ways.steps(source, step.tier, nbytes):
                now = run(queue, now, seconds)
            ready = max(ready, now)
        end = run(step.device, ready, step.seconds)
        if step.fetches:
            ends.setdefault(step.tier, [0.0, 0.0]).append(end)
        for value in step.makes:
            there[value, step.tier], origin[value] = end, step.tier
        finish = max(finish, end)
    return Makespan(max([finish, *(bring(value, HOST) for value in outputs if value in origin)]), busy)
