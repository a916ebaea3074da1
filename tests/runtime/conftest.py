"""The tiny plan, compiled once for all tests of this folder."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stratac.ir.plan import Plan
from stratac.tests.runtime.streamed import Streamed, library, small, write_streamed
from stratac.tests.runtime.tiny import STRICT, write_plan


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny plan, compiled once; do not change it."""
    cache = tmp_path_factory.mktemp("cache")
    return write_plan(tmp_path_factory.mktemp("tiny") / "plan", options=dataclasses.replace(STRICT, cache=cache))


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny plan to damage."""
    return Path(shutil.copytree(tiny, tmp_path / "plan"))


@pytest.fixture(scope="session")
def variant(tiny: Path) -> Callable[[Path, Plan], Path]:
    """Write another plan around the tiny plan's kernels."""
    return lambda folder, plan: write_plan(folder, plan, library=tiny / "libplan.so")


@pytest.fixture(scope="session")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libplan.so of the plans of `streamed`."""
    cache = tmp_path_factory.mktemp("streamed-cache")
    return library(tmp_path_factory.mktemp("streamed"), dataclasses.replace(STRICT, cache=cache))


@pytest.fixture
def streamed(streaming: Path, tmp_path: Path) -> tuple[Path, Streamed]:
    """A plan that streams; its folder may be damaged."""
    made = small()
    return write_streamed(tmp_path / "streamed", made, streaming), made
