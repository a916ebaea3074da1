"""Every model of the zoo, compiled and run beside onnxruntime: time, agreement, memory, sizes.

    python -m benchmarks.models [NAMES...] [--threads 1,2] [--heldout] [--rounds N] [-o FILE]

A complete run is written to benchmarks/results/models-ISA.json (heldout-ISA.json with --heldout), from which
`python -m benchmarks.readme_table` makes the README's table. A run of some models only prints, unless -o names a file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stratac.compiler.peer import SYSTEMS, Peer, PeerError, take_turns

from .machine_facts import busy_seconds, isa, machine_facts, versions
from .memory import MIB, prove, run_at_greatest
from .readme_table import geometric_mean, markdown
from .zoo import HELDOUT, ZOO, Arrays, Dims, ZooModel, folder_of, inputs, row

RESULTS = Path(__file__).resolve().parent / "results"
SEEDS = (0, 1, 2)
QUIET = 0.03  # share of all CPU time that others may take before a row is called disturbed
TOLERANCE = 1e-5  # relative L2 between two fp32 systems; they reach about 2e-6 against each other

METHOD = (
    "stratac and onnxruntime each hold the model in a process of their own, one for each thread count, and take turns: "
    "{rounds} rounds in rotating order; a turn is one uncounted run, then at least 0.3 s and 2 runs; its figure is the "
    "median of its runs. Times are medians over rounds of one inference through the Python interface, outputs included, "
    "inputs fixed; the ratio is the median over rounds of onnxruntime's turn divided by stratac's of the same round. "
    "onnxruntime runs with its defaults (all graph optimizations, CPUExecutionProvider). Outputs are compared in the same "
    "processes over the row's shapes and seeds 0 to 2. Memory is what a fresh process takes after its imports to open "
    "the model and run it three times at the greatest dims, without the caller's arrays. Files are in the page cache."
)


@dataclass(frozen=True)
class Settings:
    threads: tuple[int, ...]
    rounds: int
    work: Path  # plans, caches and arrays of this run


def shapes_of(model: ZooModel) -> list[Dims]:
    return [model.typical, *model.further]


def bounds_of(model: ZooModel) -> dict[str, tuple[int, int, int]]:
    """From 1 over the typical size to the greatest of the row's shapes."""
    return {dim: (1, usual, max(shape[dim] for shape in shapes_of(model))) for dim, usual in model.typical.items()}


def greatest_of(model: ZooModel) -> dict[str, int]:
    return {dim: high for dim, (_, _, high) in bounds_of(model).items()}


def exported(name: str) -> Path:
    """The model's ONNX file, exported in a process of its own where it is absent."""
    path = folder_of(name) / f"{name}.onnx"
    if not path.exists():
        say(f"{name}: exporting")
        command = [sys.executable, "-m", f"{__package__}.zoo", name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).resolve().parent.parent)
    return path


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
    for kind in ("cold", "warm"):
        environment = {**os.environ, "STRATAC_CACHE": str(cache)}
        done = subprocess.run([*command, *dims], check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found[kind] = json.loads(done.stdout)
    shutil.rmtree(cache, ignore_errors=True)
    return plan, found


def save_inputs(name: str, settings: Settings, dims: Dims, seed: int) -> Path:
    path = settings.work / "inputs.npz"
    arrays: Arrays = inputs(name, seed, **dims)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def _outputs(path: Path) -> Iterator[np.ndarray]:
    with np.load(path) as archive:
        for index in range(len(archive.files)):
            yield archive[f"o{index}"]


def distance(got: Path, wanted: Path) -> tuple[float, float]:
    """Relative L2 over all outputs together, and the greatest absolute difference. NaN where shapes differ."""
    square = norm = greatest = 0.0
    for ours, theirs in zip(_outputs(got), _outputs(wanted), strict=True):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return float("nan"), float("nan")
        difference = np.subtract(ours, theirs, dtype=np.float64)
        square += float(np.vdot(difference, difference))
        norm += float(np.sum(np.square(theirs, dtype=np.float64)))
        greatest = max(greatest, float(np.abs(difference).max(initial=0.0)))
    return (square / norm) ** 0.5 if norm else square**0.5, greatest


def same_bits(one: Path, other: Path) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(_outputs(one), _outputs(other), strict=True))


def compare(name: str, peers: dict[tuple[str, int], Peer], settings: Settings) -> dict[str, Any]:
    """Outputs of stratac against onnxruntime over shapes and seeds, and of stratac against itself over thread counts."""
    rows: list[dict[str, Any]] = []
    same = True
    first = settings.threads[0]
    for dims in shapes_of(row(name)):
        worst = [0.0, 0.0]
        for seed in SEEDS:
            archive = save_inputs(name, settings, dims, seed)
            files = {key: settings.work / f"{key[0]}-{key[1]}.npz" for key in peers}
            for key, peer in peers.items():
                if key == ("onnxruntime", first) or key[0] == "stratac":
                    peer.set_inputs(archive)
                    peer.run(files[key])
            found = distance(files["stratac", first], files["onnxruntime", first])
            worst = [float(np.fmax(a, b)) if b == b else float("nan") for a, b in zip(worst, found, strict=True)]
            for threads in settings.threads[1:]:
                same &= same_bits(files["stratac", first], files["stratac", threads])
        rows.append({"dims": dict(dims), "seeds": list(SEEDS), "rel_l2": worst[0], "max_abs": worst[1]})
    return {
        "shapes": rows,
        "rel_l2": max(r["rel_l2"] for r in rows),
        "max_abs": max(r["max_abs"] for r in rows),
        "agrees": all(r["rel_l2"] <= TOLERANCE for r in rows),
        "same_bits_at_all_thread_counts": same,
    }


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


def measure_memory(name: str, model: Path, plan: Path, threads: int) -> dict[str, Any]:
    arrays = inputs(name, 0, **greatest_of(row(name)))
    proof = prove(plan, threads, arrays)
    with Peer("onnxruntime", threads) as peer:
        held = run_at_greatest(peer, model, arrays)
    return {
        "dims": greatest_of(row(name)),
        "planned": proof.planned,
        "process_floor": proof.floor,
        "predicted": proof.predicted,
        "measured": proof.measured,
        "kept": proof.measured <= proof.predicted,
        "arrays": proof.inputs + proof.outputs,
        "onnxruntime_measured": held.resident - held.outputs,
        "onnxruntime_peak": held.peak - held.outputs,
    }


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """Everything about one model. Raises PeerError where a system fails."""
    model = exported(name)
    say(f"{name}: compiling")
    plan, compiled = compile_twice(name, model, settings)
    result: dict[str, Any] = {"name": name, "dims": dict(row(name).typical), "gflops": row(name).gflops}
    result["bounds"] = {dim: list(values) for dim, values in bounds_of(row(name)).items()}
    result["compile"] = compiled
    with ExitStack() as stack:
        keys = [(system, threads) for threads in settings.threads for system in SYSTEMS]
        peers = {key: stack.enter_context(Peer(*key)) for key in keys}
        typical = save_inputs(name, settings, row(name).typical, 0)
        opened: dict[tuple[str, int], dict[str, Any]] = {}
        for key, peer in peers.items():
            peer.set_inputs(typical)
            seconds = peer.open(plan if key[0] == "stratac" else model)
            opened[key] = {"open_seconds": seconds, "first_run_seconds": peer.run(), **peer.facts()}
        say(f"{name}: comparing outputs")
        result["agreement"] = compare(name, peers, settings)
        say(f"{name}: taking turns")
        typical = save_inputs(name, settings, row(name).typical, 0)
        for peer in peers.values():
            peer.set_inputs(typical)
        others = Others(peers.values())
        taken = take_turns(peers, settings.rounds)
        result["cpu_share_of_others"] = others.share()
    result["threads"] = {}
    for threads in settings.threads:
        say(f"{name}: memory at {threads} thread{'s' if threads > 1 else ''}")
        entry: dict[str, Any] = {}
        for system in SYSTEMS:
            rounds = taken[system, threads]
            entry[system] = {"seconds": statistics.median(rounds), "rounds": rounds, **opened[system, threads]}
        pairs = zip(taken["onnxruntime", threads], taken["stratac", threads], strict=True)
        entry["ratios"] = [theirs / ours for theirs, ours in pairs]
        entry["ratio"] = statistics.median(entry["ratios"])
        entry["memory"] = measure_memory(name, model, plan, threads)
        result["threads"][str(threads)] = entry
    result["bytes"] = {
        "library": (plan / "libplan.so").stat().st_size,
        "weights": (plan / "weights.bin").stat().st_size,
        "plan": (plan / "plan.bin").stat().st_size,
        "onnx": sum(p.stat().st_size for p in (model, *model.parent.glob(f"{model.name}.data"))),
    }
    shutil.rmtree(plan)
    return result


def one_line(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"{result['name']:<18} FAILED: {result['error']}"
    parts = [f"{result['name']:<18}"]
    for threads, entry in result["threads"].items():
        ours, theirs = entry["stratac"]["seconds"] * 1e3, entry["onnxruntime"]["seconds"] * 1e3
        parts.append(f"{threads}t {ours:8.2f} ms, onnxruntime {theirs:8.2f} ms: {entry['ratio']:.2f}x  ")
    last = list(result["threads"].values())[-1]["memory"]
    agreement = result["agreement"]
    parts.append(f"rel L2 {agreement['rel_l2']:.1e}{'' if agreement['agrees'] else ' DIFFERS'}")
    parts.append("" if agreement["same_bits_at_all_thread_counts"] else "BITS DEPEND ON THREADS")
    parts.append(f" memory {last['predicted'] / MIB:.0f} predicted, {last['measured'] / MIB:.0f} measured MiB")
    parts.append("" if last["kept"] else "MORE THAN PREDICTED")
    disturbed = result["cpu_share_of_others"]
    parts.append(f"(DISTURBED: others took {disturbed:.0%} of the CPUs)" if disturbed > QUIET else "")
    return " ".join(part for part in parts if part)


def is_good(result: dict[str, Any]) -> bool:
    """Whether a model ran, agreed, kept its memory and its bits."""
    return (
        "error" not in result
        and result["agreement"]["agrees"]
        and result["agreement"]["same_bits_at_all_thread_counts"]
        and all(entry["memory"]["kept"] for entry in result["threads"].values())
    )


def run(names: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Measure the named models; a model that fails becomes a row with `error`."""
    load_before = os.getloadavg()[0]
    rows = []
    for name in names:
        try:
            rows.append(measure(name, settings))
        except (PeerError, subprocess.CalledProcessError, OSError) as error:
            rows.append({"name": name, "error": str(error)})
        say(one_line(rows[-1]))
    done = [r for r in rows if "error" not in r]
    means = {
        str(threads): geometric_mean([r["threads"][str(threads)]["ratio"] for r in done])
        for threads in settings.threads
    }
    return {
        "format": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "load_average_before": load_before,
        "versions": {**versions(), "cc": done[0]["compile"]["cold"]["compiler"] if done else "none"},
        "method": METHOD.format(rounds=settings.rounds),
        "threads": list(settings.threads),
        "geometric_means": means,
        "models": rows,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ZOO))
    parser.add_argument("--heldout", action="store_true", help=f"the held-out models: {', '.join(HELDOUT)}")
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas (default 1,2)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each system (default 7)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of the results")
    arguments = parser.parse_args(argv)
    group = HELDOUT if arguments.heldout else ZOO
    unknown = [name for name in arguments.names if name not in ZOO and name not in HELDOUT]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; known: {', '.join([*ZOO, *HELDOUT])}")
    output: Path | None = arguments.output
    if output is None and not arguments.names:
        output = RESULTS / f"{'heldout' if arguments.heldout else 'models'}-{isa()}.json"
    threads = tuple(int(word) for word in arguments.threads.split(","))
    with tempfile.TemporaryDirectory(prefix="stratac-models-") as work:
        results = run(arguments.names or list(group), Settings(threads, arguments.rounds, Path(work)))
    print(markdown(results))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=1) + "\n")
        say(f"written to {output}")
    return 0 if all(is_good(result) for result in results["models"]) else 1


if __name__ == "__main__":
    sys.exit(main())
