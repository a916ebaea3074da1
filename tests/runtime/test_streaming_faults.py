"""Storage that fails, or changes under a running plan: a clear error every time, never a hang, never a wrong result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from stratac.ir.errors import PlanError
from stratac.runtime.session import load
from stratac.tests.runtime.streamed import Use, make_plan, write_streamed
from stratac.tests.runtime.test_native import HERE, build
from stratac.tests.runtime.test_streaming import Made, numbers, open_mode

QUEUES = ("uring", "threads")
GONE = r"weights.bin (ends before byte|changed while|is damaged).*(compile the plan again)"


@pytest.mark.parametrize("io", QUEUES)
@pytest.mark.parametrize("keep", [0, 4096, 60_000])
def test_truncated_while_open(streamed: Made, io: str, keep: int) -> None:
    folder, made = streamed
    x = numbers(0)
    with open_mode(folder, io) as session:
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], made.expected(x))
        os.truncate(folder / "weights.bin", keep)
        with pytest.raises(PlanError, match=GONE) as first:
            session.run(None, {"x": x})
        with pytest.raises(PlanError) as second:
            session.run(None, {"x": x})
        assert str(first.value) == str(second.value)


@pytest.mark.parametrize("io", QUEUES)
@pytest.mark.parametrize("threads", [1, 3])
def test_truncated_while_running(streaming: Path, tmp_path: Path, io: str, threads: int) -> None:
    made = make_plan([Use(1 << 20, nanoseconds=900_000) for _ in range(24)], 3 << 20, seed=5)
    assert made is not None
    folder = write_streamed(tmp_path / "plan", made, streaming)
    x = numbers(0)
    with open_mode(folder, io, threads) as session:
        cut = threading.Timer(0.008, os.truncate, (folder / "weights.bin", 5 << 20))
        cut.start()
        with pytest.raises(PlanError, match=GONE):
            for _ in range(100):
                np.testing.assert_array_equal(session.run(None, {"x": x})[0], made.expected(x))
        cut.join()


@pytest.mark.parametrize("io", [*QUEUES, "mmap"])
def test_overwritten_while_running(streaming: Path, tmp_path: Path, io: str) -> None:
    made = make_plan([Use(300_000 // 8 * 8, nanoseconds=300_000) for _ in range(12)], 1 << 20, seed=6)
    assert made is not None
    folder = write_streamed(tmp_path / "plan", made, streaming)
    x = numbers(0)
    expected = made.expected(x)

    def overwrite() -> None:
        with open(folder / "weights.bin", "r+b") as file:
            for entry in made.plan.weights:
                file.seek(entry.offset + 64)
                file.write(b"wrong!")

    for _ in range(3):
        (folder / "weights.bin").write_bytes(made.data())
        with open_mode(folder, io) as session:
            np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)
            change = threading.Timer(0.004, overwrite)
            change.start()
            with pytest.raises(PlanError, match="changed while the plan was open"):
                for _ in range(200):
                    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)
            change.join()


@pytest.mark.parametrize("io", [*QUEUES, "mmap"])
def test_replaced_or_removed_while_open(streamed: Made, io: str) -> None:
    folder, made = streamed
    x = numbers(0)
    with open_mode(folder, io) as session:
        for change in (
            lambda: os.chmod(folder / "weights.bin", 0o600),
            lambda: os.replace(shutil.copy(folder / "plan.bin", folder / "other"), folder / "weights.bin"),
            lambda: shutil.rmtree(folder),
        ):
            change()
            np.testing.assert_array_equal(session.run(None, {"x": x})[0], made.expected(x))


@pytest.mark.parametrize("io", QUEUES)
def test_damaged_streamed_bytes_are_found(streamed: Made, io: str) -> None:
    folder, made = streamed
    data = made.data()
    x = numbers(0)
    for read in made.plan.reads:
        for at in (read.offset + 16, read.offset + read.bytes - 1):  # a weight's word, padding
            damaged = bytearray(data)
            damaged[at] ^= 4
            (folder / "weights.bin").write_bytes(damaged)
            with open_mode(folder, io) as session:
                message = rf"weights.bin is damaged at bytes {read.offset} to .*\('{read.label}'\)"
                for _ in range(2):
                    with pytest.raises(PlanError, match=message):
                        session.run(None, {"x": x})
    damaged = bytearray(data)
    damaged[made.plan.reads[0].offset + 16] ^= 4
    (folder / "weights.bin").write_bytes(damaged)
    with open_mode(folder, io, verify=False) as session:
        assert (session.run(None, {"x": x})[0] != made.expected(x)).any()


def test_damaged_table_is_found_at_open(streamed: Made) -> None:
    folder, made = streamed
    table = made.plan.weights[made.table]
    damaged = bytearray(made.data())
    for at in (table.offset, table.offset + table.bytes - 1, table.offset + table.bytes + 1):
        damaged[at] ^= 1
        (folder / "weights.bin").write_bytes(damaged)
        for threads in (1, 3):
            with pytest.raises(PlanError, match=rf"weights.bin is damaged.*at {table.name}"):
                load(folder, threads=threads)
        load(folder, verify=False).close()
        damaged[at] ^= 1


def run_with(fault: str, folder: Path, shim: Path, io: str = "auto") -> str:
    """One run in another process under the shim; what it prints: the way of reading, then `right` or the error."""
    code = f"""
from stratac.runtime.session import load
from stratac.tests.runtime.streamed import small
from stratac.tests.runtime.test_streaming import numbers
try:
    with load({str(folder)!r}, threads=2, io={io!r}) as session:
        print(session.info().io)
        for seed in range(4):
            x = numbers(seed)
            assert (session.run(None, dict(x=x))[0] == small().expected(x)).all(), "a wrong result"
        print("right")
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, "LD_PRELOAD": str(shim), "FAULT": fault}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    return found.stdout


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim") / "fault.so", [HERE / "fault.c"], "-shared", "-fPIC")


def test_falls_back_and_says_why(streamed: Made, shim: Path) -> None:
    folder, _ = streamed
    assert run_with("", folder, shim).endswith("right\n")
    text = run_with("nodirect", folder, shim)
    assert text == "4 threads, buffered (no direct reads: Invalid argument), rows one at a time\nright\n"
    text = run_with("nouring", folder, shim)
    assert "threads, " in text and text.endswith("right\n")
    assert "no io_uring: Operation not permitted" in text or "buffered" in text
    assert "EnvironmentProblem io_uring cannot be used: Operation not permitted" in run_with(
        "nouring", folder, shim, "uring"
    )
    text = run_with("nofixed", folder, shim, "uring")
    assert ("not registered (raise ulimit -l)" in text and text.endswith("right\n")) or "cannot be used" in text
    text = run_with("nodirect", folder, shim, "uring")
    assert ("io_uring, buffered" in text and text.endswith("right\n")) or "cannot be used" in text


@pytest.mark.parametrize("fault", ["eio", "short"])
def test_reads_that_fail(streamed: Made, shim: Path, fault: str) -> None:
    folder, _ = streamed
    message = "Input/output error; check the disk" if fault == "eio" else "ends before byte"
    seen = set()
    for number in (3, 5, 9, 14, 30, 60):
        text = run_with(f"{fault}:{number}", folder, shim, "threads")
        assert "PlanError" in text and message in text, (number, text)
        seen.add("threads" in text)  # at open, and in a run
    assert seen == {False, True}


def test_a_failure_is_prompt(streaming: Path, tmp_path: Path) -> None:
    made = make_plan([Use(1 << 20) for _ in range(8)], 2 << 20, seed=5)
    assert made is not None
    folder = write_streamed(tmp_path / "plan", made, streaming)
    with load(folder, threads=4) as session:
        os.truncate(folder / "weights.bin", 0)
        begin = time.perf_counter()
        with pytest.raises(PlanError):
            session.run(None, {"x": numbers(0)})
        assert time.perf_counter() - begin < 5


def test_errors_of_io_uring_are_told(streaming: Path, tmp_path: Path, shim: Path) -> None:
    """The descriptor becomes a folder in the middle of a run: what the kernel answers then is not a short read."""
    made = make_plan([Use(1 << 20, nanoseconds=900_000) for _ in range(24)], 3 << 20, seed=5)
    assert made is not None
    folder = write_streamed(tmp_path / "plan", made, streaming)
    open_mode(folder, "uring").close()
    code = f"""
import os, threading, numpy as np
from stratac.runtime.session import load
from stratac.tests.runtime.test_streaming import numbers
place = {str(folder / "weights.bin")!r}
with load({str(folder)!r}, threads=2, io="uring", verify=False) as session:
    number = next(int(f) for f in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{{f}}") == place)
    other = os.open("/", os.O_RDONLY)
    session.run(None, dict(x=numbers(0)))
    change = threading.Timer(DELAY, os.dup2, (other, number))
    change.start()
    try:
        while True:
            session.run(None, dict(x=numbers(0)))
    except Exception as error:
        print(error)
    change.join()
"""
    environment = {**os.environ, "LD_PRELOAD": str(shim), "FAULT": "nofixed"}
    said = ""
    for delay in range(8, 80, 6):  # between two runs it is noticed in another way
        timed = code.replace("DELAY", str(delay / 1000))
        found = subprocess.run(
            [sys.executable, "-c", timed], capture_output=True, text=True, timeout=60, env=environment, check=True
        )
        said += found.stdout
        if "Is a directory; check the disk" in said:
            return
    raise AssertionError(said)
