"""The three answers in front of every report: does it fit, how fast is it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..options import size_text
from .words import counted, share_text, time_text

#: what binds a share of the time, as people say it
BOUNDS = {
    "compute": "arithmetic",
    "memory": "memory traffic",
    "launch": "starting kernels",
    "start": "starting the run",
    "storage": "storage",
}


@dataclass(frozen=True)
class Verdict:
    """One line each. `tight` is the share of the budget of the tier that is filled most."""

    fits: str
    speed: str
    why: str
    tight: float


def verdict(report: Mapping[str, Any]) -> Verdict:
    """From report.json alone."""
    memory = [tier for tier in report["tiers"] if tier["kind"] == "memory" and tier["used"]]
    parts = [
        f"{size_text(tier['used'])} of the {size_text(tier['budget'])} {'allowed in' if tier['limited'] else 'of'} "
        f"{tier['name']}"
        for tier in memory
    ]
    tight = max((tier["used"] / tier["budget"] for tier in memory if tier["budget"]), default=0.0)
    return Verdict(", ".join(parts) or "it holds no memory", _speed(report), _why(report), tight)


def _speed(report: Mapping[str, Any]) -> str:
    seconds, solution = report["predicted_seconds"], report["solution"]
    text = f"{time_text(seconds)} for one run on {counted(report['threads'], 'thread')}"
    if solution is not None:
        gap = solution["gap"]
        text += ", the lower bound" if gap < 5e-5 else f", {gap * 100:.1f} % above the lower bound"
    return text


def _why(report: Mapping[str, Any]) -> str:
    by = sorted(report["seconds_by"].items(), key=lambda pair: (-pair[1], pair[0]))
    total = sum(seconds for _, seconds in by)
    shown = [
        f"{share_text(seconds, total)} {BOUNDS.get(name, name)}" for name, seconds in by if seconds > 0.005 * total
    ]
    waited = sum(queue["waited"] for queue in report["queues"] if queue["name"] == "cpu")
    reads = [row for row in report["crossings"] if row["kind"] == "read"]
    if reads:
        hidden = sum(row["hidden"] for row in reads)
        shown.append(
            f"calls wait {time_text(waited)} for reads"
            if waited > 0
            else f"all {time_text(hidden)} of reading are hidden behind calls"
        )
    return ", ".join(shown) or "there is nothing to compute"
