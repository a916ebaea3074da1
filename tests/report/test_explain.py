"""`explain`: every name leads to its cluster or weight, and the text says what the plan says."""

from __future__ import annotations

import pytest
from stratac.compiler.report.explain import IN_FULL, explain_text, find
from stratac.ir.errors import StratacError
from stratac.tests.report import samples


def test_every_name_finds_its_cluster() -> None:
    report = samples.report(True)
    for c in report["clusters"]:
        for name in (c["cluster"], c["name"], *c["nodes"]):
            assert c["cluster"] in [row["cluster"] for row in find(report, name) if row["kind"] == "cluster"]


def test_every_name_finds_its_weight() -> None:
    report = samples.report(True)
    for w in report["weights"]:
        for name in (w["label"], w["key"]):
            assert w["key"] in [row["key"] for row in find(report, name) if row["kind"] == "weight"]


def test_a_cluster_in_full() -> None:
    report = samples.report(True)
    late = next(c for c in report["clusters"] if c["waited"] > 0)
    (found,) = find(report, late["name"])
    text = explain_text([found])
    assert f"cluster {late['name']}  (%{late['cluster']})" in text
    for word in (
        "computes",
        "made of",
        "runs on",
        "runner-up",
        "binds",
        "when",
        "waits for",
        "feeds",
        "holds",
        "weights",
    ):
        assert f"\n  {word}" in text
    assert "streamed from disk" in text and "in all" in text and late["why"] in text
    assert found["crossings"][0]["label"] == found["weights"][0]["label"]


def test_what_a_numeric_mode_costs_is_said() -> None:
    (found,) = find(samples.report(False), "product_1")
    assert found["chosen"]["error"] == 0.0 and "accuracy" not in explain_text([found])
    less = {**found, "chosen": {**found["chosen"], "name": "cpu/matmul_bf16/bf16", "error": 2.5e-3}}
    assert "\n  accuracy   products within 2.5e-03 of those in f32" in explain_text([less])
    tiles = {**found, "chosen": {**found["chosen"], "name": "cpu/matmul_tiles_bf16x6/bf16x6"}}
    assert "\n  accuracy   as exact as f32: each operand in three parts of bf16" in explain_text([tiles])


def test_a_weight_in_full() -> None:
    report = samples.report(True)
    streamed = next(w for w in report["weights"] if w["how"] == "streamed")
    text = explain_text(find(report, streamed["label"]))
    assert streamed["why"] in text and "used by" in text and "hidden" in text and streamed["format"] in text


def test_a_regular_expression_finds_many() -> None:
    report = samples.report(True)
    found = find(report, r"^product_[0-4]$")
    assert [row["kind"] for row in found] == ["cluster"] * 5 and len(explain_text(found).split("\n\n")) == 5
    many = find(report, ".")
    assert len(many) == len(report["clusters"]) + len(report["weights"]) > IN_FULL
    assert explain_text(many).startswith(f"{len(many)} match")


def test_an_exact_name_is_no_expression() -> None:
    report = samples.report(True)
    assert len(find(report, "w1")) >= 1
    assert all("product_1" in row["nodes"] for row in find(report, "product_1"))


@pytest.mark.parametrize("name, hint", [("prodct_3", "product_3"), ("(", None), ("zzzzzz", None)])
def test_unknown_names(name: str, hint: str | None) -> None:
    with pytest.raises(StratacError) as error:
        find(samples.report(True), name)
    assert repr(name) in error.value.what
    if hint:
        assert hint in (error.value.hint or "")
