"""inspect --html and --compare, explain, diff, run --profile and --trace as their users run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stratac.ir.text_plan import parse_plan
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import DIMS, mlp, save
from stratac.tests.report.samples import BUDGET, chain

TARGET = ("--target", "generic-portable", "--threads", "2")


def seconds(plan: str) -> float:
    return parse_plan((Path(plan) / "plan.txt").read_text()).seconds


def make(stratac: CommandLine, name: str, budget: int | None = BUDGET) -> str:
    """A plan of the sample chain, streamed if there is a budget."""
    save(chain(), Path("chain.onnx"))
    given = () if budget is None else ("--budget", f"ram={budget}")
    stratac.good("compile", "chain.onnx", "-o", name, "--dim", "n=1:8:16", *TARGET, *given, "--quiet")
    return name


def test_inspect_says_what_streams(stratac: CommandLine) -> None:
    out = stratac.good("inspect", make(stratac, "s.plan"))
    for text in (
        "fits    ",
        "of the 4.00 MiB allowed in ram",
        "through which weights are streamed",
        "hidden",
        "lower bound",
    ):
        assert text in out
    assert all(len(line) <= 140 and line == line.rstrip() for line in out.splitlines())
    report = json.loads(stratac.good("inspect", "s.plan", "--json"))["report"]
    assert report["solution"]["budgets"]["ram"] == BUDGET and report["options"]["budgets"] == {"ram": BUDGET}


def test_html(stratac: CommandLine) -> None:
    out = stratac.good("inspect", "mlp.plan", "--html", "new.html")
    assert out.startswith("new.html: ")
    text = Path("new.html").read_text()
    assert text.startswith("<!doctype html>") and '<section id="machine">' in text and "mlp" in text
    stratac.good("inspect", "mlp.plan", "--html", "again.html", "--json")
    assert Path("again.html").read_text() == text
    stratac.refused(("inspect", "mlp.plan", "--html", "no/such/folder/x.html"), 3, "cannot write")
    stratac.refused(("inspect", "mlp.plan", "--html", "."), 3, "cannot write")


def test_explain(stratac: CommandLine) -> None:
    out = stratac.good("explain", "mlp.plan", "product")
    assert out.startswith("cluster ") and "matmul + add + relu (3 ops in one kernel)" in out and "weights" in out
    assert stratac.good("explain", "mlp.plan", "bias") == out, "any node of a cluster names it"
    found = json.loads(stratac.good("explain", "mlp.plan", "w", "--json"))["nodes"]
    assert found[0]["kind"] == "weight" and found[0]["bytes"] > 0
    stratac.refused(("explain", "mlp.plan", "prodct"), 2, "no node or weight 'prodct'", "product")
    stratac.refused(("explain", "mlp.plan"), 2, "explain what?")
    stratac.refused(("explain", "mlp.plan", "["), 2, "no regular expression")


@pytest.mark.parametrize("change", ("ram=+512KiB", "ram=8MiB", "threads=1"))
def test_what_if_is_a_real_plan(stratac: CommandLine, change: str) -> None:
    """What is answered is what compiling with the changed options gives, to the last bit."""
    make(stratac, "s.plan")
    found = json.loads(stratac.good("explain", "s.plan", "--what-if", change, "--json"))["what_if"]
    budget, threads = BUDGET, 2
    match change.split("="):
        case ["ram", "8MiB"]:
            budget = 8 << 20
        case ["ram", _]:
            budget += 512 << 10
        case _:
            threads = 1
    words = (
        "--target",
        "generic-portable",
        "--threads",
        str(threads),
        "--dim",
        "n=1:8:16",
        "--budget",
        f"ram={budget}",
    )
    stratac.good("compile", "chain.onnx", "-o", "t.plan", *words, "--quiet")
    assert found["after"]["seconds"] == seconds("t.plan") != seconds("s.plan") == found["before"]["seconds"]
    real = json.loads(stratac.good("inspect", "t.plan", "--json"))["report"]
    assert found["after"]["used"] == {tier["name"]: tier["used"] for tier in real["tiers"]}
    moved = json.loads(stratac.good("diff", "s.plan", "t.plan", "--json"))
    assert found["difference"]["weights"] == moved["weights"] and found["difference"]["clusters"] == moved["clusters"]


def test_what_if_nothing_changes(stratac: CommandLine) -> None:
    """The same budget again: the plan is found again from its report."""
    make(stratac, "s.plan")
    out = stratac.good("explain", "s.plan", "--what-if", f"ram={BUDGET}")
    assert "nothing would change" in out and "what a budget is worth" in out
    (worth, *_) = [line for line in out.splitlines() if line.startswith("  ram")]
    assert "ms per GiB" in worth


def test_what_if_on_a_roomy_plan(stratac: CommandLine) -> None:
    make(stratac, "r.plan", None)
    found = json.loads(stratac.good("explain", "r.plan", "--what-if", "ram=-1GiB", "--json"))["what_if"]
    assert found["difference"]["memory"].keys() == {"ram budget"} and found["marginal"][0]["per_gib"] == 0
    stratac.refused(("explain", "r.plan", "--what-if", "ram=1MiB"), 2, "more than the budget")


@pytest.mark.parametrize(
    "change, text",
    [
        ("ram", "is not understood"),
        ("ram=", "is not understood"),
        ("ram=lots", "is not a size"),
        ("ram=-100GiB", "less than nothing"),
        ("gpu7=1GiB", "has no 'gpu7'"),
        ("threads=-9", "would be"),
        ("threads=many", "no number of threads"),
        ("objective=beauty", "unknown objective"),
        ("precision=double", "unknown precision"),
        ("max_error=some", "is no number"),
        ("max_error=2", "is not understood"),
    ],
)
def test_bad_changes(stratac: CommandLine, change: str, text: str) -> None:
    stratac.refused(("explain", "mlp.plan", "--what-if", change), 2, text)


def test_what_if_needs_the_model(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATAC_CACHE", "")  # which remembers where models are
    Path("mlp.onnx").rename("moved.onnx")
    stratac.refused(("explain", "mlp.plan", "--what-if", "threads=1"), 2, "is not where it was", "--model")
    assert "what if" in stratac.good("explain", "mlp.plan", "--what-if", "threads=1", "--model", "moved.onnx")
    save(mlp(seed="2"), Path("other.onnx"))
    stratac.refused(("explain", "mlp.plan", "--what-if", "threads=1", "--model", "other.onnx"), 2, "not the model")
    stratac.refused(("explain", "mlp.plan", "--what-if", "threads=1", "--model", "none.onnx"), 2, "no model")


def test_diff(stratac: CommandLine) -> None:
    assert stratac.good("diff", "mlp.plan", "mlp.plan") == "no difference\n"
    assert stratac("diff", "mlp.plan", "mlp.plan", "--exit-code").code == 0
    save(mlp(16), Path("wide.onnx"))
    stratac.good("compile", "wide.onnx", "-o", "wide.plan", *DIMS)
    out = stratac.good("diff", "mlp.plan", "wide.plan")
    assert "output y" in out and "f32[batch, seq, 12]" in out and "f32[batch, seq, 16]" in out
    assert stratac("diff", "mlp.plan", "wide.plan", "--exit-code").code == 1
    found = json.loads(stratac.good("diff", "mlp.plan", "wide.plan", "--json"))
    assert not found["same"] and found["signature"] == {"output y": ["f32[batch, seq, 12]", "f32[batch, seq, 16]"]}
    stratac.refused(("diff", "mlp.plan", "none.plan"), 2, "none.plan")


def events(path: str) -> list[dict[str, Any]]:
    found = json.loads(Path(path).read_text())["traceEvents"]
    assert isinstance(found, list)
    return found


def test_the_ledger_of_a_run(stratac: CommandLine) -> None:
    make(stratac, "s.plan")
    out = stratac.good(
        "run", "s.plan", "--random", "1", "--profile", "ledger.json", "--trace", "trace.json", "--runs", "3"
    )
    assert "unaccounted" in out and "ledger written to ledger.json" in out and "trace written to trace.json" in out
    ledger = json.loads(Path("ledger.json").read_text())
    report = json.loads(stratac.good("inspect", "s.plan", "--json"))["report"]
    assert ledger["runs"] == 3 and ledger["totals"]["unaccounted"] >= 0
    assert len(ledger["calls"]) == len(report["clusters"]) and len(ledger["reads"]) == len(report["queues"][1]["spans"])
    assert all(row["measured"] > 0 for row in (*ledger["calls"], *ledger["reads"]))
    accounted = ledger["totals"]["calls"] + ledger["totals"]["waited"]
    assert accounted <= ledger["totals"]["measured"] * 1.001
    memory = {(row["tier"], row["part"]): row for row in ledger["memory"]}
    for part in ("weights", "ring", "activations", "workspace"):
        assert memory["ram", part]["measured"] == memory["ram", part]["predicted"] > 0
    assert memory["disk", "total"]["measured"] == memory["disk", "total"]["predicted"]
    assert {e["pid"] for e in events("trace.json")} == {1, 2}
    out = stratac.good("inspect", "s.plan", "--compare", "ledger.json")
    assert out.startswith("measured ") and "unaccounted" in out
    found = json.loads(stratac.good("inspect", "s.plan", "--compare", "ledger.json", "--json"))
    assert sum(row["difference"] for row in found["lines"]) == pytest.approx(found["total"]["difference"], rel=1e-3)
    stratac.refused(("inspect", "mlp.plan", "--compare", "ledger.json"), 2, "another plan")
    stratac.refused(("inspect", "mlp.plan", "--compare", "trace.json"), 2, "is no ledger")


def test_profile_without_a_file(stratac: CommandLine) -> None:
    out = stratac.good("run", "mlp.plan", "--random", "1", "--dim", "seq=3", "--profile", "--threads", "1")
    assert "measured  predicted" in out and "not of the typical sizes" in out and "written" not in out


def test_a_report_of_another_version(stratac: CommandLine) -> None:
    """Only a plan that was changed as a whole, digests and all, comes so far."""
    from stratac.compiler.report.read import read_report
    from stratac.ir.errors import PlanError

    path = Path("mlp.plan/report.json")
    report = json.loads(path.read_text())
    for text in (json.dumps({**report, "report_version": 1}), json.dumps([1]), "{"):
        path.write_text(text)
        with pytest.raises(PlanError, match=r"report\.json"):
            read_report(Path("mlp.plan"))
