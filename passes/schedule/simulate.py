"""What a plan's queues do over time: calls in order on one, reads in order on the other, each waiting where the plan says so.

Predicted seconds go in, the latency of a run comes out: of the first one, whose ring is empty, and of runs back to back, where
the first reads of a run happen while the one before ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...ir.plan import Call, Plan, Read
from .regions import unlikely

#: runs until the latency repeats are at most this many; it nearly always repeats after two
RUNS = 10
_SAME = 1e-12


@dataclass(frozen=True)
class Span:
    """What one instruction did: seconds from the start of its run, negative for reads that begin before; `waited` is how long
    its queue stood still for it."""

    queue: str
    number: int
    label: str
    start: float
    end: float
    waited: float


@dataclass(frozen=True)
class Timeline:
    """One run of runs back to back: its spans, seconds, and those of them in which calls waited for reads. `first` is the
    latency of the first run."""

    spans: tuple[Span, ...]
    seconds: float
    stalled: float
    first: float


def simulate_plan(plan: Plan) -> Timeline:
    """The timeline of a plan, from the plan alone."""
    calls, reads = plan.calls, plan.reads
    out = unlikely(calls, plan.regions)
    calls = tuple(replace(call, seconds=0.0) if number in out else call for number, call in enumerate(calls))
    runs: list[_Run] = []
    while len(runs) < RUNS:
        runs.append(_run(calls, reads, runs[-1] if runs else None))
        if len(runs) > 1 and abs(runs[-1].seconds - runs[-2].seconds) <= _SAME * runs[-1].seconds:
            break
    run = runs[-1]
    queues: tuple[tuple[str, Sequence[Call | Read], list[tuple[float, float, float]]], ...] = (
        ("cpu", calls, run.calls),
        ("io", reads, run.reads),
    )
    spans = [
        Span(queue, number, one.label, start - run.begin, end - run.begin, waited)
        for queue, instructions, times in queues
        for number, (one, (start, end, waited)) in enumerate(zip(instructions, times, strict=True))
    ]
    return Timeline(tuple(spans), run.seconds, sum(waited for _, _, waited in run.calls), runs[0].seconds)


@dataclass(frozen=True)
class _Run:
    """Begin and end of a run, and start, end and wait of its instructions, in seconds from the first run's begin."""

    begin: float
    end: float
    calls: list[tuple[float, float, float]]
    reads: list[tuple[float, float, float]]

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def _run(calls: Sequence[Call], reads: Sequence[Read], before: _Run | None) -> _Run:
    """One run behind another."""
    begin = now = before.end if before else 0.0
    io = before.reads[-1][1] if before and reads else 0.0
    done: list[tuple[float, float, float]] = []
    got: list[tuple[float, float, float]] = []

    def complete(count: int) -> float:
        """When so many calls of this run are complete; those of the run before count down from 0."""
        if count > 0:
            return done[count - 1][1]
        if before is None or count <= -len(calls):
            return 0.0
        return before.calls[len(calls) + count - 1][1]

    for call in calls:
        while len(got) < call.needs:
            read = reads[len(got)]
            start = max(io, complete(read.after))
            got.append((start, start + read.seconds, start - io))
            io = start + read.seconds
        start = max(now, got[call.needs - 1][1]) if call.needs else now
        done.append((start, start + call.seconds, start - now))
        now = start + call.seconds
    return _Run(begin, now, done, got)


@dataclass(frozen=True)
class Segments:
    """Calls that read, with what runs between them: the same queues without the calls that never wait.

    `before[k]` seconds of other calls come in front of reading call k, which takes `work[k]`; `tail` comes behind the last.
    """

    before: Sequence[float]
    work: Sequence[float]
    tail: float


def latency(
    segments: Segments,
    users: Sequence[int],
    seconds: Sequence[float],
    after: Sequence[int],
    waits: Callable[[list[float]], None] | None = None,
) -> float:
    """Seconds of a run of runs back to back: what `simulate_plan` says, at the speed a search needs.

    `users`, `seconds` and `after` are those of each read, over the reading calls only. `waits` is told how long each of them
    stood still in the last run.
    """
    before, work, tail = segments.before, segments.work, segments.tail
    count, reads = len(work), len(users)
    now = io = 0.0
    last: list[float] = []
    took: list[float] = []
    stalls: list[float] = []
    for number in range(RUNS):
        began, position = now, 0
        ends: list[float] = []
        stalls = []
        for call in range(count):
            now += before[call]
            ready = 0.0
            while position < reads and users[position] == call:
                wait = after[position]
                if wait > 0:
                    free = ends[wait - 1]
                else:
                    free = last[count + wait - 1] if number and wait > -count else 0.0
                io = (free if free > io else io) + seconds[position]
                ready = io
                position += 1
            stalls.append(ready - now if ready > now else 0.0)
            if ready > now:
                now = ready
            now += work[call]
            ends.append(now)
        now += tail
        took.append(now - began)
        if number and abs(took[-1] - took[-2]) <= _SAME * took[-1]:
            break
        last = ends
    if waits is not None:
        waits(stalls)
    return took[-1]
