"""report.json: its sums hold, its figures follow from the plan, and equal plans give equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stratac.compiler.report.crossings import crossings, waiting
from stratac.compiler.report.summary import build_report
from stratac.compiler.report.tiers import live_bytes
from stratac.compiler.report.verdict import verdict
from stratac.passes.schedule.simulate import simulate_plan
from stratac.tests.report import samples

CASES = (False, True)


@pytest.fixture(params=CASES, ids=("resident", "streamed"))
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_the_samples_are_what_they_say() -> None:
    assert {w["how"] for w in samples.report(False)["weights"]} == {"resident"}
    assert {w["how"] for w in samples.report(True)["weights"]} >= {"streamed"}


def test_tiers_add_up(streamed: bool) -> None:
    report, levels = samples.report(streamed), samples.levels(streamed)
    assert levels.placed.solution is not None
    tiers = {tier["name"]: tier for tier in report["tiers"]}
    for tier in tiers.values():
        assert sum(tier["parts"].values()) == tier["used"] <= tier["budget"] <= tier["capacity"]
    # the placement's own sum, made from the decision and not from the plan
    assert tiers["ram"]["used"] == levels.placed.solution.used["ram"]
    assert tiers["disk"]["used"] == levels.plan.weights_bytes
    assert tiers["ram"]["limited"] == streamed
    assert report["load"]["peak_bytes"] == tiers["ram"]["used"]


def test_live_bytes_are_those_of_the_buffers(streamed: bool) -> None:
    plan = samples.levels(streamed).plan
    scratch = [b for b in plan.buffers if plan.arenas[b.arena].kind == "scratch"]
    expected = [sum(b.bytes for b in scratch if b.first <= call <= b.last) for call in range(len(plan.calls))]
    assert live_bytes(plan, "ram") == expected and max(expected) <= plan.arenas[1].bytes
    assert live_bytes(plan, "elsewhere") == [0] * len(plan.calls)


def test_the_time_is_accounted_for(streamed: bool) -> None:
    report = samples.report(streamed)
    assert sum(report["seconds_by"].values()) == pytest.approx(report["predicted_seconds"])
    cpu = report["queues"][0]
    assert cpu["busy"] + cpu["waited"] + report["start_seconds"] == pytest.approx(report["predicted_seconds"])
    for c, span in zip(report["clusters"], cpu["spans"], strict=True):
        assert (c["start"], c["end"], c["waited"]) == (span["start"], span["end"], span["waited"])
        assert c["end"] - c["start"] == pytest.approx(c["chosen"]["seconds"])
        assert c["intensity"] == (c["flops"] / c["bytes"] if c["bytes"] else 0)


def test_crossings_are_hidden_or_exposed() -> None:
    report = samples.report(True)
    reads = [row for row in report["crossings"] if row["kind"] == "read"]
    assert len(reads) == len(samples.levels(True).plan.reads) > 0
    for row in report["crossings"]:
        assert (
            row["hidden"] + row["exposed"] == pytest.approx(row["seconds"]) and min(row["hidden"], row["exposed"]) >= 0
        )
    assert sum(row["exposed"] for row in reads) == pytest.approx(report["queues"][0]["waited"])
    (link,) = report["links"]
    assert (link["from"], link["to"]) == ("disk", "ram") and link["bytes"] == sum(
        r["bytes"] for r in report["crossings"]
    )
    assert samples.report(False)["crossings"] == [] == samples.report(False)["links"]


@pytest.mark.parametrize("seed", range(60))
def test_exposed_seconds_are_what_calls_wait(seed: int) -> None:
    """Whatever the ring makes reads wait for, those of other runs included."""
    plan = samples.random_plan(seed)
    timeline = simulate_plan(plan)
    nodes: Any = [SimpleNamespace(outputs=(f"v{k}",)) for k in range(len(plan.calls))]
    choice = SimpleNamespace(chosen=SimpleNamespace(candidate=SimpleNamespace(direct=())))
    placed: Any = SimpleNamespace(
        homes={}, choices={n.outputs[0]: choice for n in nodes}, transfers=(), graph=SimpleNamespace(producers=dict)
    )
    rows = crossings(plan, placed, None, nodes, timeline)  # type: ignore[arg-type]
    assert all(row["exposed"] >= 0 and row["hidden"] >= -1e-12 for row in rows)
    assert sum(row["exposed"] for row in rows) == pytest.approx(timeline.stalled, abs=1e-9)
    assert all(start < end for start, end in waiting(timeline))


def test_decisions_say_what_the_runner_up_costs() -> None:
    report = samples.report(False)
    for c in report["clusters"]:
        if c["runner_up"] is None:
            assert c["difference"] is None
        else:
            assert c["difference"] == c["runner_up"]["seconds"] - c["chosen"]["seconds"]
        assert c["why"] and c["device"] == "cpu"


def test_equal_plans_give_equal_bytes(tmp_path: Path, streamed: bool) -> None:
    one, _ = samples.lower(tmp_path, samples.BUDGET if streamed else None)
    text = json.dumps(build_report(one.plan, one.placed, one.machine), sort_keys=True)
    assert text == json.dumps(samples.report(streamed), sort_keys=True)
    assert "NaN" not in text and "Infinity" not in text


def test_the_verdict() -> None:
    said = verdict(samples.report(True))
    assert "of the 4.00 MiB allowed in ram" in said.fits and 0.5 < said.tight <= 1
    assert "for one run on 2 threads" in said.speed and "storage" in said.why
    assert "allowed" not in verdict(samples.report(False)).fits
