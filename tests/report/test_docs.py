"""docs/reports.md names every key of report.json and of the ledger, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stratac.compiler.report.ledger import make_ledger
from stratac.tests.report import samples
from stratac.tests.report.test_ledger import measured

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reports.md").read_text()


def rows(part: str) -> dict[str, str]:
    """key -> its description, from the table between two marks."""
    block = PAGE.split(f"<!-- {part}:begin -->")[1].split(f"<!-- {part}:end -->")[0]
    found = {}
    for line in block.splitlines():
        if line.startswith("| `"):
            keys, text = line.strip("| ").split(" | ", 1)
            found |= dict.fromkeys(re.findall(r"`(\w+)`", keys), text)
    return found


def test_every_key_of_the_report() -> None:
    found, report = rows("report"), {**samples.report(True), "model": {}, "options": {}}  # the driver adds these
    assert found.keys() == report.keys()
    for part in ("clusters", "weights", "crossings"):
        assert {key for row in report[part] for key in row} <= set(re.findall(r"\w+", found[part])), part


def test_every_key_of_the_ledger() -> None:
    found, ledger = rows("ledger"), make_ledger(samples.report(True), measured(True))
    assert found.keys() == ledger.keys()
    for part in ("calls", "reads", "memory"):
        assert {key for row in ledger[part] for key in row} <= set(re.findall(r"\w+", found[part])), part


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--([a-z][a-z-]+)", PAGE))))
def test_every_option_exists(option: str) -> None:
    from stratac.compiler.cli import build_parser

    parser = build_parser()
    (commands,) = [action for action in parser._actions if action.dest == "command"]
    assert commands.choices is not None
    known = {text for sub in commands.choices.values() for action in sub._actions for text in action.option_strings}
    assert f"--{option}" in known
