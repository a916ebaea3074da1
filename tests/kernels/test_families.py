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

from .conftest import AMX, HERE, ROOT, cpu_features, kernel_sources

FAMILIES = ["gemm", "conv", "winograd", "depthwise", "attention", "ragged", "gemm_tiles", "conv_tiles"]


def sweep(program, family: str, first: int, cases: int) -> str:
    result = subprocess.run([program, family, str(first), str(cases)], capture_output=True, text=True)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    return result.stdout


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
@pytest.mark.parametrize("rounding", [[], ["-mavx512bf16"]])
def test_tile_instructions_give_the_bits_of_their_emulation(build, compiler, rounding):
    """The code with AMX instructions, carried out by the processor or by amx_trap.c, and the code without."""
    if not {"avx512f", "avx512bw", "avx512dq", "avx512vl", *(["avx512_bf16"] if rounding else [])} <= cpu_features():
        pytest.skip("this CPU lacks what is compiled for")
    sources = [*kernel_sources(), HERE / "sweep.c"]
    emulated = build("avx512", "sweep", sources, "-O2")
    trap = [] if {"amx_tile", "amx_bf16"} <= cpu_features() else [HERE / "amx_trap.c"]
    real = build("avx512", f"sweep-amx{len(rounding)}", [*sources, *trap], "-O2", *AMX, *rounding, compiler=compiler)
    for family in ("gemm_tiles", "conv_tiles"):
        assert sweep(real, family, 7000, 15) == sweep(emulated, family, 7000, 15)


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
            for packed, pairs, tiles in ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 0, 1), (1, 0, 2), (1, 0, 3)):
                expected = gemm_workspace(isa, m, 77, k, bool(packed), bool(pairs), tiles)
                assert library.st_gemm_workspace(m, 77, k, packed, pairs, tiles) == expected
        for pairs, tiles in ((0, 0), (1, 0), (0, 1), (0, 2), (0, 3)):
            assert library.st_conv_workspace(k, 64, pairs, tiles) == conv_workspace(isa, k, 64, bool(pairs), tiles)
        assert library.st_winograd_workspace(k) == winograd_workspace(isa, k)
    for rows, keys, dim, v_dim in [
        (1, 0, 8, 8),
        (1, 1, 64, 64),
        (128, 496, 64, 33),
        (9, 2048, 512, 64),
        (40, 512, 64, 64),
        (40, 513, 64, 64),
        (0, 700, 64, 64),
        (1500, 5000, 80, 96),
    ]:
        expected = attention_workspace(isa, rows, keys, dim, v_dim)
        assert library.st_attention_workspace(rows, keys, dim, v_dim) == expected
