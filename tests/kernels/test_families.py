"""Every kernel family against its naive twin, over drawn shapes (sweep.c says what is checked)."""

import re
import subprocess

import pytest
from cffi import FFI
from stratac.codegen.facts import (
    TILES,
    attention_workspace,
    conv_workspace,
    gemm_workspace,
    winograd_workspace,
)
from stratac.codegen.pack import PANELS

from .conftest import HERE, ROOT, kernel_sources

FAMILIES = ["gemm", "conv", "winograd", "depthwise", "attention"]


def sweep(program, family: str, first: int, cases: int) -> None:
    result = subprocess.run([program, family, str(first), str(cases)], capture_output=True, text=True)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]


@pytest.mark.parametrize("family", FAMILIES)
def test_family_matches_its_twin(isa, build, family):
    program = build(isa, "sweep", [*kernel_sources(), HERE / "sweep.c"], "-O2")
    sweep(program, family, 1, 250)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_stays_in_its_buffers(isa, build, family):
    flags = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = build(isa, "sanitized", [*kernel_sources(), HERE / "sweep.c"], *flags)
    sweep(program, family, 5000, 40)


@pytest.mark.parametrize("compiler", ["gcc", "clang-14"])
def test_builds_without_warnings(isa, build, compiler):
    build(isa, "kernels.so", kernel_sources(), "-O3" if compiler == "gcc" else "-O1", "-shared", compiler=compiler)


def load(path):
    header = (ROOT / "csrc" / "kernels" / "kernels.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    ffi = FFI()
    ffi.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
    return ffi, ffi.dlopen(str(path))


def test_workspace_and_panel_are_as_documented(isa, build):
    _, library = load(build(isa, "kernels.so", kernel_sources(), "-O3", "-shared"))
    assert library.st_panel() == TILES[isa].panel == PANELS[isa]
    for k in [0, 1, 16, 147, 511, 512, 513, 768, 769, 1024, 3072, 11008]:
        for m in [1, 14, 100, 1500]:
            for packed, pairs in ((0, 0), (1, 0), (1, 1)):
                expected = gemm_workspace(isa, m, 77, k, bool(packed), bool(pairs))
                assert library.st_gemm_workspace(m, 77, k, packed, pairs) == expected
        for pairs in (0, 1):
            assert library.st_conv_workspace(k, 64, pairs) == conv_workspace(isa, k, 64, bool(pairs))
        assert library.st_winograd_workspace(k) == winograd_workspace(isa, k)
    for queries, keys, dim, v_dim in [
        (1, 0, 8, 8),
        (1, 1, 64, 64),
        (128, 496, 64, 33),
        (9, 2048, 512, 64),
        (1500, 5000, 80, 96),
    ]:
        assert library.st_attention_workspace(queries, keys, dim, v_dim) == attention_workspace(
            isa, queries, keys, dim, v_dim
        )
