"""What memory is worth: predicted time of a model over budgets from infeasible to roomy, and measured points on that line.

    python -m benchmarks.sweep zoo/gpt2_masked.onnx --dim batch=1 --dim seq=1:64:128

writes docs/budget-sweep.svg and docs/budget-sweep.json. Each point is a placement of its own by the compiler's own passes; a
measured one is compiled, opened and run here, the median of its runs after the first. Direct reads pass this machine's page
cache by; the host of a virtual disk may still keep in its memory what is read again and again, and then a small model streams
faster than the cold disk of the profile.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stratac.compiler.checks import random_inputs, read_plan
from stratac.compiler.driver import compile_model, lower_model
from stratac.compiler.options import CompileOptions, default_cache, environment_cc, parse_dim, size_text
from stratac.compiler.profiles import load_machine
from stratac.compiler.report.words import table, time_text
from stratac.passes.place.infeasible import Infeasible
from stratac.runtime.session import load

from .sweep_chart import chart

ROOT = Path(__file__).resolve().parents[1]
#: seconds and runs that a measured point takes at least
MEASURE_S, RUNS = 3.0, 7


def smallest_budget(model: Path, options: CompileOptions) -> int:
    """The least ram any plan takes: what the refusal of one byte says."""
    try:
        lower_model(model, replace(options, budgets={"ram": 1}))
    except Infeasible as error:
        return error.smallest_budget
    raise AssertionError("a plan in one byte")


def predicted(model: Path, options: CompileOptions, budget: int) -> dict[str, Any]:
    """One placement; `seconds` is None where there is none."""
    try:
        levels = lower_model(model, replace(options, budgets={"ram": budget}))
    except Infeasible as error:
        return {"budget": budget, "seconds": None, "short": error.short_bytes}
    solution = levels.placed.solution
    assert solution is not None
    return {
        "budget": budget,
        "seconds": levels.plan.seconds,
        "lower_bound": solution.lower_bound,
        "used": solution.used["ram"],
        "read_bytes": sum(read.bytes for read in levels.plan.reads),
    }


def measured(model: Path, options: CompileOptions, budget: int) -> dict[str, Any]:
    """The median time of a run and how its weights were read."""
    with tempfile.TemporaryDirectory(prefix="stratac-sweep-") as folder:
        plan = compile_model(model, Path(folder) / "sweep.plan", replace(options, budgets={"ram": budget})).folder
        sizes = {name: bounds.typical for name, bounds in read_plan(plan).symbols.items()}
        inputs = random_inputs(plan, sizes, 0)
        with load(plan) as session:
            session.run(None, inputs)
            took: list[float] = []
            began = time.perf_counter()
            while len(took) < RUNS or time.perf_counter() - began < MEASURE_S:
                started = time.perf_counter()
                session.run(None, inputs)
                took.append(time.perf_counter() - started)
            return {
                "budget": budget,
                "seconds": statistics.median(took),
                "least": min(took),
                "runs": len(took),
                "io": session.info().io,
            }


def budgets_between(least: int, most: int, points: int) -> list[int]:
    """So many budgets in equal ratios, and one below the least, for which there is no plan."""
    ratio = (most / least) ** (1 / max(points - 1, 1))
    return [int(least * 0.9), *(math.ceil(least * ratio**k) for k in range(points - 1)), most]


def sweep(model: Path, options: CompileOptions, points: int, measure: int) -> dict[str, Any]:
    """Predictions at `points` budgets, measurements at `measure` of them."""
    least = smallest_budget(model, options)
    roomy = predicted(model, options, load_machine(options.target).tier("ram").bytes)
    most = max(int(roomy["used"] * 1.02), least + 1)
    found = [predicted(model, options, budget) for budget in budgets_between(least, most, points)]
    feasible = [row["budget"] for row in found if row["seconds"] is not None]
    chosen = (
        [feasible[round(k * (len(feasible) - 1) / max(measure - 1, 1))] for k in range(measure)] if feasible else []
    )
    machine = load_machine(options.target)
    return {
        "model": model.stem,
        "machine": machine.name,
        "threads": options.threads or machine.device("cpu").cores,
        "dims": {name: [b.min, b.typical, b.max] for name, b in options.dims.items()},
        "smallest_budget": least,
        "resident": {"used": roomy["used"], "seconds": roomy["seconds"]},
        "predicted": found,
        "measured": [measured(model, options, budget) for budget in dict.fromkeys(chosen)],
    }


def sweep_text(found: dict[str, Any]) -> str:
    """The points as a table."""
    real = {row["budget"]: row for row in found["measured"]}
    cells = []
    for row in found["predicted"]:
        point = real.get(row["budget"])
        error = f"{(row['seconds'] / point['seconds'] - 1) * 100:+.1f} %" if point and row["seconds"] else ""
        said = time_text(row["seconds"]) if row["seconds"] else f"no plan: {size_text(row['short'])} short"
        reads = size_text(row["read_bytes"]) if row["seconds"] else ""
        cells.append((size_text(row["budget"]), said, time_text(point["seconds"]) if point else "", error, reads))
    return "\n".join(table(cells, ("ram", "predicted", "measured", "error", "read a run"), frozenset(range(5))))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Predicted and measured time of a model over budgets of memory.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=MIN:TYPICAL:MAX")
    parser.add_argument("--target", default="native")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--points", type=int, default=24, help="budgets that are placed (default 24)")
    parser.add_argument("--measure", type=int, default=5, help="budgets that are run (default 5)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "budget-sweep", help="without suffix")
    args = parser.parse_args(argv)
    options = CompileOptions(
        target=args.target,
        dims=dict(parse_dim(text) for text in args.dim),
        threads=args.threads,
        cc=environment_cc(),
        cache=default_cache(),
    )
    found = sweep(args.model, options, args.points, args.measure)
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    args.output.with_suffix(".svg").write_text(chart(found))
    print(sweep_text(found))
    print(f"{args.output.with_suffix('.svg')} and .json written")


if __name__ == "__main__":
    main()
