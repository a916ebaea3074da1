"""Code for AArch64, wherever the tests run: a compiler for it, and what runs the result (qemu, or the machine itself).

A test that needs them calls `arm_compiler` and `arm_command`, which skip it with the reason where there are none.
"""

from __future__ import annotations

import atexit
import functools
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from stratac.codegen.compilers import Compiler, find_compiler
from stratac.codegen.toolchain import CSRC
from stratac.ir.errors import EnvironmentProblem
from stratac.ir.types import DTYPES
from stratac.runtime.lib import IO_MODES
from stratac.runtime.manifest import read_manifest

ARM = "aarch64"


@functools.cache
def _compiler(cc: str | None) -> Compiler | str:
    try:
        return find_compiler(cc, ARM)
    except EnvironmentProblem as error:
        return str(error)


def arm_compiler(cc: str | None = None) -> Compiler:
    """A compiler that makes AArch64 programs; `cc` a command that must do so, such as `clang --target=aarch64-linux-gnu`."""
    found = _compiler(cc)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@functools.cache
def _libraries() -> Path:
    """The folder of the target's C library, as `-L` of qemu wants it."""
    loader = "ld-linux-aarch64.so.1"
    command = [arm_compiler().path, *arm_compiler().arguments, f"-print-file-name={loader}"]
    found = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return found.resolve().parents[1] if found.is_absolute() else Path("/usr/aarch64-linux-gnu")


def arm_command(program: Sequence[str | Path], cpu: str = "max") -> list[str]:
    """The command that runs an AArch64 program here: on an emulated CPU (`max`, `cortex-a72`, ...), or as it is."""
    if platform.machine() == ARM:
        return [str(word) for word in program]
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("no qemu-aarch64 to run AArch64 programs (Debian: qemu-user)")
    return [emulator, "-cpu", cpu, "-L", str(_libraries()), *(str(word) for word in program)]


@dataclass(frozen=True)
class Run:
    """One run of a plan by a C program: its outputs, and how it said that weights in storage are read."""

    outputs: list[np.ndarray]
    io: str


@functools.cache
def plan_runner() -> Path:
    """tests/runtime/c/run_file.c for AArch64, built once in a folder of this process."""
    folder = Path(tempfile.mkdtemp(prefix="stratac-runner-"))
    atexit.register(shutil.rmtree, folder, True)
    source, compiler = Path(__file__).parent / "runtime" / "c" / "run_file.c", arm_compiler()
    command = [compiler.path, *compiler.arguments, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{CSRC / 'include'}", str(source), "-o", str(folder / "run_file"), "-lm", "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "run_file"


def run_plan(
    folder: Path, inputs: Mapping[str, np.ndarray], threads: int = 1, cpu: str = "max", io: str = "auto", *flags: str
) -> Run:
    """Run an AArch64 plan once. Raises AssertionError with what the program said where it failed."""
    manifest = read_manifest(folder)
    with tempfile.TemporaryDirectory(prefix="stratac-run-") as name:
        request, answer = Path(name, "request"), Path(name, "answer")
        parts = []
        for port in manifest["inputs"]:
            array = np.ascontiguousarray(inputs[port["name"]]).reshape(np.shape(inputs[port["name"]]))
            parts += [np.array([array.ndim, *array.shape, array.nbytes], np.int64).tobytes(), array.tobytes()]
        request.write_bytes(b"".join(parts))
        words = [plan_runner(), folder, threads, IO_MODES.index(io), request, answer, *flags]
        done = subprocess.run(arm_command([str(word) for word in words], cpu), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        data, outputs, at = answer.read_bytes(), [], 0
        for port in manifest["outputs"]:
            rank = int(np.frombuffer(data, np.int64, 1, at)[0])
            *shape, nbytes = np.frombuffer(data, np.int64, rank + 1, at + 8).tolist()
            at += 8 * (rank + 2)
            dtype = DTYPES[port["dtype"]].np
            outputs.append(np.frombuffer(data[at : at + nbytes], dtype).reshape(shape))
            at += nbytes
        return Run(outputs, done.stdout.strip())
