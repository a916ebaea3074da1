"""A cache of objects and one small plan for all tests of this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from stratac.compiler.cli import main
from stratac.tests.cli.command import Result, child, failed, tree, without_progress
from stratac.tests.cli.models import DIMS, mlp, save


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The object cache of this test run, shared by the workers of pytest-xdist; the user's own is never touched."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "cli-cache"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of mlp.onnx and mlp.plan; do not change it."""
    folder = tmp_path_factory.mktemp("small")
    save(mlp(), folder / "mlp.onnx")
    child("compile", "mlp.onnx", *DIMS, "--quiet", cwd=folder, env={"STRATAC_CACHE": str(cache)}).good()
    return folder


@dataclass(frozen=True)
class CommandLine:
    """The command line in this process, working in `folder`, which holds mlp.onnx and mlp.plan."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *argv: str | Path) -> Result:
        self.capture.readouterr()
        code = main([str(a) for a in argv])
        found = self.capture.readouterr()
        return Result(code, found.out, without_progress(found.err))

    def good(self, *argv: str | Path) -> str:
        return self(*argv).good().out

    def refused(self, argv: tuple[str | Path, ...], code: int, *texts: str) -> None:
        """The command fails as `failed` says and changes nothing in the folder."""
        before = tree(self.folder)
        failed(self(*argv), code, texts)
        assert tree(self.folder) == before


@pytest.fixture
def stratac(
    small: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[CommandLine]:
    folder = tmp_path / "work"
    shutil.copytree(small, folder)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STRATAC_CACHE", str(cache))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.delenv("CC", raising=False)
    yield CommandLine(folder, capsys)
    assert tree(temporary).keys() <= {".ses"}, "temporary files were left"  # the name is onnxruntime's


@pytest.fixture
def write_cc(tmp_path: Path) -> Callable[[str], str]:
    """Write a C compiler that runs a shell command where it should compile, and answers like gcc otherwise."""

    def write(body: str) -> str:
        path = tmp_path / "fake-cc"
        real = shutil.which("gcc") or shutil.which("cc")
        path.write_text(f'#!/bin/sh\ncase "$*" in *-c*) {body};; *) exec {real} "$@";; esac\n')
        path.chmod(0o755)
        return str(path)

    return write
