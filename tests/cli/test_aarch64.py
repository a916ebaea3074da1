"""Plans for AArch64 machines: compiled here by a cross compiler, run by a C program on an emulated processor."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stratac.compiler.frontends.onnx import import_onnx
from stratac.compiler.options import parse_dim
from stratac.ir.dims import Bounds
from stratac.ir.interp import run
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import N, conv_net, mlp, model, save, transformer_block, value, weight
from stratac.tests.emulation import ARM, arm_command, arm_compiler, plan_runner, run_plan

PI, PHONE = ("--target", "raspberry-pi-5"), ("--target", "phone-flash")


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    """Or the test is skipped with the reason."""
    arm_compiler()
    arm_command([])
    plan_runner()  # not in the temporary folder of one test
    yield


def expected(source: Path, dims: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the interpreter makes of the model file itself."""
    found = run(import_onnx(source, {"batch": Bounds(1, 1, 1), **dict([parse_dim(dims)])}), inputs)
    return list(found.values())


def pictures(count: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(count).standard_normal((count, 3, 24, 24)).astype(np.float32)}


def tokens(count: int) -> dict[str, np.ndarray]:
    return {"tokens": np.random.default_rng(count).integers(0, 50, (1, count))}


CASES = {
    "conv": (conv_net, "batch=1:2:3", pictures, (1, 3)),
    "block": (transformer_block, "seq=1:8:32", tokens, (1, 7, 32)),
    "mlp": (mlp, "seq=1:4:64", lambda n: {"x": np.linspace(-3, 3, 8 * n, dtype=np.float32).reshape(1, n, 8)}, (1, 64)),
}


@pytest.mark.parametrize("target", ["raspberry-pi-5", "phone-flash", "portable.toml"])
@pytest.mark.parametrize("name", CASES)
def test_plans_agree_with_the_interpreter(stratac: CommandLine, name: str, target: str) -> None:
    make, dims, inputs, sizes = CASES[name]
    source = save(make(), Path(f"{name}.onnx"))
    generic = (Path(__file__).parents[2] / "compiler/machines/generic-portable.toml").read_text()
    Path("portable.toml").write_text(
        generic.replace('arch = "any"', 'arch = "aarch64"').replace("cores = 2", "cores = 4")
    )
    stratac.good("compile", source, "--target", target, "--dim", dims)
    plan = source.with_suffix(".plan")
    manifest = json.loads((plan / "manifest.json").read_text())
    assert manifest["arch"] == ARM and manifest["features"] == ([] if "portable" in target else ["asimd"])
    for size in sizes:
        given = inputs(size)
        one = run_plan(plan, given, cpu="cortex-a72").outputs
        for got, wanted in zip(one, expected(source, dims, given), strict=True):
            assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)
        for threads in (2, 4):
            many = run_plan(plan, given, threads, "cortex-a72").outputs
            assert [a.tobytes() for a in many] == [a.tobytes() for a in one]


def test_callers_modes_do_not_show(stratac: CommandLine) -> None:
    source = save(transformer_block(), Path("block.onnx"))
    stratac.good("compile", source, *PI, "--dim", "seq=1:8:32")
    usual, upward = (run_plan(Path("block.plan"), tokens(32), 2, "max", "auto", *f) for f in ((), ("upward",)))
    assert usual.outputs[0].tobytes() == upward.outputs[0].tobytes()


def test_bf16_needs_its_instructions(stratac: CommandLine) -> None:
    """The phone has them; a processor without says so before anything runs."""
    source = save(mlp(64), Path("wide.onnx"))
    stratac.good("compile", source, *PHONE, "--dim", "seq=1:64:256", "--precision", "bf16")
    plan, x = Path("wide.plan"), {"x": np.random.default_rng(0).standard_normal((1, 200, 8)).astype(np.float32)}
    assert json.loads((plan / "manifest.json").read_text())["features"] == ["asimd", "bf16"]
    (got,), (wanted,) = run_plan(plan, x, 2).outputs, expected(source, "seq=1:64:256", x)
    assert 1e-5 < np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 1e-2
    if platform.machine() != ARM:
        with pytest.raises(AssertionError, match="lacks bf16, which the plan's kernels need"):
            run_plan(plan, x, 2, "cortex-a72")


def test_streaming(stratac: CommandLine) -> None:
    """Weights read from storage while the plan runs, by threads where the emulator has no io_uring: the bits of a plan that holds
    them."""
    nodes = [N("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(6)]
    weights = [weight(f"w{i}", 256, 256, scale=0.1) for i in range(6)]
    made = save(model(nodes, [value("x0", ["seq", 256])], ["x6"], weights), Path("deep.onnx"))
    dims = ("--dim", "seq=1:4:8")
    stratac.good("compile", made, *PI, *dims, "-o", "whole.plan")
    stratac.good("compile", made, *PI, *dims, "-o", "streamed.plan", "--place", "w.*=disk")
    x = {"x0": np.random.default_rng(1).standard_normal((8, 256)).astype(np.float32)}
    whole = run_plan(Path("whole.plan"), x, 2)
    assert whole.io == "none"
    for io in ("auto", "threads"):
        streamed = run_plan(Path("streamed.plan"), x, 2, io=io)
        assert "threads, " in streamed.io and streamed.outputs[0].tobytes() == whole.outputs[0].tobytes()


def test_any_machine_with_a_given_compiler(stratac: CommandLine) -> None:
    """A profile of any architecture is compiled for the one that the compiler makes code for."""
    compiler = arm_compiler()
    command = " ".join([compiler.path, *compiler.arguments])
    stratac.good(
        "compile", "mlp.onnx", "-o", "any.plan", "--target", "generic-portable", "--dim", "seq=4", "--cc", command
    )
    x = {"x": np.ones((1, 4, 8), np.float32)}
    (got,), (wanted,) = run_plan(Path("any.plan"), x).outputs, expected(Path("mlp.onnx"), "seq=4", x)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_here_they_are_refused(stratac: CommandLine) -> None:
    if platform.machine() == ARM:
        pytest.skip("this machine is AArch64")
    stratac.good("compile", "mlp.onnx", "-o", "pi.plan", *PI, "--dim", "seq=4")
    here = platform.machine()
    for words in (("run", "pi.plan", "--random", "1"), ("verify", "pi.plan"), ("bench", "pi.plan")):
        stratac.refused(words, 3, f"is {ARM} code, this machine is {here}", "--target native here")
    assert "ok" in stratac.good("verify", "pi.plan", "--static")
    assert "raspberry-pi-5" in stratac.good("inspect", "pi.plan")


def test_a_compiler_for_another_architecture_is_refused(stratac: CommandLine) -> None:
    compiler = arm_compiler()
    stratac.refused(
        ("compile", "mlp.onnx", "--target", "generic-x86_64-avx2", "--dim", "seq=4", "--cc", compiler.path),
        3,
        f"makes {ARM} code, x86_64 is wanted",
        "x86_64-linux-gnu-gcc",
    )
