"""The ring, the reads and the simulated queues, against a stepping checker, brute force and a plan that is known by hand."""

from __future__ import annotations

import random

import pytest
from stratac.ir.plan import Call, Plan, Queue, Read
from stratac.passes.schedule.simulate import Segments, latency, simulate_plan
from stratac.passes.schedule.stream_weights import check_stream, lay_ring, least_ring, padded, ring_sizes

BLOCK = 4096


def stream(seed: int) -> tuple[list[int], list[int], list[int], int]:
    """Users, sizes, needs of each call, and the number of calls."""
    rng = random.Random(seed)
    count = rng.randint(1, 12)
    users = [call for call in range(count) for _ in range(rng.choice((0, 0, 1, 1, 2)))] or [0]
    needs = [0] * count
    for number, user in enumerate(users):
        needs[user] = number + 1
    return users, [BLOCK * rng.randint(1, 9) for _ in users], needs, count


def plan_of(calls: list[Call], reads: list[Read]) -> Plan:
    queues = (Queue("cpu", tuple(calls)), Queue("io", (), tuple(reads)))
    return Plan("p", "t", (), 1, {}, (), (), (), (), (), 0, 0, (), queues)


@pytest.mark.parametrize("seed", range(150))
def test_every_ring_is_safe_and_reads_as_early_as_it_can(seed: int) -> None:
    users, sizes, needs, count = stream(seed)
    least = least_ring(users, sizes)
    assert lay_ring(users, sizes, count, least - BLOCK) is None
    different = ring_sizes(users, sizes, 1 << 30)
    for ring in range(least, sum(sizes) + 2 * BLOCK, BLOCK):
        layout = lay_ring(users, sizes, count, ring)
        assert layout is not None and layout.bytes <= ring
        assert check_stream(users, sizes, layout.offsets, layout.after, needs, ring) == []
        smaller = lay_ring(users, sizes, count, max(size for size in different if size <= ring))
        assert smaller is not None and smaller.offsets == layout.offsets
        for read in range(len(users)):  # one call earlier would overwrite something
            if read == 0 or layout.after[read] > layout.after[read - 1]:
                hasty = [*layout.after[:read], layout.after[read] - 1, *layout.after[read + 1 :]]
                hasty[:read] = [min(wait, hasty[read]) for wait in hasty[:read]]
                assert read == 0 or check_stream(users, sizes, layout.offsets, hasty, needs, ring)
        late = [user + 1 for user in users]
        assert "waits for it" in check_stream(users, sizes, layout.offsets, late, needs, ring)[0]


@pytest.mark.parametrize("seed", range(100))
def test_the_fast_simulation_says_what_the_plan_does(seed: int) -> None:
    users, sizes, needs, count = stream(seed)
    rng = random.Random(seed)
    work, times = [rng.random() for _ in range(count)], [rng.random() for _ in users]
    calls = [Call(0, (), False, 0, "", work[c], needs=needs[c]) for c in range(count)]
    reading = sorted(set(users))
    before, done = [], 0
    for call in reading:
        before.append(sum(work[done:call]))
        done = call + 1
    segments = Segments(before, [work[call] for call in reading], sum(work[done:]))
    slots = [reading.index(user) for user in users]
    for ring in ring_sizes(users, sizes, 1 << 30):
        layout, short = lay_ring(users, sizes, count, ring), lay_ring(slots, sizes, len(reading), ring)
        assert layout is not None and short is not None
        reads = [Read(0, size, 0, after, "", t) for size, after, t in zip(sizes, layout.after, times, strict=True)]
        timeline = simulate_plan(plan_of(calls, reads))
        assert latency(segments, slots, times, short.after) == pytest.approx(timeline.seconds, rel=1e-9)
        assert timeline.seconds >= max(sum(work), sum(times)) * (1 - 1e-9)
        assert timeline.seconds == pytest.approx(sum(work) + timeline.stalled)
        spans = {(span.queue, span.number): span for span in timeline.spans}
        for number, user in enumerate(users):
            assert spans["io", number].end <= spans["cpu", user].start + 1e-9
            if layout.after[number] > 0:
                assert spans["io", number].start >= spans["cpu", layout.after[number] - 1].end - 1e-9


def test_a_run_by_hand() -> None:
    """Two calls of 1 s, two reads of 2 s into one place: nothing overlaps but the second call with nothing at all."""
    calls = [Call(0, (), False, 0, "a", 1.0, needs=1), Call(0, (), False, 0, "b", 1.0, needs=2)]
    layout = lay_ring([0, 1], [BLOCK, BLOCK], 2, BLOCK)
    assert layout is not None and layout.after == [0, 1] and layout.offsets == [0, 0]
    timeline = simulate_plan(plan_of(calls, [Read(0, BLOCK, 0, after, "", 2.0) for after in layout.after]))
    assert (timeline.seconds, timeline.first, timeline.stalled) == (6.0, 6.0, 4.0)
    two = lay_ring([0, 1], [BLOCK, BLOCK], 2, 2 * BLOCK)
    assert two is not None and two.after == [-1, 0] and two.offsets == [0, BLOCK]
    timeline = simulate_plan(plan_of(calls, [Read(0, BLOCK, 0, after, "", 2.0) for after in two.after]))
    assert (timeline.seconds, timeline.first) == (4.0, 5.0)  # reads bind; the first of a run begins in the one before
    assert next(span.start for span in timeline.spans if span.queue == "io") == -1.0


def test_padding() -> None:
    assert [padded(n) for n in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
