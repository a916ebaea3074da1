"""`bench`: a plan beside its peers, each in a process of its own, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import EnvironmentProblem, StratacError
from ..runtime.manifest import read_manifest
from .checks import random_inputs, relative_error
from .options import default_cache
from .peer import SYSTEMS, Peer, PeerError, take_turns
from .report.text import table, time_text
from .source import OnnxFile

_INDEX = "models.json"  # sha256 of a model file -> where it was when it was compiled; beside the object cache


def remember_model(model: Path) -> None:
    """Note where a model lies, so that `bench` finds it again from the plan. Only a convenience: failures are ignored."""
    folder = default_cache()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = _read_index(folder)
        index[OnnxFile(model).facts()["sha256"]] = str(model.resolve())
        part = folder / f".{_INDEX}.{os.getpid()}"
        part.write_text(json.dumps(index, indent=1))
        part.replace(folder / _INDEX)
    except OSError:
        return


def _read_index(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / _INDEX).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def find_model(plan: Path) -> Path:
    """The model a plan was made from: where it was compiled, or beside the plan. Raises StratacError."""
    wanted = json.loads((plan / "report.json").read_text()).get("model", {})
    folder = default_cache()
    places = [Path(p) for p in [_read_index(folder).get(wanted.get("sha256", ""), "")] if p] if folder else []
    name = wanted.get("file", "")
    places += [plan.resolve().parent / name, Path.cwd() / name, Path.cwd() / "zoo" / name]
    for place in places:
        if name and place.is_file() and OnnxFile(place).facts() == wanted:
            return place
    raise StratacError(
        f"the model {name or 'of this plan'} is not where it was", hint="say where with --model FILE.onnx"
    )


def compare(
    plan: Path, model: Path | None, peers: Sequence[str], threads: Sequence[int], sizes: Mapping[str, int], rounds: int
) -> dict[str, Any]:
    """Times and agreement at the given sizes and thread counts; a peer that does not run has its `error` instead.

    Raises EnvironmentProblem where stratac itself does not run.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="stratac-bench-") as name:
        work = Path(name)
        archive = work / "inputs.npz"
        np.savez(archive, **random_inputs(plan, sizes, 0))  # type: ignore[arg-type]
        sources, failed = _sources(model, peers, sizes, work)
        for count in threads:
            try:
                rows.append(_at({"stratac": plan, **sources}, failed, count, sizes, archive, rounds, work))
            except PeerError as error:
                raise EnvironmentProblem(str(error)) from error
    return {"sizes": dict(sizes), "rounds": rounds, "threads": rows}


def _sources(
    model: Path | None, peers: Sequence[str], sizes: Mapping[str, int], work: Path
) -> tuple[dict[str, Path], dict[str, str]]:
    """What each peer opens, and the word of those for which it could not be made."""
    found: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for system in peers:
        assert model is not None
        found[system] = model
        if system == "iree":
            found[system] = work / "model.vmfb"
            dims = [f"--dim={name}={size}" for name, size in sizes.items()]
            command = [sys.executable, "-m", "stratac.compiler.iree_build", str(model), "-o", str(found[system]), *dims]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                failed[system] = (done.stderr.strip().splitlines() or ["iree_build failed"])[-1]
    return {name: path for name, path in found.items() if name not in failed}, failed


def _at(
    sources: Mapping[str, Path],
    failed: Mapping[str, str],
    threads: int,
    sizes: Mapping[str, int],
    archive: Path,
    rounds: int,
    work: Path,
) -> dict[str, Any]:
    opened: dict[tuple[str, int], Peer] = {}
    failed = dict(failed)
    results = {}
    try:
        for system, source in sources.items():
            try:
                peer = opened[system, threads] = Peer(system, threads)
                peer.set_inputs(archive)
                peer.open(source, sizes)
                saved = work / f"{system}-{threads}.npz"
                peer.run(saved)
            except PeerError as error:
                if system == "stratac":
                    raise
                failed[system] = str(error)
                if (system, threads) in opened:
                    opened.pop((system, threads)).close()
                continue
            with np.load(saved) as file:
                results[system] = [file[f"o{i}"] for i in range(len(file.files))]
        taken = take_turns(opened, rounds)
    finally:
        for peer in opened.values():
            peer.close()
    ours = taken["stratac", threads]
    row: dict[str, Any] = {"threads": threads, "stratac": statistics.median(ours), "peers": {}}
    for system in [name for name in results if name != "stratac"]:
        theirs = taken[system, threads]
        pairs = zip(results["stratac"], results[system], strict=True)
        row["peers"][system] = {
            "seconds": statistics.median(theirs),
            "ratio": statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
            "error": max((relative_error(a, b) for a, b in pairs), default=0.0),
        }
    row["failed"] = failed
    return row


def bench_text(found: Mapping[str, Any]) -> str:
    """The comparison as a table."""
    sizes = ", ".join(f"{k}={v}" for k, v in found["sizes"].items())
    lines = [f"medians of {found['rounds']} turns{f' at {sizes}' if sizes else ''}; ratio above 1: stratac is faster"]
    cells = []
    for row in found["threads"]:
        cells.append((str(row["threads"]), "stratac", time_text(row["stratac"]), "", ""))
        for name, peer in row["peers"].items():
            error = f"{peer['error']:.1e}"
            cells.append((str(row["threads"]), name, time_text(peer["seconds"]), f"{peer['ratio']:.2f}x", error))
        for name, reason in row["failed"].items():
            cells.append((str(row["threads"]), name, f"failed: {reason.splitlines()[0]}", "", ""))
    return "\n".join(
        [*lines, *table(cells, ("threads", "system", "time", "ratio", "relative L2"), frozenset({0, 2, 3, 4}))]
    )


def check_peers(peers: Sequence[str]) -> None:
    """Raise StratacError for a peer nobody knows."""
    unknown = [p for p in peers if p not in SYSTEMS or p == "stratac"]
    if unknown:
        known = ", ".join(s for s in SYSTEMS if s != "stratac")
        raise StratacError(f"no peer {unknown[0]!r}", hint=f"peers: {known}")


def threads_of(text: str, plan: Path) -> list[int]:
    """`1,2`, or the planned count."""
    if not text:
        return [int(read_manifest(plan, parts=False)["threads"])]
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise StratacError(f"--threads {text!r} is not understood", hint="write 1 or 1,2,4")
    return counts
