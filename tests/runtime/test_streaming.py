"""Weights that stay in storage: the same bits whatever reads them, whenever, however often."""

from __future__ import annotations

import ctypes
import os
import platform
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stratac.ir.errors import EnvironmentProblem, StratacError
from stratac.ir.plan import READ_ALIGNMENT
from stratac.runtime.lib import IO_MODES
from stratac.runtime.session import Session, load
from stratac.tests.runtime.streamed import N, Streamed, Use, make_plan, write_streamed

Made = tuple[Path, Streamed]


def numbers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(1 << 62), 1 << 62, N)


def open_mode(folder: Path, io: str, threads: int = 2, **options: bool) -> Session:
    try:
        return load(folder, threads=threads, io=io, **options)
    except EnvironmentProblem as error:
        if io == "uring" and "io_uring cannot be used" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("io", IO_MODES)
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_same_bits_in_every_mode(streamed: Made, io: str, threads: int) -> None:
    folder, made = streamed
    with open_mode(folder, io, threads) as session:
        for seed in range(12):
            x = numbers(seed)
            np.testing.assert_array_equal(session.run(None, {"x": x})[0], made.expected(x))


def test_what_is_used_is_said(streamed: Made, tiny: Path) -> None:
    folder, made = streamed
    with open_mode(folder, "uring") as session:
        assert session.info().io.startswith("io_uring, ")
        assert session.info().reads == len(made.plan.reads)
    with load(folder, io="threads") as session:
        assert session.info().io.startswith("4 threads, ")
    with load(folder, io="mmap") as session:
        assert session.info().io == "mmap" and session.memory().ring == 0
    with load(tiny) as session:
        assert session.info().io == "none"
    with pytest.raises(StratacError, match=r"io may not be 'fast'.*'auto', 'uring', 'threads', 'mmap'"):
        load(tiny, io="fast")


def test_memory_is_the_resident_part_and_the_ring(streamed: Made) -> None:
    folder, made = streamed
    with load(folder, threads=2) as session:
        memory = session.memory()
        assert memory.weights == made.plan.resident_bytes < made.plan.weights_bytes
        assert memory.ring == 49 * READ_ALIGNMENT
        assert memory.total - memory.session == made.plan.peak_bytes(2)


@pytest.mark.parametrize("io", ["uring", "threads"])
def test_profile_of_reads(streamed: Made, io: str) -> None:
    folder, made = streamed
    with open_mode(folder, io) as session:
        for seed in range(5):
            session.run(None, {"x": numbers(seed)})
        rows = session.reads()
        assert [r.label for r in rows] == [r.label for r in made.plan.reads]
        assert [r.bytes for r in rows] == [r.bytes for r in made.plan.reads]
        assert all(5 <= r.count <= 6 and r.seconds > 0 and r.predicted_seconds == 1e-6 for r in rows)
        traffic = session.traffic()
        behind = sum(r.bytes for r in rows)  # reads for the next run go on meanwhile
        assert 0 <= traffic.streamed - sum(r.bytes * r.count for r in rows) <= behind
        assert traffic.lookups >= 5 * N * 24 and traffic.bandwidth > 0
        assert all(r.waited >= 0 for r in session.profile()) and sum(r.waited for r in session.profile()) > 0
        session.reset_profile()
        assert session.traffic().lookups == 0 and session.reads()[-1].count <= 1


def slice_ns(thread: int) -> int:
    """What a thread asked for as its time slice, in ns, as Linux 6.12 and later say; 0 where it asked for nothing. Skips elsewhere."""
    release = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    number = {"x86_64": 315, "aarch64": 275}.get(platform.machine(), 0)
    if sys.platform != "linux" or release < (6, 12) or not number:
        pytest.skip("the scheduler knows of no slices here")
    attributes = (ctypes.c_uint64 * 7)()  # size and policy, flags, nice and priority, runtime, deadline, period, clamps
    if ctypes.CDLL(None, use_errno=True).syscall(number, thread, attributes, ctypes.sizeof(attributes), 0):
        pytest.skip(f"sched_getattr: {os.strerror(ctypes.get_errno())}")
    return int(attributes[3])


@pytest.mark.parametrize(("io", "count"), [("uring", 1), ("threads", 4)])
def test_threads_that_read_ask_for_short_slices(streamed: Made, io: str, count: int) -> None:
    """Those that compute do not."""
    before = {*os.listdir("/proc/self/task")}
    usual = slice_ns(0)
    with open_mode(streamed[0], io, 3) as session:
        session.run(None, {"x": numbers(0)})
        deadline = time.monotonic() + 10
        while True:
            found = sorted(slice_ns(int(name)) for name in {*os.listdir("/proc/self/task")} - before)
            if found.count(100_000) >= count or time.monotonic() > deadline:
                break
            time.sleep(0.01)
    assert usual > 100_000 and found[-2:] == [usual] * 2
    assert len(found) >= count + 2 and {*found[:-2]} == {100_000}  # io_uring may add threads of the kernel's


@pytest.mark.parametrize("io", ["uring", "threads"])
def test_the_next_run_is_read_ahead_and_then_nothing_happens(streamed: Made, io: str) -> None:
    folder, made = streamed
    ahead = [r.after <= 0 for r in made.plan.reads]
    expected = [4 if all(ahead[: i + 1]) else 3 for i in range(len(ahead))]
    assert set(expected) == {3, 4}
    with open_mode(folder, io) as session:
        for seed in range(3):
            session.run(None, {"x": numbers(seed)})
        deadline = time.monotonic() + 10
        while [r.count for r in session.reads()] != expected and time.monotonic() < deadline:
            time.sleep(0.01)
        used = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - used < 0.1, "somebody polls"
        assert [r.count for r in session.reads()] == expected


def random_plan(seed: int) -> Streamed | None:
    draw = random.Random(seed)
    uses = []
    for _ in range(draw.randint(1, 14)):
        size = draw.choice((2, 511, 512, 513, 3000, 9000)) * 8
        if draw.random() < 0.02:
            size = 3 << 20  # several requests
        use = Use(size, draw.random() < 0.8, draw.choice((0, 0, 1000, 200_000)))
        uses.append(Use(0) if draw.random() < 0.07 and all(u.bytes for u in uses) else use)
    pages = [-(-u.bytes // READ_ALIGNMENT) for u in uses if u.streamed] or [1]
    ring = draw.randint(max(pages), max(pages) + sum(pages)) * READ_ALIGNMENT
    return make_plan(uses, ring, seed=seed, threads=draw.randint(1, 4), ahead=draw.random() < 0.8)


def test_random_schedules(streaming: Path, tmp_path: Path) -> None:
    made_plans = streaming_plans = 0
    for seed in range(60):
        made = random_plan(seed)
        if made is None:
            continue
        made_plans += 1
        streaming_plans += bool(made.plan.reads)
        folder = write_streamed(tmp_path / str(seed), made, streaming)
        expected = {s: made.expected(numbers(s)) for s in range(4)}
        for io, threads in (("auto", seed % 4 + 1), ("threads", (seed + 1) % 4 + 1), ("mmap", 1)):
            with load(folder, threads=threads, io=io) as session:
                for s, z in expected.items():
                    np.testing.assert_array_equal(
                        session.run(None, {"x": numbers(s)})[0], z, err_msg=f"{seed} {io} {threads}"
                    )
    assert made_plans > 40 and streaming_plans > 35


@pytest.mark.parametrize("io", ["uring", "threads"])
def test_close_while_reads_are_under_way(streaming: Path, tmp_path: Path, io: str) -> None:
    made = make_plan([Use(4 << 20) for _ in range(6)], 24 << 20, seed=3)
    assert made is not None
    folder = write_streamed(tmp_path / "plan", made, streaming)
    for _ in range(20):  # all six reads are under way or begun
        open_mode(folder, io).close()
    x = numbers(1)
    with open_mode(folder, io) as session:
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], made.expected(x))


def test_a_fork_is_refused_and_the_parent_goes_on(streamed: Made) -> None:
    folder, _ = streamed
    code = f"""
import os, numpy as np
from stratac.runtime.session import load
from stratac.tests.runtime.streamed import small
from stratac.tests.runtime.test_streaming import numbers
session = load({str(folder)!r}, threads=1)
x = numbers(3)
child = os.fork()
if child == 0:
    try:
        session.run(None, dict(x=x))
    except Exception as error:
        session.close()
        os._exit(7 if "forked" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
for _ in range(3):
    np.testing.assert_array_equal(session.run(None, dict(x=x))[0], small().expected(x))
session.close()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60, env=dict(os.environ))
