"""The verifier of a plan's streaming: what is read fits where it goes, is there when its call runs, and overwrites nothing needed.

Shares nothing with the planner: it looks at pairs of reads whose bytes of the ring overlap, and asks whether the later one
waits for the last user of the earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import NoReturn

from .plan import READ_ALIGNMENT, Arg, Plan

Fail = Callable[..., NoReturn]


def is_resident(plan: Plan, weight: int) -> bool:
    """Whether a weight lies in the part of weights.bin that is in memory, read or mapped."""
    return plan.weights[weight].offset < plan.resident_bytes or not plan.weights[weight].bytes


def is_mapped(plan: Plan, weight: int) -> bool:
    """Whether a weight is pages of weights.bin."""
    entry = plan.weights[weight]
    return bool(entry.bytes) and plan.resident_bytes - plan.mapped_bytes <= entry.offset < plan.resident_bytes


def read_weights(plan: Plan) -> dict[int, int]:
    """The weight that each buffer of the ring holds, by numbers of both, for reads that read a weight."""
    starts = {entry.offset: number for number, entry in enumerate(plan.weights) if entry.bytes}
    return {read.buffer: starts[read.offset] for read in plan.reads if read.offset in starts}


def check_reads(plan: Plan, fail: Fail) -> None:
    """Call `fail(what, where, hint)` for the first rule broken."""
    rings = [number for number, arena in enumerate(plan.arenas) if arena.kind == "ring"]
    if len(rings) > 1 or len(rings) != bool(plan.reads):
        fail(f"the plan has {len(rings)} rings and {len(plan.reads)} reads", "", "one ring where anything is read")
    for queue in plan.queues:
        if queue.name != ("io" if queue.reads else "cpu") or (queue.calls and queue.reads):
            what = f"queue {queue.name!r} has {len(queue.calls)} calls and {len(queue.reads)} reads"
            fail(what, "", "calls run on the queue cpu, reads on the queue io")
    if sum(queue.name == "io" for queue in plan.queues) > 1:
        fail("several queues have reads", "", "they share one ring")
    for number in range(len(plan.reads)):
        _check_read(plan, number, fail)
    filled = [read.buffer for read in plan.reads]
    for number, buffer in enumerate(plan.buffers):
        if buffer.arena in rings and filled.count(number) != 1:
            fail(f"buffer {number} (%{buffer.name}) lies in the ring and is read to {filled.count(number)} times")
    users = [plan.buffers[read.buffer].first for read in plan.reads]
    if users != sorted(users):
        late = next(n for n in range(1, len(users)) if users[n] < users[n - 1])
        fail("is for a call before that of the read in front of it", f"read {late} ({plan.reads[late].label})")
    _check_waits(plan, fail)
    _check_ring(plan, fail)


def _check_read(plan: Plan, number: int, fail: Fail) -> None:
    read = plan.reads[number]
    where = f"read {number} ({read.label})"
    if read.offset % READ_ALIGNMENT or read.bytes % READ_ALIGNMENT or read.bytes <= 0:
        fail(f"reads {read.offset} + {read.bytes}", where, f"whole blocks of {READ_ALIGNMENT} bytes")
    entries = [entry for entry in plan.weights if entry.offset == read.offset and entry.bytes]
    if not entries or read.offset < plan.resident_bytes:
        fail(f"reads at {read.offset}, where no streamed weight starts", where)
    if read.bytes != -(-entries[0].bytes // READ_ALIGNMENT) * READ_ALIGNMENT:
        fail(f"reads {read.bytes} bytes of {entries[0].name}, which has {entries[0].bytes}", where)
    if not 0 <= read.buffer < len(plan.buffers):
        fail(f"reads to buffer {read.buffer}, which does not exist", where)
    buffer = plan.buffers[read.buffer]
    if plan.arenas[buffer.arena].kind != "ring":
        fail(f"reads to %{buffer.name}, which is not in the ring", where)
    if buffer.bytes != read.bytes or buffer.offset % READ_ALIGNMENT:
        fail(f"reads {read.bytes} bytes to %{buffer.name} at {buffer.offset} + {buffer.bytes}", where)
    if abs(read.after) > len(plan.calls):
        fail(f"starts after {read.after} calls, and the plan has {len(plan.calls)}", where)
    if not math.isfinite(read.seconds) or read.seconds < 0:
        fail("predicts a number that is negative or not finite", where)


def _check_waits(plan: Plan, fail: Fail) -> None:
    """Calls wait for what they use; no read waits for a call that waits for it."""
    reads = {read.buffer: number for number, read in enumerate(plan.reads)}
    for number, call in enumerate(plan.calls):
        where = f"call {number} ({call.label})"
        if not 0 <= call.needs <= len(plan.reads):
            fail(f"needs {call.needs} reads, and the plan has {len(plan.reads)}", where)
        for arg in call.args:
            if arg.space == "buffer" and reads.get(arg.index, -1) >= call.needs:
                fail(f"uses %{plan.buffers[arg.index].name} and does not wait for read {reads[arg.index]}", where)
    needed = list(accumulate((call.needs for call in plan.calls), max, initial=0))
    for number, wait in enumerate(accumulate((read.after for read in plan.reads), max)):
        if wait > 0 and needed[wait] > number:
            where = f"read {number} ({plan.reads[number].label})"
            fail(f"waits for call {wait - 1}, or one before it, which waits for it", where)


def _check_ring(plan: Plan, fail: Fail) -> None:
    """A read that overwrites bytes of another starts after that one's last user, of this run or the one before."""
    if not plan.reads:
        return
    count = len(plan.calls)
    held = max(read.after for read in plan.reads) - count  # what the run before already waited for
    waits = list(accumulate((read.after for read in plan.reads), max, initial=held))[1:]
    spans = sorted(
        (b.offset, b.offset + b.bytes, number, b.last)
        for number, b in ((n, plan.buffers[read.buffer]) for n, read in enumerate(plan.reads))
    )
    for position, (_, end, low, low_last) in enumerate(spans):
        for start, _, high, high_last in spans[position:]:
            if start >= end:
                break
            for late, early, last in ((low, high, high_last), (high, low, low_last)):
                wanted = last + 1 - (0 if early < late else count)
                if waits[late] < wanted:
                    what = f"may overwrite read {early} while call {last} still needs it"
                    fail(what, f"read {late} ({plan.reads[late].label})", f"it may start after {wanted} calls")


def stored_args(plan: Plan) -> dict[Arg, int]:
    """The arguments that stand for weights, each with the weight's number."""
    found = {Arg(space, number): number for number in range(len(plan.weights)) for space in ("weight", "file")}
    return found | {Arg("buffer", buffer): weight for buffer, weight in read_weights(plan).items()}
