"""Dims that a call sets during the run: bounds are held, one call sets them, whoever damages that is found out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stratac.ir.dims import Bounds, Dim, dim_max, dim_min, evaluate, floordiv, mod, symbol
from stratac.ir.errors import PlanError, StratacError, VerifyError
from stratac.ir.plan import Arena, Arg, Buffer, Call, Plan, PlanPort, Queue, WeightEntry
from stratac.ir.plan_binary import decode, encode, read_header
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.types import TensorType, f32, i64
from stratac.ir.verify_plan import verify_plan
from stratac.runtime.session import Session, load

from .test_native import SANITIZERS, build, run, with_kernels
from .tiny import write_plan

MOST = 8
KERNELS = """
#include "kernel_abi.h"

/* The positions of the positive elements; counts on where there is no room. */
static void choose(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *x = args[0];
    int64_t *at = args[1], count = 0;
    (void)parts;
    if (part)
        return;
    for (int64_t i = 0; i < dims[0]; i++)
        if (x[i] > 0.0f) {
            if (count < 8)
                at[count] = i;
            count++;
        }
    *(int64_t *)args[2] = count;
}

/* What is chosen, then zeros. */
static void take(void *const *args, const int64_t *dims, int part, int parts)
{
    const float *x = args[0], *scale = args[2];
    const int64_t *at = args[1];
    float *out = args[3];
    for (int64_t i = dims[0] * part / parts; i < dims[0] * (part + 1) / parts; i++)
        out[i] = i < dims[1] ? x[at[i]] * scale[0] : 0.0f;
}

const st_kernel st_plan_kernels[] = {choose, take};
const st_kernel st_plan_before[2];
const char *const st_plan_kernel_names[] = {"choose", "take"};
const int st_plan_kernel_count = 2;
const uint64_t st_plan_id = UINT64_C(PLAN_ID);
"""


def chosen_plan() -> Plan:
    rows = TensorType(f32, (symbol("n"),))
    calls = (
        Call(0, (Arg("input", 0), Arg("buffer", 0), Arg("dim", 1)), False, 1, "choose"),
        Call(1, (Arg("input", 0), Arg("buffer", 0), Arg("weight", 0), Arg("output", 0)), True, 0, "take"),
    )
    return Plan(
        name="chosen",
        target="any",
        features=(),
        threads=2,
        symbols={"n": Bounds(1, 16, 64), "k": Bounds(0, 4, MOST)},
        inputs=(PlanPort("x", rows),),
        outputs=(PlanPort("z", rows),),
        arenas=(Arena("weights", "weights", "ram", 80), Arena("scratch", "scratch", "ram", 64)),
        buffers=(Buffer("at", 1, 0, 8 * MOST, 0, 1, TensorType(i64, (symbol("k"),))),),
        weights=(WeightEntry("scale", 64, 16, "f32 dense"),),
        weights_bytes=80,
        resident_bytes=80,
        kernels=("choose", "take"),
        queues=(Queue("cpu", calls),),
    )


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plan(tmp_path_factory.mktemp("chosen") / "plan", chosen_plan(), kernels=KERNELS)


def values(count: int, positive: int) -> np.ndarray:
    x = -np.arange(1, count + 1, dtype=np.float32)
    x[np.random.default_rng(positive).permutation(count)[:positive]] *= -1
    return x


@pytest.mark.parametrize("threads", [1, 3])
def test_the_value_is_that_of_each_run(chosen: Path, threads: int) -> None:
    with Session(chosen, threads=threads) as session:
        for count, positive in ((20, 8), (20, 0), (1, 1), (64, 5), (20, 3)):
            x = values(count, positive)
            (z,) = session.run(None, {"x": x})
            np.testing.assert_array_equal(z, np.pad(x[x > 0], (0, count - positive)))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_value_above_its_bound_is_an_error_and_nothing_is_overrun(chosen: Path, threads: int) -> None:
    with Session(chosen, threads=threads) as session:
        for _ in range(2):
            with pytest.raises(StratacError, match=r"dim k came out as 9, outside its bounds 0 to 8"):
                session.run(None, {"x": values(20, 9)})
            x = values(20, 8)
            np.testing.assert_array_equal(session.run(None, {"x": x})[0][:8], x[x > 0])


def shortened() -> Plan:
    """What is chosen, as z of [k, 1], and what is not, as rest of [n - k]: only these elements are written."""
    plan, k = chosen_plan(), symbol("k")
    last = replace(plan.calls[1], args=(*plan.calls[1].args, Arg("output", 1)))
    ports = (PlanPort("z", TensorType(f32, (k, 1))), PlanPort("rest", TensorType(f32, (symbol("n") - k,))))
    return replace(plan, outputs=ports, queues=(Queue("cpu", (plan.calls[0], last)),))


SHORT = KERNELS.replace(
    "        out[i] = i < dims[1] ? x[at[i]] * scale[0] : 0.0f;",
    """        if (i < dims[1])
            out[i] = x[at[i]] * scale[0];
    float *rest = args[4];
    for (int64_t i = 0, left = 0; !part && i < dims[0]; i++)
        if (x[i] <= 0.0f)
            rest[left++] = x[i];""",
)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plan(tmp_path_factory.mktemp("short") / "plan", shortened(), kernels=SHORT)


@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_of_extents_that_the_run_finds(short: Path, threads: int) -> None:
    verify_plan(shortened())
    with Session(short, threads=threads) as session:
        for count, positive in ((20, 8), (20, 0), (1, 1), (64, 5), (3, 3)):
            x = values(count, positive)
            z, rest = session.run(None, {"x": x})
            np.testing.assert_array_equal(z, x[x > 0][:, None])
            np.testing.assert_array_equal(rest, x[x <= 0])
            assert session.output_room(x=x) == {"z": (8, 1), "rest": (count,)}  # at least 0 of k, whatever x holds
        with pytest.raises(StratacError, match="dim k came out as 9"):
            session.run(None, {"x": values(20, 9)})
        assert session.run(["z"], {"x": values(20, 2)})[0].shape == (2, 1)


def test_memory_of_the_caller_has_room_for_the_bound(short: Path) -> None:
    x = values(20, 5)
    with Session(short) as session:
        room = {name: np.full(shape, 7, np.float32) for name, shape in session.output_room(x=x).items()}
        found = session.run_into(outputs=room, inputs={"x": x})
        assert found["z"].shape == (5, 1) and np.shares_memory(found["z"], room["z"])
        np.testing.assert_array_equal(room["z"][:5, 0], x[x > 0])
        assert (room["z"][5:] == 7).all()
        with pytest.raises(
            StratacError, match=r"takes shape \[k, 1\] and got \[5, 1\] where these inputs give \[8, 1\]"
        ):
            session.run_into(outputs={"z": np.empty((5, 1), np.float32)}, inputs={"x": x})


N, K = symbol("n"), symbol("k")
ROOMS: list[tuple[Dim, int]] = [  # where n is 20 and k anything up to 8
    (K + 3, 11),
    (K * K, 64),
    (N - 2 * K, 20),
    (dim_min(K, N - 15), 5),
    (dim_max(K, N), 20),
    (floordiv(K + 1, 2), 4),
    (floordiv(N, K + 1), 20),
    (mod(K, 3), 8),  # k - 3 * floordiv(k, 3), whose parts are bounded apart
    (mod(N, 7), 6),
]


def test_room_is_for_all_that_a_run_may_find(tmp_path: Path) -> None:
    plan = chosen_plan()
    ports = tuple(PlanPort(f"o{i}", TensorType(f32, (dim,))) for i, (dim, _) in enumerate(ROOMS))
    plan = replace(plan, outputs=(*plan.outputs, *ports))
    with Session(write_plan(tmp_path / "plan", plan, kernels=KERNELS)) as session:
        room = session.output_room(x=values(20, 0))
        assert [room[port.name] for port in ports] == [(most,) for _, most in ROOMS]
        for positive in range(MOST + 1):
            found = session.run([port.name for port in ports], {"x": values(20, positive)})
            assert [a.size for a in found] == [evaluate(dim, {"n": 20, "k": positive}) for dim, _ in ROOMS]
        with pytest.raises(StratacError, match="output 'o2' came out with an extent below 0"):
            session.run(None, {"x": values(15, 8)})


def test_texts_and_bytes() -> None:
    plan = chosen_plan()
    verify_plan(plan)
    assert "kernel 0 (input 0, buffer 0, dim 1) parts 1" in print_plan(plan)
    assert parse_plan(print_plan(plan)) == plan == decode(encode(plan))
    assert plan.setters == {1: 0}


def _calls(plan: Plan, change: Callable[[list[Call]], list[Call]]) -> Plan:
    return replace(plan, queues=(Queue("cpu", tuple(change(list(plan.calls)))),))


def _with(call: Call, *args: Arg) -> Call:
    return replace(call, args=(*call.args, *args))


#: what is wrong, the plan made so, what the verifier says, what the loader says
BROKEN = [
    (lambda p: _calls(p, lambda c: [replace(c[0], parts=0), c[1]]), "with 0 parts", "several threads set it"),
    (lambda p: _calls(p, lambda c: [c[0], replace(c[1], barrier=False)]), "needs a barrier", "no barrier follows"),
    (
        lambda p: _calls(p, lambda c: [c[0], replace(_with(c[1], Arg("dim", 1)), parts=1)]),
        "after call 0 has set it",
        "not its own",
    ),
    (lambda p: _calls(p, lambda c: [_with(c[0], Arg("dim", 0)), c[1]]), "set during the run", "its call sets another"),
    (lambda p: _calls(p, lambda c: [_with(c[0], Arg("dim", 2)), c[1]]), "there are 2", "it refers to nothing"),
    (
        lambda p: replace(p, inputs=(*p.inputs, PlanPort("w", TensorType(f32, (symbol("k"),))))),
        "set during the run",
        "set during the run",
    ),
]


@pytest.mark.parametrize(("change", "said", "loaded"), BROKEN)
def test_broken_plans(chosen: Path, tmp_path: Path, change: Callable[[Plan], Plan], said: str, loaded: str) -> None:
    plan = change(chosen_plan())
    with pytest.raises(VerifyError, match=said):
        verify_plan(plan)
    folder = write_plan(tmp_path / "plan", plan, library=chosen / "libplan.so")
    with pytest.raises(PlanError, match=loaded):
        load(folder)


def test_a_use_before_the_value_is_found() -> None:
    plan = chosen_plan()
    early = _calls(plan, lambda c: [replace(c[1], barrier=False), replace(c[0], barrier=True)])
    with pytest.raises(VerifyError, match="uses the dim k, which call 1 sets"):
        verify_plan(replace(early, buffers=(replace(plan.buffers[0], first=0, last=1),)))


def test_loader_survives_any_damage(chosen: Path, tmp_path: Path) -> None:
    program = build(tmp_path / "fuzz", with_kernels(tmp_path, "fuzz.c", _text(chosen)), *SANITIZERS["address"])
    loaded, _ = map(int, re.findall(r"\d+", run(program, chosen, 50_000, 5)))
    assert loaded > 500


def _text(folder: Path) -> str:
    return KERNELS.replace("PLAN_ID", str(read_header((folder / "plan.bin").read_bytes())["plan_id"]))
