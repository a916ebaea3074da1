"""Every kernel family against its naive twin, over drawn shapes (sweep.c says what is checked)."""

import re
import subprocess

import pytest
from cffi import FFI

from .conftest import HERE, ROOT, kernel_sources

FAMILIES = ["gemm", "conv", "depthwise", "attention"]


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


ISA_CONSTANTS = {  # panel columns, rows of a tile, k-block, columns of a block, rows of a block
    "portable": (8, 4, 512, 128, 64),
    "avx2": (16, 6, 512, 128, 96),
    "avx512": (32, 14, 768, 256, 112),
}


def workspace_formulas(isa):
    """The formulas as Python states them: bytes one part needs."""
    panel, mr, kc_most, nb, mb = ISA_CONSTANTS[isa]

    def up(n, to):
        return -(-n // to) * to

    def stride(n):
        return up(n, 16) + (16 if up(n, 16) % 512 == 0 else 0)

    def product(k, packed):
        kc = max(up(-(-k // max(-(-k // kc_most), 1)), 16), 16)
        return mr * (kc + 16) + mb * nb + (0 if packed else kc * nb)

    def gemm(m, n, k, packed):
        rows = max(min(65536 // (k + 16) // mr, mb // mr), 1) * mr
        return 4 * (product(k, packed) + min(up(m, mr), rows) * stride(k)) + 64

    def conv(k, og):
        return 4 * product(k, True) + 64

    def attention(queries, keys, dim, v_dim):
        keys_p, v_p = up(max(keys, 1), panel), up(v_dim, panel)
        return 4 * (4 * mr * (stride(dim) + stride(keys_p) + v_p) + min(keys_p, 2048) * (dim + v_p)) + 64

    return gemm, conv, attention


def test_workspace_and_panel_are_as_documented(isa, build):
    _, library = load(build(isa, "kernels.so", kernel_sources(), "-O3", "-shared"))
    gemm, conv, attention = workspace_formulas(isa)
    assert library.st_panel() == ISA_CONSTANTS[isa][0]
    for k in [0, 1, 16, 147, 511, 512, 513, 768, 769, 1024, 3072, 11008]:
        for m in [1, 14, 100, 1500]:
            assert library.st_gemm_workspace(m, 77, k, 0) == gemm(m, 77, k, False)
            assert library.st_gemm_workspace(m, 77, k, 1) == gemm(m, 77, k, True)
        assert library.st_conv_workspace(k, 64) == conv(k, 64)
    for queries, keys, dim, v_dim in [(1, 0, 8, 8), (1, 1, 64, 64), (128, 496, 64, 33), (9, 2048, 512, 64), (1500, 5000, 80, 96)]:
        assert library.st_attention_workspace(queries, keys, dim, v_dim) == attention(queries, keys, dim, v_dim)
