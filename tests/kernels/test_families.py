"""Every kernel family against its naive twin, over drawn shapes (sweep.c says what is checked)."""

import ctypes
import os
import subprocess

import pytest
from stratac.codegen.facts import (
    BFP_BYTES,
    TILES,
    attention_workspace,
    conv_workspace,
    gemm_workspace,
    winograd_workspace,
)
from stratac.codegen.pack import PANELS
from stratac.compiler.profiles import cpu_features
from stratac.ir.machine import EXTENSIONS

from .conftest import EXTENDED, HERE, Isa, kernel_sources

FAMILIES = ["gemm", "conv", "winograd", "depthwise", "attention", "ragged", "gemm_tiles", "conv_tiles"]
FAMILIES += ["attention_tiles", "ragged_tiles", "gemm_bfp", "conv_bfp", "gemm_narrow"]
FAMILIES += ["gemm_tiles_shared", "conv_tiles_shared", "gemm_bfp_shared", "conv_bfp_shared"]


def in_tiles(family: str) -> bool:
    return any(kind in family for kind in ("_tiles", "_bfp", "_narrow"))


def sweep(isa, program, family: str, first: int, cases: int) -> str:
    # leaks are looked for with ptrace, which the emulator lacks; it is slow, and sees few of the cases
    environment = os.environ if isa.here else {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    share = 1 if isa.here else 25 if in_tiles(family) else 5
    share *= 4 if family.endswith(("_shared", "_narrow")) else 1  # each of which is large
    command = isa.command(program, family, first, max(cases // share, 1))
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    return result.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_family_matches_its_twin(isa, build, family):
    program = build(isa, "sweep", [*kernel_sources(), HERE / "sweep.c"], "-O2")
    sweep(isa, program, family, 1, 250)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_stays_in_its_buffers(isa, build, family):
    flags = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = build(isa, "sanitized", [*kernel_sources(), HERE / "sweep.c"], *flags)
    sweep(isa, program, family, 5000, 40)


@pytest.mark.parametrize("compiler", ["gcc", "clang-14"])
@pytest.mark.parametrize("rounding", ["", "avx512_bf16"])
def test_tile_instructions_give_the_bits_of_their_emulation(build, compiler, rounding):
    """The code with AMX instructions, carried out by the processor or by amx_trap.c, and the code without."""
    isa = Isa("avx512", "x86_64", rounding)
    if not isa.needs <= cpu_features():
        pytest.skip("this CPU lacks what is compiled for")
    sources = [*kernel_sources(), HERE / "sweep.c"]
    plain = Isa("avx512", "x86_64")
    emulated = build(plain, "sweep", sources, "-O2")
    needs = EXTENSIONS["amx_bf16"][0] | EXTENSIONS["amx_int8"][0]
    flags = dict.fromkeys((*EXTENSIONS["amx_bf16"][1], *EXTENSIONS["amx_int8"][1]))
    trap = [] if needs <= cpu_features() else [HERE / "amx_trap.c"]
    asks = ["-DAMX_TRAP"] if trap else []  # nobody for permission
    real = build(isa, "sweep-amx", [*sources, *trap], "-O2", *flags, *asks, compiler=compiler)
    for family in filter(in_tiles, FAMILIES):
        assert sweep(isa, real, family, 7000, 15) == sweep(plain, emulated, family, 7000, 15)


@pytest.mark.parametrize("compiler", ["gcc", "clang-14"])
def test_builds_without_warnings(isa, build, compiler):
    build(isa, "kernels.so", kernel_sources(), "-O3" if compiler == "gcc" else "-O1", "-shared", compiler=compiler)


@pytest.mark.parametrize("compiler", ["gcc", "clang-14"])
@pytest.mark.parametrize("isa", EXTENDED, ids=str)
def test_extensions_build_without_warnings(isa, build, compiler):
    """What they compute is tested with whole plans, which say how their weights are packed (tests/codegen/test_modes.py)."""
    build(isa, "kernels.so", kernel_sources(), "-O2" if compiler == "gcc" else "-O1", "-shared", compiler=compiler)


def test_workspace_and_panel_are_as_documented(isa, build, open_library):
    library = open_library(isa, build(isa, "kernels.so", kernel_sources(), "-O3", "-shared"))

    def ask(name, *arguments):
        function = getattr(library, name)
        function.restype = ctypes.c_int64
        return function(*map(ctypes.c_int64, arguments))

    level = isa.level
    assert ask("st_panel") == TILES[level].panel == PANELS[level]
    for k in [0, 1, 16, 147, 511, 512, 513, 768, 769, 1024, 3072, 11008]:
        for m in [1, 14, 100, 1500]:
            for packed, pairs, tiles in (
                (0, 0, 0),
                (1, 0, 0),
                (1, 1, 0),
                (1, 0, 1),
                (1, 0, 2),
                (1, 0, 3),
                (1, 0, 4),
                (1, 0, 5),
            ):
                expected = gemm_workspace(level, m, 77, k, bool(packed), bool(pairs), tiles)
                assert ask("st_gemm_workspace", m, 77, k, packed, pairs, tiles) == expected
        for pairs, tiles in ((0, 0), (1, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5)):
            for steps in (0, 1, 9, 144) if tiles and tiles not in BFP_BYTES else (0,):
                expected = conv_workspace(level, k, 64, bool(pairs), tiles, steps)
                assert ask("st_conv_workspace", k, 64, pairs, tiles, steps) == expected
        assert ask("st_winograd_workspace", k) == winograd_workspace(level, k)
    for rows, keys, dim, v_dim in [
        (1, 0, 8, 8),
        (1, 1, 64, 64),
        (128, 496, 64, 33),
        (9, 2048, 512, 64),
        (40, 512, 64, 64),
        (40, 513, 64, 64),
        (0, 700, 64, 64),
        (1500, 5000, 80, 96),
        (33, 1, 1, 1),
        (70, 300, 1000, 2000),
    ]:
        for tiles in range(4):
            expected = attention_workspace(level, rows, keys, dim, v_dim, tiles)
            assert ask("st_attention_workspace", rows, keys, dim, v_dim, tiles) == expected
