"""The budget sweep: budgets from none to all, points that are plans, a picture that is well-formed."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from stratac.benchmarks import sweep
from stratac.benchmarks.sweep_chart import chart
from stratac.compiler.options import CompileOptions
from stratac.ir.dims import Bounds
from stratac.tests.cli.models import save
from stratac.tests.report.samples import TARGET, chain

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("points", (2, 3, 24))
def test_budgets(points: int) -> None:
    found = sweep.budgets_between(1000, 50_000, points)
    assert found[0] < 1000 == found[1] and found[-1] == 50_000 and len(found) == points + 1
    assert all(a < b for a, b in pairwise(found))


def test_a_sweep(tmp_path: Path) -> None:
    model = save(chain(), tmp_path / "chain.onnx")
    options = CompileOptions(target=TARGET, dims={"n": Bounds(1, 8, 16)}, threads=2)
    found = sweep.sweep(model, options, points=5, measure=0)
    assert found["measured"] == [] and found["predicted"][0]["seconds"] is None
    rows = found["predicted"][1:]
    assert rows[0]["budget"] == found["smallest_budget"]
    assert all(a["seconds"] >= b["seconds"] * 0.999 for a, b in pairwise(rows)), "more memory costs no time"
    assert rows[0]["seconds"] > rows[-1]["seconds"] == found["resident"]["seconds"] and rows[-1]["read_bytes"] == 0
    assert all(row["used"] <= row["budget"] and row["lower_bound"] <= row["seconds"] for row in rows)
    assert json.loads(json.dumps(found)) == found
    found["measured"] = [{"budget": rows[2]["budget"], "seconds": 0.001, "least": 0.001, "runs": 7, "io": "<mmap>"}]
    found["model"] = "<&chain>"
    root = ET.fromstring(chart(found))
    dots = [c for c in root.iter(f"{SVG}circle") if c.get("class") == "dot"]
    assert len(dots) == len(rows)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert all(
        0 < float(c.get("cx", -1)) < width and 0 < float(c.get("cy", -1)) < height for c in root.iter(f"{SVG}circle")
    )
    text = sweep.sweep_text(found)
    assert "no plan" in text and "1.000 ms" in text
