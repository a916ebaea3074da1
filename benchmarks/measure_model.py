"""Everything that is measured about one model in one mode: stratac's plan beside its peers, in turns."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stratac.compiler.peer import Peer, PeerError, take_turns

from .artifacts import Artifact, artifact, default_folder
from .exact import Case, errors, same_bits
from .machine_facts import busy_seconds
from .memory import prove, run_at_greatest
from .modes import TORCH_SYSTEMS, Mode, target_of
from .subjects import bounds_of, exported, greatest_of, say, shapes_of
from .zoo import Dims, inputs, row

SEEDS = (0, 1, 2)
OPENINGS = 3  # fresh processes in which opening and the first run are timed
Key = tuple[str, int]


@dataclass(frozen=True)
class Settings:
    mode: Mode
    systems: tuple[str, ...]  # the peers, in order
    threads: tuple[int, ...]
    rounds: int
    work: Path  # plans, caches and arrays of this run
    same: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # rows that hold if the plan is the same


def compile_twice(name: str, model: Path, settings: Settings) -> tuple[Path, dict[str, Any]]:
    """Compile with an empty object cache and again with a full one, each in a fresh process."""
    plan, cache = settings.work / f"{name}.plan", settings.work / f"{name}.cache"
    found: dict[str, Any] = {}
    dims = [f"--dim={dim}={low}:{usual}:{high}" for dim, (low, usual, high) in bounds_of(row(name)).items()]
    command = [
        sys.executable,
        "-m",
        "stratac.compiler.cli",
        "compile",
        str(model),
        "-o",
        str(plan),
        "--quiet",
        "--json",
    ]
    command += [*dims, "--target", target_of(settings.mode, settings.work), *settings.mode.options]
    for kind in ("cold", "warm"):
        environment = {**os.environ, "STRATAC_CACHE": str(cache)}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found[kind] = json.loads(done.stdout)
    shutil.rmtree(cache, ignore_errors=True)
    return plan, found


def plan_digest(plan: Path) -> str:
    """Of what a plan runs: its instructions, its code and its weights."""
    digest = hashlib.sha256()
    for part in ("plan.bin", "libplan.so", "weights.bin"):
        with open(plan / part, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def save_inputs(name: str, path: Path, dims: Dims, seed: int) -> Path:
    np.savez(path, **inputs(name, seed, **dims))  # type: ignore[arg-type]
    return path


class Others:
    """The share of all CPU time that others took (programs beside the peers and this one, or the hypervisor)."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self.peers = tuple(peers)
        self.started, self.busy, self.own = time.perf_counter(), busy_seconds(), self._own()

    def _own(self) -> float:
        return time.process_time() + sum(peer.cpu_seconds() for peer in self.peers)

    def share(self) -> float:
        passed = (time.perf_counter() - self.started) * (os.cpu_count() or 1)
        return max(0.0, busy_seconds() - self.busy - (self._own() - self.own)) / passed


@dataclass
class Group:
    """The systems of one comparison: those that run, and the word of those that do not."""

    peers: dict[Key, Peer]
    opened: dict[Key, dict[str, Any]]
    failed: dict[Key, str]


def in_page_cache(path: Path) -> None:
    """Read a file or a folder's files once, so that nobody's opening waits for the disk."""
    for part in sorted(path.rglob("*")) if path.is_dir() else (path, *path.parent.glob(f"{path.name}.data")):
        if part.is_file():
            with open(part, "rb") as file:
                while file.read(1 << 24):
                    pass


def open_often(
    system: str, threads: int, path: Path, dims: Dims, archive: Path, environment: Mapping[str, str]
) -> tuple[Peer, list[tuple[float, float]]]:
    """A peer that was opened and run once, and the seconds of both in several fresh processes, of which it is the last.

    The systems of torch, whose opening or first run compiles, are opened once.
    """
    maker = TORCH_SYSTEMS.get(system, "")
    taken: list[tuple[float, float]] = []
    while True:
        peer = Peer(system, threads, maker=maker, environment=environment)
        try:
            peer.set_inputs(archive)
            taken.append((peer.open(path, dims), peer.run()))
        except PeerError:
            peer.close()
            raise
        if maker or len(taken) == OPENINGS:
            return peer, taken
        peer.close()


def open_all(name: str, model: Path, plan: Path, settings: Settings, stack: ExitStack) -> Group:
    """Start, open and run once every system at every thread count."""
    group = Group({}, {}, {})
    folder = default_folder(settings.work)
    typical = save_inputs(name, settings.work / "typical.npz", row(name).typical, 0)
    for threads in settings.threads:
        for system in ("stratac", *settings.systems):
            key = (system, threads)
            try:
                source = Artifact(plan, 0.0, 0)
                if system != "stratac":
                    say(f"{name}: {system} at {threads}")
                    source = artifact(system, name, model, threads, settings.mode.mask, folder)
                in_page_cache(source.path)
                environment = {
                    "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
                    **dict(settings.mode.mask.environment),
                }
                peer, openings = open_often(system, threads, source.path, row(name).typical, typical, environment)
                stack.callback(peer.close)
                group.opened[key] = {"openings": openings, **peer.facts()}
                if source.seconds:
                    group.opened[key] |= {"compile_seconds": source.seconds, "artifact_bytes": source.bytes}
                group.peers[key] = peer
            except PeerError as error:
                if system == "stratac":
                    raise
                group.failed[key] = str(error).splitlines()[0]
                say(f"{name}: {system} at {threads} failed: {group.failed[key]}")
    return group


def turns(name: str, group: Group, rounds: int) -> dict[Key, list[float]]:
    """Seconds of one run, by system and round. A peer whose process ends is moved to the failed ones, and the rest start anew."""
    while True:
        try:
            return take_turns(group.peers, rounds)
        except PeerError as error:
            ended = [key for key, peer in group.peers.items() if peer.ended()]
            if not ended or any(system == "stratac" for system, _ in ended):
                raise
            say(f"{name}: {error}")
            for key in ended:
                group.peers.pop(key).close()
                group.failed[key] = str(error)


def accuracy(name: str, model: Path, group: Group, work: Path, thread_counts: Sequence[int]) -> dict[str, Any]:
    """Errors against float64 over the row's shapes and seeds, and whether ours has the same bits at all thread counts.

    At the typical dims of every system; at the others of stratac and of onnxruntime with open shapes. `work` is an empty folder.
    """
    first = thread_counts[0]
    same = True
    cases: list[tuple[int, Case]] = []
    shapes = shapes_of(row(name))
    ours = {threads: group.peers["stratac", threads] for threads in thread_counts}
    with Peer("onnxruntime", max(thread_counts)) as reference:
        reference.open(model)
        for number, dims in enumerate(shapes):
            for seed in SEEDS:
                archive = save_inputs(name, work / f"inputs-{number}-{seed}.npz", dims, seed)
                running = {"stratac": ours[first], "onnxruntime": reference}
                if number == 0:
                    running |= {
                        s: p for (s, threads), p in group.peers.items() if threads == first and s not in running
                    }
                files = {}
                for system, peer in running.items():
                    files[system] = work / f"{system}-{number}-{seed}.npz"
                    peer.set_inputs(archive)
                    try:
                        peer.run(files[system])
                    except PeerError:
                        if system in ("stratac", "onnxruntime"):
                            raise
                        del files[system]
                for threads in thread_counts[1:]:
                    other = work / "other.npz"
                    ours[threads].set_inputs(archive)
                    ours[threads].run(other)
                    same &= same_bits(files["stratac"], other)
                cases.append((number, Case(archive, files)))
    say(f"{name}: evaluating in float64")
    found = errors(name, [case for _, case in cases], work)
    rows = []
    for number, dims in enumerate(shapes):
        here = [pairs for (at, _), pairs in zip(cases, found, strict=True) if at == number]
        rows.append({"dims": dict(dims), "seeds": list(SEEDS), "rel_l2": _worst(here, 0), "max_abs": _worst(here, 1)})
    return {"shapes": rows, "same_bits_at_all_thread_counts": same}


def _worst(cases: Sequence[Mapping[str, tuple[float, float]]], part: int) -> dict[str, float]:
    always = [label for label in cases[0] if all(label in case for case in cases)]
    return {label: float(np.max([case[label][part] for case in cases])) for label in always}


def measure_memory(name: str, model: Path, plan: Path, threads: int, settings: Settings) -> dict[str, Any]:
    """At the greatest dims, in fresh processes: what ours took beside its prediction, and the peak RSS of those without torch.

    Neither counts the caller's outputs. `predicted` and `measured` are beside what a process holds before it opens the plan; the
    peaks are whole processes, Python and inputs included, each with its shape fixed where the system can.
    """
    dims = greatest_of(row(name))
    arrays = inputs(name, 0, **dims)
    proof = prove(plan, threads, arrays)
    peaks = {"stratac": proof.base + proof.measured}
    for system in (s for s in settings.systems if s.startswith(("onnxruntime", "openvino"))):
        try:
            with Peer(system, threads, environment=dict(settings.mode.mask.environment)) as peer:
                held = run_at_greatest(peer, model, arrays, dims)
            peaks[system] = held.base + held.peak - held.outputs
        except PeerError as error:
            say(f"{name}: {system} at its greatest dims: {error}")
    return {
        "dims": dims,
        "planned": proof.planned,
        "process_floor": proof.floor,
        "predicted": proof.predicted,
        "measured": proof.measured,
        "kept": proof.measured <= proof.predicted,
        "arrays": proof.inputs + proof.outputs,
        "peaks": peaks,
    }


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """Everything about one model. Raises PeerError where stratac fails; peers that fail are named with their reason."""
    model = exported(name)
    say(f"{name}: compiling")
    plan, compiled = compile_twice(name, model, settings)
    digest = plan_digest(plan)
    if settings.same.get(name, {}).get("plan_digest") == digest:
        shutil.rmtree(plan)
        return {**settings.same[name], "compile": compiled}
    result: dict[str, Any] = {"name": name, "dims": dict(row(name).typical), "gflops": row(name).gflops}
    result["bounds"] = {dim: list(values) for dim, values in bounds_of(row(name)).items()}
    result |= {"compile": compiled, "plan_digest": digest}
    with ExitStack() as stack:
        group = open_all(name, model, plan, settings, stack)
        say(f"{name}: taking turns")
        others = Others(group.peers.values())
        taken = turns(name, group, settings.rounds)
        result["cpu_share_of_others"] = others.share()
        held = {key: peer.held() for key, peer in group.peers.items()}
        with tempfile.TemporaryDirectory(dir=settings.work) as outputs:
            result["accuracy"] = accuracy(name, model, group, Path(outputs), settings.threads)
    result["threads"] = {}
    for threads in settings.threads:
        say(f"{name}: memory at {threads} thread{'s' if threads > 1 else ''}")
        systems: dict[str, Any] = {}
        for system in ("stratac", *settings.systems):
            key = (system, threads)
            if key in group.failed:
                systems[system] = {"error": group.failed[key]}
                continue
            rounds, memory = taken[key], held[key]
            systems[system] = {"seconds": statistics.median(rounds), "rounds": rounds, **group.opened[key]}
            systems[system] |= {"peak_bytes": memory.base + memory.peak, "base_bytes": memory.base}
        result["threads"][str(threads)] = {
            "systems": systems,
            "memory": measure_memory(name, model, plan, threads, settings),
        }
    result["bytes"] = {
        "library": (plan / "libplan.so").stat().st_size,
        "weights": (plan / "weights.bin").stat().st_size,
        "plan": (plan / "plan.bin").stat().st_size,
        "onnx": sum(p.stat().st_size for p in (model, *model.parent.glob(f"{model.name}.data"))),
    }
    shutil.rmtree(plan)
    return result
