"""The C compiler: found on PATH or given, for this machine or another, and asked what it makes."""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..ir.errors import EnvironmentProblem

#: architectures that compilers spell otherwise than the operating system
_SPELLINGS = {"amd64": "x86_64", "arm64": "aarch64", "powerpc64le": "ppc64le"}


@dataclass(frozen=True)
class Compiler:
    """A C compiler that answered: its path, its version line and its target triple."""

    path: str
    version: str
    target: str
    arguments: tuple[str, ...] = ()

    @property
    def arch(self) -> str:
        """The architecture it compiles for, as `platform.machine()` spells it."""
        first = self.target.split("-")[0]
        return _SPELLINGS.get(first, first)


def _answer(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=True)
    return done.stdout.decode(errors="replace")


def find_compiler(cc: str | None = None, arch: str = "") -> Compiler:
    """The compiler to use: the command `cc`, else one from PATH. With `arch` it makes code for that architecture.

    Raises EnvironmentProblem where there is none, it does not run, or `cc` makes code for another architecture.
    """
    try:
        given = shlex.split(cc) if cc else []
    except ValueError as error:
        raise EnvironmentProblem(f"CC={cc!r} is no command: {error}", hint="set CC to a compiler") from error
    foreign = arch not in ("", platform.machine()) and not given
    candidates = [given] if given else _cross_compilers(arch) if foreign else [["cc"], ["gcc"], ["clang"]]
    for name, *arguments in candidates:
        path = shutil.which(name)
        if path is None or (foreign and not _links([path, *arguments])):
            continue
        try:
            command = [path, *arguments]
            version, target = _answer([*command, "--version"]), _answer([*command, "-dumpmachine"])
        except (OSError, subprocess.SubprocessError) as error:
            raise EnvironmentProblem(
                f"the C compiler {path} does not run: {str(error).rstrip('.')}", hint="set CC to a working gcc or clang"
            ) from error
        line = (version.splitlines() or ["unknown"])[0]
        compiler = Compiler(path, line, target.strip(), tuple(arguments))
        if arch and compiler.arch != arch:
            raise EnvironmentProblem(
                f"the C compiler {' '.join(command)} makes {compiler.arch} code, {arch} is wanted",
                hint=f"give --cc (or CC) a compiler for {arch}, such as {shlex.join(_cross_compilers(arch)[0])}, or unset CC",
            )
        return compiler
    *others, last = [shlex.join(command) for command in candidates]
    looked = f"{', '.join(others)} or {last}" if others else last
    if foreign:
        raise EnvironmentProblem(
            f"no C compiler for {arch} found: looked for {looked} on PATH",
            hint=f"install one (Debian and Ubuntu: gcc-{arch.replace('_', '-')}-linux-gnu), or name one with --cc or CC",
        )
    raise EnvironmentProblem(
        f"no C compiler found: looked for {looked} on PATH", hint="install gcc or clang, or set CC to a compiler"
    )


def _cross_compilers(arch: str) -> list[list[str]]:
    """Commands that may compile for another architecture."""
    triple = f"{arch}-linux-gnu"
    return [[f"{triple}-gcc"], [f"{arch}-none-linux-gnu-gcc"], ["clang", f"--target={triple}"]]


def _links(command: Sequence[str]) -> bool:
    """Whether a cross compiler has all it needs: clang always answers, but C library and linker may be missing."""
    with tempfile.TemporaryDirectory(prefix="stratac-cc-") as folder:
        unit, output = Path(folder, "trial.c"), Path(folder, "trial.so")
        unit.write_text("#include <pthread.h>\n#include <math.h>\n")
        try:
            _answer([*command, "-shared", "-fPIC", "-pthread", str(unit), "-o", str(output), "-lm"])
        except (OSError, subprocess.SubprocessError):
            return False
    return True
