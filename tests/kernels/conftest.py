"""Build the kernels and their test programs once per ISA that this machine can run, by itself or emulated."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stratac.compiler.profiles import cpu_features
from stratac.ir.machine import EXTENSIONS, ISA_LEVELS, isa_level
from stratac.tests.emulation import ARM, arm_command, arm_compiler

from .remote import Remote

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
COMMON = ["-Wall", "-Wextra", "-Werror", "-std=c11", "-ffp-contract=off", "-fPIC"]


@dataclass(frozen=True)
class Isa:
    """A way to compile the kernels: an ISA level, perhaps with an extension, on an architecture (empty: this machine's)."""

    level: str
    arch: str
    extension: str = ""
    cpu: str = "max"  # the emulated one

    def __str__(self) -> str:
        return "-".join(filter(None, (self.level, self.extension, "" if self.level == "neon" else self.arch)))

    @property
    def here(self) -> bool:
        return self.arch in ("", platform.machine())

    @property
    def flags(self) -> tuple[str, ...]:
        base = ("-march=x86-64",) if self.here and platform.machine() == "x86_64" else ()
        return (*base, *isa_level(self.level).flags, *(EXTENSIONS[self.extension][1] if self.extension else ()))

    @property
    def needs(self) -> frozenset[str]:
        return isa_level(self.level).features | (EXTENSIONS[self.extension][0] if self.extension else frozenset())

    @property
    def fused(self) -> bool:
        """Whether vf_fma rounds once: everywhere but on an x86 without the instruction."""
        return self.level != "portable" or self.arch == ARM or platform.machine() == ARM

    def compiler(self, name: str) -> list[str]:
        if not self.here and self.arch != ARM:
            pytest.skip(f"this machine is {platform.machine()}")
        if self.here:
            if shutil.which(name) is None:
                pytest.skip(f"no {name}")
            return [name]
        given = f"{name} --target={ARM}-linux-gnu" if name.startswith("clang") else None
        if given and shutil.which(name) is None:
            pytest.skip(f"no {name}")
        found = arm_compiler(given)
        return [found.path, *found.arguments]

    def command(self, *words: str | Path | int) -> list[str]:
        """What runs a program of this architecture."""
        text = [str(word) for word in words]
        return text if self.here else arm_command(text, self.cpu)


ISAS = [
    *(Isa(level.name, level.arch) for level in ISA_LEVELS if level.arch != ARM),
    Isa("neon", ARM, cpu="cortex-a72"),
    Isa("portable", ARM),
]
EXTENDED = [Isa("avx512", "x86_64", "avx512_bf16"), Isa("neon", ARM, "arm_bf16")]


@pytest.fixture(scope="session", params=ISAS, ids=str)
def isa(request) -> Isa:
    if request.param.here and not request.param.needs <= cpu_features():
        pytest.skip(f"this CPU lacks {', '.join(sorted(request.param.needs - cpu_features()))}")
    if not request.param.here:
        request.param.compiler("gcc"), request.param.command()  # or the test is skipped
    return request.param


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """build(isa, name, sources, *flags) -> path; the same name is built once."""
    folder, built = tmp_path_factory.mktemp("kernels"), {}

    def compile_once(isa: Isa, name: str, sources: Sequence[Path], *flags: str, compiler: str = "gcc") -> Path:
        path = folder / f"{name}-{isa}-{compiler}"
        if path not in built:
            command = isa.compiler(compiler)
            objects = folder / f"{path.name}.objects"
            objects.mkdir()

            def run(*words: Any) -> None:
                used = [flag for flag in flags if flag != "-shared" or "-c" not in words]
                result = subprocess.run(
                    [*command, *isa.flags, *COMMON, *used, *map(str, words)], capture_output=True, text=True
                )
                assert result.returncode == 0, result.stderr

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                outputs = [objects / f"{source.stem}.o" for source in sources]
                list(pool.map(lambda source, output: run("-c", source, "-o", output), sources, outputs))
            run(*outputs, "-o", path, "-lm", *(["-ldl"] if "-shared" not in flags else []))
            built[path] = True
        return path

    return compile_once


@pytest.fixture(scope="session")
def open_library(build):
    """open_library(isa, path): the functions of a shared object, in this process or behind an emulator."""
    opened = []

    def open_one(isa: Isa, path: Path) -> Any:
        if isa.here:
            return ctypes.CDLL(str(path))
        opened.append(Remote(isa.command(build(isa, "remote", [HERE / "remote.c"], "-O1"), path)))
        return opened[-1]

    yield open_one
    for remote in opened:
        remote.close()


def kernel_sources() -> list[Path]:
    return sorted((ROOT / "csrc" / "kernels").glob("*.c"))
