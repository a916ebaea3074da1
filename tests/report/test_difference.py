"""`diff`: nothing between equal plans, everything between others, and rows matched by what they are."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from stratac.compiler.report.difference import diff_plans, diff_text
from stratac.tests.report import samples


def both(streamed: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    return copy.deepcopy(samples.manifest(streamed)), copy.deepcopy(samples.report(streamed))


def test_equal_plans_do_not_differ() -> None:
    for streamed in (False, True):
        found = diff_plans(both(streamed), both(streamed))
        assert found["same"] and not any(v for k, v in found.items() if k != "same")
        assert diff_text(found) == "no difference"


def test_a_budget_moves_weights() -> None:
    resident, streamed = both(False), both(True)
    found = diff_plans(resident, streamed)
    assert not found["same"] and found["signature"] == {} and found["machine"] == {}
    homes = {w["name"]: w for w in found["weights"]["changed"]}
    a = {w["label"]: w["how"] for w in resident[1]["weights"]}
    b = {w["label"]: w["how"] for w in streamed[1]["weights"]}
    assert {name for name, w in homes.items() if "how" in w} == {
        name for name in a.keys() & b.keys() if a[name] != b[name]
    }
    assert found["memory"]["ram used"] == [r[1]["tiers"][0]["used"] for r in (resident, streamed)]
    assert found["time"]["one run"][0] < found["time"]["one run"][1]
    assert found["storage"]["reads"] == [None, len(streamed[1]["queues"][1]["spans"])]
    text = diff_text(found, ("roomy", "tight"))
    assert "roomy" in text and "resident -> streamed" in text and all(len(line) <= 140 for line in text.splitlines())
    back = diff_plans(streamed, resident)
    assert back["time"]["one run"] == found["time"]["one run"][::-1]


def test_each_kind_of_change_is_found() -> None:
    changes = {
        "signature": lambda m, r: m["inputs"][0].update(shape="[1, 256]"),
        "facts": lambda m, r: r.update(threads=7),
        "time": lambda m, r: r.update(predicted_seconds=1.0),
        "memory": lambda m, r: r["tiers"][0].update(budget=5),
        "storage": lambda m, r: r["crossings"].pop(),
        "clusters": lambda m, r: r["clusters"][0]["chosen"].update(name="cpu/other/f32"),
        "weights": lambda m, r: r["weights"][0].update(tier="elsewhere"),
        "machine": lambda m, r: r.update(profile=r["profile"].replace("cores = ", "cores = 9")),
        "notes": lambda m, r: r["notes"].update(order="another"),
    }
    for part, change in changes.items():
        manifest, report = both(True)
        change(manifest, report)
        found = diff_plans(both(True), (manifest, report))
        assert found[part] and not found["same"], part
        assert [k for k, v in found.items() if v and k != "same"] == [part]
        assert diff_text(found) != "no difference"


def test_times_may_differ_by_a_rounding() -> None:
    manifest, report = both(True)
    report["predicted_seconds"] *= 1 + 1e-12
    assert diff_plans(both(True), (manifest, report))["same"]


def test_clusters_are_matched_by_their_nodes(tmp_path: Path) -> None:
    """Rows of equal nodes are matched in order; a renamed model has only its order in common."""
    manifest, report = both(False)
    report["clusters"] = list(reversed(report["clusters"]))
    found = diff_plans(both(False), (manifest, report))
    assert found["clusters"] == {}
    manifest, report = both(False)
    gone = report["clusters"].pop()
    assert diff_plans(both(False), (manifest, report))["clusters"] == {"only first": [gone["name"]]}
    assert diff_plans((manifest, report), both(False))["clusters"] == {"only second": [gone["name"]]}
