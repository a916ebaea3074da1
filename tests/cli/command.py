"""Running `stratac` as its users do, and what every failure must look like."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STRATAC = (sys.executable, "-m", "stratac.compiler.cli")


@dataclass(frozen=True)
class Result:
    """Exit code and both streams of one command."""

    code: int
    out: str
    err: str

    def good(self) -> Result:
        assert self.code == 0, self.err
        assert self.err == "", self.err
        return self


def without_progress(err: str) -> str:
    """What a compilation that takes long tells now and then is no message."""
    return "".join(line for line in err.splitlines(keepends=True) if not re.match(r"\[ *[0-9.]+ s\] ", line))


def child(*argv: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> Result:
    """One command in a process of its own; `env` is added to the environment."""
    options = {"capture_output": True, "timeout": 120, **options}
    done = subprocess.run(
        [*STRATAC, *map(str, argv)], env={**os.environ, "PYTHONUNBUFFERED": "", **(env or {})}, text=True, **options
    )
    return Result(done.returncode, done.stdout or "", without_progress(done.stderr or ""))


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, with the contents of files."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))
    }


def failed(result: Result, code: int, texts: Sequence[str]) -> None:
    """One message that starts with `stratac: error:`, further lines of it indented; no traceback, no output."""
    assert result.code == code, (result.code, result.err)
    first, *more = result.err.splitlines() or [""]
    assert first.startswith("stratac: error: "), result.err
    assert all(line.startswith("  ") for line in more), result.err
    assert "Traceback" not in result.err and "Errno" not in result.err
    assert result.out == ""
    for text in texts:
        assert text in result.err, (text, result.err)
