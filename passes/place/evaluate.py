"""What a decision costs: bytes by the ledger, seconds by the simulation of the queues. The searches ask nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...ir.plan import READ_ALIGNMENT
from ..schedule.ledger import workspace_bytes
from ..schedule.simulate import Segments, latency
from ..schedule.stream_weights import RingLayout, lay_ring, padded, ring_sizes
from .problem import Decision, Option, Problem, chosen, storage_bytes

#: how much slower than predicted the reads may be that a plan should bear
STRESS = 1.5


@dataclass(frozen=True)
class Outcome:
    """A decision that keeps the budgets, with its predicted seconds; the ring is as large as it is used."""

    decision: Decision
    seconds: float

    @property
    def rank(self) -> tuple[float, int, int, tuple[int, ...], tuple[int, ...]]:
        """Fewer seconds, then a smaller ring and fewer resident weights; then numbers, so that ties break the same way."""
        d = self.decision
        return (self.seconds, d.ring, len(d.resident), d.options, tuple(sorted(d.resident)))


class Evaluator:
    """Evaluates sets of resident stores under one choice of options."""

    def __init__(self, problem: Problem, options: tuple[int, ...]) -> None:
        self.problem, self.options = problem, options
        self.chosen: list[Option] = chosen(problem, Decision(options, frozenset(), 0))
        self.uses = [(k, s) for k, option in enumerate(self.chosen) for s in option.stores]
        self.used = frozenset(s for _, s in self.uses)
        self.direct = frozenset(s for option in self.chosen for s in option.direct)
        self.until = [0.0]  # seconds of the calls in front of each
        for option in self.chosen:
            self.until.append(self.until[-1] + option.seconds)
        self.compute = self.until[-1]
        self.known: dict[tuple[frozenset[int], int], tuple[float, int] | None] = {}
        self.count = 0  # simulations made

        rows = problem.stores
        self.resident = [row.resident for row in rows]
        self.padded = [row.padded for row in rows]
        self.seconds_of = [row.seconds for row in rows]
        self.must_stay = frozenset(s for s in self.used if not rows[s].may_stream)
        self.can_stay = frozenset(s for s in self.used if rows[s].may_stay) - self.direct
        self.beside = problem.fixed + problem.threads * workspace_bytes(option.workspace for option in self.chosen)
        # in storage, were all streamed
        self.stored = problem.states.initial + sum(self.padded[s] for s in self.used | self.direct)
        groups = [
            (sum(self.padded[s] for s in option.stores), option.stores) for option in self.chosen if option.stores
        ]
        self.groups = sorted(groups, key=lambda group: -group[0])  # what each call reads, the most bytes first

    def keep(self, resident: Iterable[int]) -> frozenset[int]:
        """The stores of a set that can stay in memory: used, and not read from storage by a kernel."""
        return self.can_stay.intersection(resident)

    def reads(self, resident: frozenset[int]) -> tuple[list[int], list[int]]:
        """Reads in order: cluster and store of each."""
        pairs = [pair for pair in self.uses if pair[1] not in resident]
        return [k for k, _ in pairs], [s for _, s in pairs]

    def io(self, resident: frozenset[int]) -> float:
        """Seconds of all reads."""
        return sum(self.seconds_of[s] for _, s in self.uses if s not in resident)

    def least(self, resident: frozenset[int]) -> int:
        """The smallest ring."""
        most = 0
        for total, stores in self.groups:
            if total <= most:
                break
            most = max(most, sum(self.padded[s] for s in stores if s not in resident))
        return most

    def held(self, resident: frozenset[int]) -> int:
        """Bytes of ram without a ring: what `problem.ram_bytes` says."""
        total = sum(map(self.resident.__getitem__, resident))
        storage = len(resident) < len(self.used) or bool(self.direct)
        return self.beside + (padded(total) if storage else total)

    def room(self, resident: frozenset[int]) -> int:
        """The greatest ring, in whole blocks, that the budget leaves; may be negative."""
        return (self.problem.budget - self.held(resident)) // READ_ALIGNMENT * READ_ALIGNMENT

    def fits(self, resident: frozenset[int]) -> bool:
        """Whether the budgets leave room for these and the smallest ring, and all others can be streamed."""
        if not self.must_stay <= resident or self.room(resident) < self.least(resident):
            return False
        limit = self.problem.storage_budget
        if self.stored + sum(map(self.resident.__getitem__, resident)) <= limit:
            return True
        return storage_bytes(self.problem, Decision(self.options, resident, 0)) <= limit

    def layout(self, resident: frozenset[int], ring: int) -> tuple[list[int], list[int], RingLayout | None]:
        """Reads, numbered over the calls that read, and their places."""
        users, stores = self.reads(resident)
        numbers = {k: n for n, k in enumerate(dict.fromkeys(users))}
        users = [numbers[k] for k in users]
        return users, stores, lay_ring(users, [self.padded[s] for s in stores], len(numbers), ring)

    def segments(self, resident: frozenset[int]) -> Segments:
        reading = list(dict.fromkeys(self.reads(resident)[0]))
        before, done = [], 0.0
        for k in reading:
            before.append(self.until[k] - done)
            done = self.until[k + 1]
        stores = self.problem.stores
        work = [
            self.chosen[k].seconds + sum(stores[s].cores for s in self.chosen[k].stores if s not in resident)
            for k in reading
        ]
        return Segments(before, work, self.compute - done)

    def seconds(self, resident: frozenset[int], ring: int) -> tuple[float, int] | None:
        """Predicted latency with a ring of at most so many bytes, and the bytes of it that are used."""
        key = (resident, ring)
        if key not in self.known:
            users, stores, layout = self.layout(resident, ring)
            if layout is None:
                self.known[key] = None
            else:
                self.count += 1
                times = [self.seconds_of[s] for s in stores]
                self.known[key] = (latency(self.segments(resident), users, times, layout.after), layout.bytes)
        return self.known[key]

    def stressed(self, outcome: Outcome) -> float:
        """Predicted latency where every read takes STRESS times as long: what tells plans of equal seconds apart."""
        users, stores, layout = self.layout(outcome.decision.resident, outcome.decision.ring)
        assert layout is not None
        times = [STRESS * self.seconds_of[s] for s in stores]
        return latency(self.segments(outcome.decision.resident), users, times, layout.after)

    def outcome(self, resident: frozenset[int], ring: int | None = None) -> Outcome | None:
        """With the ring given or the greatest there is room for; None where that is too small."""
        if ring is None:
            if not self.fits(resident):
                return None
            ring = self.room(resident)
        found = self.seconds(resident, ring)
        return None if found is None else Outcome(Decision(self.options, resident, found[1]), found[0])

    def best_ring(self, resident: frozenset[int], most: int = 24) -> Outcome | None:
        """The best of the rings that fit: all of them, or the `most` largest and smallest of many."""
        if not self.fits(resident):
            return None
        users, stores = self.reads(resident)
        sizes = ring_sizes(users, [self.padded[s] for s in stores], self.room(resident))
        if len(sizes) > most:
            sizes = sizes[: most // 4] + sizes[-(most - most // 4) :]
        found = [outcome for ring in sizes or [0] if (outcome := self.outcome(resident, ring)) is not None]
        return min(found, key=lambda outcome: outcome.rank, default=None)

    def stalls(self, outcome: Outcome) -> list[tuple[float, int]]:
        """How long the calls waited for each read's store: seconds and store, in order of use."""
        users, stores, layout = self.layout(outcome.decision.resident, outcome.decision.ring)
        assert layout is not None
        waits: list[float] = []
        times = [self.seconds_of[s] for s in stores]
        latency(self.segments(outcome.decision.resident), users, times, layout.after, waits.extend)
        return [(waits[user], store) for user, store in zip(users, stores, strict=True)]


def predict(problem: Problem, decision: Decision) -> float:
    """Seconds of a decision that is known to fit."""
    found = Evaluator(problem, decision.options).seconds(decision.resident, decision.ring)
    assert found is not None
    return found[0]
