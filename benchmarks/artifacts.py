"""What peers compile ahead of time, made once and kept: a rerun finds it again by versions, model, sizes and options.

Kept in `peers` of stratac's cache folder; what failed to compile is remembered too.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from stratac.compiler.options import default_cache
from stratac.compiler.peer import PeerError

from .modes import Mask
from .subjects import ROOT
from .zoo import row


@dataclass(frozen=True)
class Artifact:
    """What a peer opens; the seconds it took to compile (in a process of its own, imports included), and its bytes."""

    path: Path
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Recipe:
    """How one system's artifact is made: the module to run, its arguments before `-o`, and the packages that matter."""

    suffix: str
    module: str
    arguments: Sequence[str]
    packages: Sequence[str]
    sources: Sequence[str] = ()


def recipe(system: str, name: str, model: Path, threads: int, mask: Mask) -> Recipe | None:
    """None for a system that opens the ONNX file itself. AOTInductor compiles for one thread count."""
    torch = ("torch", "transformers"), ("benchmarks/torch_build.py", "benchmarks/zoo.py")
    if system == "aotinductor":
        isa = ("--isa", mask.isa) if mask.isa else ()
        words = ("aotinductor", name, "--threads", str(threads), *isa)
        return Recipe(".pt2", "stratac.benchmarks.torch_build", words, *torch)
    if system == "inductor-bf16":
        return Recipe(".pt2", "stratac.benchmarks.torch_build", ("bf16", name), *torch)
    if system == "iree":
        dims = [f"--dim={dim}={size}" for dim, size in row(name).typical.items()]
        masked = [f"--without={prefix}" for prefix in mask.prefixes]
        packages = ("iree-base-compiler", "onnx")
        return Recipe(".vmfb", "stratac.compiler.iree_build", (str(model), *dims, *masked), packages)
    return None


def artifact(system: str, name: str, model: Path, threads: int, mask: Mask, folder: Path) -> Artifact:
    """What `system` opens for the model `name`: its ONNX file, or what was compiled from it. Raises PeerError."""
    made = recipe(system, name, model, threads, mask)
    if made is None:
        return Artifact(
            model, 0.0, sum(part.stat().st_size for part in (model, *model.parent.glob(f"{model.name}.data")))
        )
    found = kept(made, f"{system}-{name}", model, dict(mask.environment), folder)
    if "error" in found:
        raise PeerError(f"{system}: {found['error']}")
    return Artifact(Path(found["path"]), found["seconds"], Path(found["path"]).stat().st_size)


def kept(made: Recipe, label: str, model: Path, environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """The record of an artifact, made now unless it is there: `path` and `seconds`, or `error`."""
    facts = {
        "arguments": [made.module, *made.arguments],
        "versions": {package: _version(package) for package in made.packages},
        "sources": {source: _digest(ROOT / source) for source in made.sources},
        "model": _digest(model),
        "environment": dict(environment),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    record, target = folder / f"{label}-{key}.json", folder / f"{label}-{key}{made.suffix}"
    if record.exists():
        found: dict[str, Any] = json.loads(record.read_text())
        if "error" in found or target.exists():
            return {**found, "path": str(target)}
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{os.getpid()}-{target.name}"
    started = time.perf_counter()
    command = [sys.executable, "-m", made.module, *made.arguments, "-o", str(part)]
    inherited = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        **environment,
    }
    done = subprocess.run(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=inherited, cwd=ROOT
    )
    found = {"seconds": time.perf_counter() - started, **facts}
    if done.returncode < 0:  # killed: no verdict on the system
        part.unlink(missing_ok=True)
        raise PeerError(f"compiling {label} ended by signal {-done.returncode}")
    if done.returncode or not part.exists():
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        found["error"] = (last or [f"ended with code {done.returncode}"])[0][:200]
        part.unlink(missing_ok=True)
    else:
        part.replace(target)
    record.write_text(json.dumps(found, indent=1))
    return {**found, "path": str(target)}


def default_folder(work: Path) -> Path:
    """Where artifacts are kept: below stratac's cache, or in `work` where caching is switched off."""
    return (default_cache() or work) / "peers"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
