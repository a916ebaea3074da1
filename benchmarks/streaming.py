"""Models larger than their memory: plans that keep weights in storage, beside the same plan through mmap, onnxruntime and the disk.

    python -m benchmarks.streaming [--model gpt2_xl] [--budgets 1.5GiB,600MiB | --ratios 4,10,25] [--rounds 3] [--threads 2]
                                   [--seq 128] [--throughput gpt2_small | --throughput ''] [-o FILE]

A complete run is written to benchmarks/results/streaming-ISA.json; one with other models or budgets only prints, unless -o
names a file.
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
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stratac.compiler.options import parse_size, size_text
from stratac.compiler.peer import Peer
from stratac.ir.plan import Plan
from stratac.ir.plan_binary import decode

from . import large
from .cold import drop_cache, read_sequentially
from .confined import KERNEL_BYTES, SYSTEMS, Confined, confined, group_reason
from .exact import distance, outputs_in
from .machine_facts import isa, machine_facts, versions
from .subjects import RESULTS, say

MIB = 1 << 20
RATIOS = (4.0, 10.0, 25.0)
RUNS = 2  # counted runs of a turn
LARGE_ROUNDS = 5  # of the row with a large batch, whose turns are one run each
METHOD = (
    "Each system holds the model in a process of its own, alone in a memory control group whose limit is the budget plus "
    "what the process holds with its imports and inputs, plus its outputs and {kernel} MiB for page tables and the like; "
    "page cache counts against it. They take turns in rotating order: before a system opens its files, and before each "
    "turn, the system's cache is emptied of the file it reads; a turn is one uncounted run, then {runs} in a row; its "
    "figure is their median. The disk's bandwidth of a round is that of reading the same bytes of weights.bin in order "
    "with direct I/O, the same request size and depth. Compute is one run of the same model's plan with all weights in "
    "memory, no limit. Figures are medians over {rounds} rounds, for the large batch over {large} whose turns are one run "
    "each. `onnxruntime, mapped` runs without prepacking, so that weights stay pages of the model's file."
)


@dataclass(frozen=True)
class Settings:
    threads: int
    rounds: int
    work: Path  # plans and arrays of this run


def compile_plan(model: Path, plan: Path, dims: dict[str, int], threads: int, budget: int | None) -> dict[str, Any]:
    """What `stratac compile --json` says. Raises RuntimeError with its message."""
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
    command += [f"--dim={name}={size}" for name, size in dims.items()] + [f"--threads={threads}"]
    command += [f"--budget=ram={budget}"] if budget is not None else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[0] if done.stderr.strip() else f"code {done.returncode}")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def read_plan(folder: Path) -> Plan:
    return decode((folder / "plan.bin").read_bytes())


def floor_of(folder: Path) -> int:
    return int(json.loads((folder / "manifest.json").read_text())["memory"]["process_floor"])


def resident_run(model: Path, plan: Path, inputs: Path, settings: Settings) -> dict[str, Any]:
    """Compute time of the plan without a budget, and the fingerprint of its outputs, which every other plan must give. Beside it
    onnxruntime without a limit: its time, and how far apart the two are.
    """
    files = {system: settings.work / f"{system}.npz" for system in ("stratac", "onnxruntime")}
    found: dict[str, Any] = {}
    for system, path in files.items():
        with Peer(system, settings.threads) as peer:
            peer.set_inputs(inputs)
            opened = peer.open(plan if system == "stratac" else model)
            peer.run(path)
            fingerprint = peer.fingerprint()
            seconds = statistics.median(peer.turn(0.0, max(settings.rounds, 3)))
            found[system] = {"seconds": seconds, "open_seconds": opened, "fingerprint": fingerprint}
            if system == "stratac":
                found[system]["predicted_seconds"] = peer.facts()["predicted_seconds"]
    with np.load(files["stratac"]) as outputs:
        output_bytes = int(sum(outputs[name].nbytes for name in outputs.files))
    error = distance(outputs_in(files["stratac"]), outputs_in(files["onnxruntime"]))[0]
    for path in files.values():
        path.unlink()
    return {**found["stratac"], "output_bytes": output_bytes, "rel_l2": error, "onnxruntime": found["onnxruntime"]}


def measure_budget(
    model: Path,
    budget: int,
    resident: dict[str, Any],
    inputs: Path,
    dims: dict[str, int],
    settings: Settings,
) -> dict[str, Any]:
    """One row: a plan within a budget beside its peers."""
    plan = settings.work / "streamed.plan"
    row: dict[str, Any] = {"budget": budget}
    try:
        row["compile"] = compile_plan(model, plan, dims, settings.threads, budget)
    except RuntimeError as error:
        return {**row, "error": str(error)}
    read = read_plan(plan)
    output_bytes = resident["output_bytes"]
    weights = plan / "weights.bin"
    row |= {"streamed_bytes": sum(r.bytes for r in read.reads), "resident_bytes": read.resident_bytes}
    row |= {"reads": len(read.reads), "predicted_seconds": read.seconds, "no_limit": group_reason()}
    files = {"streamed": weights, "mmap": weights, "onnxruntime": model.with_name(f"{model.name}.data")}
    files["onnxruntime, mapped"] = files["onnxruntime"]
    taken: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    bandwidths: list[float] = []
    systems: dict[str, Any] = {}
    with ExitStack() as stack:
        rows = {n: stack.enter_context(confined(n, settings.threads, not row["no_limit"])) for n in SYSTEMS}
        for name, one in rows.items():
            say(f"    opening {name}")
            drop_cache(files[name])  # pages that others left there would be mapped without being charged to this group
            one.open(plan if SYSTEMS[name][0] == "stratac" else model, inputs, budget, output_bytes)
            one.attempt(one.peer.run)
            fingerprint = one.attempt(one.peer.fingerprint)
            systems[name] = (
                {"same_bits": fingerprint == resident["fingerprint"]} if SYSTEMS[name][0] == "stratac" else {}
            )
        order = [*SYSTEMS, "disk"]
        for number in range(settings.rounds):
            say(f"    round {number + 1} of {settings.rounds}")
            for name in order[number % len(order) :] + order[: number % len(order)]:
                if name == "disk":
                    drop_cache(weights)
                    start, length = (read.resident_bytes, row["streamed_bytes"]) if read.reads else (0, None)
                    bandwidths.append(read_sequentially(weights, start, length).bandwidth)
                elif not rows[name].outcome:
                    drop_cache(files[name])
                    turn = rows[name].attempt(lambda one=rows[name]: one.peer.turn(0.0, RUNS))  # type: ignore[misc]
                    taken[name] += [statistics.median(turn)] if turn else []
        for name, one in rows.items():
            systems[name] |= {"rounds": taken[name], "outcome": one.outcome or "ran", "open_seconds": one.open_seconds}
            if taken[name] and not one.outcome:
                systems[name] |= {"seconds": statistics.median(taken[name]), "memory": _memory(one, output_bytes, plan)}
                systems[name] |= {"facts": one.peer.facts()}
            if one.group is not None:
                systems[name] |= {"limit": one.allowed}
    shutil.rmtree(plan)
    return {**row, "systems": systems, "disk": _disk(row, bandwidths, taken["streamed"], resident["seconds"])}


def _memory(one: Confined, output_bytes: int, plan: Path) -> dict[str, Any]:
    """Predicted and measured bytes beside imports, inputs and outputs: as the process and as its group count them."""
    held = one.peer.held()
    found: dict[str, Any] = {"measured": max(held.resident, held.peak) - held.outputs}
    if SYSTEMS[one.name][0] == "stratac":
        found["predicted"] = one.peer.facts()["planned_bytes"] + floor_of(plan)
    peak = one.group.peak() if one.group is not None else None
    if peak is not None:
        found["group_peak"] = peak - one.base - output_bytes
    return found


def _disk(row: dict[str, Any], bandwidths: list[float], streamed: list[float], compute: float) -> dict[str, Any]:
    """The measured bandwidth, and the step time over what it or the arithmetic would allow at best."""
    pairs = zip(streamed, bandwidths, strict=False)
    ratios = [seconds / max(row["streamed_bytes"] / bandwidth, compute) for seconds, bandwidth in pairs]
    median = statistics.median(ratios) if ratios else None
    return {
        "bandwidth": statistics.median(bandwidths),
        "rounds": bandwidths,
        "over_best": median,
        "over_best_rounds": ratios,
    }


def throughput(name: str, settings: Settings, batch: int = 64, seq: int = 128) -> dict[str, Any]:
    """A large batch: what the streamed plan keeps of the resident plan's throughput, a quarter of the weights in memory."""
    model, dims = large.LARGE[name], {"batch": batch, "seq": seq}
    path = large.export(name)
    row: dict[str, Any] = {"model": name, "dims": dims, "gflops": model.gflops(batch, seq)}
    inputs = _save_inputs(model, dims, settings)
    plans = {kind: settings.work / f"{kind}.plan" for kind in ("resident", "streamed")}
    try:
        whole = compile_plan(path, plans["resident"], dims, settings.threads, None)
        weights = (plans["resident"] / "weights.bin").stat().st_size
        budget = whole["peak_bytes"] + floor_of(plans["resident"]) - weights * 3 // 4
        row |= {"budget": budget, "compile": compile_plan(path, plans["streamed"], dims, settings.threads, budget)}
    except RuntimeError as error:
        return {**row, "error": str(error)}
    read = read_plan(plans["streamed"])
    row |= {"streamed_bytes": sum(r.bytes for r in read.reads), "predicted_seconds": read.seconds}
    with ExitStack() as stack:
        peers = {kind: stack.enter_context(Peer("stratac", settings.threads)) for kind in plans}
        for kind, peer in peers.items():
            peer.set_inputs(inputs)
            peer.open(plans[kind])
            peer.run()
        row["io"] = peers["streamed"].facts()["io"]
        rounds: dict[str, list[float]] = {kind: [] for kind in plans}
        for number in range(max(settings.rounds, LARGE_ROUNDS)):
            for kind in list(plans)[:: 1 if number % 2 else -1]:
                drop_cache(plans[kind] / "weights.bin")
                rounds[kind].append(peers[kind].run())
    for plan in plans.values():
        shutil.rmtree(plan)
    kept = statistics.median(a / b for a, b in zip(rounds["resident"], rounds["streamed"], strict=True))
    return {**row, "rounds": rounds, "kept": kept}


def _save_inputs(model: large.Decoder, dims: dict[str, int], settings: Settings) -> Path:
    path = settings.work / "inputs.npz"
    np.savez(path, **large.inputs(model, 0, **dims))  # type: ignore[arg-type]
    return path


def run_model(
    name: str, budgets: Sequence[int], ratios: Sequence[float], seq: int, settings: Settings
) -> dict[str, Any]:
    """Every budget of one model."""
    model, dims = large.LARGE[name], {"batch": 1, "seq": seq}
    say(f"{name}: exporting")
    path = large.export(name)
    file_bytes = path.with_name(f"{path.name}.data").stat().st_size
    need, free = 3 * file_bytes, shutil.disk_usage(settings.work).free
    if need > free:
        raise OSError(f"{settings.work} needs room for two plans: {size_text(need)}, it has {size_text(free)}")
    inputs = _save_inputs(model, dims, settings)
    say(f"{name}: compiling with all weights in memory")
    plan = settings.work / "resident.plan"
    compiled = compile_plan(path, plan, dims, settings.threads, None)
    weights = (plan / "weights.bin").stat().st_size
    resident = {"compile": compiled, "weights_bytes": weights, **resident_run(path, plan, inputs, settings)}
    shutil.rmtree(plan)
    say(resident_text(resident))
    rows = []
    for budget in budgets or [int(file_bytes / ratio) for ratio in ratios]:
        say(f"{name}: budget {size_text(budget)}, 1/{file_bytes / budget:.1f} of the model")
        found = measure_budget(path, budget, resident, inputs, dims, settings)
        rows.append({**found, "ratio": file_bytes / budget})
        say(row_text(rows[-1], resident))
    result = {"model": name, "dims": dims, "model_bytes": file_bytes, "gflops": model.gflops(1, seq)}
    return {**result, "resident": resident, "budgets": rows}


def resident_text(resident: dict[str, Any]) -> str:
    theirs = resident["onnxruntime"]["seconds"]
    return (
        f"all weights in memory ({size_text(resident['weights_bytes'])}): {resident['seconds']:.3f} s "
        f"(predicted {resident['predicted_seconds']:.3f}), onnxruntime {theirs:.3f} s, rel L2 {resident['rel_l2']:.1e}"
    )


def row_text(row: dict[str, Any], resident: dict[str, Any]) -> str:
    head = f"budget {size_text(row['budget']):>9} (1/{row['ratio']:.1f})"
    if "error" in row:
        return f"{head}  FAILED: {row['error']}"
    systems, disk = row["systems"], row["disk"]
    ours = systems["streamed"]
    if "seconds" not in ours:
        return f"{head}  streamed plan: {ours['outcome']}"
    seconds, memory = ours["seconds"], ours["memory"]
    best = f"{disk['over_best']:.3f} x max(bytes / {disk['bandwidth'] / 1e9:.2f} GB/s, {resident['seconds']:.2f} s)"
    lines = [
        f"{head}  streams {size_text(row['streamed_bytes'])} in {row['reads']} reads, {ours['facts']['io']}",
        f"  step {seconds:.3f} s (predicted {row['predicted_seconds']:.3f}), "
        f"{row['streamed_bytes'] / seconds / 1e9:.2f} GB/s: {best}; bits {'equal' if ours['same_bits'] else 'DIFFER'}",
        f"  memory predicted {memory['predicted'] / MIB:.1f}, measured {memory['measured'] / MIB:.1f}"
        + (f", control group {memory['group_peak'] / MIB:.1f} MiB" if "group_peak" in memory else " MiB")
        + (f"; no limit: {row['no_limit']}" if row["no_limit"] else ""),
    ]
    for name, other in systems.items():
        if name != "streamed":
            took = (
                f"{other['seconds']:.3f} s, {other['seconds'] / seconds:.2f} x"
                if "seconds" in other
                else other["outcome"]
            )
            lines.append(f"  {name}: {took}")
    return "\n".join(lines)


def throughput_text(row: dict[str, Any]) -> str:
    head = f"{row['model']} at {row['dims']['batch']} x {row['dims']['seq']} tokens"
    if "error" in row:
        return f"{head}: FAILED: {row['error']}"
    ours, theirs = (statistics.median(row["rounds"][kind]) for kind in ("streamed", "resident"))
    return (
        f"{head}: streamed {ours:.2f} s ({size_text(row['streamed_bytes'])}, {row['io']}), resident {theirs:.2f} s: "
        f"keeps {row['kept']:.1%} of the throughput"
    )


def is_good(result: dict[str, Any]) -> bool:
    """Whether every plan ran, gave the resident plan's bits and kept to its memory."""
    rows = [row["systems"]["streamed"] if "systems" in row else {} for row in result["budgets"]]
    ran = all(row.get("outcome") == "ran" and row["same_bits"] for row in rows)
    kept = ran and all(row["memory"]["measured"] <= row["memory"]["predicted"] for row in rows)
    return kept and "error" not in (result.get("throughput") or {})


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gpt2_xl", choices=list(large.LARGE))
    parser.add_argument("--budgets", default="", help="memory budgets, such as 1.5GiB,600MiB")
    parser.add_argument("--ratios", default="", help="or what part of the model they are (default 4,10,25)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each system (default 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seq", type=int, default=128, help="tokens (default 128)")
    parser.add_argument(
        "--throughput", default="gpt2_small", help="model of the row at 64 x 128 tokens; '' leaves it out"
    )
    parser.add_argument("--work", type=Path, help="folder for plans (default: beside the models)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of the results")
    arguments = parser.parse_args(argv)
    budgets = [parse_size(word) for word in arguments.budgets.split(",") if word]
    ratios = [float(word) for word in arguments.ratios.split(",") if word] or list(RATIOS)
    output: Path | None = arguments.output
    if (
        output is None
        and arguments.model == "gpt2_xl"
        and not budgets
        and not arguments.ratios
        and arguments.throughput
    ):
        output = RESULTS / f"streaming-{isa()}.json"
    large.DEFAULT_FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".streaming-", dir=arguments.work or large.DEFAULT_FOLDER) as work,
        nullcontext(Settings(arguments.threads, arguments.rounds, Path(work))) as settings,
    ):
        result = run_model(arguments.model, budgets, ratios, arguments.seq, settings)
        if arguments.throughput:
            result["throughput"] = throughput(arguments.throughput, settings)
            say(throughput_text(result["throughput"]))
    result |= {
        "format": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "versions": versions(),
        "threads": arguments.threads,
        "method": METHOD.format(
            rounds=arguments.rounds, runs=RUNS, kernel=KERNEL_BYTES // MIB, large=max(arguments.rounds, LARGE_ROUNDS)
        ),
    }
    print(resident_text(result["resident"]))
    for row in result["budgets"]:
        print(row_text(row, result["resident"]))
    if "throughput" in result:
        print(throughput_text(result["throughput"]))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n")
        say(f"written to {output}")
    return 0 if is_good(result) else 1


if __name__ == "__main__":
    sys.exit(main())
