"""The benchmark's own arithmetic, and that the README shows what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stratac.benchmarks import kernels, ranking, readme_promises, readme_table, zoo
from stratac.benchmarks.models import bounds_of, distance, is_good, one_line, same_bits, take_turns
from stratac.compiler.peer import Peer, PeerError


def result(name: str, ours: float, theirs: float) -> dict[str, Any]:
    memory = {"predicted": 3 << 20, "measured": 2 << 20, "onnxruntime_peak": 5 << 20, "kept": True}
    entry = {
        "stratac": {"seconds": ours},
        "onnxruntime": {"seconds": theirs},
        "ratio": theirs / ours,
        "memory": memory,
    }
    agreement = {"rel_l2": 2e-6, "max_abs": 1e-5, "agrees": True, "same_bits_at_all_thread_counts": True}
    dims = {"batch": 1, "seq": 128}
    return {
        "name": name,
        "dims": dims,
        "threads": {"1": entry},
        "agreement": agreement,
        "compile": {"cold": {"seconds": 4.0}},
        "cpu_share_of_others": 0.01,
    }


def results(date: str = "2026-01-02T03:04:05+00:00") -> dict[str, Any]:
    machine = {"cpu": "A CPU", "isa": "avx2", "cores": 2, "memory_bytes": 8 << 30, "system": "Linux 6"}
    return {
        "date": date,
        "machine": machine,
        "versions": {"stratac": "1", "revision": "abc", "onnxruntime": "2"},
        "threads": [1],
        "geometric_means": {"1": 2.0},
        "models": [result("one", 0.010, 0.020), {"name": "two", "error": "no such op\nmore"}],
    }


def test_the_readme_shows_the_newest_results() -> None:
    table = readme_table.table_text()
    if table is None:
        pytest.skip("no results: python -m benchmarks.models")
    readme = (readme_table.ROOT / "README.md").read_text()
    assert readme == readme_table.with_table(readme, table), "run python -m benchmarks.readme_table"
    promises = readme_table.promises_text()
    assert promises is not None
    assert readme == readme_table.with_table(readme, promises, readme_table.PROMISES), "benchmarks.readme_table"


def test_table() -> None:
    text = readme_table.markdown(results())
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert rows[2] == ["one", "batch 1 × seq 128", "10.0", "20.0", "**2.00**", "2e-06", "3", "2", "5", "4.0"]
    assert rows[3][:2] == ["two", "failed: no such op"]
    assert "A CPU (avx2, 2 cores, 8 GiB)" in text and "2026-01-02" in text


def test_newest_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme_table, "RESULTS", tmp_path)
    assert readme_table.table_text() is None
    for isa, date in (("avx2", "2026-01-01"), ("avx512", "2026-02-01"), ("portable", "2025-12-31")):
        (tmp_path / f"models-{isa}.json").write_text(json.dumps(results(date)))
    assert "2026-02-01" in str(readme_table.table_text())
    (tmp_path / "heldout-avx2.json").write_text(json.dumps(results("2026-01-03")))
    assert "2026-01-03" in str(readme_table.table_text())


def test_the_table_is_put_between_the_markers() -> None:
    readme = f"before\n{readme_table.BEGIN}\nold\n{readme_table.END}\nafter\n"
    new = readme_table.with_table(readme, "new")
    assert new == f"before\n{readme_table.BEGIN}\nnew\n{readme_table.END}\nafter\n"
    assert readme_table.with_table(new, "new") == new
    for lacking in ("nothing", readme_table.BEGIN, f"{readme_table.END}{readme_table.BEGIN}"):
        with pytest.raises(ValueError, match="markers"):
            readme_table.with_table(lacking, "new")


def test_distance(tmp_path: Path) -> None:
    def save(name: str, *arrays: np.ndarray) -> Path:
        path = tmp_path / f"{name}.npz"
        np.savez(path, **{f"o{i}": array for i, array in enumerate(arrays)})  # type: ignore[arg-type]
        return path

    three, four = np.full(9, 3.0, np.float32), np.full(16, 4.0, np.float32)
    one, near, other = save("one", three, four), save("near", three, four + 1), save("other", three, four[:1])
    assert distance(one, one) == (0.0, 0.0)
    assert distance(near, one) == (pytest.approx(4 / (81 + 256) ** 0.5), 1.0)
    assert np.isnan(distance(other, one)).all()
    assert np.isnan(distance(save("nan", three * np.nan, four), one)[0])
    assert same_bits(one, one) and not same_bits(one, near)


def test_bounds_hold_every_shape_of_a_row() -> None:
    assert bounds_of(zoo.row("minilm")) == {"batch": (1, 1, 8), "seq": (1, 128, 128)}
    assert bounds_of(zoo.row("resnet50")) == {"batch": (1, 1, 4)}


def test_what_counts_as_good() -> None:
    good, bad = result("m", 1.0, 1.0), result("m", 1.0, 1.0)
    assert is_good(good) and "DIFFERS" not in one_line(good)
    bad["agreement"]["agrees"] = False
    assert not is_good(bad) and "DIFFERS" in one_line(bad)
    assert "DISTURBED" not in one_line(good)
    assert "others took 50%" in one_line({**good, "cpu_share_of_others": 0.5})
    assert not is_good({"name": "m", "error": "x"}) and "FAILED" in one_line({"name": "m", "error": "x"})


def test_turns_rotate() -> None:
    calls = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def turn(self, seconds: float, runs: int) -> list[float]:
            calls.append(self.name)
            return [3.0, 1.0, 2.0]

    taken = take_turns({("a", 1): Fake("a"), ("b", 1): Fake("b")}, 3)  # type: ignore[dict-item]
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert taken == {("a", 1): [2.0] * 3, ("b", 1): [2.0] * 3}


def test_a_peer_reports_its_errors(tmp_path: Path) -> None:
    with Peer("stratac") as peer:
        with pytest.raises(PeerError, match="does not exist"):
            peer.open(tmp_path / "nowhere")
        with pytest.raises(PeerError, match="AttributeError"):
            peer.run()
    with pytest.raises(PeerError, match="KeyError"):
        Peer("nobody")


def test_rounds_of_a_slower_machine_do_not_decide() -> None:
    """Every plan is twice as slow in the second round; the third disturbs one plan only."""
    taken = [[1.0, 2.0, 1.0], [1.1, 2.2, 4.0], [1.2, 2.4, 1.2]]
    found = ranking.over_rounds(taken)
    assert found[0] < found[1] < found[2] and found[1] == pytest.approx(1.1 * found[0], rel=0.05)


def test_promises_without_results_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(readme_table, "RESULTS", tmp_path)
    assert readme_table.promises_text() is None


def streamed(ratio: int, plain: dict[str, Any], same: bool = True) -> dict[str, Any]:
    own = {"same_bits": True, "seconds": 2.0, "memory": {"predicted": 9 << 20, "measured": 8 << 20}}
    systems = {"streamed": own, "mmap": {"same_bits": same, "seconds": 3.0}, "onnxruntime": plain}
    systems["onnxruntime, mapped"] = {"seconds": 5.0}
    disk = {"rounds": [2.5e9, 1.5e9, 2e9], "over_best": 1.25}
    row = {"budget": 10 << 20, "ratio": ratio, "streamed_bytes": 1 << 30, "predicted_seconds": 2.25}
    return {**row, "systems": systems, "disk": disk}


def test_promises_say_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killed = {"outcome": "killed: beyond the memory limit"}
    found = {
        **results(),
        "model": "large",
        "dims": {"seq": 7},
        "threads": 2,
        "resident": {"weights_bytes": 3 << 30},
        "budgets": [streamed(4, killed), streamed(9, killed)],
    }
    text = readme_promises.streaming(found)
    assert "defaults: killed, beyond the memory limit, at every budget." in text and "Every plan gives the bits" in text
    row = "| 10 MiB (1/4) | 1.00 GiB | 2.25 / 2.00 s | 1.25× at 1.50 to 2.50 GB/s | 9 / 8 MiB | 1.5× as long | 2.5× as long |"
    assert row in text and "tokens a" not in text
    found["budgets"] = [
        streamed(4, {"seconds": 8.0}),
        streamed(9, killed, False),
        {**streamed(25, killed), "error": "no"},
    ]
    del found["budgets"][2]["systems"]
    text = readme_promises.streaming(found)
    assert "defaults: 4.0× as long, at 10 MiB (1/4); killed, beyond the memory limit, at 10 MiB (1/9)." in text
    assert "1 of 4 plans give other bits" in text and "| 10 MiB (1/25) | failed: no |" in text

    monkeypatch.setattr(readme_table, "RESULTS", tmp_path)
    (tmp_path / "streaming-avx2.json").write_text(json.dumps(found))
    rank = {"share": 0.5, "threads": 2, "rows": [{"model": "m", "plans": 9, "over_best": 1.0, "rank": 1}]}
    (tmp_path / "ranking-avx2.json").write_text(json.dumps({**results(), **rank}))
    told = readme_table.promises_text()
    assert told is not None and told.count("A CPU (avx2") == 1 and told.endswith("onnxruntime 2.")
    (tmp_path / "ranking-avx2.json").write_text(json.dumps({**results("2026-01-03"), **rank}))
    told = readme_table.promises_text()
    assert told is not None and told.count("A CPU (avx2") == 2


@pytest.mark.parametrize(
    "case",
    [
        kernels.matmul(9, 33, 17),
        kernels.conv(5, 7, 6, 3),
        kernels.conv(24, 24, 9, 3, 2, 24),
        kernels.attention(2, 20, 8),
        kernels.attention(2, 20, 8, causal=True),
        kernels.elementwise("relu", lambda b, x: b.op("relu", x), lambda x: np.maximum(x, 0), (9, 33), 2),
        kernels.elementwise("turn", lambda b, x: b.op("transpose", x, perm=(1, 0)), lambda x: x.T, (9, 33), 2),
    ],
    ids=lambda case: f"{case.family} {case.label}",
)
def test_every_kind_of_kernel_is_measured(case: kernels.Case) -> None:
    """Ceilings are made up: what is looked at is the results, and that rates and shares belong together."""
    ceilings = {"f32": 1e11, "bf16": 2e11, "memory": 1e10}
    row = kernels.measure(case, "portable", "f32", ceilings, 0.0)
    assert row is not None and row.error < 1e-5 and row.seconds > 0 and row.family == case.family
    assert row.share == pytest.approx(row.rate / ceilings["memory" if case.streams else "f32"])
    less = kernels.measure(case, "portable", "bf16", ceilings, 0.0)
    assert (less is not None) == (case.family in ("matmul", "conv"))
    assert less is None or 1e-4 < less.error < 1e-2
