"""The ledger and the trace: every line of a plan is there, sums hold, nothing is negative."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from stratac.compiler.report.ledger import compare, compare_text, ledger_text, make_ledger, read_ledger
from stratac.compiler.report.trace import chrome_trace
from stratac.ir.errors import StratacError
from stratac.tests.report import samples


def measured(streamed: bool, factor: float = 1.5, seed: int = 0, wall: float | None = None) -> dict[str, Any]:
    """What a run of a sample could have measured: `factor` slower than predicted, give or take a little."""
    rng = random.Random(seed)
    report = samples.report(streamed)
    calls = [
        {
            "label": c["name"],
            "seconds": c["chosen"]["seconds"] * factor * rng.uniform(0.9, 1.1),
            "waited": c["waited"] * factor,
        }
        for c in report["clusters"]
    ]
    reads = [{"label": r["label"], "bytes": r["bytes"], "seconds": r["seconds"] * factor} for r in report["crossings"]]
    busy = sum(c["seconds"] + c["waited"] for c in calls)
    nbytes = sum(r["bytes"] for r in reads)
    took = sum(r["seconds"] for r in reads)
    held = {k: v for k, v in report["tiers"][0]["parts"].items() if k != "process floor"}
    return {
        "digest": "0",
        "sizes": {"shapes": {"x": [8, 256]}, "differ": False},
        "threads": report["threads"],
        "runs": 3,
        "io": "io_uring, direct, registered" if reads else "none",
        "calls": calls,
        "reads": reads,
        "traffic": {"streamed": nbytes, "busy": took, "lookups": 0, "bandwidth": nbytes / took if took else 0.0},
        "held": held,
        "growth": sum(held.values()) + (2 << 20),
        "file_bytes": report["memory"]["weights"],
        "load_seconds": 0.01,
        "first_seconds": 0.02,
        "wall_seconds": busy * 1.01 if wall is None else wall,
        "least_seconds": busy,
    }


@pytest.fixture(params=(False, True), ids=("resident", "streamed"))
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_every_line_of_the_plan_is_in_the_ledger(streamed: bool) -> None:
    report, found = samples.report(streamed), measured(streamed)
    ledger = make_ledger(report, found)
    assert [c["cluster"] for c in ledger["calls"]] == [c["cluster"] for c in report["clusters"]]
    assert [r["label"] for r in ledger["reads"]] == [s["label"] for q in report["queues"][1:] for s in q["spans"]]
    total = ledger["totals"]
    assert total["calls"] + total["waited"] + total["unaccounted"] == pytest.approx(found["wall_seconds"])
    assert total["predicted"] == report["predicted_seconds"]
    assert total["predicted_calls"] + total["predicted_waited"] + total["predicted_unaccounted"] == pytest.approx(
        total["predicted"]
    )
    for row in (*ledger["calls"], *ledger["reads"], total):
        assert row["error"] == pytest.approx(row["measured"] / row["predicted"] - 1)
    assert json.loads(json.dumps(ledger, allow_nan=False)) == ledger


def test_unaccounted_is_never_negative(streamed: bool) -> None:
    assert make_ledger(samples.report(streamed), measured(streamed, wall=0.0))["totals"]["unaccounted"] == 0.0


def test_memory_by_part(streamed: bool) -> None:
    report, found = samples.report(streamed), measured(streamed)
    rows = {(r["tier"], r["part"]): r for r in make_ledger(report, found)["memory"]}
    assert rows["ram", "total"]["predicted"] == report["tiers"][0]["used"]
    assert rows["ram", "total"]["measured"] == found["growth"]
    assert rows["ram", "process floor"]["measured"] == 2 << 20
    parts = [r for (tier, part), r in rows.items() if tier == "ram" and part != "total"]
    assert (
        sum(r["measured"] for r in parts) == found["growth"]
        and sum(r["predicted"] for r in parts) == report["tiers"][0]["used"]
    )
    assert rows["disk", "total"]["predicted"] == rows["disk", "total"]["measured"]
    unknown = make_ledger(report, {**found, "growth": None})["memory"]
    assert any(r["measured"] is None for r in unknown) and "not known" in ledger_text(
        {**make_ledger(report, found), "memory": unknown}
    )


def test_the_text(streamed: bool) -> None:
    text = ledger_text(make_ledger(samples.report(streamed), measured(streamed)))
    assert "measured  predicted" in text and "unaccounted" in text and "opening" in text and "ram total" in text
    assert ("while busy" in text) == streamed
    few = ledger_text(make_ledger(samples.report(streamed), measured(streamed)), 2)
    assert "more" in few and "note:" not in few
    other = {**measured(streamed), "threads": 1, "sizes": {"shapes": {}, "differ": True}}
    assert ledger_text(make_ledger(samples.report(streamed), other)).count("note:") == 2


def test_comparison_adds_up_and_is_sorted(streamed: bool) -> None:
    report = samples.report(streamed)
    found = compare(report, make_ledger(report, measured(streamed)))
    assert sum(row["difference"] for row in found["lines"]) == pytest.approx(found["total"]["difference"])
    sizes = [abs(row["difference"]) for row in found["lines"]]
    assert sizes == sorted(sizes, reverse=True)
    assert "unaccounted" in compare_text(found, 0) and "more; --all" in compare_text(found, 2)


def test_a_ledger_of_another_plan_is_refused(tmp_path: Path) -> None:
    ledger = make_ledger(samples.report(True), measured(True))
    with pytest.raises(StratacError, match="another plan"):
        compare({**samples.report(True), "name": "other"}, ledger)
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(ledger))
    assert read_ledger(path) == ledger
    for text in ("", "[]", '{"ledger_version": 0}'):
        path.write_text(text)
        with pytest.raises(StratacError, match="is no ledger"):
            read_ledger(path)
    with pytest.raises(StratacError, match="cannot read"):
        read_ledger(tmp_path / "missing")


@pytest.mark.parametrize("seed", range(10))
def test_the_trace(streamed: bool, seed: int) -> None:
    """Complete events of one lane follow each other, none is negative, and both sides have every call and read."""
    report = samples.report(streamed)
    ledger = make_ledger(report, measured(streamed, 1 + seed / 5, seed))
    trace = chrome_trace(report, ledger)
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert {e["ph"] for e in trace["traceEvents"]} == {"X", "M"} and min(e["ts"] for e in spans) == 0
    lanes: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for span in spans:
        assert span["dur"] >= 0
        lanes.setdefault((span["pid"], span["tid"]), []).append(span)
    for lane in lanes.values():
        lane.sort(key=lambda e: e["ts"])
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-6 for a, b in pairwise(lane))
    for pid in (1, 2):
        names = [e["name"] for e in spans if e["pid"] == pid and e["name"] != "waits for reads"]
        assert len(names) == len(report["clusters"]) + len(ledger["reads"])
    named = {(e["pid"], e["tid"]) for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert named == lanes.keys()
    json.dumps(trace, allow_nan=False)
