"""A case that takes its process down is a failure of that case alone."""

from __future__ import annotations

import faulthandler
import os
import signal
import time

import pytest
from stratac.tests.conformance import workers
from stratac.tests.conformance.suite import Outcome
from stratac.tests.conformance.workers import run_cases


def _run(name: str) -> Outcome:
    faulthandler.disable()  # the deaths are meant
    if name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("exit"):
        os._exit(3)
    if name.startswith("hang"):
        time.sleep(60)
    return Outcome(name, "pass", 0.0)


@pytest.mark.parametrize("jobs", [1, 3])
def test_deaths(jobs: int) -> None:
    names = ["a", "segv1", "b", "exit", "segv2", "c"]
    found = {o.case: o for o in run_cases(_run, names, jobs)}
    assert sorted(found) == sorted(names)
    assert {n: o.result for n, o in found.items()} == {n: "pass" if len(n) == 1 else "died" for n in names}
    assert "SIGSEGV" in found["segv1"].message and "exit code 3" in found["exit"].message


def test_a_case_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LIMIT_S", 0.3)
    found = {o.case: o.result for o in run_cases(_run, ["hang", "a", "b"], 2)}
    assert found == {"hang": "died", "a": "pass", "b": "pass"}
