"""Weights that are pages of weights.bin: they are verified without being held, give the same results, and changes are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stratac.compiler.resident import resident_by_mapping
from stratac.ir.errors import PlanError
from stratac.ir.plan import Arena, Plan
from stratac.runtime.session import load
from stratac.tests.runtime.test_damage import open_native
from stratac.tests.runtime.test_native import SANITIZERS, build, run, sanitized, with_kernels
from stratac.tests.runtime.tiny import SCALE, example, tiny_plan

BLOCK = 65536  # of the digest: what is read at open is rounded up to it
READ, MAPPED = 100 * 1024 + 64, 5 * BLOCK + 192
AT = READ + 3 * BLOCK + 64  # of the one weight, which is mapped


def mapped_plan(read: int = READ, mapped: int = MAPPED, at: int = AT) -> Plan:
    """The tiny plan with its weight among `mapped` bytes of weights.bin, behind `read` bytes that are read."""
    plan = tiny_plan()
    (scale,) = plan.weights
    _, *others = plan.arenas
    return replace(
        plan,
        arenas=(Arena("weights", "weights", "ram", read), *others, Arena("mapped", "mapped", "ram", mapped)),
        weights=(replace(scale, offset=at),),
        weights_bytes=read + mapped,
        resident_bytes=read + mapped,
    )


Write = Callable[[Path, Plan], Path]


@pytest.fixture
def folder(variant: Write, tmp_path: Path) -> Path:
    return variant(tmp_path / "plan", mapped_plan())


def held(folder: Path) -> int:
    """Bytes of the plan's weights.bin that this process has in memory as pages of the file."""
    return resident_by_mapping().get("weights.bin", 0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_and_what_is_said_of_memory(folder: Path, threads: int) -> None:
    plan = mapped_plan()
    with load(folder, threads=threads) as session:
        assert held(folder) == 0, "verifying leaves the pages out of memory"
        for n in (1, 300):
            inputs, z = example(n)
            np.testing.assert_array_equal(session.run(["z"], inputs)[0], z)
        assert 0 < held(folder) <= plan.mapped_bytes
        memory = session.memory()
        assert (memory.weights, memory.mapped) == (READ, MAPPED)
        assert memory.total - memory.session == plan.peak_bytes(threads)
        assert session.info().io == "lookups mapped"
    assert held(folder) == 0
    assert load(folder).manifest["memory"]["mapped"] == MAPPED


@pytest.mark.parametrize(
    ("read", "mapped", "at"), [(0, 80, 64), (0, 3 * BLOCK, 64), (64, 128, 128), (BLOCK, BLOCK, BLOCK)]
)
def test_parts_of_any_size(variant: Write, tmp_path: Path, read: int, mapped: int, at: int) -> None:
    """Less than a block of the digest is read, since it shares pages with what is read in any case."""
    inputs, z = example(7)
    with load(variant(tmp_path / "plan", mapped_plan(read, mapped, at))) as session:
        np.testing.assert_array_equal(session.run(["z"], inputs)[0], z)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_damaged_byte_anywhere_is_found_at_open(folder: Path, threads: int) -> None:
    path = folder / "weights.bin"
    for at in (0, READ - 1, READ, 2 * BLOCK - 1, 2 * BLOCK, AT, READ + MAPPED - 1):
        data = bytearray(path.read_bytes())
        data[at] ^= 4
        path.write_bytes(data)
        with pytest.raises(PlanError, match=r"weights.bin is damaged.*digest"):
            load(folder, threads=threads)
        load(folder, verify=False).close()
        data[at] ^= 4
        path.write_bytes(data)
    load(folder, threads=threads).close()


@pytest.mark.parametrize("how", ["shorter", "written over"])
def test_a_file_that_changed_is_an_error_of_the_next_run_and_of_all_later_ones(folder: Path, how: str) -> None:
    inputs, z = example(5)
    path = folder / "weights.bin"
    with load(folder) as session:
        np.testing.assert_array_equal(session.run(["z"], inputs)[0], z)
        if how == "shorter":
            with open(path, "r+b") as file:
                file.truncate(READ)
        else:
            with open(path, "r+b") as file:
                file.seek(AT)
                file.write((2 * SCALE).tobytes())
        for _ in range(2):
            with pytest.raises(PlanError, match=r"weights.bin changed while the plan was open"):
                session.run(["z"], inputs)


def test_a_plan_that_is_replaced_goes_on_with_its_own_file(folder: Path) -> None:
    inputs, z = example(5)
    path = folder / "weights.bin"
    with load(folder, verify=False) as session:
        new = path.with_name("new")
        new.write_bytes(bytes(READ + MAPPED))
        new.replace(path)
        np.testing.assert_array_equal(session.run(["z"], inputs)[0], z)


MALFORMED = [
    (lambda plan: (*plan.arenas, Arena("again", "mapped", "ram", 0)), {}, "arena of mapped weights before it"),
    (lambda plan: (*plan.arenas[:-1], Arena("mapped", "mapped", "ram", 64)), {}, "has not the size"),
    (lambda plan: plan.arenas, {"weights_bytes": READ + MAPPED + 4096}, "beside those that stay in storage"),
]


@pytest.mark.parametrize(("arenas", "changes", "what"), MALFORMED, ids=("twice", "size", "storage"))
def test_the_loader_refuses(
    variant: Write,
    tmp_path: Path,
    arenas: Callable[[Plan], tuple[Arena, ...]],
    changes: dict[str, int],
    what: str,
) -> None:
    plan = mapped_plan()
    bad = variant(tmp_path / "plan", replace(plan, arenas=arenas(plan), **changes))  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=what):
        open_native(bad)


@pytest.mark.parametrize("kind", SANITIZERS)
def test_sessions_under_sanitizers(folder: Path, tmp_path: Path, kind: str) -> None:
    program = build(tmp_path / "stress", with_kernels(tmp_path, "stress.c"), *SANITIZERS[kind])
    assert sanitized(kind, program, folder, 100) == "ok"


def test_loader_survives_any_damage(variant: Write, tmp_path: Path) -> None:
    folder = variant(tmp_path / "plan", mapped_plan(64, 128, 128))  # small enough to be opened
    program = build(tmp_path / "fuzz", with_kernels(tmp_path, "fuzz.c"), *SANITIZERS["address"])
    run(program, folder, 50_000, 3)
