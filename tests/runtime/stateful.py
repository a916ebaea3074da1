"""A tiny hand-made plan with state: a sum over all runs that starts from a weight, and a counter that starts as zero."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from stratac.codegen.toolchain import ToolchainOptions, Unit, compile_library, runtime_units
from stratac.ir.plan import Arena, Arg, Call, Plan, PlanPort, Queue, StateEntry, WeightEntry
from stratac.ir.plan_binary import WeightDigests, encode, plan_id
from stratac.ir.plan_digest import digest64_file
from stratac.ir.types import TensorType, f32, i64
from stratac.runtime.manifest import plan_fields, write_manifest
from stratac.tests.runtime.tiny import STRICT

WIDTH = 1000
FIRST = np.linspace(-1, 1, WIDTH, dtype=np.float32)

KERNELS = """
#include "kernel_abi.h"

static void state_add(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *old = args[0], *x = args[1];
    float *next = args[2];
    (void)dims;
    for (int64_t i = WIDTH * part / parts; i < WIDTH * (part + 1) / parts; i++)
        next[i] = old[i] + x[i];
}

/* From the other end, so that a missing barrier shows. */
static void state_twice(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *total = args[0];
    float *y = args[1];
    (void)dims;
    for (int64_t i = WIDTH * part / parts; i < WIDTH * (part + 1) / parts; i++)
        y[WIDTH - 1 - i] = 2 * total[WIDTH - 1 - i];
}

static void state_count(void *const *args, const int64_t *dims, int part, int parts)
{
    const int64_t *old = args[0];
    int64_t *next = args[1];
    (void)dims, (void)part, (void)parts;
    *next = *old + 1;
}

const st_kernel st_plan_kernels[] = {state_add, state_twice, state_count};
const st_kernel st_plan_before[3];
const char *const st_plan_kernel_names[] = {"state_add", "state_twice", "state_count"};
const int st_plan_kernel_count = 3;
const uint64_t st_plan_id = UINT64_C(PLAN_ID);
""".replace("WIDTH", str(WIDTH))


def stateful_plan() -> Plan:
    row, nbytes = TensorType(f32, (WIDTH,)), 4 * WIDTH
    top = -(-nbytes // 64) * 64
    calls = (
        Call(0, (Arg("state", 0), Arg("input", 0), Arg("next", 0)), False, 0, "add"),
        Call(1, (Arg("next", 0), Arg("output", 0)), True, 0, "twice"),
        Call(2, (Arg("state", 1), Arg("next", 1)), False, 1, "count"),
    )
    return Plan(
        name="stateful",
        target="any",
        features=(),
        threads=2,
        symbols={},
        inputs=(PlanPort("x", row),),
        outputs=(PlanPort("y", row),),
        arenas=(
            Arena("weights", "weights", "ram", 4096),
            Arena("scratch", "scratch", "ram", 0),
            Arena("workspace", "workspace", "ram", 0),
            Arena("states", "state", "ram", top + 64),
        ),
        buffers=(),
        weights=(WeightEntry("first", 0, nbytes, "dense"),),
        weights_bytes=4096,
        resident_bytes=4096,
        kernels=("state_add", "state_twice", "state_count"),
        queues=(Queue("cpu", calls),),
        states=(StateEntry("total", row, 0, nbytes, 0), StateEntry("calls", TensorType(i64, ()), top, 8)),
    )


def write_stateful(folder: Path, plan: Plan | None = None, library: Path | None = None, **options: object) -> Path:
    """A plan folder; with `library`, a libplan.so built before (for plans that differ in data only)."""
    plan = plan or stateful_plan()
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.zeros(4096, np.uint8)
    weights[: FIRST.nbytes] = FIRST.view(np.uint8)
    weights.tofile(folder / "weights.bin")
    identity = plan_id(stateful_plan())
    digests = WeightDigests(resident=digest64_file(folder / "weights.bin"))
    (folder / "plan.bin").write_bytes(encode(plan, digests=digests, plan_id=identity))
    if library is not None:
        shutil.copy(library, folder / "libplan.so")
    else:
        include = runtime_units()[0].includes
        text = KERNELS.replace("PLAN_ID", str(identity))
        settings = ToolchainOptions(flags=STRICT.flags, **options)  # type: ignore[arg-type]
        compile_library(
            (*runtime_units(), Unit("src/stateful.c", text=text, includes=include)),
            folder / "libplan.so",
            options=settings,
        )
    write_manifest(folder, plan_fields(plan, stratac_version="0"))
    return folder
