"""Streaming: where in the ring each read puts its weight, and after which call it may start; an independent checker.

Reads happen in the order of use, so the ring is a circular queue of bytes: a read goes behind the one before it, or to the
ring's start where it would straddle the end. What one call reads stands together; then the smallest ring that works is the
most bytes any call reads. A read may start once the last call that uses what it overwrites is complete, that is as early as
the ring allows. Every run begins at the ring's start, so that offsets are the same in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.plan import READ_ALIGNMENT


def padded(count: int) -> int:
    """Bytes of a weight in storage and in the ring: whole blocks of READ_ALIGNMENT."""
    return -(-count // READ_ALIGNMENT) * READ_ALIGNMENT


@dataclass(frozen=True)
class RingLayout:
    """For each read its offset in the ring and its `Read.after`; `bytes` is what of the ring is used."""

    offsets: list[int]
    after: list[int]
    bytes: int


def least_ring(users: Sequence[int], sizes: Sequence[int]) -> int:
    """The smallest ring that works: the most bytes one call reads."""
    most = top = 0
    for position, size in enumerate(sizes):
        top = top + size if position and users[position - 1] == users[position] else size
        most = max(most, top)
    return most


def ring_sizes(users: Sequence[int], sizes: Sequence[int], limit: int) -> list[int]:
    """Every ring up to `limit` bytes that differs from a smaller one, ascending: the layout changes only where a further group of
    reads fits in front of the ring's end, so these are sums of consecutive groups."""
    groups: list[int] = []
    for position, size in enumerate(sizes):
        if position and users[position - 1] == users[position]:
            groups[-1] += size
        else:
            groups.append(size)
    least = max(groups, default=0)
    found = set()
    for first in range(len(groups)):
        total = 0
        for size in groups[first:]:
            total += size
            if total > limit:
                break
            if total >= least:
                found.add(total)
    return sorted(found)


def lay_ring(users: Sequence[int], sizes: Sequence[int], count: int, ring: int) -> RingLayout | None:
    """Place reads: `users[i]` is the call, of `count`, that read i is for, non-decreasing; `sizes[i]` its padded bytes.

    None where the ring is smaller than what one call reads.
    """
    offsets: list[int] = []
    head = position = 0
    while position < len(sizes):
        end = position + 1
        while end < len(sizes) and users[end] == users[position]:
            end += 1
        group = sum(sizes[position:end])
        if group > ring:
            return None
        if head + group > ring:
            head = 0
        for size in sizes[position:end]:
            offsets.append(head)
            head += size
        position = end
    return RingLayout(offsets, _after(users, sizes, offsets, count), _extent(offsets, sizes))


def _extent(offsets: Sequence[int], sizes: Sequence[int]) -> int:
    return max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)


def _after(users: Sequence[int], sizes: Sequence[int], offsets: Sequence[int], count: int) -> list[int]:
    """Two runs in a row; the second one gives the answer. A read waits for the users of what it overwrites, which is of the lap of
    the ring before: what is older has been waited for by the read at the ring's start."""
    lap: list[tuple[int, int]] = []  # of this lap: start, and calls complete when it may go
    before, gone = lap, 0  # of the lap before, and how many of it are overwritten
    after: list[int] = []
    waits = -count
    for base in (-count, 0):
        after = []
        for user, size, start in zip(users, sizes, offsets, strict=True):
            if start == 0:
                before, gone, lap = lap, 0, []
            while gone < len(before) and before[gone][0] < start + size:
                waits = max(waits, before[gone][1])
                gone += 1
            lap.append((start, base + user + 1))
            after.append(waits)
    return after


def check_stream(
    users: Sequence[int],
    sizes: Sequence[int],
    offsets: Sequence[int],
    after: Sequence[int],
    needs: Sequence[int],
    ring: int,
    runs: int = 3,
) -> list[str]:
    """Every violation in `runs` runs, found by letting each read happen as early as it may, block by block. `needs` has one
    number for each call. Shares nothing with the planner."""
    count, problems = len(needs), []
    holds: dict[int, tuple[int, int]] = {}  # block of the ring -> run and read whose bytes it has
    done = 0  # reads, over all runs
    for read, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
        if offset < 0 or offset + size > ring or offset % READ_ALIGNMENT or size % READ_ALIGNMENT or not size:
            problems.append(f"read {read} leaves the ring or is not aligned")
    if problems:
        return problems
    for step in range(runs * count):
        run, call = divmod(step, count)
        while done < runs * len(sizes):
            ahead, read = divmod(done, len(sizes))
            if ahead * count + after[read] > step:
                break
            start = offsets[read] // READ_ALIGNMENT
            for block in range(start, start + sizes[read] // READ_ALIGNMENT):
                holds[block] = (ahead, read)
            done += 1
        if done < run * len(sizes) + needs[call]:
            return [*problems, f"run {run}: call {call} waits for read {needs[call] - 1}, which waits for it"]
        for read in (number for number, user in enumerate(users) if user == call):
            start = offsets[read] // READ_ALIGNMENT
            blocks = range(start, start + sizes[read] // READ_ALIGNMENT)
            if needs[call] <= read:
                problems.append(f"run {run}: call {call} does not wait for read {read}")
            if any(holds.get(block) != (run, read) for block in blocks):
                problems.append(f"run {run}: call {call} finds other bytes than those of read {read}")
    return problems
