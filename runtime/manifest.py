"""manifest.json: what a plan folder holds, and a digest of every part.

The file is the canonical text of its fields and nothing else, so a flipped byte anywhere in it, white space included,
is found. Standard library and `ir` only: the compiler writes manifests with this module, and tools read them without a
C compiler, cffi or the plan's code.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..ir.errors import EnvironmentProblem, PlanError
from ..ir.plan import FORMAT_VERSION, Plan, PlanPort, StateEntry, shape_text

MANIFEST = "manifest.json"
PLAN = "plan.bin"
WEIGHTS = "weights.bin"
LIBRARY = "libplan.so"
_AGAIN = "compile the plan again"


def canonical(fields: Mapping[str, Any]) -> bytes:
    """The one text of a manifest."""
    return (json.dumps(fields, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()


def manifest_digest(fields: Mapping[str, Any]) -> str:
    """sha256 of the canonical text without the field `digest`."""
    return hashlib.sha256(canonical({k: v for k, v in fields.items() if k != "digest"})).hexdigest()


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ports(ports: Iterable[PlanPort | StateEntry]) -> list[dict[str, str]]:
    return [{"name": p.name, "dtype": p.type.dtype.name, "shape": shape_text(p.type.shape)} for p in ports]


def plan_fields(plan: Plan, *, stratac_version: str, process_floor: int = 0) -> dict[str, Any]:
    """The manifest's fields that follow from the plan; `process_floor`: bytes a process holds before any plan."""
    return {
        "format_version": FORMAT_VERSION,
        "stratac_version": stratac_version,
        "name": plan.name,
        "target": plan.target,
        "features": sorted(plan.features),
        "threads": plan.threads,
        "symbols": {
            name: {
                "min": b.min,
                "typical": b.typical,
                "max": b.max,
                **({"runtime": True} if k in plan.runtime_dims else {}),
            }
            for k, (name, b) in enumerate(plan.symbols.items())
        },
        "inputs": _ports(plan.inputs),
        "outputs": _ports(plan.outputs),
        **({"states": _ports(plan.states)} if plan.states else {}),
        "memory": {
            "weights": plan.resident_bytes - plan.mapped_bytes,
            **({"mapped": plan.mapped_bytes} if plan.mapped_bytes else {}),
            "storage": plan.weights_bytes - plan.resident_bytes,
            "ring": sum(a.bytes for a in plan.arenas if a.kind == "ring"),
            "scratch": sum(a.bytes for a in plan.arenas if a.kind == "scratch"),
            "workspace_per_thread": sum(a.bytes for a in plan.arenas if a.kind == "workspace"),
            **({"states": sum(a.bytes for a in plan.arenas if a.kind == "state")} if plan.states else {}),
            "process_floor": process_floor,
        },
        "predicted_seconds": float(plan.seconds),
    }


def write_manifest(
    folder: Path,
    fields: Mapping[str, Any],
    parts: Iterable[str] | None = None,
    *,
    known: Mapping[str, str] | None = None,
) -> None:
    """Write manifest.json for the files `parts` (paths relative to `folder`; None: all); call it last.

    `known` gives sha256 digests computed while writing, so that big files are not read again.
    """
    if parts is None:
        files = (path for path in folder.rglob("*") if path.is_file())
        parts = {path.relative_to(folder).as_posix() for path in files} - {MANIFEST}
    table = {}
    for name in sorted(parts):
        path = folder / name
        digest = (known or {}).get(name) or file_sha256(path)
        table[name] = {"bytes": path.stat().st_size, "sha256": digest}
    whole = {**fields, "parts": table}
    (folder / MANIFEST).write_bytes(canonical({**whole, "digest": manifest_digest(whole)}))


def _parse(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PlanError(f"{path} does not exist", hint="give the folder that `stratac compile -o` wrote") from error
    except OSError as error:
        raise PlanError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    try:
        fields = json.loads(data)
        version = fields["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PlanError(f"{path} is damaged: it is not a manifest", hint=_AGAIN) from error
    if isinstance(version, int) and version > FORMAT_VERSION:
        hint = f"upgrade stratac (the plan was made by stratac {fields.get('stratac_version', 'of a newer version')})"
        raise PlanError(f"{path} has format version {version}, this stratac reads {FORMAT_VERSION}", hint=hint)
    if version != FORMAT_VERSION:
        raise PlanError(f"{path} has format version {version!r}, this stratac reads {FORMAT_VERSION}", hint=_AGAIN)
    if fields.get("digest") != manifest_digest(fields) or canonical(fields) != data:
        raise PlanError(f"{path} is damaged: its digest does not match", hint=_AGAIN)
    return dict(fields)


def _check_part(folder: Path, name: str, entry: Mapping[str, Any], digest: bool) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise PlanError(f"{folder / MANIFEST} names the part {name!r} outside the plan", hint=_AGAIN)
    path = folder / name
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise PlanError(f"{path} is not a file", hint=_AGAIN)
        if size != entry["bytes"]:
            what = "truncated" if size < entry["bytes"] else "changed"
            raise PlanError(f"{path} is {what}: it has {size} bytes, the manifest says {entry['bytes']}", hint=_AGAIN)
        if digest and file_sha256(path) != entry["sha256"]:
            raise PlanError(f"{path} is damaged: its sha256 is not the manifest's", hint=_AGAIN)
    except FileNotFoundError as error:
        raise PlanError(f"{path} is missing from the plan", hint=_AGAIN) from error
    except OSError as error:
        raise PlanError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error


def read_manifest(folder: Path, *, parts: bool = True, weights: bool = False) -> dict[str, Any]:
    """The manifest of a plan folder, after checking itself and, with `parts`, every part's size and sha256.

    weights.bin can be as large as memory: its sha256 is checked only with `weights`; opening a session checks its own
    digest of it. Raises PlanError.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise PlanError(f"{folder} {what}", hint="give the folder that `stratac compile -o` wrote")
    fields = _parse(folder / MANIFEST)
    if parts:
        try:
            for name, entry in fields["parts"].items():
                _check_part(folder, name, entry, digest=weights or name != WEIGHTS)
            missing = {PLAN, WEIGHTS, LIBRARY} - fields["parts"].keys()
        except (KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"{folder / MANIFEST} is malformed: {error}", hint=_AGAIN) from error
        if missing:
            raise PlanError(f"{folder / MANIFEST} does not list {', '.join(sorted(missing))}", hint=_AGAIN)
    return fields


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """The CPU's features as the kernel names them, or None where it does not say."""
    try:
        with cpuinfo.open() as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return frozenset(value.split())
    except OSError:
        pass
    return None


def check_machine(fields: Mapping[str, Any], have: frozenset[str] | None) -> None:
    """Raise EnvironmentProblem where this machine is of another architecture than the plan's code, or its CPU lacks a feature
    the kernels need."""
    plan, here = f"plan {fields['name']!r} for target {fields['target']!r}", platform.machine()
    arch = fields.get("arch", here)
    if arch != here:
        raise EnvironmentProblem(
            f"{plan} is {arch} code, this machine is {here}",
            hint=f"run it on an {arch} machine, or compile the model with --target native here",
        )
    missing = sorted(set(fields["features"]) - have) if have is not None else []
    if missing:
        raise EnvironmentProblem(
            f"this CPU ({here}) lacks {', '.join(missing)}, which {plan} needs",
            hint="compile the model with --target native on this machine",
        )
