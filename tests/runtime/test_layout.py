"""Where buffers lie at dims smaller than the greatest: apart while they are in use at once, as low as that allows."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from stratac.codegen.toolchain import ToolchainOptions, Unit, compile_library, runtime_units
from stratac.ir.dims import Bounds, Shape, evaluate, symbol, upper
from stratac.ir.errors import PlanError
from stratac.ir.plan import ALIGNMENT, Arena, Arg, Buffer, Call, Plan, PlanPort, Queue
from stratac.ir.plan_binary import encode
from stratac.ir.types import TensorType, i64, u8
from stratac.passes.schedule.liveness import Lifetime, aligned
from stratac.passes.schedule.plan_memory import plan_memory
from stratac.passes.schedule.waits import Touch, barriers
from stratac.runtime.manifest import plan_fields, write_manifest
from stratac.runtime.session import load
from stratac.tests.runtime.tiny import STRICT

BUFFERS, IDENTITY = 14, 0x1A
SYMBOLS = {"n": Bounds(1, 3, 40), "m": Bounds(0, 2, 9), "found": Bounds(0, 1, 50)}
KERNELS = """
#include "kernel_abi.h"

static void l_nothing(void *const *args, const int64_t *dims, int part, int parts)
{
    (void)args, (void)dims, (void)part, (void)parts;
}

/* The offset of each buffer from the first, which lies where the arena begins. */
static void l_where(void *const *args, const int64_t *dims, int part, int parts)
{
    int64_t *to = args[0];
    (void)dims, (void)part, (void)parts;
    for (int64_t i = 0; i < BUFFERS; i++)
        to[i] = (char *)args[2 + i] - (char *)args[1];
}

static void l_find(void *const *args, const int64_t *dims, int part, int parts)
{
    (void)dims, (void)part, (void)parts;
    *(int64_t *)args[0] = 7;
}

const st_kernel st_plan_kernels[] = {l_nothing, l_where, l_find};
const st_kernel st_plan_before[3];
const char *const st_plan_kernel_names[] = {"l_nothing", "l_where", "l_find"};
const int st_plan_kernel_count = 3;
const uint64_t st_plan_id = IDENTITY;
""".replace("BUFFERS", str(BUFFERS)).replace("IDENTITY", str(IDENTITY))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """libplan.so of all plans here."""
    folder = tmp_path_factory.mktemp("layout")
    options: ToolchainOptions = dataclasses.replace(STRICT, cache=folder / "cache")
    unit = Unit("src/layout.c", text=KERNELS, includes=runtime_units()[0].includes)
    compile_library((*runtime_units(), unit), folder / "libplan.so", options=options)
    return (folder / "libplan.so").read_bytes()


def random_type(rng: random.Random) -> TensorType:
    n, m, found = (symbol(name) for name in SYMBOLS)
    shapes: list[Shape] = [(n, 64), (n, m), (n * n,), (m, 200), (41 - n, 30), (100,), (found,), (n, found), (0, n)]
    return TensorType(rng.choice((u8, i64)), rng.choice(shapes))


def random_plan(rng: random.Random) -> Plan:
    """Calls that each touch what begins, ends or goes on there; waits and offsets as for any other plan."""
    count = rng.randint(1, 12)
    lives, types = [], []
    for number in range(BUFFERS):
        first = rng.randrange(count)
        types.append(random_type(rng))
        size = aligned(upper(types[-1].nbytes, SYMBOLS))
        lives.append(Lifetime(str(number), size, first, min(count - 1, first + rng.choice((0, 0, 1, 1, 2, 5)))))
    memory = plan_memory(lives)
    touched = [
        [
            Touch("", memory.offsets[x.value], memory.offsets[x.value] + x.bytes, x.first == at)
            for x in lives
            if at in (x.first, x.last)
        ]
        for at in range(count)
    ]
    base = Buffer("base", 0, 0, 0, 0, 0, TensorType(u8, (0,)))
    buffers = [
        Buffer(x.value, 0, memory.offsets[x.value], x.bytes, x.first, x.last, t)
        for x, t in zip(lives, types, strict=True)
    ]
    calls = [Call(0, (), flag, 0, "nothing", 0.0) for flag in barriers(touched)]
    places = [Arg("buffer", i) for i in range(1 + BUFFERS)]
    calls += [
        Call(1, (Arg("output", 0), *places), True, 1, "where", 0.0),
        Call(2, (Arg("dim", 2),), True, 1, "find", 0.0),
    ]
    return Plan(
        name="layout",
        target="any",
        features=(),
        threads=1,
        symbols=SYMBOLS,
        inputs=(PlanPort("x", TensorType(u8, (symbol("n"),))), PlanPort("y", TensorType(u8, (symbol("m"),)))),
        outputs=(PlanPort("at", TensorType(i64, (BUFFERS,))),),
        arenas=(Arena("scratch", "scratch", "ram", memory.bytes), Arena("work", "workspace", "ram", 64)),
        buffers=(base, *buffers),
        weights=(),
        weights_bytes=0,
        resident_bytes=0,
        kernels=("l_nothing", "l_where", "l_find"),
        queues=(Queue("cpu", tuple(calls)),),
        seconds=0.0,
        notes={},
    )


def write(folder: Path, plan: Plan, library: bytes) -> Path:
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"")
    (folder / "plan.bin").write_bytes(encode(plan, plan_id=IDENTITY))
    (folder / "libplan.so").write_bytes(library)
    write_manifest(folder, plan_fields(plan, stratac_version="0"))
    return folder


def size_of(buffer: Buffer, dims: Mapping[str, int]) -> int:
    """Bytes at these dims; what a call finds out counts as its bound."""
    runtime = "found" in str(buffer.type)
    return buffer.bytes if runtime else aligned(evaluate(buffer.type.nbytes, dims))


def check(plan: Plan, dims: Mapping[str, int], offsets: list[int]) -> None:
    """Pair by pair, with stretches between barriers counted from the calls."""
    buffers = plan.buffers[1:]
    flags = [call.barrier for call in plan.queues[0].calls]
    spans = [(sum(flags[1 : b.first + 1]), sum(flags[1 : b.last + 1])) for b in buffers]
    ends = [at + size_of(b, dims) for at, b in zip(offsets, buffers, strict=True)]
    for i, one in enumerate(buffers):
        if not size_of(one, dims):
            continue
        at_once = [
            k
            for k, b in enumerate(buffers)
            if k != i and size_of(b, dims) and spans[k][0] <= spans[i][1] and spans[i][0] <= spans[k][1]
        ]
        assert 0 <= offsets[i] <= one.offset and offsets[i] % ALIGNMENT == 0
        for k in at_once:
            apart = ends[i] <= offsets[k] or ends[k] <= offsets[i]
            assert apart, f"{one.name} and {buffers[k].name} at {dims}"
        below = [ends[k] for k in at_once if buffers[k].offset < one.offset]
        assert offsets[i] == max(below, default=0), f"{one.name} could lie lower at {dims}"


@pytest.mark.parametrize("seed", range(30))
def test_buffers_sink_and_never_meet(library: bytes, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    plan = random_plan(rng)
    with load(write(tmp_path / "plan", plan, library)) as session:
        for _ in range(12):
            dims = {name: rng.choice((b.min, b.max, rng.randint(b.min, b.max))) for name, b in SYMBOLS.items()}
            inputs = {"x": np.zeros(dims["n"], np.uint8), "y": np.zeros(dims["m"], np.uint8)}
            for _ in range(2):  # the second run finds the layout in place
                check(plan, dims, session.run(None, inputs)[0].tolist())


def test_buffers_that_meet_are_refused(library: bytes, tmp_path: Path) -> None:
    plan = next(
        p
        for p in map(random_plan, map(random.Random, range(99)))
        if sum(b.offset > 0 and b.bytes > 0 for b in p.buffers) > 2
    )
    high = max(range(1 + BUFFERS), key=lambda i: (plan.buffers[i].bytes > 0, plan.buffers[i].offset))
    buffers = tuple(dataclasses.replace(b, offset=0) if i == high else b for i, b in enumerate(plan.buffers))
    folder = write(tmp_path / "plan", dataclasses.replace(plan, buffers=buffers), library)
    with pytest.raises(PlanError, match="shares bytes with another that is in use at the same time"):
        load(folder)
    late = dataclasses.replace(plan.buffers[1], last=99)
    folder = write(
        tmp_path / "late", dataclasses.replace(plan, buffers=(plan.buffers[0], late, *plan.buffers[2:])), library
    )
    with pytest.raises(PlanError, match="in use where there are no instructions"):
        load(folder)
