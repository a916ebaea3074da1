"""State in the runtime: its own in each session, reset, saved and set, torn by a run that fails, and no memory taken for it later."""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.errors import PlanError, StratacError
from stratac.ir.graph import Port
from stratac.ir.plan import Arena, Plan, StateEntry
from stratac.ir.plan_binary import plan_id
from stratac.ir.types import TensorType, bool_, f32
from stratac.ir.verify_plan import verify_plan
from stratac.runtime.session import Session
from stratac.tests.codegen.harness import compiled
from stratac.tests.runtime.stateful import FIRST, KERNELS, WIDTH, stateful_plan, write_stateful
from stratac.tests.runtime.test_native import HERE, SANITIZERS, build, run, with_kernels

ONES = {"x": np.ones(WIDTH, np.float32)}


@pytest.fixture(scope="module")
def stateful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stateful(tmp_path_factory.mktemp("stateful") / "plan")


def test_the_plan_is_one() -> None:
    verify_plan(stateful_plan())


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_state_goes_on_until_it_is_reset(stateful: Path, threads: int) -> None:
    with Session(stateful, threads=threads) as session:
        assert [str(port) for port in session.get_states()] == [f"total: f32[{WIDTH}]", "calls: i64[]"]
        for _ in range(2):
            total = FIRST.copy()
            for count in range(1, 5):
                total += 1
                np.testing.assert_array_equal(session.run(None, ONES)[0], 2 * total)
                state = session.state()
                np.testing.assert_array_equal(state["total"], total)
                assert state["calls"].shape == () and state["calls"] == count
            session.reset()
            np.testing.assert_array_equal(session.state()["total"], FIRST)


def test_state_is_set_whole_or_not_at_all(stateful: Path) -> None:
    with Session(stateful) as session:
        session.set_state({"calls": 7})
        session.run(None, ONES)
        state = session.state()
        assert state["calls"] == 8
        np.testing.assert_array_equal(state["total"], FIRST + 1)
        wrong: list[tuple[dict[str, object], str]] = [
            ({"calls": 1, "totl": 1}, "did you mean 'total'"),
            ({"calls": 1, "total": np.zeros(3, np.float32)}, "takes shape"),
            ({"calls": 1, "total": np.zeros(WIDTH)}, "state 'total' has element type f32"),
        ]
        for values, error in wrong:
            with pytest.raises(StratacError, match=error):
                session.set_state(values)
        assert session.state()["calls"] == 8
        state["total"][:] = 5
        assert session.state()["total"][0] == FIRST[0] + 1  # what was given out is the caller's own


def test_a_refused_run_changes_nothing(stateful: Path) -> None:
    with Session(stateful) as session:
        session.run(None, ONES)
        for bad in ({}, {"x": np.ones(3, np.float32)}, {"x": np.ones(WIDTH, np.int32)}):
            with pytest.raises(StratacError):
                session.run(None, bad)
        assert session.state()["calls"] == 1
        session.run(None, ONES)
        assert session.state()["calls"] == 2


def test_a_run_that_fails_on_its_way_tears_the_state() -> None:
    """More elements are found than there is room for: the run ends with an error, and by then the state is written."""
    b = GraphBuilder(name="found", symbols={"k": Bounds(0, 1, 2)})
    x = b.input("x", TensorType(f32, (4,)))
    total = b.op("add", b.state("total", TensorType(f32, (4,))), x)
    at = b.op("nonzero", b.op("cast", x, to=bool_), count=symbol("k"))
    made = compiled(b.finish([Port("at", at)], {"total": total}))
    few, many = np.array([0, 1, 0, 0], np.float32), np.ones(4, np.float32)
    with Session(made.folder, threads=2) as session:
        assert session.run(None, {"x": few})[0].tolist() == [1]
        before = session.state()
        with pytest.raises(StratacError, match="dim k came out as 4"):
            session.run(None, {"x": many})
        for act in (lambda: session.run(None, {"x": few}), session.state, lambda: session.set_state(before)):
            with pytest.raises(StratacError, match="left the state half-way"):
                act()
        session.reset()
        assert session.state()["total"].tolist() == [0, 0, 0, 0]
        session.set_state(before)
        session.run(None, {"x": few})
        np.testing.assert_array_equal(session.state()["total"], 2 * few)


def test_plans_without_state_have_none(tiny: Path) -> None:
    with Session(tiny) as session:
        assert session.get_states() == [] and session.state() == {} and session.memory().states == 0
        session.reset()


def changed(**fields: object) -> Plan:
    plan = stateful_plan()
    return replace(plan, states=(replace(plan.states[0], **fields), plan.states[1]))  # type: ignore[arg-type]


PLAN = stateful_plan()
ROW = PLAN.states[0].type


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (changed(bytes=8), "its bytes are not those of its type"),
        (changed(offset=32), "is not aligned"),
        (changed(offset=1 << 20), "outside the arena of states"),
        (changed(initial=5), "an unknown weight"),
        (replace(PLAN, states=(*PLAN.states, StateEntry("big", TensorType(f32, (9,)), 0, 36, 0))), "of another size"),
        (replace(PLAN, arenas=(*PLAN.arenas, Arena("more", "state", "ram", 64))), "arena of states before it"),
        (replace(PLAN, arenas=PLAN.arenas[:3]), "outside the arena of states"),
        (
            replace(
                PLAN,
                symbols={"n": Bounds(1, 2, 3)},
                states=(replace(PLAN.states[0], type=TensorType(f32, (symbol("n"),))), PLAN.states[1]),
            ),
            "extents are not constant",
        ),
        (replace(PLAN, states=PLAN.states[:1]), "it refers to nothing"),
    ],
)
def test_the_loader_refuses(stateful: Path, tmp_path: Path, plan: Plan, error: str) -> None:
    folder = write_stateful(tmp_path / "plan", plan, stateful / "libplan.so")
    with pytest.raises(PlanError, match=error):
        Session(folder)


# -- the C runtime


def kernels() -> str:
    return KERNELS.replace("PLAN_ID", str(plan_id(stateful_plan())))


@pytest.mark.parametrize("kind", SANITIZERS)
def test_state_under_sanitizers(stateful: Path, tmp_path: Path, kind: str) -> None:
    program = build(tmp_path / "state", with_kernels(tmp_path, "state.c", kernels()), *SANITIZERS[kind])
    prefix = ("setarch", platform.machine(), "-R") if kind == "thread" and shutil.which("setarch") else ()
    assert run(*prefix, program, stateful, 50).strip() == "ok"


@pytest.mark.parametrize("threads", [1, 3])
def test_nothing_is_allocated_for_state_after_open(stateful: Path, tmp_path: Path, threads: int) -> None:
    counter = build(tmp_path / "count.so", [HERE / "count.c"], "-shared", "-fPIC")
    program = build(tmp_path / "state", with_kernels(tmp_path, "state.c", kernels()))
    assert run(program, stateful, 50, threads, env={"LD_PRELOAD": str(counter)}).strip() == "0"


def test_loader_survives_any_damage_of_states(stateful: Path, tmp_path: Path) -> None:
    program = build(tmp_path / "fuzz", with_kernels(tmp_path, "fuzz.c", kernels()), *SANITIZERS["address"])
    loaded, opened = map(int, re.findall(r"\d+", run(program, stateful, 100_000, 3)))
    assert loaded > 1000 and opened > 10
