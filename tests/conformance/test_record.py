"""The committed record of the suite, its page and its skip list."""

from __future__ import annotations

from pathlib import Path

import pytest
from stratac.tests.conformance import __main__ as command
from stratac.tests.conformance.page import PAGE, page_text
from stratac.tests.conformance.record import DOCS, one_line, read_record, record, regressions, updated, write_record
from stratac.tests.conformance.suite import Outcome, Suite, compiled, read_skips
from stratac.tests.conformance.workers import run_cases

OUTCOMES = [
    Outcome("node/a", "pass", 1.0),
    Outcome("node/b", "fail", 1.0, "refused", "model cannot be\n  imported at 0x7f00 in /tmp/x/y"),
    Outcome("simple/c", "skip", 0.0, "skip list", "reason"),
]


def test_a_record_holds_what_did_not_pass(tmp_path: Path) -> None:
    found = record("stratac", OUTCOMES)
    assert found.passed == 1 and found.cases == {"node": 2, "simple": 1}
    assert found.others["node/b"]["message"] == "model cannot be imported at ... in ..."
    write_record(tmp_path / "r.json", found)
    assert read_record(tmp_path / "r.json") == found
    later = [Outcome("node/a", "died", 1.0), OUTCOMES[1], Outcome("new/case", "fail", 1.0)]
    assert [o.case for o in regressions(found, later)] == ["node/a", "new/case"]
    better = updated(found, [Outcome("node/b", "pass", 1.0)])
    assert better.passed == 2 and list(better.others) == ["simple/c"]
    assert one_line("x " * 300).endswith(" ...") and len(one_line("x " * 300)) <= 204


def test_shares_are_all_cases_once() -> None:
    names = [f"node/test_{i}" for i in range(200)]
    parts = [command.chosen(names, "", f"{i}/3") for i in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(names) and all(parts)
    assert command.chosen(names, "test_1$", "1/1") == ["node/test_1"]


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_text(), "run python -m tests.conformance.page"


def test_every_reason_is_given() -> None:
    assert all(reason for reason in read_skips().values())
    assert all(name in read_record(DOCS / "conformance.json").others for name in read_skips())


@pytest.mark.filterwarnings("ignore")
def test_no_case_is_skipped_that_passes(tmp_path: Path) -> None:
    """The skip list is no place for cases that have come to pass."""
    suite = Suite(compiled(tmp_path / "cache"), tmp_path / "models")
    skips = read_skips()
    assert set(skips) <= set(suite.cases), "a listed case does not exist"
    passing = [o.case for o in run_cases(suite.run, list(skips), 1) if o.result == "pass"]
    assert passing == [], "take them off tests/conformance/skips.txt"
