"""`stratac probe`: fits that find known prices, figures in their order, a profile that `native` takes up, and clear refusals."""

from __future__ import annotations

import itertools
import json
import platform
import random
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stratac.codegen.facts import BFP_EXTENSION, PRODUCT_TILES, TILE_EXTENSION
from stratac.codegen.toolchain import ToolchainOptions
from stratac.compiler import machine_report, profiles
from stratac.compiler.artifact import write_artifact
from stratac.compiler.driver import Levels
from stratac.compiler.options import CompileOptions
from stratac.compiler.probe import hardware, kernels, samples
from stratac.compiler.probe.command import summary, write_profile
from stratac.compiler.probe.disk import DEPTHS, measure_disk
from stratac.compiler.probe.fit import fit_prices, nnls
from stratac.compiler.probe.hardware import Figure, Loops, Others, isa_levels
from stratac.compiler.probe.measure import Probed, measure_modes, memory_priced
from stratac.compiler.profiles import cpu_model, load_machine, misfit, native, native_extensions, native_isa, shipped
from stratac.ir.candidate import MODE_ERRORS
from stratac.ir.errors import EnvironmentProblem, StratacError
from stratac.ir.machine import Machine, machine_from_table
from stratac.ir.machine_text import profile_text
from stratac.passes.place.cost import price
from stratac.tests.cli.conftest import CommandLine

# -- fitting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_non_negative_least_squares_meets_its_conditions(seed: int) -> None:
    """Karush, Kuhn and Tucker: no gradient where the price is positive, none that would help where it is zero."""
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 30)), int(rng.integers(1, 12))
    a, b = rng.standard_normal((rows, columns)), rng.standard_normal(rows)
    if seed % 4 == 0:
        a[:, -1] = a[:, 0]  # columns that cannot be told apart
    x = nnls(a, b)
    gradient = a.T @ (b - a @ x)
    assert (x >= 0).all() and np.abs(gradient[x > 0]).max(initial=0.0) < 1e-7 and gradient.max() < 1e-7


def test_known_prices_are_found_again() -> None:
    rng = random.Random(3)
    true = {"fma": 3e-10, "op": 2e-10, "row": 5e-9, "never": 0.0}
    rows = [{name: 10 ** rng.uniform(1, 6) for name in true} for _ in range(80)]
    seconds = [sum(true[n] * c for n, c in row.items()) * rng.uniform(0.98, 1.02) for row in rows]
    prices, errors = fit_prices(rows, seconds, {})
    assert {n: prices[n] for n in ("fma", "op", "row")} == pytest.approx(
        {n: true[n] for n in ("fma", "op", "row")}, rel=0.05
    )
    assert prices["never"] < 1e-11 and np.median(np.abs(errors)) < 0.03


def test_no_price_is_below_what_is_known() -> None:
    prices, _ = fit_prices([{"fma": 1e6, "op": 1e3}, {"fma": 2e6, "op": 5e3}], [1e-4, 2e-4], {"fma": 2e-10})
    assert prices["fma"] >= 2e-10


def test_tables_are_fitted_to_times_that_follow_them() -> None:
    machine = load_machine("generic-portable")
    device = machine.device("cpu")
    rng = random.Random(5)
    fma = 4 * device.lanes / device.peak_flops  # half the peak
    timed = []
    for _ in range(60):
        terms = {"fma": 10 ** rng.uniform(3, 6), "op": 10 ** rng.uniform(2, 4), "units": 64.0}
        alone = 1e-7 + terms["fma"] * fma + terms["op"] * 3e-10
        times = {1: (alone,) * 5, 2: ((alone - 1e-7) / 2 + 1e-7 + 2e-6,) * 5}
        timed.append(kernels.Timed("k", True, "matmul", terms, terms["fma"] * 2, times))
    tables = kernels.fit_tables(timed, [1e-4], machine, 2)
    assert tables.kernels["matmul"]["fma"] == pytest.approx(fma, rel=0.02)
    assert tables.launch_s == pytest.approx(1e-7, rel=0.1) and tables.barrier_s == pytest.approx(2e-6, rel=0.2)
    assert tables.run_s == 1e-4 and 0 < tables.efficiency["matmul"] <= 1


def test_shares_are_of_the_rate_of_the_mode() -> None:
    """As a roofline takes them: tiles do many times what f32 does."""
    machine = load_machine("generic-x86_64-amx")
    device = machine.device("cpu")
    for family, rate in (("matmul", device.peak_flops), ("matmul_tiles_bf16", device.modes["bf16"])):
        timed = [kernels.Timed("k", True, family, {"dot": 1e6}, rate * 0.25, {1: (1.0,)})]
        assert kernels.fit_tables(timed, [0.0], machine, 1).efficiency == {family: 0.25}


def test_a_mode_of_tiles_has_its_own_price_of_a_product_but_shares_the_rest() -> None:
    """And an operand walked again costs what the last cache gives, however much time went by in calls that walk one."""
    machine = load_machine("generic-x86_64-amx")
    rng, timed, true = random.Random(6), [], {"bf16": 6e-10, "bf16x6": 4e-10}
    for mode, dot in true.items():
        for _ in range(40):
            passes = rng.randrange(4)
            terms = {
                "dot": 10 ** rng.uniform(4, 6),
                "block": 10 ** rng.uniform(1, 3),
                "a_again": passes * 1e5,
                "units": 64.0,
            }
            seconds = terms["dot"] * dot + terms["block"] * 1e-7 + passes * 3e-6
            timed.append(
                kernels.Timed("k", True, f"matmul_tiles_{mode}", terms, terms["dot"] * 1024, {1: (seconds,) * 3})
            )
    found = kernels.fit_tables(timed, [0.0], machine, 1).kernels
    blocks, walked = ({found[f"matmul_tiles_{mode}"][term] for mode in true} for term in ("block", "a_again"))
    assert len(blocks) == 1 and walked == {1 / machine.device("cpu").caches[-1].bandwidth}
    for mode, dot in true.items():
        assert found[f"matmul_tiles_{mode}"]["dot"] == pytest.approx(dot, rel=0.1)


def test_traffic_of_attention_on_tiles_costs_what_caches_give() -> None:
    """It is too little to be told from what a head costs beside: here all time goes by with it."""
    machine = load_machine("generic-x86_64-amx")
    family, second = "attention_tiles_bf16", machine.device("cpu").caches[1]
    timed = [
        kernels.Timed("k", True, family, {"l2": 1e4 * n, "dot": 1e3 * n}, 1e6, {1: (1e-5 * n,)}) for n in range(1, 9)
    ]
    assert kernels.fit_tables(timed, [0.0], machine, 1).kernels[family]["l2"] == 1 / second.bandwidth


def test_memory_is_not_free_where_the_last_cache_held_the_samples() -> None:
    machine = load_machine("generic-portable")
    rows = {"matmul": {"fma": 1e-10}, "conv": {"ram": 5.0}, "loops": {"op": 1e-10}, "rows": {"op": 1e-10}}
    byte = 1 / machine.tier("ram").core_bandwidth
    found = memory_priced(replace(machine, kernels=rows)).kernels
    assert found["matmul"] == {"fma": 1e-10, "ram": byte} and found["conv"] == rows["conv"]
    assert found["loops"] == {"op": 1e-10, "ram": byte, "to_ram": 2 * byte}
    assert found["rows"] == rows["rows"], "priced by loops"


# -- measuring -------------------------------------------------------------------------------------------------------


def test_arithmetic_and_memory(tmp_path: Path) -> None:
    loops = Loops(isa_levels()[0], tmp_path, ToolchainOptions())
    peak = loops.flops(0.002)
    assert 1e9 < peak.least <= peak.median <= peak.most < 1e13
    for threads in (1, 2):
        rate = loops.bandwidth(1 << 16, threads, 0.002)
        assert 0 < rate.least <= rate.median <= rate.most < 1e14


@pytest.mark.parametrize(
    ("told", "rates", "wanted", "takes"),
    [
        ((48, 2048, 480 << 10), ((24, 3e11), (1 << 10, 1.5e11), (96 << 10, 2.7e10), (1 << 30, 1.5e10)), 84 << 10, 12),
        ((32, 1024, 32 << 10), ((24, 3e11), (1 << 10, 1.5e11), (32 << 10, 7e10), (1 << 30, 2.8e10)), 32 << 10, 3),
        ((32, 1024, 32 << 10), ((24, 3e11), (1 << 10, 1.5e11), (1 << 30, 2.8e10)), 32 << 10, 6),
        ((32, 1024), ((32, 3e11), (1 << 30, 1e10)), 1024, 5),
    ],
)
def test_a_last_cache_that_others_share(
    monkeypatch: pytest.MonkeyPatch, told: tuple[int, ...], rates: Any, wanted: int, takes: int
) -> None:
    """A virtual machine is told all of it. Sizes in KiB; `rates` are those of arrays up to a size."""
    monkeypatch.setattr(hardware, "cache_sizes", lambda: {n + 1: size << 10 for n, size in enumerate(told)})

    class Told:
        def bandwidth(self, nbytes: int) -> Figure:
            return Figure.of(f"{nbytes}", "B/s", [next(rate for size, rate in rates if nbytes <= size << 10)])

    seen: list[Figure] = []
    memory = rates[-1][1]
    caches = hardware.measure_caches(Told(), memory, seen.append)  # type: ignore[arg-type]
    assert caches[-1].bytes == wanted << 10 and len(seen) == takes
    assert [cache.bytes for cache in caches[:-1]] == [size << 10 for size in told[:-1]]


def test_others_are_those_who_are_not_we() -> None:
    others = Others()
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    assert 0 <= others.share() <= 1
    others.busy -= 100.0
    assert others.share() == 1.0


def test_disk(tmp_path: Path) -> None:
    found = measure_disk(tmp_path, lambda: 1.0, quick=True, size=16 << 20, seconds=0.01)
    assert {p.depth for p in found.curve} == set(DEPTHS) and all(p.bandwidth > 0 for p in found.curve)
    assert found.core_s_per_byte == 0.0, "arithmetic that takes as long beside reads"
    assert found.latency.least > 0 and list(tmp_path.iterdir()) == []


def test_reading_takes_from_arithmetic_beside_it(tmp_path: Path) -> None:
    """What arithmetic takes longer beside reads, for each byte read."""
    times = itertools.cycle((1.0, 1.5))
    found = measure_disk(tmp_path, lambda: next(times), quick=True, size=16 << 20, seconds=0.01)
    assert found.core_s_per_byte > 0.0


def test_disk_of_no_folder(tmp_path: Path) -> None:
    with pytest.raises((EnvironmentProblem, OSError)):
        measure_disk(tmp_path / "gone", lambda: 1.0, quick=True, size=16 << 20)


def test_sample_graphs_lower_and_have_prices_for_every_term() -> None:
    """Whatever term a sample has, the shipped tables price or know it: a renamed term would be free."""
    machine = load_machine("generic-x86_64-amx")
    assert {mode for mode, _ in kernels.kinds_of(machine)} == {*MODE_ERRORS} - {"f32"}
    for kind in (kernels.F32, *kernels.kinds_of(machine)):
        seen = set()
        for graph in (*samples.products(kind[0]), samples.loops(1 << 12)):
            levels = kernels.lower_samples(graph, machine, 2, kind)
            for choice in levels.placed.choices.values():
                candidate = choice.chosen.candidate
                seen.add(candidate.family)
                assert candidate.work.terms and price(candidate, machine, 2).seconds > 0
                known = {*machine.kernels[candidate.family], *machine.kernels["loops"]}
                assert {name for name, _ in candidate.work.terms} - known <= {"units"}, candidate
        assert kernels.families_of(kind) - {"rows", "select", "routine"} <= seen


def test_tiles_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has them, with the instructions emulated: the rate by mode, then samples, then a price for each term."""
    plain = load_machine("generic-portable")
    device = replace(plain.device("cpu"), arch=platform.machine(), isa=isa_levels()[0])
    tiles = replace(device, extensions=(TILE_EXTENSION, BFP_EXTENSION))
    loops = Loops(device.isa, tmp_path, ToolchainOptions())
    monkeypatch.setattr(loops, "tile_flops", lambda of_bytes=False: Loops.tile_flops(loops, 0.002, of_bytes))
    modes = measure_modes(loops, tiles.extensions, lambda figure: None)
    assert modes["bf16"] == pytest.approx(3 * modes["bf16x3"]) == pytest.approx(6 * modes["bf16x6"])
    assert modes["bfp16"] == pytest.approx(2 * modes["bfp24"])
    machine = replace(plain, devices=(replace(tiles, modes=modes),))

    def write(levels: Levels, *rest: Any) -> Any:
        plan = replace(levels.plan, features=())
        return write_artifact(replace(levels, machine=replace(machine, devices=(device,)), plan=plan), *rest)

    monkeypatch.setattr(kernels, "write_artifact", write)
    timed = []
    for kind in kernels.kinds_of(machine):
        calls, outside = kernels.time_graph(samples.brief(), machine, [1], CompileOptions(), 0.0, kind)
        assert not kind[1] or any(call.family in kernels.families_of(kind) for call in calls)
        timed += calls
    tables = kernels.fit_tables(timed, outside, machine, 1)
    for mode in PRODUCT_TILES:
        assert tables.kernels[f"matmul_tiles_{mode}"]["dot"] >= 1024 / modes["bf16"]


def test_the_whole_command(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few samples and a small disk file; what it writes is a machine that models can be compiled for."""
    monkeypatch.setattr(kernels, "sample_graphs", lambda quick: [samples.loops(1 << 10, True)])
    monkeypatch.setattr("stratac.compiler.probe.measure.measure_disk", lambda folder, compute, quick: measure_disk(folder, compute, quick=True, size=16 << 20, seconds=0.01))  # fmt: skip
    out = stratac.good("probe", "-o", "here.toml", "--quick", "--json", "--quiet")
    facts = json.loads(out)
    machine = load_machine("here.toml")
    assert facts["machine"] == machine.name and facts["calls"] > 10 and facts["figures"]
    assert machine.kernels["loops"] and machine.device("cpu").model == cpu_model()
    assert machine_from_table(tomllib.loads(profile_text(machine))) == machine
    for plan in ("a.plan", "b.plan"):
        stratac.good("compile", "mlp.onnx", "-o", plan, "--dim", "seq=4", "--target", "here.toml")
    assert Path("a.plan/plan.bin").read_bytes() == Path("b.plan/plan.bin").read_bytes()


def test_refusals(stratac: CommandLine) -> None:
    stratac.refused(("probe", "-o", "here.txt"), 2, "would not be found as a profile", ".toml")
    stratac.refused(("probe", "-o", "here.toml", "--disk", "nowhere"), 2, "--disk nowhere is not a folder")
    stratac.refused(("probe", "-o", "mlp.onnx/here.toml"), 3, "cannot write mlp.onnx/here.toml")


def test_the_summary_says_what_each_mode_reaches() -> None:
    machine = load_machine("generic-x86_64-amx")
    cpu = replace(machine.device("cpu"), clock_hz=3e9, flops_per_cycle=64.0, modes={"i8": 6e11, "bf16": 3e12})
    tables = kernels.Tables({}, 0.0, 0.0, 0.0, {"matmul": (0.02, 0.1)}, {}, 7)
    text = summary(Probed(replace(machine, devices=(cpu,)), (), tables, ("a note",), 1.0), Path("here.toml"))
    assert "192 Gflop/s a core, 3000 in bf16, 600 in i8, memory" in text and "  note: a note\n" in text


def test_a_profile_is_written_whole(tmp_path: Path) -> None:
    write_profile(tmp_path / "a.toml", "x = 1\n")
    assert [p.name for p in tmp_path.iterdir()] == ["a.toml"]
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        write_profile(tmp_path / "gone" / "a.toml", "x = 1\n")


# -- native ----------------------------------------------------------------------------------------------------------


def mine(**changes: Any) -> Machine:
    """A profile as measured on this CPU, but for `changes` of its device."""
    generic = load_machine("generic-portable")
    here = {"arch": platform.machine(), "isa": native_isa(), "model": cpu_model(), "extensions": native_extensions()}
    device = replace(generic.device("cpu"), **{**here, "launch_s": 7e-6, **changes})
    return replace(generic, name="mine", devices=(device,))


def test_native_takes_the_users_profile_if_it_fits(tmp_path: Path) -> None:
    path = tmp_path / "native.toml"
    path.write_text(profile_text(mine()))
    assert native(path).name == "mine" and native(path).device("cpu").launch_s == 7e-6
    path.write_text(profile_text(mine(model="Other 1/2")))
    assert native(path).name in shipped()
    assert native(tmp_path / "none.toml") == native(path)
    path.write_text("name = ")
    with pytest.raises(StratacError, match=r"native\.toml is not valid TOML"):
        native(path)


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """masked(*extensions): this is a CPU of the ISA level avx512 that has those, and calls itself something else."""

    def become(*extensions: str) -> None:
        monkeypatch.setattr(profiles, "cpu_model", lambda: "GenuineIntel 6/1")
        monkeypatch.setattr(profiles, "native_isa", lambda: "avx512")
        monkeypatch.setattr(profiles, "native_extensions", lambda: extensions)
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    return become


TILES, PAIRS = ("avx512_bf16", "amx_bf16"), ("avx512_bf16",)


@pytest.mark.parametrize("with_", [TILES, PAIRS])
@pytest.mark.parametrize("here", [TILES, TILES[::-1], PAIRS])
def test_a_profile_fits_with_and_without_tiles(
    masked: Callable[..., None], tmp_path: Path, with_: tuple[str, ...], here: tuple[str, ...]
) -> None:
    """A hypervisor gives processors with and without AMX the same model number."""
    masked(*here)
    path = tmp_path / "native.toml"
    measured = mine(arch="x86_64", isa="avx512", model="GenuineIntel 6/1", extensions=with_)
    path.write_text(profile_text(measured))
    fits = {*with_} == {*here}
    level = "amx" if "amx_bf16" in here else "avx512"
    assert native(path).name == ("mine" if fits else f"generic-x86_64-{level}")
    assert native(path).device("cpu").extensions == here
    assert bool(misfit(measured)) != fits


@pytest.mark.parametrize("name", [name for name in shipped() if load_machine(name).device("cpu").model])
def test_shipped_profiles_are_found_by_their_processor(
    name: str, masked: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = load_machine(name).device("cpu")
    masked(*device.extensions)
    monkeypatch.setattr(profiles, "cpu_model", lambda: device.model)
    assert native(tmp_path / "none.toml").name == name
    masked(*[extension for extension in device.extensions if "bf16" not in extension])
    monkeypatch.setattr(profiles, "cpu_model", lambda: device.model)
    assert native(tmp_path / "none.toml").name == "generic-x86_64-avx512"


def test_why_a_profile_does_not_fit(masked: Callable[..., None]) -> None:
    masked(*TILES)

    def why(**changes: Any) -> str:
        return misfit(mine(**{"arch": "x86_64", "isa": "avx512", "model": "GenuineIntel 6/1", **changes}))

    assert why(extensions=TILES) == ""
    assert why(extensions=PAIRS) == "was measured without amx_bf16, which this CPU has"
    both = ("amx_bf16", "avx_vnni")
    wanted = "was measured with avx_vnni, which this CPU lacks, and without avx512_bf16, which this CPU has"
    assert why(extensions=both) == wanted
    assert why(model="") == "is of no one processor"
    assert why(model="Other 1/2") == "was measured on Other 1/2, and this is GenuineIntel 6/1"
    assert why(isa="avx2", extensions=TILES) == "was measured with avx2, and this CPU has avx512"


def test_shipped_profiles_name_their_processor() -> None:
    for name in shipped():
        device = load_machine(name).device("cpu")
        assert device.model == "" if name.startswith("generic-") else True


def test_doctor_says_which_profile_and_why_not_the_users(
    masked: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "native.toml"
    measured = mine(arch="x86_64", isa="avx512", model="GenuineIntel 6/1", extensions=TILES)
    path.write_text(profile_text(measured))
    for module in (profiles, machine_report):
        monkeypatch.setattr(module, "user_profile", lambda: path)

    def rows(*extensions: str) -> dict[str, str]:
        masked(*extensions)
        for name in ("native_isa", "native_extensions"):
            monkeypatch.setattr(machine_report, name, getattr(profiles, name))
        monkeypatch.setattr(machine_report, "cpu_features", lambda: frozenset({"avx512f", "amx_tile", "amx_bf16"}))
        monkeypatch.setattr(machine_report, "_trial", lambda *_: {"what": "trial", "detail": "", "ok": True})
        return {row["what"]: row["detail"] for row in machine_report.examine(None, None)[0]}

    found = rows(*TILES)
    assert found["isa"] == "avx512 with avx512_bf16 amx_bf16" and found["profile"] == "mine"
    found = rows(*PAIRS)
    assert found["isa"] == "avx512 with avx512_bf16; Linux grants no AMX tiles to this process"
    assert found["profile"].startswith("generic-x86_64-avx512: figures of a class of machines")
    assert found["profile"].endswith(f"{path} is left out: it was measured with amx_bf16, which this CPU lacks")
    assert "server-amx" in found["machines"]
