"""The same model, target and version give the same bytes, wherever, whenever and beside whomever they are compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from stratac.tests.cli.command import STRATAC, child, tree, without_progress
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import conv_net, mlp, save, transformer_block

CLANG = next(filter(None, map(shutil.which, ("clang", "clang-14", "clang-15", "clang-16"))), None)
TARGET = ("--target", "generic-x86_64-avx2")


def test_byte_identical_anywhere(stratac: CommandLine, tmp_path: Path) -> None:
    """Working and model directories, output paths, temporary folders, caches and hash seeds leave no trace."""
    plans = []
    for number, more in enumerate((("--jobs", "1"), ("--no-cache",), ())):
        here, there = tmp_path / f"cwd {number}", tmp_path / f"models{number}" / ("deep" * number)
        here.mkdir()
        save(transformer_block(), there / "block.onnx")
        temporary = tmp_path / f"temporary{number}"
        temporary.mkdir()
        env = {"PYTHONHASHSEED": str(number), "TMPDIR": str(temporary), "LANG": ("C", "C.UTF-8", "de_DE")[number]}
        if number == 0:
            env["STRATAC_CACHE"] = str(tmp_path / "cold")
        output = here / "out" / f"{number}.plan"
        child(
            "compile", there / "block.onnx", "-o", output, *TARGET, "--dim", "seq=1:8:32", *more, cwd=here, env=env
        ).good()
        plans.append(tree(output))
        assert tree(temporary) == {}
    assert plans[0] == plans[1] == plans[2]
    for name, data in plans[0].items():
        assert data is None or str(tmp_path).encode() not in data, name


@pytest.mark.skipif(CLANG is None, reason="no clang")
def test_clang(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(CLANG))
    for name, made, dims in (("conv", conv_net(), ()), ("block", transformer_block(), ("--dim", "seq=1:8:32"))):
        save(made, Path(f"{name}.onnx"))
        result = stratac("compile", f"{name}.onnx", *dims, "--json")
        assert result.code == 0 and "clang" in result.out
        stratac.good("verify", f"{name}.plan", "--against", f"{name}.onnx")


def test_cc_is_honoured(stratac: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, cc = tmp_path / "log", tmp_path / "my cc"
    cc.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec gcc "$@"\n')
    cc.chmod(0o755)
    monkeypatch.setenv("CC", f"'{cc}' -DFROM_CC=1")
    save(mlp(width=13), Path("m.onnx"))
    stratac.good("compile", "m.onnx", "--dim", "seq=4")
    assert log.read_text().count("-DFROM_CC=1") > 10


def test_two_at_once_into_one_place(stratac: CommandLine, tmp_path: Path) -> None:
    """Compilations of one model into the same output and cache, and a reader meanwhile: all succeed."""
    env = {**os.environ, "STRATAC_CACHE": str(tmp_path / "shared")}
    command = [*STRATAC, "compile", "mlp.onnx", "-o", "same.plan", "--dim", "seq=1:4:8", "--target", "generic-portable"]
    running = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0 and without_progress(err) == "", err
    stratac.good("verify", "same.plan", "--against", "mlp.onnx")
    assert sorted(p.name for p in Path(".").iterdir()) == ["mlp.onnx", "mlp.plan", "same.plan"]


def test_an_open_plan_outlives_its_replacement(stratac: CommandLine) -> None:
    import numpy as np
    from stratac.runtime.session import load

    x = np.ones((1, 2, 8), np.float32)
    with load("mlp.plan") as session:
        (before,) = session.run(None, {"x": x})
        save(mlp(width=20), Path("mlp.onnx"))
        stratac.good("compile", "mlp.onnx", "--dim", "seq=4")
        (after,) = session.run(None, {"x": x})
    assert np.array_equal(before, after)
