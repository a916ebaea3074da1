"""What a run of the suite came to, as a committed file: which cases do not pass, and why."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from .suite import Outcome

DOCS = Path(__file__).resolve().parents[2] / "docs"
_LINE = 200


@dataclass(frozen=True)
class Record:
    """`cases` by kind, `passed` in all, and every case that did not pass with its result, cause and message."""

    system: str
    onnx: str
    cases: Mapping[str, int]
    passed: int
    others: Mapping[str, Mapping[str, str]]

    def facts(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "onnx": self.onnx,
            "cases": dict(self.cases),
            "passed": self.passed,
            "others": {name: dict(row) for name, row in sorted(self.others.items())},
        }


def record(system: str, outcomes: Sequence[Outcome]) -> Record:
    """Of a whole run."""
    kinds = Counter(o.case.split("/")[0] for o in outcomes)
    others = _others(outcomes)
    return Record(system, onnx.__version__, dict(sorted(kinds.items())), len(outcomes) - len(others), others)


def updated(before: Record, outcomes: Sequence[Outcome]) -> Record:
    """With the outcomes of cases that were run again."""
    again = {o.case for o in outcomes}
    others = {name: row for name, row in before.others.items() if name not in again} | _others(outcomes)
    return replace(before, passed=sum(before.cases.values()) - len(others), others=others)


def _others(outcomes: Iterable[Outcome]) -> dict[str, dict[str, str]]:
    return {
        o.case: {"result": o.result, "cause": o.cause, "message": one_line(o.message)}
        for o in outcomes
        if o.result != "pass"
    }


def one_line(message: str) -> str:
    """A message as one line that is the same in every run: no addresses, no temporary names."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    text = re.sub(r"0x[0-9a-f]+|/tmp/\S+", "...", text)
    return text if len(text) <= _LINE else text[:_LINE].rsplit(" ", 1)[0] + " ..."


def read_record(path: Path) -> Record:
    facts = json.loads(path.read_text())
    return Record(facts["system"], facts["onnx"], facts["cases"], facts["passed"], facts["others"])


def write_record(path: Path, found: Record) -> None:
    path.write_text(json.dumps(found.facts(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def regressions(before: Record, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Cases that did not pass now and passed then."""
    return [o for o in outcomes if o.result != "pass" and o.case not in before.others]
