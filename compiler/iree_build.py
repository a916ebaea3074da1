"""Compiles an ONNX model with IREE for this machine's CPU, at given sizes of its symbolic dims.

python -m stratac.compiler.iree_build MODEL.onnx -o MODEL.vmfb [--dim NAME=N]... [--without FEATURE]...
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .frontends.onnx.fixed import fix_dims
from .options import parse_dim
from .profiles import cpu_features

#: the kernel's names of CPU features that IREE's compiler calls otherwise
_RENAMED = {
    "abm": "lzcnt",
    "bmi1": "bmi",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "pni": "sse3",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "avx_vnni": "avxvnni",
    "amx_tile": "amx-tile",
    "amx_bf16": "amx-bf16",
    "amx_int8": "amx-int8",
}
_SAME = (
    "ssse3",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "bmi2",
    "popcnt",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512cd",
)


def target_features(features: Iterable[str]) -> str:
    """What IREE is told of a CPU that has `features`, as the kernel names them. Its own detection goes by the model's name."""
    known = {*_SAME, *_RENAMED}
    return ",".join(f"+{_RENAMED.get(name, name)}" for name in sorted(known & set(features)))


def build(model: Path, dims: Mapping[str, int], features: Iterable[str], target: Path) -> None:
    """Raises RuntimeError with the compiler's last words where it fails."""
    with tempfile.TemporaryDirectory(prefix="stratac-iree-") as name:
        fixed, imported = Path(name) / "model.onnx", Path(name) / "model.mlir"
        fix_dims(model, dims, fixed)
        _call("iree.compiler.tools.import_onnx", str(fixed), "-o", str(imported))
        _call(
            "iree.compiler.tools.scripts.iree_compile",
            str(imported),
            "-o",
            str(target),
            "--iree-hal-target-device=local",
            "--iree-hal-local-target-device-backends=llvm-cpu",
            "--iree-llvmcpu-target-cpu=generic",
            f"--iree-llvmcpu-target-cpu-features={target_features(features)}",
            "--iree-opt-level=O3",
            # attention kernels of usual sizes exceed its limit of 32 KiB
            "--iree-llvmcpu-fail-on-out-of-bounds-stack-allocation=false",
        )


def _call(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        errors = [line.partition("error: ")[2] for line in done.stderr.splitlines() if "error: " in line]
        raise RuntimeError(f"{module.rpartition('.')[2]}: {(errors or done.stderr.splitlines() or ['no word'])[-1]}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stratac.compiler.iree_build", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=N")
    parser.add_argument("--without", action="append", default=[], metavar="FEATURE", help="a prefix of CPU features")
    arguments = parser.parse_args(argv)
    dims = {name: bounds.typical for name, bounds in map(parse_dim, arguments.dim)}
    features = [name for name in cpu_features() if not name.startswith(tuple(arguments.without) or ("-",))]
    build(arguments.model, dims, features, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
