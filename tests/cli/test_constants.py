"""`--constant` and `compile(constants=...)`: values of inputs compiled in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from stratac.compiler.api import compile as compile_model
from stratac.compiler.constants import parse_constants
from stratac.compiler.options import CompileOptions, options_from_facts
from stratac.ir.errors import StratacError
from stratac.runtime.session import load
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import INT64, N, model, save, value


@pytest.fixture
def pair(stratac: CommandLine) -> Path:
    """y = x reshaped and cut, both by inputs."""
    nodes = [N("Reshape", ["x", "shape"], ["r"]), N("Unsqueeze", ["r", "axes"], ["y"])]
    ports = [value("x", [2, 6]), value("shape", [2], INT64), value("axes", [1], INT64)]
    return save(model(nodes, ports, ["y"]), Path("pair.onnx"))


def test_constants(stratac: CommandLine, pair: Path) -> None:
    shape = np.array([4, 3])
    np.save("shape.npy", shape)
    told = stratac.good("compile", pair, "--quiet", "--constant", "shape=@shape.npy", "--constant", "axes=0")
    note = "inputs compiled in: shape = [4, 3], axes = [0]"
    assert note in told and note in stratac.good("inspect", "pair.plan")
    manifest = json.loads(Path("pair.plan/manifest.json").read_text())
    assert [port["name"] for port in manifest["inputs"]] == ["x"]
    rows = manifest["constants"]
    assert rows["axes"] == {"dtype": "int64", "shape": [1], "sha256": rows["axes"]["sha256"]}
    with load("pair.plan") as session:
        x = np.arange(12, dtype=np.float32).reshape(2, 6)
        assert np.array_equal(session(x=x)[0], x.reshape(1, 4, 3))
    assert "ok" in stratac.good("verify", "pair.plan", "--against", pair)  # the reference gets the constants, too
    recorded = json.loads(Path("pair.plan/report.json").read_text())["options"]
    again = options_from_facts(json.loads(json.dumps(recorded))).constants
    assert again["shape"].dtype == np.int64 and np.array_equal(again["shape"], shape)
    stratac.good("explain", "pair.plan", "--model", pair, "--what-if", "threads=1")


def test_the_same_from_python(stratac: CommandLine, pair: Path) -> None:
    one = compile_model(pair, "one.plan", constants={"shape": [4, 3], "axes": 0})
    stratac.good("compile", pair, "--quiet", "--constant", "shape=4,3", "--constant", "axes=0,", "-o", "two.plan")
    assert (one / "plan.bin").read_bytes() == Path("two.plan/plan.bin").read_bytes()


def test_refusals(stratac: CommandLine, pair: Path) -> None:
    stratac.refused(("compile", pair), 2, "--constant shape=VALUE")
    stratac.refused(("compile", pair, "--constant", "shape=4,3"), 2, "--constant axes=VALUE")
    stratac.refused(("compile", pair, "--constant", "shape=4,3", "--constant", "axis=0"), 2, "did you mean 'axes'?")
    stratac.refused(("compile", pair, "--constant", "shape=4,3,1"), 2, "its shape is [3], the input has [2]")
    for text in ("shape", "=1", "shape=1,b", "shape=@nothing.npy", "shape=@pair.onnx"):
        stratac.refused(("compile", pair, "--constant", text), 2, text)


def test_how_values_are_written() -> None:
    found = parse_constants(["a=3", "b=1,2", "c=2,", "d=", "e=1.5", "f=true,false", "g=-1"])
    wanted = {"a": 3, "b": [1, 2], "c": [2], "d": np.zeros(0, np.int64), "e": 1.5, "f": [True, False], "g": -1}
    for name, array in wanted.items():
        assert found[name].dtype == np.asarray(array).dtype and np.array_equal(found[name], array), name
    with pytest.raises(StratacError, match="twice"):
        parse_constants(["a=1", "a=2"])


def test_facts_hold_any_array() -> None:
    given = {"f": np.array([[0.1]]), "s": np.array(["x", "y"], object), "empty": np.zeros((0, 2), np.int32)}
    facts = json.loads(json.dumps(CompileOptions(constants=given).facts()))
    again = options_from_facts(facts).constants
    for name, array in given.items():
        assert again[name].dtype == array.dtype and again[name].shape == array.shape
        assert again[name].tolist() == array.tolist()
