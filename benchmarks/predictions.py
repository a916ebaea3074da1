"""Predicted against measured: time and memory of every model of the zoo, compiled for exactly the shape that is run.

    python -m benchmarks.predictions [--models NAMES] [--quick] [--resident] [--target native] [--threads 1,2] [-o FILE]

For each model, two shapes and each thread count, with all weights in memory and with half of them streamed: predicted seconds
beside the median of its runs in a process of
its own, and the memory it promises beside what that process took. The models in front were at hand while the cost model was
made; the held-out ones were not. A complete run is written to benchmarks/results/predictions-ISA.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from stratac.compiler.artifact import PROCESS_FLOOR
from stratac.compiler.driver import compile_model, lower_model
from stratac.compiler.options import CompileOptions, default_cache, environment_cc
from stratac.compiler.peer import Peer, PeerError
from stratac.compiler.profiles import load_machine
from stratac.ir.dims import Bounds
from stratac.ir.plan import REQUEST_BYTES, REQUEST_DEPTH
from stratac.ir.plan_binary import decode, read_header
from stratac.passes.place.cost import read_bandwidth
from stratac.passes.schedule.simulate import simulate_plan
from stratac.runtime.manifest import PLAN, WEIGHTS

from .cold import read_sequentially
from .machine_facts import busy_seconds, isa, machine_facts, versions
from .memory import MIB, prove
from .reference import Reference
from .subjects import RESULTS, exported, greatest_of, shapes_of
from .zoo import HELDOUT, ZOO, Dims, inputs, row

ROUNDS, TURN_SECONDS, TURN_RUNS = 3, 0.4, 3
QUIET, MORE_ROUNDS = 0.95, 6  # least speed of the machine in a round that counts, and rounds that may be repeated
GOALS = {"zoo": (0.10, 0.25), "heldout": (0.12, None)}  # median and 95th percentile of the relative error
METHOD = (
    "Each plan is compiled for one shape (the symbols' typical values) and one thread count, opened in a process of its own and "
    "run in {rounds} rounds, each one uncounted run and then at least 0.4 s and 3 runs; streamed plans have a budget that "
    "leaves room for half of their weights; measured is the median over rounds of the rounds' medians, through the Python "
    "interface, outputs included. Before and after each round multiply-adds in registers run on as many threads; a round in "
    "which they reached less than {quiet:.0%} of the profile's rate, since others computed on the same cores, is repeated, "
    "{more} times in all at most, and then the least disturbed rounds count; `speed` is theirs. The error is predicted / "
    "measured - 1. Memory is what "
    "a fresh process takes after its imports to open the plan and run it three times at the greatest dims, without the "
    "caller's arrays, beside weights, scratch, workspaces and the process floor of the manifest."
)


@dataclass(frozen=True)
class Case:
    """One plan to be made and measured. `budget` is bytes of ram, weights beyond which are streamed; 0: all in memory."""

    model: str
    dims: Dims
    threads: int
    budget: int = 0


@dataclass(frozen=True)
class Outcome:
    """Predicted and measured seconds and bytes of a case. `families` gives (measured, predicted) seconds of all calls of one
    kernel family, `others` the share of CPU time that other processes took meanwhile, `speed` the least of the machine in the
    rounds that count, and `repeated` how many did not. Of a streamed plan, `disk` is the bandwidth of reading its streamed part
    in order, measured between the rounds, and `at_disk` what would be predicted with it instead of the profile's: what is left
    of the error is not the disk's."""

    model: str
    group: str
    dims: Dims
    threads: int
    budget: int
    predicted: float
    measured: float
    rounds: tuple[float, ...]
    memory_predicted: int
    memory_measured: int
    families: dict[str, tuple[float, float]] = field(default_factory=dict)
    others: float = 0.0
    speed: float = 1.0
    repeated: int = 0
    disk: float = 0.0
    at_disk: float = 0.0

    @property
    def error_at_disk(self) -> float:
        return (self.at_disk or self.predicted) / self.measured - 1.0

    @property
    def error(self) -> float:
        """Above 0: predicted too slow."""
        return self.predicted / self.measured - 1.0

    def __str__(self) -> str:
        dims = ",".join(f"{name}={size}" for name, size in self.dims.items()) + (
            f" ram={self.budget}" if self.budget else ""
        )
        return (
            f"{self.model:<18} {dims:<16} {self.threads}t  predicted {self.predicted * 1e3:9.2f} ms  measured "
            f"{self.measured * 1e3:9.2f} ms  {self.error:+7.1%}   memory {self.memory_predicted / MIB:8.1f} / "
            f"{self.memory_measured / MIB:8.1f} MiB"
            + (f"  disk {self.disk / 1e9:.2f} GB/s, with it {self.error_at_disk:+.1%}" if self.disk else "")
            + (f"  (others took {self.others:.0%})" if self.others > 0.03 else "")
            + (f"  (machine at {self.speed:.0%})" if self.speed < QUIET else "")
        )


def cases_of(names: Iterable[str], threads: Sequence[int], quick: bool) -> list[Case]:
    """Two shapes of each model (`quick`: the typical one), every thread count."""
    found = []
    for name in names:
        for dims in shapes_of(row(name))[: 1 if quick else 2]:
            found += [Case(name, dims, count) for count in threads]
    return found


def streamed(case: Case, target: str) -> Case:
    """The same with a budget of ram that leaves room for half of the weights."""
    levels = lower_model(exported(case.model), _options(case, target))
    budget = PROCESS_FLOOR + levels.plan.peak_bytes() - levels.plan.weights_bytes // 2
    return replace(case, budget=budget)


def compile_case(case: Case, target: str, folder: Path) -> Path:
    """A plan whose typical dims are the case's; least and greatest as in all benchmarks of the model."""
    return compile_model(exported(case.model), folder / f"{case.model}.plan", _options(case, target)).folder


def _options(case: Case, target: str) -> CompileOptions:
    greatest = greatest_of(row(case.model))
    return CompileOptions(
        target=target,
        dims={name: Bounds(1, size, max(greatest[name], size)) for name, size in case.dims.items()},
        threads=case.threads,
        budgets={"ram": case.budget} if case.budget else {},
        cc=environment_cc(),
        cache=default_cache(),
    )


def measure(case: Case, target: str, folder: Path, rounds: int) -> Outcome:
    """Compile and measure one case. Raises PeerError where it does not run."""
    plan = compile_case(case, target, folder)
    archive = folder / "inputs.npz"
    np.savez(archive, **inputs(case.model, 0, **case.dims))  # type: ignore[arg-type]
    reference = Reference(load_machine(target).device("cpu"), case.threads)
    with Peer("stratac", case.threads) as peer:
        peer.set_inputs(archive)
        peer.open(plan)
        facts = peer.facts()
        began = os.times()
        before = peer.cpu_seconds()
        busy = busy_seconds()
        made: list[tuple[float, float]] = []  # speed of the machine and seconds of each round
        disks = []
        while len(made) < rounds + MORE_ROUNDS and sum(speed >= QUIET for speed, _ in made) < rounds:
            speed = reference.speed()
            seconds = statistics.median(peer.turn(TURN_SECONDS, TURN_RUNS))
            made.append((min(speed, reference.speed()), seconds))
            disks += [disk_bandwidth(plan)] if case.budget else []
        counted = sorted(made, key=lambda one: -one[0])[:rounds]
        taken = [seconds for _, seconds in counted]
        passed = (os.times().elapsed - began.elapsed) * (os.cpu_count() or 1)
        others = busy_seconds() - busy - (peer.cpu_seconds() - before) - (sum(os.times()[:2]) - sum(began[:2]))
        families: dict[str, tuple[float, float]] = {}
        for label, seconds, predicted in peer.profile():
            family = label.partition(":")[0]
            sums = families.get(family, (0.0, 0.0))
            families[family] = (sums[0] + seconds, sums[1] + predicted)
    proof = prove(plan, case.threads, inputs(case.model, 0, **greatest_of(row(case.model))))
    return Outcome(
        model=case.model,
        group="zoo" if case.model in ZOO else "heldout",
        dims=case.dims,
        threads=case.threads,
        budget=case.budget,
        predicted=facts["predicted_seconds"],
        measured=statistics.median(taken),
        rounds=tuple(taken),
        memory_predicted=proof.predicted,
        memory_measured=proof.measured,
        families=families,
        others=max(others / passed, 0.0),
        speed=min(speed for speed, _ in counted),
        repeated=len(made) - rounds,
        disk=statistics.median(disks) if disks else 0.0,
        at_disk=predicted_at(plan, target, statistics.median(disks)) if disks else 0.0,
    )


def disk_bandwidth(plan: Path) -> float:
    """Bytes per second of reading the streamed part of weights.bin in order."""
    header = read_header((plan / PLAN).read_bytes())
    length = header["weights_bytes"] - header["resident_bytes"]
    return read_sequentially(plan / WEIGHTS, header["resident_bytes"], length).bandwidth


def predicted_at(plan: Path, target: str, bandwidth: float) -> float:
    """The plan's predicted seconds, had the profile's disk this bandwidth."""
    made = decode((plan / PLAN).read_bytes())
    tier = next(t for t in load_machine(target).tiers if t.kind == "disk")
    scale = read_bandwidth(tier, REQUEST_BYTES, REQUEST_DEPTH) / bandwidth
    queues = tuple(replace(q, reads=tuple(replace(r, seconds=r.seconds * scale) for r in q.reads)) for q in made.queues)
    return made.seconds + simulate_plan(replace(made, queues=queues)).seconds - simulate_plan(made).seconds


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Errors by group and by kernel family."""
    found: dict[str, Any] = {}
    groups = [
        ("zoo", [o for o in outcomes if o.group == "zoo"]),
        ("heldout", [o for o in outcomes if o.group == "heldout"]),
    ]
    groups += [("resident", [o for o in outcomes if not o.budget]), ("streamed", [o for o in outcomes if o.budget])]
    for group, members in groups:
        errors = [abs(o.error) for o in members]
        if errors:
            found[group] = {
                "median_at_disk": float(np.median([abs(o.error_at_disk) for o in members])),
                "p95_at_disk": float(np.quantile([abs(o.error_at_disk) for o in members], 0.95)),
                "cases": len(errors),
                "median": float(np.median(errors)),
                "p95": float(np.quantile(errors, 0.95)),
                "most": max(errors),
            }
    families: dict[str, dict[str, Any]] = {}
    for family in sorted({name for o in outcomes for name in o.families}):
        pairs = [o.families[family] for o in outcomes if family in o.families and o.families[family][0] > 0]
        if pairs:
            measured, predicted = sum(m for m, _ in pairs), sum(p for _, p in pairs)
            errors = [abs(p / m - 1) for m, p in pairs]
            families[family] = {
                "measured": measured,
                "error": predicted / measured - 1,
                "median": float(np.median(errors)),
            }
    found["families"] = families
    kept = [o.memory_measured <= o.memory_predicted for o in outcomes]
    slack = [o.memory_predicted / o.memory_measured - 1 for o in outcomes]
    if kept:
        found["memory"] = {
            "kept": sum(kept),
            "cases": len(kept),
            "median_slack": float(np.median(slack)),
            "most_slack": max(slack),
        }
    return found


def summary_text(found: dict[str, Any]) -> str:
    lines = []
    for group in (*GOALS, "resident", "streamed"):
        if group in found:
            row_ = found[group]
            wanted = ""
            if group in GOALS:
                median, high = GOALS[group]
                wanted = f" (goal: median {median:.0%}" + (f", 95th percentile {high:.0%})" if high else ")")
            lines.append(
                f"{group}: {row_['cases']} cases, median error {row_['median']:.1%}, 95th percentile {row_['p95']:.1%}, "
                f"greatest {row_['most']:.1%}{wanted}"
                + (
                    f"; with the disk as measured between the rounds {row_['median_at_disk']:.1%} and {row_['p95_at_disk']:.1%}"
                    if row_["p95_at_disk"] != row_["p95"]
                    else ""
                )
            )
    for family, row_ in found["families"].items():
        lines.append(
            f"  {family:<10} {row_['measured'] * 1e3:9.1f} ms in all, predicted {row_['error']:+.1%}, median {row_['median']:.1%}"
        )
    if "memory" in found:
        row_ = found["memory"]
        lines.append(
            f"memory: {row_['kept']} of {row_['cases']} promises kept, median slack {row_['median_slack']:.1%}"
        )
    return "\n".join(lines)


def kept(found: dict[str, Any]) -> bool:
    """Whether no plan took more memory than it promised."""
    memory = found.get("memory", {"kept": 0, "cases": 0})
    return bool(memory["kept"] == memory["cases"])


def write(output: Path, target: str, outcomes: Sequence[Outcome], failed: dict[str, str]) -> None:
    """The results so far as JSON."""
    machine = load_machine(target)
    results = {
        "format": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "profile": {"name": machine.name, "source": machine.source},
        "versions": versions(),
        "method": METHOD.format(rounds=ROUNDS, quiet=QUIET, more=MORE_ROUNDS),
        "summary": summary(outcomes),
        "cases": [{**asdict(o), "dims": dict(o.dims), "error": o.error} for o in outcomes],
        "failed": failed,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predictions", description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="", help="names, separated by commas; zoo and heldout name all of a group")
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas (default 1,2)")
    parser.add_argument("--target", default="native", help="the profile that predicts (default native)")
    parser.add_argument("--quick", action="store_true", help="one shape of each model and fewer rounds")
    parser.add_argument("--resident", action="store_true", help="only plans with all weights in memory")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of the results")
    arguments = parser.parse_args(argv)
    groups = {"zoo": list(ZOO), "heldout": list(HELDOUT)}
    names = [n for word in (arguments.models or "zoo,heldout").split(",") for n in groups.get(word, [word])]
    unknown = [name for name in names if name not in ZOO and name not in HELDOUT]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; known: {', '.join([*ZOO, *HELDOUT])}")
    output: Path | None = arguments.output
    if output is None and not (arguments.models or arguments.quick or arguments.resident):
        output = RESULTS / f"predictions-{isa()}.json"
    threads = tuple(int(word) for word in arguments.threads.split(","))
    outcomes, failed = [], {}
    with tempfile.TemporaryDirectory(prefix="stratac-predictions-") as name:
        for case in cases_of(names, threads, arguments.quick):
            try:
                for one in (case,) if arguments.resident else (case, streamed(case, arguments.target)):
                    outcomes.append(measure(one, arguments.target, Path(name), 2 if arguments.quick else ROUNDS))
                    print(outcomes[-1], flush=True)
            except PeerError as error:
                failed[f"{case.model} {dict(case.dims)} {case.threads}"] = str(error)
                print(f"{case.model}: FAILED: {error}", file=sys.stderr, flush=True)
            if output is not None:  # after every case: a run that is stopped has what it measured
                write(output, arguments.target, outcomes, failed)
    found = summary(outcomes)
    print(summary_text(found))
    if output is not None:
        print(f"written to {output}", file=sys.stderr)
    return 0 if kept(found) and not failed else 1  # times are compared, promises are kept


if __name__ == "__main__":
    sys.exit(main())
