"""`doctor`: what this machine has, and a kernel compiled, opened and run to see that all of it works."""

from __future__ import annotations

import os
import platform
import tempfile
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.compilers import find_compiler
from ..ir.errors import StratacError
from ..ir.machine import EXTENSIONS, Machine
from ..runtime.session import load
from .options import CompileOptions, size_text, user_profile, version
from .profiles import (
    cpu_features,
    load_machine,
    misfit,
    native,
    native_extensions,
    native_isa,
    shipped,
    target_arch,
)

#: CPU features worth showing
_VECTORS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm"),
)


def _row(what: str, detail: str, ok: bool = True) -> dict[str, Any]:
    return {"what": what, "detail": detail, "ok": ok}


def _package(name: str, needed: str) -> dict[str, Any]:
    try:
        return _row(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return _row(name, f"not installed; {needed}", ok="only" in needed)


def _isa(features: frozenset[str]) -> dict[str, Any]:
    extensions = native_extensions()
    detail = f"{native_isa()} with {' '.join(extensions)}" if extensions else native_isa()
    refused = "amx_tile" in features and not any("amx_tile" in EXTENSIONS[name][0] for name in extensions)
    return _row("isa", detail + ("; Linux grants no AMX tiles to this process" if refused else ""))


def _profile(machine: Machine) -> dict[str, Any]:
    """What `native` goes by, and why not by the user's own file where there is one."""
    path, detail = user_profile(), machine.name
    if misfit(machine):
        detail += ": figures of a class of machines, `stratac probe` measures this one"
    if path.is_file() and (reason := misfit(load_machine(str(path)))):
        detail += f"; {path} is left out: it {reason}"
    return _row("profile", detail)


def _cache(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return _row("cache", "off")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return _row(
            "cache", f"{folder} is not writable ({error.strerror}): every compile starts cold; set STRATAC_CACHE"
        )
    size = 0
    for path in folder.iterdir():
        with suppress(OSError):  # other compilations add and remove entries
            size += path.stat().st_size
    return _row("cache", f"{folder}, {size_text(size)}")


def examine(cache: Path | None, cc: str | None) -> tuple[list[dict[str, Any]], bool]:
    """Rows of findings and whether everything needed is there."""
    features = cpu_features()
    known = [name for name in _VECTORS if name in features]
    vectors = " ".join(known) or "no vector extensions listed"
    machine = native()
    rows = [
        _row("stratac", f"{version()} on Python {platform.python_version()}, {platform.platform()}"),
        _row("cpu", f"{platform.machine()}, {len(os.sched_getaffinity(0))} usable cores; {vectors}"),
        _isa(features),
        _profile(machine),
        _row("machines", f"native, {', '.join(shipped())}"),
        _row("memory", size_text(machine.tier("ram").bytes)),
        _cache(cache),
        _package("numpy", "required to run plans"),
        _package("cffi", "required to run plans"),
        _package("onnx", "required to compile; pip install 'stratac[compile]'"),
        _package("jinja2", "required to compile; pip install 'stratac[compile]'"),
        _package("onnxruntime", "only bench and verify --against use it"),
    ]
    try:
        compiler = find_compiler(cc)
        rows.append(_row("C compiler", f"{compiler.path} ({compiler.version})"))
        rows.append(_trial(cache, cc))
    except StratacError as error:
        rows.append(_row("C compiler", str(error), ok=False))
    rows += [_cross_compiler(arch) for arch in _other_architectures()]
    return rows, all(row["ok"] for row in rows)


def _other_architectures() -> list[str]:
    """Of shipped machines that plans can be made for, beside this one."""
    found = {target_arch(load_machine(name)) for name in shipped()}
    return sorted(found - {"", platform.machine()})


def _cross_compiler(arch: str) -> dict[str, Any]:
    try:
        compiler = find_compiler(None, arch)
        return _row(f"for {arch}", f"{compiler.path} ({compiler.version})")
    except StratacError as error:
        return _row(f"for {arch}", f"{error}; only plans for {arch} machines need it")


def _trial(cache: Path | None, cc: str | None) -> dict[str, Any]:
    """Compile, open and run a small model."""
    try:
        from .driver import compile_model
        from .frontends.onnx.trial import write_trial_model

        with tempfile.TemporaryDirectory(prefix="stratac-doctor-") as name:
            write_trial_model(Path(name, "trial.onnx"))
            report = compile_model(
                Path(name, "trial.onnx"), Path(name, "trial.plan"), CompileOptions(cc=cc, cache=cache)
            )
            given = np.linspace(-1, 1, 16, dtype=np.float32).reshape(2, 8)
            with load(report.folder) as session:
                (result,) = session.run(None, {"x": given})
            fine = bool((result == np.maximum(given, 0)).all())
            return _row("trial", f"a small model compiled in {sum(report.seconds.values()):.1f} s and ran", ok=fine)
    except (StratacError, OSError, ModuleNotFoundError) as error:
        return _row("trial", str(error), ok=False)
