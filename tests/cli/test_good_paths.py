"""What the commands do when all is well: their output, as people and programs read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import stratac as package
from stratac.compiler import peer
from stratac.compiler.options import PRECISIONS
from stratac.compiler.profiles import native
from stratac.ir.candidate import MODE_ERRORS
from stratac.ir.dims import Bounds
from stratac.ir.parse import parse_graph
from stratac.ir.text import print_graph
from stratac.ir.text_placed import parse_placed, print_placed
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.tests.cli.command import STRATAC, child
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import DIMS, N, mlp, model, save, value

COMMANDS = ("compile", "run", "verify", "inspect", "explain", "diff", "bench", "doctor")


def test_compile_says_what_it_made(stratac: CommandLine) -> None:
    out = stratac.good("compile", "mlp.onnx", "-o", "new/deep/out.plan", *DIMS)
    assert out.startswith("new/deep/out.plan: 1 cluster, 1 kernel for ")
    for text in ("peak memory", "weights 1.06 KiB", "predicted time", "thread", "done in", "from the cache"):
        assert text in out
    assert stratac.good("compile", "mlp.onnx", "-o", "out.plan", *DIMS, "--quiet").startswith("out.plan: ")
    found = json.loads(stratac.good("compile", "mlp.onnx", *DIMS, "--json"))
    assert found["plan"] == str(Path("mlp.plan").resolve())
    assert found["compiled"] == 0 and found["cached"] > 10 and found["peak_bytes"] > 1000
    assert {"import", "place", "schedule", "cc", "weights"} <= found["steps"].keys()


def test_the_plan_lands_beside_the_model(stratac: CommandLine) -> None:
    save(mlp(), Path("models/a.b.onnx"))
    assert stratac.good("compile", "models/a.b.onnx", *DIMS).startswith("models/a.b.plan: ")
    assert Path("models/a.b.plan/manifest.json").is_file()


def test_inspect(stratac: CommandLine) -> None:
    out = stratac.good("inspect", "mlp.plan")
    for text in (
        "plan mlp",
        f"target {native().name}",
        "input   x: f32[batch, seq, 8]",
        "output  y: f32[batch, seq, 12]",
    ):
        assert text in out
    for text in ("dim     seq = 1:5:16 (min:typical:max)", "weights", "peak", "1 cluster", "matmul + add + relu"):
        assert text in out
    assert all(len(line) <= 140 and line == line.rstrip() for line in out.splitlines())
    found = json.loads(stratac.good("inspect", "mlp.plan", "--json"))
    assert found["manifest"]["name"] == found["report"]["name"] == "mlp"
    assert found["report"]["memory"]["peak"] > 0
    assert stratac.good("inspect", "mlp.plan", "--all") == out  # there are no more clusters than it shows


def test_every_level_parses_back(stratac: CommandLine) -> None:
    graph = stratac.good("inspect", "mlp.plan", "--level", "graph")
    assert print_graph(parse_graph(graph)) == graph
    placed = stratac.good("inspect", "mlp.plan", "--level", "placed")
    assert print_placed(parse_placed(placed)) == placed
    plan = stratac.good("inspect", "mlp.plan", "--level", "plan")
    assert print_plan(parse_plan(plan)) == plan


def test_verify(stratac: CommandLine) -> None:
    static = stratac.good("verify", "mlp.plan", "--static")
    assert static.splitlines() == [f"ok    every byte matches its digest: {count_parts()} parts"]
    lines = stratac.good("verify", "mlp.plan", "--against", "mlp.onnx").splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert "same bits in every run and at every thread count" in lines[1]
    assert "batch=2, seq=5" in lines[2] and "batch=1, seq=1" in lines[3]
    found = json.loads(stratac.good("verify", "mlp.plan", "--against", "mlp.onnx", "--json"))
    assert len(found) == len(lines) and all(row["ok"] for row in found)


def count_parts() -> int:
    return sum(p.is_file() for p in Path("mlp.plan").rglob("*")) - 1


def test_verify_finds_a_difference(stratac: CommandLine) -> None:
    save(mlp(seed="2"), Path("mlp.onnx"))  # other weights
    result = stratac("verify", "mlp.plan", "--against", "mlp.onnx")
    assert result.code == 2 and result.err == "" and "FAIL  results against" in result.out
    assert stratac("verify", "mlp.plan", "--against", "mlp.onnx", "--tolerance", "100").code == 0


def test_verify_without_onnxruntime(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert "results against the interpreter" in stratac.good("verify", "mlp.plan", "--against", "mlp.onnx")


def test_run(stratac: CommandLine) -> None:
    x = np.random.default_rng(0).standard_normal((3, 7, 8), dtype=np.float32)
    np.savez("in.npz", x=x)
    out = stratac.good("run", "mlp.plan", "-i", "in.npz", "-o", "out.npz", "--threads", "1")
    assert out.startswith("y: float32[3, 7, 12]  mean ")
    w, b = (onnx.numpy_helper.to_array(t) for t in onnx.load("mlp.onnx").graph.initializer)
    found = np.load("out.npz")
    assert found.files == ["y"]
    np.testing.assert_allclose(found["y"], np.maximum(x @ w + b, 0), rtol=1e-5, atol=1e-5)
    assert sorted(p.name for p in Path(".").iterdir()) == ["in.npz", "mlp.onnx", "mlp.plan", "out.npz"]
    one = stratac.good("run", "mlp.plan", "--random", "3", "--dim", "seq=11", "-o", "one.npz")
    two = stratac.good("run", "mlp.plan", "--random", "3", "--dim", "seq=11", "-o", "two.npz")
    assert one == two and "float32[2, 11, 12]" in one
    assert Path("one.npz").read_bytes() == Path("two.npz").read_bytes()
    profile = stratac.good("run", "mlp.plan", "--random", "3", "--profile")
    assert "measured  predicted" in profile and "matmul" in profile and "unaccounted" in profile


def test_outputs_of_any_name(stratac: CommandLine) -> None:
    """Names that are words of numpy's or the file system's own."""
    names = ["file", "allow_pickle", "a/b", "..", "ünï"]
    save(model([N("Relu", ["x"], [name]) for name in names], [value("x", [3])], names), Path("m.onnx"))
    stratac.good("compile", "m.onnx")
    stratac.good("run", "m.plan", "--random", "1", "-o", "out.npz")
    assert np.load("out.npz").files == names
    assert sorted(p.name for p in Path(".").iterdir()) == ["m.onnx", "m.plan", "mlp.onnx", "mlp.plan", "out.npz"]


def test_empty_arrays(stratac: CommandLine) -> None:
    save(model([N("Relu", ["x"], ["y"])], [value("x", ["n"])], ["y"]), Path("m.onnx"))
    stratac.good("compile", "m.onnx", "--dim", "n=0:1:4")
    assert "float32[0]  empty" in stratac.good("run", "m.plan", "--random", "1", "--dim", "n=0")


def test_doctor(stratac: CommandLine) -> None:
    out = stratac.good("doctor")
    assert all(line.startswith("ok ") for line in out.splitlines())
    for text in (
        "stratac",
        "cpu",
        "isa",
        "profile",
        "generic-portable",
        "memory",
        "cache",
        "onnxruntime",
        "C compiler",
        "trial",
    ):
        assert text in out
    assert all(row["ok"] for row in json.loads(stratac.good("doctor", "--json")))


def test_version_and_help(stratac: CommandLine) -> None:
    assert stratac.good("--version").startswith("stratac ")
    out = stratac.good("--help")
    assert "examples:" in out and all(f"\n    {name} " in out for name in COMMANDS)
    nothing = stratac()
    assert nothing.code == 2 and nothing.out == out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(stratac: CommandLine, name: str) -> None:
    """Every option has a description, and every command an example or what its exit code means."""
    out = stratac.good(name, "--help")
    assert "examples:\n  stratac " in out or "exit code" in out
    _, _, listed = out.partition("positional arguments:") if "positional" in out else out.partition("options:")
    entries = [line for line in listed.partition("\n\nexamples")[0].splitlines() if line.startswith("  ")]
    for at, line in enumerate(entries):
        if not line.startswith("   ") and len(line) < 24:
            assert at + 1 < len(entries) and entries[at + 1].startswith(" " * 24), f"{line!r} has no description"


def test_progress_is_silent_off_a_terminal(stratac: CommandLine) -> None:
    child("compile", "mlp.onnx", "-o", "out.plan", *DIMS).good()


def test_python_api(stratac: CommandLine) -> None:
    told: list[str] = []
    plan = package.compile(
        "mlp.onnx",
        "api.plan",
        dims={"batch": 2, "seq": Bounds(1, 4, 8)},
        target="generic-portable",
        threads=2,
        budgets={"ram": 1 << 30},
        progress=lambda step, seconds: told.append(step),
    )
    assert plan == Path("api.plan").resolve() and "import" in told
    x = np.ones((2, 3, 8), np.float32)
    with package.load(plan, threads=1) as session:
        (first,) = session.run(["y"], {"x": x})
        (again,) = session(x=x)
        assert np.array_equal(first, again) and first.shape == (2, 3, 12)
        assert [str(p) for p in session.get_inputs()] == ["x: f32[2, seq, 8]"]
        assert session.memory().total > 0
    assert package.compile("mlp.onnx", dims={"seq": "1:2:3"}) == Path("mlp.plan").resolve()
    with pytest.raises(package.StratacError, match="is dynamic and has no bounds"):
        package.compile("mlp.onnx", "api.plan")
    with pytest.raises(package.StratacError, match="more than the budget"):
        package.compile("mlp.onnx", "api.plan", dims={"seq": 4}, budgets={"ram": 10})


def test_a_precision_is_allowed_and_remembered(stratac: CommandLine) -> None:
    """Whatever the machine's profile makes of it, the plan stays within what was allowed, and says what that was."""
    stratac.good("compile", "mlp.onnx", "-o", "less.plan", "--dim", "seq=4", "--precision", "bf16")
    options = json.loads(Path("less.plan/report.json").read_text())["options"]
    assert options["max_error"] == MODE_ERRORS["bf16"]
    assert "allowed 5e-02" in stratac.good("verify", "less.plan", "--against", "mlp.onnx")
    stratac.refused(
        ("compile", "mlp.onnx", "-o", "no.plan", "--dim", "seq=4", "--max-error", "1"), 2, "is not understood"
    )
    assert "what if" in stratac.good("explain", "less.plan", "--what-if", "precision=faithful")


def test_precisions_are_named_alike_everywhere() -> None:
    """The parser names them itself, since it is to load no compiler: help comes at once."""
    text = subprocess.run([*STRATAC, "compile", "--help"], capture_output=True, text=True, check=True).stdout
    choices = re.search(r"--precision \{(.*?)\}", text)
    assert choices is not None and choices[1].split(",") == list(PRECISIONS)
    errors = re.findall(r"(\w+): (\d[\d.]*e-\d+)", " ".join(text.split()))
    assert {name: float(error) for name, error in errors} == {name: e for name, e in PRECISIONS.items() if e > 0}
    loaded = "import sys, stratac.compiler.cli as cli; cli.build_parser(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "stratac.compiler.cli" in found and not {"stratac.compiler.options", "stratac.ir.graph", "numpy"} & {*found}


def test_bench_says_of_every_peer_how_fast_or_why_not(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peer.SYSTEMS, "openvino", "no_such_package.systems:OpenVino")  # type: ignore[arg-type]
    lines = stratac.good("bench", "mlp.plan", "--against", "onnxruntime,openvino", "--rounds", "1").splitlines()
    cells = {line.split()[1]: line for line in lines if line.split()[:1] == ["1"] or line.split()[:1] == ["2"]}
    assert "x" in cells["onnxruntime"].split()[-2] and float(cells["onnxruntime"].split()[-1]) < 1e-5
    assert "failed: openvino: ModuleNotFoundError: No module named 'no_such_package'" in cells["openvino"]
    found = json.loads(stratac.good("bench", "mlp.plan", "--against", "openvino", "--rounds", "1", "--json"))
    assert found["threads"][0]["peers"] == {} and "no_such_package" in found["threads"][0]["failed"]["openvino"]


def test_bench_knows_its_peers(stratac: CommandLine) -> None:
    stratac.refused(("bench", "mlp.plan", "--against", "onnxruntime,tvm"), 2, "no peer 'tvm'")
    text = "".join(stratac.good("bench", "--help").split())  # names are broken at their hyphens
    assert all(name in text for name in peer.SYSTEMS if name != "stratac")
