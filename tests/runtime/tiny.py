"""A tiny hand-made plan, built with the real toolchain: z = (x + y) * scale, and pairs of z summed by rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from stratac.codegen.toolchain import ToolchainOptions, Unit, compile_library, runtime_units
from stratac.ir.dims import Bounds, dim_max, floordiv, symbol
from stratac.ir.plan import Arena, Arg, Buffer, Call, Plan, PlanPort, Queue, WeightEntry
from stratac.ir.plan_binary import WeightDigests, encode, plan_id
from stratac.ir.plan_digest import digest64_file
from stratac.ir.types import TensorType, f32, i64
from stratac.runtime.manifest import plan_fields, write_manifest

N_MAX = 4096
STRICT = ToolchainOptions(flags=("-Werror",))

KERNELS = """
#include "kernel_abi.h"

static void range(int64_t n, int part, int parts, int64_t *begin, int64_t *end)
{
    *begin = n * part / parts;
    *end = n * (part + 1) / parts;
}

static void tiny_add(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *x = args[0], *y = args[1];
    float *sum = args[2];
    int64_t i, end;
    for (range(dims[0] * 4, part, parts, &i, &end); i < end; i++)
        sum[i] = x[i] + y[i];
}

/* Each part leaves the scale where its neighbour reads it. */
static void tiny_scale_before(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *scale = args[1];
    float *mine = (float *)((char *)args[3] + 64 * part);
    (void)dims;
    for (int c = 0; c < 4; c++)
        mine[4 + c] = parts > 1 ? scale[c] : 0;
}

/* Reads rows other parts wrote, so that a missing barrier shows. */
static void tiny_scale(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *sum = args[0], *scale = parts > 1 ? (float *)((char *)args[3] + 64 * ((part + 1) % parts)) + 4 : args[1];
    float *z = args[2], *mine = (float *)((char *)args[3] + 64 * part);
    int64_t i, end;
    for (range(dims[0], part, parts, &i, &end); i < end; i++)
        for (int c = 0; c < 4; c++) {
            mine[c] = sum[(dims[0] - 1 - i) * 4 + c] * scale[c];
            z[(dims[0] - 1 - i) * 4 + c] = mine[c];
        }
}

static void tiny_count(void *const *args, const int64_t *dims, int part, int parts)
{
    int64_t *rows = args[0];
    float *mine = (float *)((char *)args[1] + 64 * part);
    (void)parts;
    for (int c = 0; c < 4; c++)
        mine[4 + c] = -1; /* which nobody may read */
    for (int64_t i = 0; i < dims[0] / 2 + 1; i++)
        rows[i] = dims[0] + i;
}

const st_kernel st_plan_kernels[] = {tiny_add, tiny_scale, tiny_count};
const st_kernel st_plan_before[] = {0, tiny_scale_before, 0};
const char *const st_plan_kernel_names[] = {"tiny_add", "tiny_scale", "tiny_count"};
const int st_plan_kernel_count = 3;
const uint64_t st_plan_id = UINT64_C(PLAN_ID);
"""


def tiny_plan() -> Plan:
    n = symbol("n")
    rows = TensorType(f32, (n, 4))
    count = TensorType(i64, (floordiv(n, 2) + dim_max(1, 1),))
    calls = (
        Call(0, (Arg("input", 0), Arg("input", 1), Arg("buffer", 0)), True, 0, "add x y", 1e-6, 4.0 * N_MAX, 48.0),
        Call(
            1,
            (Arg("buffer", 0), Arg("weight", 0), Arg("output", 0), Arg("workspace", 0)),
            True,
            2,
            "scale",
            2e-6,
        ),
        Call(2, (Arg("output", 1), Arg("workspace", 0)), False, 1, "count – ünï", 0.5e-6),
    )
    return Plan(
        name="tiny",
        target="any",
        features=(),
        threads=2,
        symbols={"n": Bounds(1, 16, N_MAX)},
        inputs=(PlanPort("x", rows), PlanPort("y", rows)),
        outputs=(PlanPort("z", rows), PlanPort("rows", count)),
        arenas=(
            Arena("weights", "weights", "ram", 80),
            Arena("scratch", "scratch", "ram", N_MAX * 16 + 64),
            Arena("work", "workspace", "ram", 64),
        ),
        buffers=(Buffer("sum", 1, 64, N_MAX * 16, 0, 1, rows, "first fit"),),
        weights=(WeightEntry("scale", 64, 16, "f32 dense", "scale of z"),),
        weights_bytes=80,
        resident_bytes=80,
        kernels=("tiny_add", "tiny_scale", "tiny_count"),
        queues=(Queue("cpu", calls),),
        seconds=3.5e-6,
        notes={"lower bound": "1 µs", "packing": "first fit"},
    )


SCALE = np.array([1.0, -2.0, 0.5, 3.0], np.float32)


def write_plan(
    folder: Path,
    plan: Plan | None = None,
    *,
    kernels: str = KERNELS,
    options: ToolchainOptions = STRICT,
    library: Path | None = None,
) -> Path:
    """A plan folder; with `library`, a libplan.so built before (for plans that differ in data only)."""
    plan = plan or tiny_plan()
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.zeros(plan.weights_bytes, np.uint8)
    at = plan.weights[0].offset
    weights[at : at + 16] = SCALE.view(np.uint8)
    weights.tofile(folder / "weights.bin")
    identity = plan_id(plan if library is None else tiny_plan())
    digest = digest64_file(folder / "weights.bin")
    (folder / "plan.bin").write_bytes(encode(plan, digests=WeightDigests(resident=digest), plan_id=identity))
    if library is not None:
        shutil.copy(library, folder / "libplan.so")
    else:
        text = kernels.replace("PLAN_ID", str(identity))
        include = runtime_units()[0].includes
        units = (*runtime_units(), Unit("src/tiny.c", text=text, includes=include))
        compile_library(units, folder / "libplan.so", options=options)
    write_manifest(folder, plan_fields(plan, stratac_version="0"))
    return folder


def example(n: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs with n rows and the z they give."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, n, 4), dtype=np.float32)
    return {"x": x, "y": y}, (x + y) * SCALE
