"""Every shipped machine this CPU can stand in for: plans for it agree with onnxruntime."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
from stratac.compiler.profiles import cpu_features, load_machine, shipped
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import conv_net, save, transformer_block


@pytest.mark.parametrize("target", shipped())
def test_plans_for_each_machine(stratac: CommandLine, target: str) -> None:
    save(conv_net(), Path("conv.onnx"))
    save(transformer_block(), Path("block.onnx"))
    cpu = load_machine(target).device("cpu")
    if cpu.arch not in (platform.machine(), "any"):
        pytest.skip(f"{target} is {cpu.arch}; see test_aarch64.py")
    missing = cpu.features() - cpu_features()
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(sorted(missing))}")
    for name, dims in (("conv", "batch=1:2:3"), ("block", "seq=1:8:32")):
        out = stratac.good("compile", f"{name}.onnx", "--target", target, "--dim", dims)
        assert f"for {target}" in out
        lacking = set(json.loads(Path(f"{name}.plan/manifest.json").read_text())["features"]) - cpu_features()
        if lacking:  # of a mode beyond the ISA level: the plan says so, and f32 runs
            stratac.refused(("verify", f"{name}.plan", "--against", f"{name}.onnx"), 3, *sorted(lacking))
            stratac.good("compile", f"{name}.onnx", "--target", target, "--dim", dims, "--precision", "exact")
        checks = stratac.good("verify", f"{name}.plan", "--against", f"{name}.onnx").splitlines()
        assert len(checks) == 5 and all("ok" in line for line in checks)


def test_other_machines_can_be_compiled_for(stratac: CommandLine) -> None:
    """A machine of another size, from a file: threads and name are its own."""
    text = (Path(__file__).parents[2] / "compiler/machines/generic-portable.toml").read_text()
    Path("board.toml").write_text(text.replace("generic-portable", "board").replace("cores = 2", "cores = 6"))
    out = stratac.good("compile", "mlp.onnx", "-o", "board.plan", "--dim", "seq=4", "--target", "board.toml")
    assert "for board" in out and "on 6 threads" in out
    stratac.good("verify", "board.plan", "--against", "mlp.onnx")


def test_a_machine_without_a_compiler_for_it(
    stratac: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to install is said before any work is done."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    words = ("compile", "mlp.onnx", "--target", "other.toml", "--dim", "seq=4")
    text = (Path(__file__).parents[2] / "compiler/machines/generic-portable.toml").read_text()
    Path("other.toml").write_text(text.replace('arch = "any"', 'arch = "riscv64"'))
    stratac.refused(
        words, 3, "no C compiler for riscv64 found: looked for riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu"
    )
    Path("other.toml").write_text(text.replace('arch = "any"', 'arch = "riscv64"').replace('"portable"', '"neon"'))
    stratac.refused(words, 2, "device cpu is riscv64, which has no isa 'neon'", "it may have portable")
