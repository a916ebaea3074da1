"""The cases of `onnx.backend.test`, run one by one by the package's own runner over compiled plans."""

from __future__ import annotations

import contextlib
import io
import os
import time
import unittest
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx.backend.test
from onnx.backend.base import Backend
from stratac.compiler.onnx_backend import StratacBackend
from stratac.compiler.options import CompileOptions
from stratac.ir.errors import StratacError

SKIPS = Path(__file__).with_name("skips.txt")
_MESSAGE = 600


@dataclass(frozen=True)
class Outcome:
    """What one case came to: `result` is pass, fail, skip or died; `cause` the kind of failure, `message` its text."""

    case: str
    result: str
    seconds: float
    cause: str = ""
    message: str = ""

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def compiled(cache: Path | None) -> type[Backend]:
    """Plans for one thread; `cache` holds compiled objects."""

    class Compiled(StratacBackend):
        options = CompileOptions(threads=1, cache=cache, jobs=1, keep_source=False)

    return Compiled


class Suite:
    """All cases by name, `kind/test_name`, in a fixed order."""

    def __init__(self, backend: type[Backend], models: Path) -> None:
        """`models`: a folder for what the runner makes of the package's real models."""
        os.environ["ONNX_MODELS"] = str(models)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            made = onnx.backend.test.BackendTest(backend, __name__)
        self.cases: dict[str, unittest.TestCase] = {}
        for group, tests in sorted(made.test_cases.items()):
            kind = group.removeprefix("OnnxBackend").removesuffix("ModelTest").lower()
            for name in sorted(n for n in dir(tests) if n.startswith("test_") and n.endswith("_cpu")):
                self.cases[f"{kind}/{name.removesuffix('_cpu')}"] = tests(name)

    def run(self, name: str) -> Outcome:
        """Run one case here; whatever goes wrong becomes its outcome."""
        case, started = self.cases[name], time.perf_counter()
        function = getattr(case, case._testMethodName)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                function()
        except unittest.SkipTest as reason:
            return Outcome(name, "skip", time.perf_counter() - started, "skipped by the suite", str(reason))
        except Exception as error:
            seconds = time.perf_counter() - started
            return Outcome(name, "fail", seconds, _cause(error), str(error).strip()[:_MESSAGE])
        return Outcome(name, "pass", time.perf_counter() - started)


def _cause(error: Exception) -> str:
    """Wrong results, refusals and defects are told apart."""
    if isinstance(error, AssertionError):
        return "other results"
    if isinstance(error, StratacError):
        return "refused" if error.exit_code == 2 and not error.level else "compiler error"
    return f"raised {type(error).__name__}"


def read_skips() -> Mapping[str, str]:
    """Cases that are not run, each with its reason."""
    return read_pairs(SKIPS)


def read_pairs(path: Path) -> Mapping[str, str]:
    """Lines of `key: text`; # starts a comment."""
    found = {}
    for line in path.read_text().splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            key, _, reason = text.partition(": ")
            found[key.strip()] = reason.strip()
    return found
