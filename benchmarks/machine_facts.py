"""The machine and the versions behind a figure."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from stratac.compiler.profiles import cpu_features, native_isa

#: CPU features that decide which kernels run, here or in the peers
FEATURES = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
            "amx_int8", "amx_bf16", "asimd", "sve")  # fmt: skip
PACKAGES = ("stratac", "onnxruntime", "openvino", "torch", "iree-base-compiler", "numpy", "onnx", "transformers")
#: what measuring itself rewrites
REWRITTEN = (":!benchmarks/results", ":!docs", ":!README.md")


def isa() -> str:
    """The kernels' ISA level on this CPU, and `-amx` where the CPU has matrix units (the peers may use them)."""
    return native_isa() + ("-amx" if "amx_bf16" in cpu_features() else "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _model_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _cache_sizes() -> dict[str, str]:
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def revision() -> str:
    """The commit of this tree, with `+` where files differ from it; empty outside git."""
    here = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short=10", "HEAD")
        return commit + (
            "+" if commit and git("status", "--porcelain", "--untracked-files=no", "--", ".", *REWRITTEN) else ""
        )
    except OSError:
        return ""


def busy_seconds() -> float:
    """CPU time that all CPUs together have spent on anything, time stolen by the hypervisor included."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def machine_facts() -> dict[str, Any]:
    features = cpu_features()
    return {
        "cpu": _model_name(),
        "isa": isa(),
        "features": [name for name in FEATURES if name in features],
        "cores": len(os.sched_getaffinity(0)),
        "caches": _cache_sizes(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
    }


def versions() -> dict[str, str]:
    found = {package: _version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "revision": revision(), **found}
