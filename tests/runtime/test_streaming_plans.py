"""Plans that stream and are wrong: every field that a read or the ring has is checked when the plan is opened."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from stratac.ir.errors import StratacError
from stratac.ir.plan import Arg, Plan, Queue, Read
from stratac.runtime.session import load
from stratac.tests.runtime.streamed import digests, small, write_streamed

replace = dataclasses.replace


def with_read(plan: Plan, index: int, **changes: object) -> Plan:
    """One read changed."""
    cpu, io = plan.queues
    reads = list(io.reads)
    reads[index] = replace(reads[index], **changes)  # type: ignore[arg-type]
    return replace(plan, queues=(cpu, replace(io, reads=tuple(reads))))


def with_call(plan: Plan, index: int, **changes: object) -> Plan:
    """One call changed."""
    cpu, io = plan.queues
    calls = list(cpu.calls)
    calls[index] = replace(calls[index], **changes)  # type: ignore[arg-type]
    return replace(plan, queues=(replace(cpu, calls=tuple(calls)), io))


def with_arena(plan: Plan, index: int, **changes: object) -> Plan:
    arenas = list(plan.arenas)
    arenas[index] = replace(arenas[index], **changes)  # type: ignore[arg-type]
    return replace(plan, arenas=tuple(arenas))


def with_buffer(plan: Plan, index: int, **changes: object) -> Plan:
    buffers = list(plan.buffers)
    buffers[index] = replace(buffers[index], **changes)  # type: ignore[arg-type]
    return replace(plan, buffers=tuple(buffers))


def wrong_plans() -> list[tuple[str, Plan]]:
    plan = small().plan
    cpu, io = plan.queues
    ring = plan.arenas[3]
    first: Read = plan.reads[0]
    lookup = next(i for i, c in enumerate(plan.calls) if c.args[0].space == "file")
    held = next(i for i, c in enumerate(plan.calls) if c.args[0].space == "weight")
    count = len(plan.calls)
    big = replace(plan.weights[0], bytes=plan.resident_bytes + 64)
    file, weight = plan.calls[lookup].args[0], plan.calls[held].args[0]
    return [
        ("read 0: it is not aligned, or empty", with_read(plan, 0, offset=first.offset + 64)),
        ("read 0: it is not aligned, or empty", with_read(plan, 0, bytes=first.bytes - 64)),
        ("read 0: it is not aligned, or empty", with_read(plan, 0, bytes=0)),
        ("read 0: it lies outside the streamed part", with_read(plan, 0, offset=0)),
        ("read 0: it lies outside the streamed part", with_read(plan, 0, offset=plan.weights_bytes)),
        ("read 0: it lies outside the streamed part", with_read(plan, 0, offset=(1 << 64) - 4096)),
        ("read 0: an unknown buffer", with_read(plan, 0, buffer=99)),
        ("read 0: its buffer does not lie in the ring", with_read(plan, 0, buffer=0)),
        ("read 1: its buffer is too small", with_read(plan, 1, bytes=plan.reads[1].bytes + 4096)),
        ("read 0: it starts after a call that is more than a run away", with_read(plan, 0, after=-count - 1)),
        ("read 0: it starts after a call that is more than a run away", with_read(plan, 0, after=count + 1)),
        ("read 0: it waits for a call that waits for it", with_read(plan, 0, after=2)),
        ("read 1: it waits for a call that waits for it", with_read(plan, 1, after=6)),
        ("call 1: it needs more reads than there are", with_call(plan, 1, needs=len(plan.reads) + 1)),
        ("call 1: it uses a buffer of the ring and does not wait", with_call(plan, 1, needs=0)),
        ("call 2: it uses a buffer of the ring and does not wait", with_call(plan, 2, needs=1)),
        ("it takes a weight from memory that stays", with_call(plan, lookup, args=(Arg("weight", file.index),))),
        ("it takes a weight from storage that is", with_call(plan, held, args=(Arg("file", weight.index),))),
        ("arg .: it refers to nothing", with_call(plan, 1, args=(Arg("file", 99),))),
        ("arena 4: there is a ring before it", replace(plan, arenas=(*plan.arenas, ring))),
        ("arena 4: there is an arena of weights", replace(plan, arenas=(*plan.arenas, plan.arenas[0]))),
        ("arena 3: its bytes are not a multiple", with_arena(plan, 3, bytes=ring.bytes + 64)),
        ("arena of weights has not the size", with_arena(plan, 0, bytes=plan.resident_bytes + 4096)),
        ("larger than weights.bin", replace(plan, resident_bytes=plan.weights_bytes + 4096)),
        ("streamed part of weights.bin is not aligned", replace(plan, weights_bytes=plan.weights_bytes + 64)),
        ("buffer 1: it is in no scratch arena and no ring", with_buffer(plan, 1, arena=0)),
        ("buffer 1: its offset is not aligned", with_buffer(plan, 1, offset=64)),
        ("buffer 1: it lies outside its arena", with_buffer(plan, 1, offset=ring.bytes)),
        ("weight 0: it lies between the resident and", replace(plan, weights=(big, *plan.weights[1:]))),
        ("queue 2: a queue of its name", replace(plan, queues=(cpu, io, Queue("io")))),
        ("queue 0: it has what belongs", replace(plan, queues=(replace(cpu, reads=io.reads), replace(io, reads=())))),
        ("queue 1: this runtime has no such queue", replace(plan, queues=(cpu, replace(io, name="net")))),
        ("reads and no calls", replace(plan, queues=(io,))),
    ]


@pytest.mark.parametrize("number", range(len(wrong_plans())))
def test_refused(streaming: Path, tmp_path: Path, number: int) -> None:
    message, plan = wrong_plans()[number]
    made = small()
    data = made.data().ljust(plan.weights_bytes, b"\0")
    folder = write_streamed(tmp_path / "plan", replace(made, plan=plan), streaming, data)
    for io in ("auto", "mmap"):
        with pytest.raises(StratacError, match=f"plan.bin is malformed.*{message}"):
            load(folder, io=io)


def test_all_cases_are_one_change_away_from_a_plan_that_loads(streaming: Path, tmp_path: Path) -> None:
    made = small()
    load(write_streamed(tmp_path / "plan", made, streaming)).close()
    assert len(digests(made.plan, made.data()).files) == 1
    assert all(plan != made.plan for _, plan in wrong_plans())
