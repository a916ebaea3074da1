"""Regions of a plan: what a run skips, at any thread count and with any cause of the condition; whoever damages them is found out."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stratac.ir.dims import Bounds, symbol
from stratac.ir.errors import PlanError, VerifyError
from stratac.ir.plan import Arena, Arg, Buffer, Call, Plan, PlanPort, Queue, Region, WeightEntry
from stratac.ir.plan_binary import decode, encode, read_header
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.types import TensorType, bool_, f32
from stratac.ir.verify_plan import verify_plan
from stratac.runtime.session import Session, load

from .test_native import HERE, SANITIZERS, build, run, with_kernels
from .tiny import write_plan

MOST = 512
KERNELS = """
#include "kernel_abi.h"

/* Whether the first element is positive; the others see to it that threads get here at different times. */
static void ask(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *x = args[0];
    (void)dims;
    (void)parts;
    if (!part)
        *(uint8_t *)args[1] = x[0] > 0.0f;
}

/* Backwards, so that parts read what others wrote. */
static void twice(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *x = args[0];
    float *out = args[1];
    for (int64_t i = dims[0] * part / parts; i < dims[0] * (part + 1) / parts; i++)
        out[i] = 2.0f * x[dims[0] - 1 - i];
}

static void take(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *a = args[1], *b = args[2];
    float *out = args[3];
    for (int64_t i = dims[0] * part / parts; i < dims[0] * (part + 1) / parts; i++)
        out[i] = *(const uint8_t *)args[0] ? a[i] : b[i];
}

const st_kernel st_plan_kernels[] = {ask, twice, take};
const st_kernel st_plan_before[3];
const char *const st_plan_kernel_names[] = {"ask", "twice", "take"};
const int st_plan_kernel_count = 3;
const uint64_t st_plan_id = UINT64_C(PLAN_ID);
"""


def branching() -> Plan:
    """y = 8 x where x begins with a positive number (4 x, backwards, where `flag` is false), else x."""
    rows, flag = TensorType(f32, (symbol("n"),)), TensorType(bool_, ())
    x, c, y = Arg("input", 0), Arg("buffer", 0), Arg("output", 0)
    a, b, d, e = (Arg("buffer", number) for number in range(1, 5))
    calls = (
        Call(0, (x, c), False, 1, "ask"),
        Call(1, (x, a), True, 0, "2 x"),
        Call(1, (a, b), True, 0, "4 x"),
        Call(1, (b, d), True, 0, "8 x"),
        Call(2, (Arg("input", 1), d, b, e), True, 0, "inner"),
        Call(2, (c, e, x, y), True, 0, "outer"),
    )
    size = 4 * MOST
    buffers = (
        Buffer("c", 1, 0, 64, 0, 5, flag),
        Buffer("a", 1, 64, size, 1, 2, rows),
        Buffer("b", 1, 64 + size, size, 2, 4, rows),
        Buffer("d", 1, 64 + 2 * size, size, 3, 4, rows),
        Buffer("e", 1, 64, size, 4, 5, rows),
    )
    return Plan(
        name="branching",
        target="any",
        features=(),
        threads=2,
        symbols={"n": Bounds(1, 16, MOST)},
        inputs=(PlanPort("x", rows), PlanPort("flag", flag)),
        outputs=(PlanPort("y", rows),),
        arenas=(Arena("weights", "weights", "ram", 80), Arena("scratch", "scratch", "ram", 64 + 3 * size)),
        buffers=buffers,
        weights=(WeightEntry("scale", 64, 16, "f32 dense"),),
        weights_bytes=80,
        resident_bytes=80,
        kernels=("ask", "twice", "take"),
        queues=(Queue("cpu", calls),),
        regions=(Region(1, 4, c, True), Region(3, 3, Arg("input", 1), True)),
    )


def with_weight(plan: Plan) -> Plan:
    """The verifier wants weights to be used: `ask` gets it, and does not look."""
    calls = list(plan.calls)
    calls[0] = replace(calls[0], args=(*calls[0].args, Arg("weight", 0)))
    return replace(plan, queues=(Queue("cpu", tuple(calls)),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plan(tmp_path_factory.mktemp("regions") / "plan", with_weight(branching()), kernels=KERNELS)


def expected(x: np.ndarray, flag: bool) -> np.ndarray:
    if x[0] <= 0:
        return x
    return 8 * x[::-1] if flag else 4 * x


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_each_way_through(folder: Path, threads: int) -> None:
    rng, runs = np.random.default_rng(0), np.zeros(6, int)
    with Session(folder, threads=threads) as session:
        for _ in range(200):
            x = rng.standard_normal(rng.integers(1, MOST + 1)).astype(np.float32)
            flag = bool(rng.integers(2))
            (y,) = session.run(None, {"x": x, "flag": np.array(flag)})
            np.testing.assert_array_equal(y, expected(x, flag))
            runs += [1, *[int(x[0] > 0)] * 2, int(x[0] > 0 and flag), int(x[0] > 0), 1]
        assert [row.count for row in session.profile()] == runs.tolist()


def test_texts_and_bytes() -> None:
    plan = with_weight(branching())
    verify_plan(plan)
    assert "  region 0 calls 1:4 where buffer 0 is true\n  region 1 calls 3:3 where input 1 is true\n" in print_plan(
        plan
    )
    turned = replace(plan, regions=(replace(plan.regions[0], when=False),))
    for one in (plan, turned):
        assert parse_plan(print_plan(one)) == one == decode(encode(one))


def _region(number: int, **changes: object) -> Callable[[Plan], Plan]:
    def change(plan: Plan) -> Plan:
        regions = list(plan.regions)
        regions[number] = replace(regions[number], **changes)  # type: ignore[arg-type]
        return replace(plan, regions=tuple(regions))

    return change


def _call(number: int, **changes: object) -> Callable[[Plan], Plan]:
    def change(plan: Plan) -> Plan:
        calls = list(plan.calls)
        calls[number] = replace(calls[number], **changes)  # type: ignore[arg-type]
        return replace(plan, queues=(Queue("cpu", tuple(calls)),))

    return change


#: what is wrong, what the verifier says, what the loader says (None: only the compiler's verifier proves it)
BROKEN = [
    (_region(0, last=6), "the plan has 6 calls", "its calls are none of the plan"),
    (_region(0, first=5), "the plan has 6 calls", "its calls are none of the plan"),
    (_region(1, first=0), "earlier ones come first", "it stands behind one that begins later"),
    (_region(1, last=5), "lies only partly in that of calls 1:4", None),
    (_region(0, condition=Arg("buffer", 1)), "one bool", "its condition is not one bool"),
    (_region(0, condition=Arg("input", 0)), "one bool", "its condition is not one bool"),
    (_region(0, condition=Arg("weight", 0)), "that exists", "its condition is not one bool"),
    (_region(0, condition=Arg("buffer", 9)), "that exists", "it refers to nothing"),
    (_region(0, last=5), "finds output 0, but may be left out", None),
    (_call(1, barrier=False), "begins without a barrier", "no barrier comes before its condition"),
]


@pytest.mark.parametrize(("change", "said", "loaded"), BROKEN)
def test_broken_plans(
    folder: Path, tmp_path: Path, change: Callable[[Plan], Plan], said: str, loaded: str | None
) -> None:
    plan = change(with_weight(branching()))
    with pytest.raises(VerifyError, match=said):
        verify_plan(plan)
    if loaded:
        written = write_plan(tmp_path / "plan", plan, library=folder / "libplan.so")
        with pytest.raises(PlanError, match=loaded):
            load(written)


def test_a_condition_lives_as_long_as_it_is_asked() -> None:
    plan = with_weight(branching())
    calls = list(plan.calls)
    calls[5] = replace(calls[5], args=(Arg("input", 1), *calls[5].args[1:]))
    short = replace(plan.buffers[0], last=4)
    verify_plan(replace(plan, queues=(Queue("cpu", tuple(calls)),), buffers=(short, *plan.buffers[1:])))
    with pytest.raises(VerifyError, match="calls 0:4 use it"):
        shorter = replace(short, last=0)
        verify_plan(replace(plan, queues=(Queue("cpu", tuple(calls)),), buffers=(shorter, *plan.buffers[1:])))


@pytest.mark.parametrize("kind", SANITIZERS)
def test_under_sanitizers(folder: Path, tmp_path: Path, kind: str) -> None:
    program = build(tmp_path / "regions", with_kernels(tmp_path, "regions.c", _text(folder)), *SANITIZERS[kind])
    prefix = ("setarch", platform.machine(), "-R") if kind == "thread" and shutil.which("setarch") else ()
    assert run(*prefix, program, folder, 100).strip() == "ok"


@pytest.mark.parametrize("threads", [1, 3])
def test_nothing_is_allocated_after_open(folder: Path, tmp_path: Path, threads: int) -> None:
    counter = build(tmp_path / "count.so", [HERE / "count.c"], "-shared", "-fPIC")
    program = build(tmp_path / "regions", with_kernels(tmp_path, "regions.c", _text(folder)))
    assert run(program, folder, 200, threads, env={"LD_PRELOAD": str(counter)}).strip() == "0"


def test_loader_survives_any_damage(folder: Path, tmp_path: Path) -> None:
    program = build(tmp_path / "fuzz", with_kernels(tmp_path, "fuzz.c", _text(folder)), *SANITIZERS["address"])
    loaded, _ = map(int, re.findall(r"\d+", run(program, folder, 30_000, 5)))
    assert loaded > 300


def _text(folder: Path) -> str:
    return KERNELS.replace("PLAN_ID", str(read_header((folder / "plan.bin").read_bytes())["plan_id"]))
