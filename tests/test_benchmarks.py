"""The benchmark's own arithmetic, and that the README shows what was measured."""

from __future__ import annotations

import copy
import json
import os
import platform
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from stratac.benchmarks import (
    artifacts,
    exact,
    kernels,
    measure_model,
    models,
    models_chart,
    ranking,
    readme_promises,
    readme_table,
    results_page,
    tables,
    verdicts,
    zoo,
)
from stratac.benchmarks.measure_model import Settings
from stratac.benchmarks.modes import MODES, masked_machine, twin_of
from stratac.benchmarks.subjects import bounds_of
from stratac.compiler.iree_build import target_features
from stratac.compiler.peer import Peer, PeerError, take_turns
from stratac.compiler.profiles import load_machine
from stratac.ir.machine import ISA_LEVELS


def system(*rounds: float, peak: int = 5 << 20) -> dict[str, Any]:
    """A system that ran: `rounds` in seconds; it opens in 0.1 s and its first run takes 1.2 times the median."""
    median = sorted(rounds)[len(rounds) // 2]
    openings = [[0.1, 1.2 * median], [0.1, 1.2 * median], [0.1, 9.9]]
    return {"seconds": median, "rounds": list(rounds), "openings": openings, "peak_bytes": peak, "base_bytes": 1 << 20}


def result(name: str, ours: float, **peers: float) -> dict[str, Any]:
    """A model at one thread: seconds of stratac and of each peer; a negative time is a peer that failed."""
    systems: dict[str, Any] = {"stratac": system(ours, ours, ours, peak=2 << 20)}
    for peer, seconds in peers.items():
        label = peer.replace("_", "-")
        systems[label] = system(*[seconds] * 3) if seconds > 0 else {"error": "it cannot\nat all"}
    errors = {label: 1e-6 for label, found in systems.items() if "error" not in found} | {"onnxruntime": 1e-6}
    shapes = [{"dims": {"batch": 1, "seq": 128}, "seeds": [0, 1, 2], "rel_l2": errors, "max_abs": errors}]
    peaks = {"stratac": 4 << 20, "onnxruntime": 6 << 20, "openvino": 7 << 20}
    memory = {"predicted": 3 << 20, "measured": 2 << 20, "kept": True, "peaks": peaks}
    return {
        "name": name,
        "dims": {"batch": 1, "seq": 128},
        "threads": {"1": {"systems": systems, "memory": memory}},
        "accuracy": {"shapes": shapes, "same_bits_at_all_thread_counts": True},
        "compile": {"cold": {"seconds": 4.0}},
        "cpu_share_of_others": 0.01,
    }


def results(*models: dict[str, Any], date: str = "2026-01-02T03:04:05+00:00", mode: str = "faithful") -> dict[str, Any]:
    """Of a machine without AMX."""
    machine = {
        "cpu": "A CPU",
        "isa": "avx2",
        "cores": 2,
        "memory_bytes": 8 << 30,
        "system": "Linux 6",
        "features": ["avx2", "fma"],
    }
    found = models or (
        result("one", 0.010, onnxruntime=0.020, openvino=0.015, aotinductor=0.030),
        result("two", 0.010, onnxruntime=0.009, openvino=0.012, aotinductor=-1),
        {"name": "three", "error": "no such op\nmore"},
    )
    return {
        "mode": mode,
        "date": date,
        "machine": machine,
        "versions": {"stratac": "1", "revision": "abc", "onnxruntime": "2", "openvino": "absent"},
        "systems": ["onnxruntime", "openvino", "aotinductor"],
        "method": "how",
        "threads": [1],
        "rounds": 3,
        "models": list(found),
    }


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line[1:-1].split("|")]


def test_the_readme_shows_the_newest_results() -> None:
    table = readme_table.table_text()
    if table is None:
        pytest.skip("no results: python -m benchmarks.models")
    readme = (readme_table.ROOT / "README.md").read_text()
    assert readme == readme_table.with_table(readme, table), "run python -m benchmarks.readme_table"
    promises = readme_table.promises_text()
    assert promises is not None
    assert readme == readme_table.with_table(readme, promises, readme_table.PROMISES), "benchmarks.readme_table"


def test_the_page_and_its_charts_show_the_results() -> None:
    for path, text in readme_table.documents().items():
        assert path.read_text() == text, f"{path.name}: run python -m benchmarks.readme_table"


def test_ratios_are_medians_over_rounds() -> None:
    found = {"stratac": system(1.0, 2.0, 4.0), "peer": system(2.0, 4.0, 4.0)}
    assert (
        verdicts.ratio(found, "peer") == 2.0
    )  # of 2, 2 and 1; the ratio of the medians would be 2 as well, of the means not
    assert verdicts.ratio({"stratac": system(1.0, 2.0, 4.0), "peer": system(4.0, 2.0, 4.0)}, "peer") == 1.0


def test_the_fastest_rival_decides_model_by_model() -> None:
    mode = MODES["faithful-no-amx"]
    found = verdicts.verdict(mode, 1, results()["models"])
    assert found.rivals == {"one": "openvino", "two": "onnxruntime"} and found.failed == ("three",)
    assert found.ratios == {"one": pytest.approx(1.5), "two": pytest.approx(0.9)}
    assert found.mean == pytest.approx((1.5 * 0.9) ** 0.5) and found.least[0] == "two"
    assert [short.model for short in found.short] == ["two", "three"] and not found.met
    good = verdicts.verdict(mode, 1, [result("one", 0.01, onnxruntime=0.012), result("two", 0.01, openvino=0.0104)])
    assert good.met and not good.short
    none = verdicts.verdict(mode, 1, [result("one", 0.01, iree=0.012)])
    assert none.failed == ("one",) and not none.met


def test_a_missed_target_says_what_is_short() -> None:
    mode = MODES["faithful-no-amx"]
    found = verdicts.verdict(mode, 1, [*results()["models"][1:], result("four", 1.0, onnxruntime=1.1)])
    assert (
        tables.verdict_text(found, amx=False) == "falls short: mean by 0.11; two 0.90, short by 0.05; three did not run"
    )
    better = verdicts.verdict(mode, 1, [result("one", 1.0, onnxruntime=2.0)])
    assert tables.verdict_text(better, amx=False) == "met"
    faithful = verdicts.verdict(MODES["faithful"], 1, [result("one", 1.0, onnxruntime=1.5)])
    assert "AMX" in tables.verdict_text(faithful, amx=False)
    assert tables.verdict_text(faithful, amx=True) == "falls short: mean by 0.50"


def test_a_mode_without_anything_to_mask_is_held_to_its_own_target() -> None:
    modes = {"faithful": results(), "faithful-no-amx": {"same_as": "faithful", "date": "2026", "machine": {}}}
    lines = [cells(line) for line in tables.targets_table(modes).splitlines()]
    assert lines[2][0] == "fp32-faithful, 1 thread" and "AMX" in lines[2][5]
    assert lines[3][2] == "1.10, none under 0.95" and lines[3][3] == lines[2][3] == "**1.16**"
    assert "two 0.90, short by 0.05" in lines[3][5] and "nothing to mask" in lines[3][5]
    alone = tables.targets_table({"faithful-no-amx": modes["faithful-no-amx"]})
    assert "the same as fp32-faithful on this CPU" in alone


def test_speed_table() -> None:
    lines = [cells(line) for line in tables.speed_table(MODES["faithful"], results()).splitlines()]
    assert {len(line) for line in lines} == {7}
    assert lines[2] == ["one", "batch 1 × seq 128", "10.0", "20.0 (2.00)", "**15.0 (1.50)**", "30.0 (3.00)", "**1.50**"]
    assert lines[3][5] == "failed: it cannot" and lines[3][6] == "**0.90**"
    assert lines[4][:2] == ["three", "failed: no such op"]
    assert lines[5] == ["geometric mean", "", "", "(1.34)", "(1.34)", "(3.00)", "**1.16**"]


def test_the_other_tables() -> None:
    found = results()
    assert (
        tables.accuracy_table(MODES["faithful"], found).splitlines()[2]
        == "| one | 1.0e-06 | 1.0e-06 | 1.0e-06 | 1.0e-06 | 1.00 |"
    )
    assert cells(tables.opening_table(found).splitlines()[2])[1:] == [
        *("0.10 + 0.01", "0.10 + 0.02", "0.10 + 0.02", "0.10 + 0.04", "1.20", "4.0"),
    ]
    assert cells(tables.memory_table(found).splitlines()[2]) == ["one", "2", "5", "5", "5", "4", "6", "7", "3", "2"]
    summary = [cells(line) for line in tables.summary_table(MODES["faithful"], found).splitlines()]
    assert summary[2] == [
        *("one", "batch 1 × seq 128", "10.0", "15.0 openvino", "**1.50**", "1e-06", "1.00", "4", "6", "7"),
    ]
    assert summary[-1][4] == "**1.16**"
    assert "A CPU (avx2, 2 cores, 8 GiB)" in tables.caption(found) and "openvino" not in tables.caption(found)


def test_promises() -> None:
    mode, good = MODES["faithful"], result("m", 1.0, onnxruntime=1.5)
    assert all(promise.kept for promise in verdicts.promises(mode, good)) and verdicts.is_right(mode, good)
    assert tables.broken_promises(mode, results(good)) == []

    def broken(change: Any) -> list[str]:
        bad = copy.deepcopy(good)
        change(bad)
        return [promise.name for promise in verdicts.promises(mode, bad) if not promise.kept]

    def errors(ours: float, theirs: float) -> Any:
        return lambda bad: bad["accuracy"]["shapes"][0]["rel_l2"].update(stratac=ours, onnxruntime=theirs)

    def ours(**changes: Any) -> Any:
        return lambda bad: bad["threads"]["1"]["systems"]["stratac"].update(changes)

    assert broken(errors(1.6e-6, 1e-6)) == ["error at most 1.5 x onnxruntime's"]
    assert broken(errors(2e-5, 2e-5)) == ["right"]
    assert broken(errors(float("nan"), 1e-6))[0] == "right"
    assert broken(ours(openings=[[0.1, 1.6], [0.1, 1.6], [0.1, 1.0]])) == [
        "first run at 1 threads, at most 1.5 x the median"
    ]
    assert broken(lambda bad: bad["threads"]["1"]["memory"]["peaks"].update(onnxruntime=3 << 20)) == [
        "peak RSS below onnxruntime's at 1 threads"
    ]
    wrong = copy.deepcopy(good)
    wrong["threads"]["1"]["memory"]["kept"] = False
    assert not verdicts.is_right(mode, wrong) and not verdicts.is_right(mode, {"name": "m", "error": "x"})
    # a mode that may be less exact is not held against onnxruntime
    loose = copy.deepcopy(good)
    loose["accuracy"]["shapes"][0]["rel_l2"]["stratac"] = 5e-3
    assert verdicts.is_right(MODES["bf16"], loose) and not verdicts.is_right(MODES["max-error"], loose)


def test_one_line() -> None:
    good = result("m", 1.0, onnxruntime=1.5)
    line = models.one_line(MODES["faithful"], good)
    assert "onnxruntime" in line and "1.50x" in line and "NOT" not in line and "DISTURBED" not in line
    assert "others took 50%" in models.one_line(MODES["faithful"], {**good, "cpu_share_of_others": 0.5})
    assert "no rival ran" in models.one_line(MODES["bf16"], good)
    assert "FAILED" in models.one_line(MODES["faithful"], {"name": "m", "error": "x"})


def test_the_machine_measured_last_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme_table, "RESULTS", tmp_path)
    assert readme_table.table_text() is None
    assert [(path.name, "Nothing was measured" in text) for path, text in readme_table.documents().items()] == [
        ("benchmarks.md", True)
    ]
    for isa, date in (("avx2", "2026-01-01"), ("avx512", "2026-02-01"), ("portable", "2025-12-31")):
        folder = tmp_path / "models" / isa
        folder.mkdir(parents=True)
        (folder / "faithful.json").write_text(json.dumps(results(date=date)))
        (folder / "bf16.partial.json").write_text("{}")
    twin = {"same_as": "faithful", "date": "2026-02-02", "machine": {}}
    (tmp_path / "models" / "avx512" / "faithful-no-amx.json").write_text(json.dumps(twin))
    text = str(readme_table.table_text())
    assert "2026-02-01" in text and "docs/benchmarks-avx512-faithful.svg" in text and "held out" not in text
    assert list(results_page.machines("models", tmp_path)) == ["avx512", "avx2", "portable"]
    (tmp_path / "heldout" / "avx2").mkdir(parents=True)
    (tmp_path / "heldout" / "avx2" / "faithful.json").write_text(json.dumps(results(date="2026-01-03")))
    assert "2026-01-03" in str(readme_table.table_text())
    names = {path.name for path in readme_table.documents()}
    assert names == {"benchmarks.md", *(f"benchmarks-{isa}-faithful.svg" for isa in ("avx512", "avx2", "portable"))}


def test_the_page_tells_everything() -> None:
    found = results()
    found["models"][1]["same_plan_as"] = "faithful"
    text = results_page.mode_text(MODES["faithful-avx2"], found)
    assert "Not masked, as no switch of it is known: onnxruntime." in text
    assert "The plan is that of fp32-faithful, and so are the figures: two." in text
    assert "- three: failed: no such op" in text


def test_chart() -> None:
    text = models_chart.chart(MODES["faithful"], results())
    root = ElementTree.fromstring(text)
    places = {}
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        titles = list(circle)
        if titles:
            places[str(titles[0].text).partition(":")[0]] = float(circle.attrib["cx"])
    assert {"one, onnxruntime", "two, openvino", "geometric mean, aotinductor"} <= places.keys()
    assert "two, aotinductor" not in places
    assert places["two, onnxruntime"] < places["one, openvino"] < places["one, onnxruntime"]
    assert min(places.values()) > 0 and max(places.values()) < models_chart.WIDTH


def test_modes_say_what_they_mask() -> None:
    zen4 = frozenset({"avx2", "fma", *(f"avx512{part}" for part in ("f", "bw", "dq", "vl", "_bf16"))})
    sapphire_rapids = zen4 | {"amx_tile", "amx_bf16"}
    no_amx, avx2 = MODES["faithful-no-amx"], MODES["faithful-avx2"]
    assert twin_of(no_amx, zen4) == "faithful" and twin_of(no_amx, sapphire_rapids) == ""
    assert (
        twin_of(avx2, zen4) == ""
        and twin_of(avx2, {"avx2", "fma"}) == "faithful"
        and twin_of(avx2, {"asimd"}) == "faithful"
    )
    assert all(twin_of(mode, ()) == "" for mode in MODES.values() if mode.mask.prefixes == ())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="masks are of x86")
def test_a_masked_machine() -> None:
    machine = load_machine("generic-x86_64-avx512")
    zen4 = ISA_LEVELS[0].features | ISA_LEVELS[1].features | {"avx512_bf16"}
    lower = masked_machine(MODES["faithful-avx2"].mask, zen4, machine)
    assert (lower.devices[0].isa, lower.devices[0].extensions) == ("avx2", ()) and lower.tiers == machine.tiers
    same = masked_machine(MODES["faithful-no-amx"].mask, zen4, machine)
    assert (
        same.devices[0].isa == "avx512"
        and "avx512_bf16" in same.devices[0].extensions
        and same.kernels == machine.kernels
    )
    tiles = load_machine("generic-x86_64-amx")
    assert "bf16x6" in tiles.devices[0].modes
    without = masked_machine(
        MODES["faithful-no-amx"].mask, zen4 | {"avx512_vnni", "amx_tile", "amx_bf16", "amx_int8"}, tiles
    )
    assert without.devices[0].extensions == ("avx512_bf16", "avx512_vnni")
    assert {*without.devices[0].modes} == {*tiles.devices[0].modes} - {"bf16", "bf16x3", "bf16x6", "bfp24", "bfp16"}


def test_the_table_is_put_between_the_markers() -> None:
    readme = f"before\n{readme_table.BEGIN}\nold\n{readme_table.END}\nafter\n"
    new = readme_table.with_table(readme, "new")
    assert new == f"before\n{readme_table.BEGIN}\nnew\n{readme_table.END}\nafter\n"
    assert readme_table.with_table(new, "new") == new
    for lacking in ("nothing", readme_table.BEGIN, f"{readme_table.END}{readme_table.BEGIN}"):
        with pytest.raises(ValueError, match="markers"):
            readme_table.with_table(lacking, "new")


def test_distance(tmp_path: Path) -> None:
    three, four = np.full(9, 3.0), np.full(16, 4.0)
    assert exact.distance([three, four], [three, four]) == (0.0, 0.0)
    assert exact.distance([three.astype(np.float32), four + 1], [three, four]) == (
        pytest.approx(4 / (81 + 256) ** 0.5),
        1.0,
    )
    assert np.isnan(exact.distance([three, four[:1]], [three, four])).all()
    assert np.isnan(exact.distance([three * np.nan, four], [three, four])).all()
    paths = [tmp_path / "one.npz", tmp_path / "other.npz"]
    np.savez(paths[0], o0=three, o1=four)
    np.savez(paths[1], o0=three, o1=np.nextafter(four, 5))
    assert exact.same_bits(paths[0], paths[0]) and not exact.same_bits(*paths)


def test_bounds_hold_every_shape_of_a_row() -> None:
    assert bounds_of(zoo.row("minilm")) == {"batch": (1, 1, 8), "seq": (1, 128, 128)}
    assert bounds_of(zoo.row("resnet50")) == {"batch": (1, 1, 4)}


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
    with pytest.raises(PeerError, match="no system 'nobody'; known: stratac"):
        Peer("nobody")
    with pytest.raises(PeerError, match="no_such_package"):
        Peer("somebody", maker="no_such_package.systems:Somebody")


def test_nothing_spins_beside_a_peer() -> None:
    """numpy's BLAS would, for some 20 ms from its import: longer than a small plan takes to open."""
    with Peer("stratac") as peer:
        assert len(os.listdir(f"/proc/{peer._process.pid}/task")) == 1


class Doubler:
    """A system that doubles its input; what it was opened with is among its facts."""

    def __init__(self, threads: int, how: str = "") -> None:
        self.said: dict[str, Any] = {"threads": threads, "how": how, "mask": os.environ.get("A_MASK", "")}

    def open(self, path: str, dims: dict[str, int], inputs: dict[str, np.ndarray]) -> None:
        self.said |= {"dims": dims, "inputs": {name: list(array.shape) for name, array in inputs.items()}}

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        if self.said["how"] == "dies":
            os._exit(3)
        return [2 * array for array in inputs.values()]

    def facts(self) -> dict[str, Any]:
        return self.said


def test_a_system_from_elsewhere(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.arange(6.0).reshape(2, 3))
    maker = "stratac.tests.test_benchmarks:Doubler"
    with Peer("doubler", 2, how="twice", maker=maker, environment={"A_MASK": "on"}) as peer:
        peer.set_inputs(tmp_path / "in.npz")
        peer.open(tmp_path)
        assert peer.facts()["inputs"] == {} and peer.facts()["dims"] == {}
        peer.open(tmp_path, {"batch": 2})
        assert peer.facts() == {
            "threads": 2,
            "how": "twice",
            "mask": "on",
            "dims": {"batch": 2},
            "inputs": {"x": [2, 3]},
        }
        peer.run(tmp_path / "out.npz")
        assert len(peer.turn(0.0, 3)) == 3 and peer.held().base > 0
    assert np.array_equal(exact.outputs_in(tmp_path / "out.npz")[0], 2 * np.arange(6.0).reshape(2, 3))


def test_a_peer_that_dies_is_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.arange(6.0))
    maker = "stratac.tests.test_benchmarks:Doubler"
    with Peer("one", maker=maker) as one, Peer("other", how="dies", maker=maker) as other:
        peers = {("stratac", 1): one, ("other", 1): other}
        for peer in peers.values():
            peer.set_inputs(tmp_path / "in.npz")
        group = measure_model.Group(dict(peers), {}, {})
        taken = measure_model.turns("m", group, 1)
        assert list(taken) == [("stratac", 1)] and "ended with code 3" in group.failed["other", 1]
    with (
        Peer("ours", how="dies", maker=maker) as ours,
        pytest.raises(PeerError, match="ended"),
    ):  # stratac itself may not
        ours.set_inputs(tmp_path / "in.npz")
        measure_model.turns("m", measure_model.Group({("stratac", 1): ours}, {}, {}), 1)


def test_artifacts_are_made_once(tmp_path: Path) -> None:
    model, folder = tmp_path / "m.onnx", tmp_path / "kept"
    model.write_bytes(b"a model")
    module = "stratac.tests.artifact_maker"
    good = artifacts.Recipe(".out", module, ("good",), ("numpy",))
    first = artifacts.kept(good, "maker-m", model, {}, folder)
    assert Path(first["path"]).read_text() == "good" and first["seconds"] > 0
    assert artifacts.kept(good, "maker-m", model, {}, folder) == first
    assert artifacts.kept(good, "maker-m", model, {"A_MASK": "on"}, folder)["path"] != first["path"]
    bad = artifacts.Recipe(".out", module, ("bad",), ("numpy",))
    failed = artifacts.kept(bad, "maker-m", model, {}, folder)
    assert failed["error"] == "RuntimeError: it cannot be compiled"
    assert artifacts.kept(bad, "maker-m", model, {}, folder) == failed
    model.write_bytes(b"another model")
    assert artifacts.kept(good, "maker-m", model, {}, folder)["path"] != first["path"]
    assert not [path for path in folder.iterdir() if path.name.startswith(str(os.getpid()))]


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "faithful.partial.json", list[str]()

    def measure(name: str, settings: Settings) -> dict[str, Any]:
        calls.append(name)
        if name == "two" and calls.count("two") == 1:
            raise PeerError("stratac: no")
        if name == "three" and calls.count("three") == 1:
            raise KeyboardInterrupt
        return result(name, 1.0, onnxruntime=1.5)

    monkeypatch.setattr(models, "measure", measure)
    settings = Settings(MODES["faithful"], ("onnxruntime",), (1,), 3, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        models.run_mode(["one", "two", "three"], settings, path)
    found = models.run_mode(["one", "two", "three"], settings, path)
    assert calls == ["one", "two", "three", "two", "three"]  # what failed is tried again, what was measured is not
    assert [row["name"] for row in found["models"]] == ["one", "two", "three"] and "error" not in found["models"][1]
    assert json.loads(path.read_text())["models"] == found["models"]


def test_rows_of_a_mode_with_the_same_plan_are_taken_over(tmp_path: Path) -> None:
    mode, peers = MODES["max-error"], ("onnxruntime", "openvino")
    wanted = models.identity(mode, peers, (1,), 3)
    known = {**results(), **wanted, "mode": "faithful", "systems": [*peers, "iree"]}
    (tmp_path / "faithful.json").write_text(json.dumps(known))
    assert models.measured_already(mode, wanted, tmp_path)["one"]["same_plan_as"] == "faithful"
    assert models.measured_already(MODES["faithful-avx2"], wanted, tmp_path) == {}
    assert models.measured_already(mode, {**wanted, "rounds": 4}, tmp_path) == {}
    assert models.measured_already(mode, {**wanted, "systems": ["onnxruntime", "tvm"]}, tmp_path) == {}


def test_iree_is_told_of_features_by_its_own_names() -> None:
    assert target_features(("avx512_vnni", "amx_tile", "sse4_1", "hypervisor")) == "+amx-tile,+avx512vnni,+sse4.1"


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
    (tmp_path / "ranking-avx2.json").write_text(json.dumps({**results(date="2026-01-03"), **rank}))
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
    assert (less is not None) == (case.family in ("matmul", "conv", "attention"))
    assert less is None or 1e-4 < less.error < 1e-2
    other = kernels.measure(case, "portable", "winograd", ceilings, 0.0)  # in f32's arithmetic
    assert (other is not None) == (case.family == "conv")
    assert other is None or (other.error < 1e-5 and other.share == pytest.approx(other.rate / ceilings["f32"]))
