"""docs/coverage.md shows the results, and says why a model does not compile."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from stratac.benchmarks.coverage import PAGE, page
from stratac.benchmarks.subjects import ROOT

RESULTS = {
    "isa": "avx512",
    "machine": {"cpu": "a CPU"},
    "versions": {"torch": "2"},
    "rows": [
        {
            "name": "One",
            "exported": {"error": 2e-7},
            "onnx": {"error": 3e-2},
            "stratac_seconds": 1e-3,
            "onnxruntime_seconds": 2e-3,
        },
        {"name": "Two", "exported": {"reason": "a | b"}, "onnx": {"error": 1e-7, "exporter": "TorchScript"}},
    ],
}


def test_page() -> None:
    text = page(RESULTS)
    assert "| One | 2.0e-07 | 3.0e-02 (wrong) | 1.00 | 2.00 |" in text
    assert "| Two | a \\| b | 1.0e-07 (TorchScript) |  |  |" in text
    assert "1 compute through the exported program and 1 through ONNX" in text


def test_the_page_is_that_of_the_results() -> None:
    complete = (p for p in (ROOT / "benchmarks" / "results").glob("coverage-*.json") if ".partial" not in p.name)
    newest = max(complete, key=lambda path: path.stat().st_mtime)
    assert PAGE.read_text() == page(json.loads(newest.read_text()))
