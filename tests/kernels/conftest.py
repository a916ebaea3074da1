"""Build the kernels and their test programs once per ISA that this machine can run."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
FLAGS = {
    "portable": ["-march=x86-64"],
    "avx2": ["-march=x86-64", "-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-march=x86-64", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
}
NEEDS = {"portable": set(), "avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}}
#: what tiles.c needs beside avx512; amx_trap.c carries it out where the processor does not
AMX = ["-mamx-tile", "-mamx-bf16"]
COMMON = ["-Wall", "-Wextra", "-Werror", "-std=c11", "-ffp-contract=off", "-fPIC"]


def cpu_features() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":")[1].split())
    return set()


@pytest.fixture(scope="session", params=FLAGS)
def isa(request) -> str:
    if not NEEDS[request.param] <= cpu_features():
        pytest.skip(f"this CPU lacks {request.param}")
    return request.param


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """build(isa, name, sources, *flags) -> path; the same name is built once."""
    folder, built = tmp_path_factory.mktemp("kernels"), {}

    def compile_once(isa: str, name: str, sources: list[Path], *flags: str, compiler: str = "gcc") -> Path:
        path = folder / f"{name}-{isa}-{compiler}"
        if path not in built:
            if shutil.which(compiler) is None:
                pytest.skip(f"no {compiler}")
            objects = folder / f"{path.name}.objects"
            objects.mkdir()

            def run(*command) -> None:
                used = [flag for flag in flags if flag != "-shared" or "-c" not in command]
                result = subprocess.run(
                    [compiler, *FLAGS[isa], *COMMON, *used, *map(str, command)], capture_output=True, text=True
                )
                assert result.returncode == 0, result.stderr

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                outputs = [objects / f"{source.stem}.o" for source in sources]
                list(pool.map(lambda source, output: run("-c", source, "-o", output), sources, outputs))
            run(*outputs, "-o", path, "-lm")
            built[path] = True
        return path

    return compile_once


def kernel_sources() -> list[Path]:
    return sorted((ROOT / "csrc" / "kernels").glob("*.c"))
