"""The predictions benchmark: its cases, its errors, whether promises of memory were kept, and one small case from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from stratac.benchmarks.predictions import Case, Outcome, cases_of, kept, measure, summary, summary_text
from stratac.benchmarks.zoo import HELDOUT, ZOO, folder_of

OUTCOME = Outcome("minilm", "zoo", {"batch": 1}, 1, 0, 0.011, 0.010, (0.010,), 100, 90, {"matmul": (0.008, 0.009)})


def test_cases() -> None:
    found = cases_of(["minilm", "mobilenet_v2"], (1, 2), quick=False)
    assert len(found) == 8 and len({(c.model, tuple(c.dims.items()), c.threads) for c in found}) == 8
    assert all(case.budget == 0 for case in found)
    assert len(cases_of([*ZOO, *HELDOUT], (1,), quick=True)) == len(ZOO) + len(HELDOUT)


def test_errors_and_goals() -> None:
    assert OUTCOME.error == pytest.approx(0.1)
    fine = [replace(OUTCOME, predicted=0.01 + 0.0001 * i) for i in range(10)]
    found = summary([*fine, replace(fine[0], group="heldout")])
    assert found["zoo"]["median"] == pytest.approx(0.045) and found["zoo"]["most"] == pytest.approx(0.09)
    assert found["heldout"]["cases"] == 1 and found["families"]["matmul"]["error"] == pytest.approx(0.125)
    assert kept(found) and "10 cases" in summary_text(found) and "11 of 11 promises kept" in summary_text(found)
    assert not kept(summary([*fine, replace(fine[0], memory_measured=101)]))


def test_one_case(tmp_path: Path) -> None:
    if not (folder_of("mobilenet_v2") / "mobilenet_v2.onnx").is_file():
        pytest.skip("mobilenet_v2 is not exported")
    found = measure(Case("mobilenet_v2", ZOO["mobilenet_v2"].typical, 1), "generic-portable", tmp_path, rounds=1)
    assert found.predicted > 0 and found.measured > 0 and {"conv", "depthwise"} <= set(found.families)
    assert found.memory_measured <= found.memory_predicted and "mobilenet_v2" in str(found)
