"""Ctrl-C, SIGTERM and a closed terminal in the middle of a compilation."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stratac.tests.cli.command import STRATAC, Result, failed, tree, without_progress
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import DIMS


def alive(pid: int) -> bool:
    """Whether a process runs; what only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGINT, signal.SIGINT, signal.SIGTERM)],
    ids=lambda signals: "+".join(s.name for s in signals),
)
def test_interrupted_compile(
    stratac: CommandLine, tmp_path: Path, write_cc: Callable[[str], str], signals: tuple[signal.Signals, ...]
) -> None:
    pids = tmp_path / "pids"
    cc = write_cc(f"echo $$ >> {pids}; sleep 300 & echo $! >> {pids}; wait")
    before = tree(Path("."))
    command = [*STRATAC, "compile", "mlp.onnx", *DIMS, "--no-cache", "--jobs", "2"]
    process = subprocess.Popen(
        command, env={**os.environ, "CC": cc}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not pids.exists() or len(pids.read_text().split()) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    for number in signals:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    failed(Result(process.returncode, out, without_progress(err)), 3, ["interrupted; nothing was written"])
    assert tree(Path(".")) == before
    deadline = time.monotonic() + 10
    while any(alive(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < deadline, "a child of the compilation survived"
        time.sleep(0.02)


def test_ignored_signals_stay_ignored(stratac: CommandLine) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        stratac.good("inspect", "mlp.plan")
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)
    stratac.good("inspect", "mlp.plan")
    assert {s: signal.getsignal(s) for s in before} == before
