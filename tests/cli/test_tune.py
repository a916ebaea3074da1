"""`compile --tune`: kernels are timed into the profile, and compilation goes by what it finds there."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stratac.codegen.library import Library
from stratac.compiler.profiles import load_machine
from stratac.compiler.tune import save
from stratac.ir.builder import GraphBuilder
from stratac.ir.graph import Graph, Port
from stratac.ir.machine import machine_from_table
from stratac.ir.machine_text import profile_text, with_measured
from stratac.ir.types import TensorType, f32
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.passes.place.cost import price
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest

from .conftest import CommandLine


def test_kernels_are_timed_once_and_found_again(stratac: CommandLine) -> None:
    here = Path("here.toml")
    here.write_text("# kept by hand\n" + profile_text(load_machine("native")))
    compile_ = ("compile", "mlp.onnx", "--dim", "seq=4", "--target", "here.toml", "--json", "--quiet")
    first = json.loads(stratac.good(*compile_, "-o", "a.plan", "--tune", "0.05"))
    assert first["tuned"] == {"profile": "here.toml", "kernels": len(load_machine("here.toml").measured)}
    assert first["tuned"]["kernels"] > 0 and here.read_text().startswith("# kept by hand\n")
    again = json.loads(stratac.good(*compile_, "-o", "b.plan"))
    assert again["tuned"] is None and again["predicted_seconds"] == first["predicted_seconds"]
    for part in ("plan.bin", "weights.bin", "libplan.so"):
        assert Path("a.plan", part).read_bytes() == Path("b.plan", part).read_bytes()


@pytest.mark.parametrize("target", ["generic-portable", "server-amx"])
def test_other_machines_cannot_be_tuned_for(stratac: CommandLine, target: str) -> None:
    stratac.refused(
        ("compile", "mlp.onnx", "-o", "a.plan", "--target", target, "--tune", "1"), 2, "timed on this machine"
    )


def test_a_profile_of_another_cpu_is_not_added_to(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`native` would leave it out, and the measurements with it."""
    own = stratac.folder / "native.toml"
    device = replace(load_machine("generic-portable").device("cpu"), model="Other 1/2")
    own.write_text(profile_text(replace(load_machine("generic-portable"), devices=(device,))))
    monkeypatch.setattr("stratac.compiler.tune.user_profile", lambda: own)
    stratac.refused(
        ("compile", "mlp.onnx", "-o", "a.plan", "--tune", "1"), 2, "was measured on Other 1/2", "stratac probe"
    )


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_seconds_are_checked(stratac: CommandLine, seconds: str) -> None:
    stratac.refused(("compile", "mlp.onnx", "-o", "a.plan", "--tune", seconds), 2, "is not a number of seconds")


def test_a_first_profile_is_written_whole(tmp_path: Path) -> None:
    machine = load_machine("native")
    profile = tmp_path / "new" / "native.toml"
    save(profile, machine, {"matmul/2/00ff": 1e-4})
    save(profile, load_machine(str(profile)), {"conv/2/00ff": 2e-4})
    found = load_machine(str(profile))
    assert found.measured == {**machine.measured, "matmul/2/00ff": 1e-4, "conv/2/00ff": 2e-4}
    assert replace(found, devices=machine.devices, measured=machine.measured) == machine
    assert [path.name for path in profile.parent.iterdir()] == ["native.toml"]


def test_only_measurements_change_in_a_profile() -> None:
    machine = load_machine("generic-portable")
    text = "# a comment\n" + profile_text(machine)
    once = with_measured(text, {"matmul/1/ab": 1.0})
    moved = once.replace("[measured]", "[measured]\n# of a Tuesday").replace(
        '"matmul/1/ab" = 1.0\n', '"matmul/1/ab" = 1.0\n\n[kernels.more]\nfma = 1.0\n'
    )
    twice = with_measured(moved, {"conv/1/cd": 2.0})
    assert with_measured(once, {}) == text and "[kernels.more]" in twice
    found = machine_from_table(tomllib.loads(twice))
    assert found.measured == {"conv/1/cd": 2.0} and found.kernels["more"] == {"fma": 1.0}


def window() -> Graph:
    b = GraphBuilder(name="window")
    x = b.input("x", TensorType(f32, (1, 64, 28, 28)))
    weight = b.constant(np.ones((64, 64, 3, 3), np.float32))
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "channels_last": False}
    return b.finish([Port("y", b.op("conv", x, weight, **attrs))])


def test_what_was_measured_goes_before_the_tables() -> None:
    machine = load_machine("generic-x86_64-avx512")
    clusters = run_passes(run_passes(window(), GRAPH_PASSES), CLUSTER_PASSES)
    node = next(n for n in clusters.nodes if any(inner.op == "conv" for inner in n.body))
    candidates = {c.family: c for c in Library().candidates(node, clusters, machine)}
    assert {"conv", "winograd"} <= candidates.keys()
    for family in ("conv", "winograd"):
        other = "winograd" if family == "conv" else "conv"
        measured = {candidates[family].measured_as(2): 1e-6, candidates[other].measured_as(2): 1.0}
        here = replace(machine, measured=measured)
        chosen = place(clusters, Library(), here, PlaceRequest(2)).choices[node.outputs[0]].chosen
        assert chosen.candidate.family == family and chosen.seconds == pytest.approx(1e-6)
        assert price(chosen.candidate, here, 1).seconds > 1e-5, "of another number of threads nothing is known"
