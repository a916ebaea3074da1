"""Hand-made plans whose weights stay in storage, small and random, and what they must compute.

A plan folds weights into sixty-four numbers: `h = h * 1000003 + A + 62 * i * B` with A and B weighted sums of all words of a
weight, so that one stale or torn word changes every result. The first word of a weight is its number of words, the second
how long a call that uses it takes in nanoseconds.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stratac.codegen.toolchain import ToolchainOptions, Unit, compile_library, runtime_units
from stratac.ir.dims import Bounds, symbol
from stratac.ir.plan import READ_ALIGNMENT, Arena, Arg, Buffer, Call, Plan, PlanPort, Queue, Read, WeightEntry
from stratac.ir.plan_binary import WeightDigests, encode
from stratac.ir.plan_digest import digest64
from stratac.ir.types import TensorType, i64, u8
from stratac.runtime.manifest import plan_fields, write_manifest

N = 64  # numbers
ROWS, ROW = 1000, 24  # of the table that a kernel reads by itself
WORKSPACE = 12288 + 64
IDENTITY = 0x57
MASK = (1 << 64) - 1

KERNELS = """
#include "kernel_abi.h"
#include <time.h>

static void range(int64_t n, int part, int parts, int64_t *begin, int64_t *end)
{
    *begin = n * part / parts;
    *end = n * (part + 1) / parts;
}

static void s_init(void *const *args, const int64_t *dims, int part, int parts)
{
    const uint64_t *x = args[0];
    uint64_t *h = args[1];
    int64_t i, end;
    for (range(dims[0], part, parts, &i, &end); i < end; i++)
        h[i] = x[i];
}

static void s_fold(void *const *args, const int64_t *dims, int part, int parts)
{
    const uint64_t *w = args[0];
    uint64_t *h = args[1], a = 0, b = 0;
    int64_t i, end;
    if (w[1])
        nanosleep(&(struct timespec){.tv_nsec = (long)(w[1] % 1000000)}, 0);
    for (uint64_t j = 0; j < w[0]; j++) {
        a += w[j] * (2 * j + 1);
        b += w[j];
    }
    for (range(dims[0], part, parts, &i, &end); i < end; i++)
        h[i] = h[i] * 1000003 + a + 62 * (uint64_t)i * b;
}

static void s_lookup(void *const *args, const int64_t *dims, int part, int parts)
{
    uint64_t *h = args[1], row[3];
    char *bounce = (char *)args[2] + 12352 * part;
    int64_t i, end;
    for (range(dims[0], part, parts, &i, &end); i < end; i++) {
        st_source_read(args[0], h[i] % 1000 * 24, sizeof row, row, bounce);
        h[i] = h[i] * 31 + row[0] + 3 * row[1] + 5 * row[2];
    }
}

static void s_emit(void *const *args, const int64_t *dims, int part, int parts)
{
    const uint64_t *h = args[0];
    uint64_t *z = args[1];
    int64_t i, end;
    for (range(dims[0], part, parts, &i, &end); i < end; i++)
        z[i] = h[i];
}

const st_kernel st_plan_kernels[] = {s_init, s_fold, s_lookup, s_emit};
const st_kernel st_plan_before[4];
const char *const st_plan_kernel_names[] = {"s_init", "s_fold", "s_lookup", "s_emit"};
const int st_plan_kernel_count = 4;
const uint64_t st_plan_id = PLAN_ID;
""".replace("PLAN_ID", str(IDENTITY))


@dataclass(frozen=True)
class Streamed:
    """A plan, the contents of weights.bin and, in order, what each call folds: a weight's number or `lookup`."""

    plan: Plan
    weights: tuple[np.ndarray, ...]  # words of each entry
    folds: tuple[int, ...]
    table: int  # the weight of lookups, or -1

    def data(self) -> bytes:
        held = bytearray(self.plan.weights_bytes)
        for entry, words in zip(self.plan.weights, self.weights, strict=True):
            held[entry.offset : entry.offset + words.nbytes] = words.tobytes()
        return bytes(held)

    def expected(self, x: np.ndarray) -> np.ndarray:
        h = [int(v) & MASK for v in x]
        for fold in self.folds:
            words = self.weights[fold]
            if fold == self.table:
                rows = words[: ROWS * 3].reshape(ROWS, 3)
                h = [
                    (v * 31 + sum(int(r) * f for r, f in zip(rows[v % ROWS], (1, 3, 5), strict=True))) & MASK for v in h
                ]
                continue
            a = int((words * (2 * np.arange(words.size, dtype=np.uint64) + 1)).sum())
            b = int(words.sum())
            h = [(v * 1000003 + a + 62 * i * b) & MASK for i, v in enumerate(h)]
        return np.array(h, np.uint64).view(np.int64)


def _up(number: int) -> int:
    return -(-number // READ_ALIGNMENT) * READ_ALIGNMENT


@dataclass(frozen=True)
class Use:
    """A call's weight: `streamed` through the ring with `bytes`, else resident (bytes 0: the table it looks up)."""

    bytes: int
    streamed: bool = True
    nanoseconds: int = 0


def make_plan(uses: list[Use], ring: int, *, seed: int = 0, threads: int = 2, ahead: bool = True) -> Streamed | None:
    """A plan with one call for each use, the reads laid out round the ring; None where the ring cannot hold them.

    `ahead` False makes every read wait until the run before is done, so that `after` is never negative.
    """
    rng = np.random.default_rng(seed)
    draw = random.Random(seed)
    weights: list[np.ndarray] = []
    for use in uses:
        words = rng.integers(0, 1 << 63, (use.bytes or ROWS * ROW) // 8, np.uint64)
        if use.bytes:
            words[0], words[1] = words.size, use.nanoseconds
        weights.append(words)
    order = sorted(range(len(uses)), key=lambda i: uses[i].streamed or not uses[i].bytes)
    entries: dict[int, WeightEntry] = {}
    top = resident = 0
    streams = any(u.streamed or not u.bytes for u in uses)
    for i in order:
        if (uses[i].streamed or not uses[i].bytes) and not resident:
            top = _up(top)
        entries[i] = WeightEntry(f"w{i}", top, weights[i].nbytes, "u64", f"weight {i}")
        top += -(-weights[i].nbytes // 64) * 64
        if uses[i].streamed or not uses[i].bytes:
            top = _up(top)
            resident = resident or entries[i].offset or -1
    resident = top if not streams else max(resident, 0)
    number = {i: n for n, i in enumerate(order)}
    # round the ring
    count, position = len(uses) + 2, 0
    buffers = [Buffer("h", 1, 0, N * 8, 0, count - 1, TensorType(i64, (symbol("n"),)))]
    spans: list[tuple[int, int, int]] = []  # begin, end, the call
    for i, use in enumerate(uses):
        if use.streamed and use.bytes:
            size = _up(use.bytes)
            position = 0 if position + size > ring else position
            if size > ring:
                return None
            spans.append((position, position + size, i + 1))
            buffers.append(Buffer(f"w{i}", 3, position, size, i + 1, i + 1, TensorType(u8, (size,))))
            position += size
    reads: list[Read] = []
    needs = [0] * count
    for k, (begin, end, call) in enumerate(spans):
        after = -count
        for j, (low, high, user) in enumerate(spans):
            if low < end and begin < high:
                after = max(after, user + 1 if j < k else user + 1 - count)
        if not ahead:
            after = max(after, 0)
        if after > call:
            return None
        after = draw.randint(after, min(call, after + 1)) if after < call else after
        reads.append(Read(entries[call - 1].offset, end - begin, k + 1, after, f"read {k}", 1e-6))
        needs[call] = k + 1
    shared = draw.random() < 0.5
    calls = [Call(0, (Arg("input", 0), Arg("buffer", 0)), True, 0, "init", 1e-6)]
    ring_buffer = {call: k + 1 for k, (_, _, call) in enumerate(spans)}
    for i, use in enumerate(uses, 1):
        parts = 0 if shared else draw.randint(0, 3)
        barrier = not shared or draw.random() < 0.3
        if not use.bytes:
            args = (Arg("file", number[i - 1]), Arg("buffer", 0), Arg("workspace", 0))
            calls.append(Call(2, args, barrier, parts, f"lookup {i}", 1e-6))
        else:
            weight = Arg("buffer", ring_buffer[i]) if use.streamed else Arg("weight", number[i - 1])
            calls.append(Call(1, (weight, Arg("buffer", 0)), barrier, parts, f"fold {i}", 1e-6, needs=needs[i]))
    calls.append(Call(3, (Arg("buffer", 0), Arg("output", 0)), not shared, 0, "emit", 1e-6))
    vector = TensorType(i64, (symbol("n"),))
    arenas = [
        Arena("weights", "weights", "ram", resident),
        Arena("scratch", "scratch", "ram", N * 8),
        Arena("work", "workspace", "ram", -(-WORKSPACE // 64) * 64),
    ]
    queues = [Queue("cpu", tuple(calls))]
    if reads:
        arenas.append(Arena("ring", "ring", "ram", ring))
        queues.append(Queue("io", (), tuple(reads)))
    plan = Plan(
        name="streamed",
        target="any",
        features=(),
        threads=threads,
        symbols={"n": Bounds(N, N, N)},
        inputs=(PlanPort("x", vector),),
        outputs=(PlanPort("z", vector),),
        arenas=tuple(arenas),
        buffers=tuple(buffers),
        weights=tuple(entries[i] for i in order),
        weights_bytes=top,
        resident_bytes=resident,
        kernels=("s_init", "s_fold", "s_lookup", "s_emit"),
        queues=tuple(queues),
        seconds=1e-5,
    )
    table = next((number[i] for i, use in enumerate(uses) if not use.bytes), -1)
    return Streamed(plan, tuple(weights[i] for i in order), tuple(number[i] for i in range(len(uses))), table)


def small() -> Streamed:
    """Nine streamed weights of different sizes through a ring that holds about three, one resident, one looked up."""
    sizes = [8192, 40960, 4096, 100_000, 65536, 4096, 70_000, 131072, 24576]
    uses = [Use(size // 8 * 8, nanoseconds=20_000 * (i % 3)) for i, size in enumerate(sizes)]
    uses[4:4] = [Use(4000, streamed=False), Use(0)]
    made = make_plan(uses, 49 * READ_ALIGNMENT, seed=7)
    assert made is not None and min(r.after for r in made.plan.reads) < 0
    return made


def digests(plan: Plan, data: bytes) -> WeightDigests:
    reads = tuple(digest64(data[r.offset : r.offset + r.bytes]) for r in plan.reads)
    files = {a.index for c in plan.calls for a in c.args if a.space == "file" and a.index < len(plan.weights)}
    spans = {i: (plan.weights[i].offset, _up(plan.weights[i].bytes)) for i in files}
    return WeightDigests(
        digest64(data[: plan.resident_bytes]), reads, {i: digest64(data[o : o + n]) for i, (o, n) in spans.items()}
    )


def library(folder: Path, options: ToolchainOptions) -> Path:
    """libplan.so for all plans of this module."""
    unit = Unit("src/streamed.c", text=KERNELS, includes=runtime_units()[0].includes)
    compile_library((*runtime_units(), unit), folder / "libplan.so", options=options)
    return folder / "libplan.so"


def write_streamed(folder: Path, made: Streamed, built: Path, data: bytes | None = None) -> Path:
    """The plan's folder; `data` replaces the contents of weights.bin and is digested as if it were right."""
    folder.mkdir(parents=True, exist_ok=True)
    data = made.data() if data is None else data
    (folder / "weights.bin").write_bytes(data)
    (folder / "plan.bin").write_bytes(encode(made.plan, digests=digests(made.plan, data), plan_id=IDENTITY))
    shutil.copy(built, folder / "libplan.so")
    write_manifest(folder, plan_fields(made.plan, stratac_version="0"))
    return folder
