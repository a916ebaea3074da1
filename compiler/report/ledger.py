"""The ledger: what a plan predicted beside what a run measured, line by line, and what no line accounts for.

Times are means over the measured runs. `unaccounted` is wall time less the calls and their waits; it cannot be negative, since
the calls of a run follow each other within it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...ir.errors import StratacError
from ..options import size_text
from .words import counted, rate_text, share_text, short, signed_time, table, time_text

LEDGER_VERSION = 1


def make_ledger(report: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """`measured` is what `compiler.measure` found; docs/reports.md lists the keys of the result."""
    calls = [
        {
            "cluster": cluster["cluster"],
            "label": row["label"],
            **_pair(cluster["chosen"]["seconds"], row["seconds"]),
            "waited": row["waited"],
            "predicted_waited": cluster["waited"],
        }
        for cluster, row in zip(report["clusters"], measured["calls"], strict=True)
    ]
    predicted_reads = [row for row in report["crossings"] if row["kind"] == "read"]
    reads = [
        {
            "label": row["label"],
            "bytes": row["bytes"],
            **_pair(planned["seconds"], row["seconds"]),
            "bandwidth": row["bytes"] / row["seconds"] if row["seconds"] else None,
            "predicted_bandwidth": planned["bytes"] / planned["seconds"] if planned["seconds"] else None,
        }
        for planned, row in zip(predicted_reads, measured["reads"], strict=True)
    ]
    return {
        "ledger_version": LEDGER_VERSION,
        "plan": report["name"],
        "digest": measured["digest"],
        "sizes": measured["sizes"],
        "threads": measured["threads"],
        "planned_threads": report["threads"],
        "runs": measured["runs"],
        "io": measured["io"],
        "calls": calls,
        "reads": reads,
        "traffic": measured["traffic"],
        "memory": _memory(report, measured),
        "load": _pair(report["load"]["seconds"], measured["load_seconds"]),
        "first_run": _pair(report["first_seconds"], measured["first_seconds"]),
        "totals": _totals(report, measured, calls),
    }


def _pair(predicted: float | None, measured: float | None) -> dict[str, Any]:
    """Both figures, and the error of the prediction: above 0 where more was measured than predicted."""
    error = measured / predicted - 1 if predicted and measured is not None else None
    return {"predicted": predicted, "measured": measured, "error": error}


def _totals(
    report: Mapping[str, Any], measured: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    busy, waited = sum(c["measured"] for c in calls), sum(c["waited"] for c in calls)
    wall = measured["wall_seconds"]
    return {
        **_pair(report["predicted_seconds"], wall),
        "least": measured["least_seconds"],
        "calls": busy,
        "predicted_calls": sum(c["predicted"] for c in calls),
        "waited": waited,
        "predicted_waited": sum(c["predicted_waited"] for c in calls),
        "unaccounted": max(wall - busy - waited, 0.0),
        "predicted_unaccounted": report["start_seconds"],
    }


def _memory(report: Mapping[str, Any], measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each part of a tier the bytes planned and held. What the process grew by beyond the plan's own is its floor."""
    rows = []
    held = measured["held"]
    growth = measured["growth"]
    for tier in report["tiers"]:
        if tier["kind"] == "disk":
            rows.append({"tier": tier["name"], "part": "total", **_pair(tier["used"], measured["file_bytes"])})
            continue
        own = 0
        for part, size in tier["parts"].items():
            if part in held:
                own += held[part]
                rows.append({"tier": tier["name"], "part": part, **_pair(size, held[part])})
        if "process floor" in tier["parts"]:
            beyond = None if growth is None else max(growth - own, 0)
            rows.append(
                {"tier": tier["name"], "part": "process floor", **_pair(tier["parts"]["process floor"], beyond)}
            )
            rows.append({"tier": tier["name"], "part": "total", **_pair(tier["used"], growth)})
    return rows


def read_ledger(path: Path) -> dict[str, Any]:
    """A ledger that `run --profile FILE` wrote. Raises StratacError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StratacError(
            f"cannot read {path}: {error.strerror or error}", hint="give a file of `run --profile FILE`"
        ) from error
    except ValueError as error:
        raise StratacError(
            f"{path} is no ledger: {error}", hint="write one with `stratac run PLAN --profile FILE`"
        ) from error
    if not isinstance(found, dict) or found.get("ledger_version") != LEDGER_VERSION:
        raise StratacError(
            f"{path} is no ledger of this version", hint="write one with `stratac run PLAN --profile FILE`"
        )
    return found


# -- text ----------------------------------------------------------------------------------------------------------


def _error(row: Mapping[str, Any]) -> str:
    return "-" if row["error"] is None else f"{row['error'] * 100:+.1f} %"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else time_text(seconds)


def ledger_text(ledger: Mapping[str, Any], top: int = 0) -> str:
    """The ledger for people; `top` limits the table of calls (0: all)."""
    calls = sorted(ledger["calls"], key=lambda c: -(c["measured"] + c["waited"]))
    shown = calls[:top] if top else calls
    cells = [
        (
            _time(c["measured"]),
            _time(c["predicted"]),
            _error(c),
            _time(c["waited"]) if c["waited"] else "-",
            short(c["label"], 76),
        )
        for c in shown
    ]
    lines = table(cells, ("measured", "predicted", "error", "waited", "cluster"), frozenset({0, 1, 2, 3}))
    if len(calls) > len(shown):
        lines.append(f"... and {len(calls) - len(shown)} more")
    return "\n".join([*lines, "", *_read_lines(ledger), *_memory_lines(ledger), *_total_lines(ledger)])


def _read_lines(ledger: Mapping[str, Any]) -> list[str]:
    reads, traffic = ledger["reads"], ledger["traffic"]
    if not reads and not traffic["lookups"]:
        return []
    lines = []
    if reads:
        nbytes = sum(r["bytes"] for r in reads)
        predicted = sum(r["predicted"] for r in reads)
        said = f", predicted {rate_text(nbytes / predicted, 'B/s')}" if predicted else ""
        lines.append(
            f"reads      {len(reads)} of {size_text(nbytes)} a run at {rate_text(traffic['bandwidth'], 'B/s')} while busy{said} "
            f"({ledger['io']})"
        )
    if traffic["lookups"]:
        lines.append(f"lookups    {size_text(traffic['lookups'])} a run, read by kernels")
    return lines


def _memory_lines(ledger: Mapping[str, Any]) -> list[str]:
    return [
        f"{'memory' if number == 0 else '':10} {row['tier']} {row['part']}: "
        f"{'not known' if row['measured'] is None else size_text(row['measured'])}, predicted {size_text(row['predicted'])}"
        for number, row in enumerate(ledger["memory"])
    ]


def _total_lines(ledger: Mapping[str, Any]) -> list[str]:
    total, load, first = ledger["totals"], ledger["load"], ledger["first_run"]
    wall = total["measured"]
    lines = [
        f"opening    {_time(load['measured'])}, predicted {_time(load['predicted'])} cold",
        f"first run  {_time(first['measured'])}, predicted {_time(first['predicted'])}",
        f"measured {time_text(wall)}, predicted {time_text(total['predicted'])} in total ({_error(total)}; "
        f"{counted(ledger['runs'], 'run')}, the fastest {time_text(total['least'])})",
        *(
            f"  {name:11}  {_time(total[key]):>10}  {share_text(total[key], wall):>7}  predicted {_time(total[f'predicted_{key}'])}"
            for name, key in (("calls", "calls"), ("waiting", "waited"), ("unaccounted", "unaccounted"))
        ),
    ]
    if ledger["threads"] != ledger["planned_threads"]:
        lines.append(
            f"note: run on {counted(ledger['threads'], 'thread')}, predicted for {ledger['planned_threads']}: compare with care"
        )
    if ledger["sizes"].get("differ"):
        lines.append("note: the inputs are not of the typical sizes, which predictions are for: compare with care")
    return lines


# -- comparison ----------------------------------------------------------------------------------------------------


def compare(report: Mapping[str, Any], ledger: Mapping[str, Any]) -> dict[str, Any]:
    """The prediction's error in each line, by what it contributes to the error of the whole, largest first.

    Raises StratacError for a ledger of another plan.
    """
    names = [c["cluster"] for c in report["clusters"]]
    if ledger["plan"] != report["name"] or [c["cluster"] for c in ledger["calls"]] != names:
        raise StratacError(f"the ledger is of another plan, {ledger['plan']!r}, or of another version of this one")
    rows = [_line("call", c["label"], report_row["chosen"]["seconds"], c["measured"])
            for c, report_row in zip(ledger["calls"], report["clusters"], strict=True)]  # fmt: skip
    totals = ledger["totals"]
    waits = [
        _line("wait", c["label"], row["waited"], c["waited"])
        for c, row in zip(ledger["calls"], report["clusters"], strict=True)
        if c["waited"] or row["waited"]
    ]
    rows += [*waits, _line("rest", "unaccounted", report["start_seconds"], totals["unaccounted"])]
    rows.sort(key=lambda row: (-abs(row["difference"]), row["label"]))
    return {"total": _line("total", "one run", report["predicted_seconds"], totals["measured"]), "lines": rows}


def _line(kind: str, label: str, predicted: float, measured: float) -> dict[str, Any]:
    return {"kind": kind, "label": label, **_pair(predicted, measured), "difference": measured - predicted}


def compare_text(found: Mapping[str, Any], top: int) -> str:
    """For people: what the error of the whole is made of."""
    total = found["total"]
    lines = [
        f"measured {time_text(total['measured'])}, predicted {time_text(total['predicted'])}: "
        f"{signed_time(total['difference'])}, {_error(total)}",
        "",
    ]
    rows = found["lines"][:top] if top else found["lines"]
    cells = [
        (
            signed_time(r["difference"]),
            _error(r),
            _time(r["predicted"]),
            _time(r["measured"]),
            r["kind"],
            short(r["label"], 72),
        )
        for r in rows
    ]
    lines += table(cells, ("difference", "error", "predicted", "measured", "", "line"), frozenset({0, 1, 2, 3}))
    if len(found["lines"]) > len(rows):
        lines.append(f"... and {len(found['lines']) - len(rows)} more; --all shows them")
    return "\n".join([*lines, "", *_spread(found["lines"])])


def _spread(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What over- and underestimates add up to: errors that cancel are still errors."""
    slower = sum(row["difference"] for row in rows if row["difference"] > 0)
    faster = sum(row["difference"] for row in rows if row["difference"] < 0)
    return [f"slower than predicted {signed_time(slower)}, faster {signed_time(faster)}"]
