"""report.json of a plan folder, checked for its version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...ir.errors import PlanError

#: of report.json's keys; a plan made by another version is refused with a hint to compile it again
REPORT_VERSION = 3


def read_report(plan: Path) -> dict[str, Any]:
    """The report of a plan whose manifest was checked before. Raises PlanError."""
    path = plan / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"cannot read {path}", hint="compile the plan again") from error
    found = report.get("report_version") if isinstance(report, dict) else None
    if found != REPORT_VERSION:
        raise PlanError(
            f"{path} was written by another stratac: its version is {found}, not {REPORT_VERSION}",
            hint="compile the plan again",
        )
    return dict(report)
