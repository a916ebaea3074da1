"""The commands of README.md run as they stand there, on a small model in the place of the one they name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import conv_net, save

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    block = re.search(r"<!-- commands:begin -->\n```\n(.*?)```\n<!-- commands:end -->", README, re.DOTALL)
    assert block is not None
    return block[1].splitlines()


def test_commands(stratac: CommandLine) -> None:
    lines = commands()
    assert len(lines) >= 5 and all(line.startswith(("stratac ", "python -m benchmarks.zoo ")) for line in lines)
    # the export finds a model of this name and keeps it
    save(conv_net(), Path("zoo/resnet50.onnx"))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for line in lines:
        program, *words = shlex.split(line)
        prefix = [sys.executable, "-m", "stratac.compiler.cli"] if program == "stratac" else [sys.executable]
        done = subprocess.run([*prefix, *words], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout, line
    assert Path("out.npz").is_file() and Path("r50.plan").is_dir()


@pytest.mark.parametrize("word", re.findall(r"`?--([a-z]+)", README))
def test_options_exist(stratac: CommandLine, word: str) -> None:
    names = ("compile", "run", "verify", "inspect", "explain", "diff", "bench", "doctor")
    assert any(f"--{word}" in stratac.good(name, "--help") for name in names)
