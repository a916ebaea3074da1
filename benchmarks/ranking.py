"""Whether the plan that placement chooses is the fastest of many that keep the same budget: all of them are run.

    python -m benchmarks.ranking [MODELS...] [--share 0.55] [--plans 50] [--rounds 3] [--seconds 60] [--threads 2]
                                 [--target native] [-o FILE]

For each model and a budget of so much of what it takes without one: the chosen plan, its naive twins, and random plans (random sets
of resident weights, random rings) are compiled and run in turns. Reported are the chosen plan's rank, its time over the best
one's, and how well the order of the predictions agrees with the order of the measurements. A run of the usual models is written to
benchmarks/results/ranking-ISA.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stratac.codegen.emit_kernels import emit_kernels
from stratac.compiler.artifact import write_artifact
from stratac.compiler.driver import Levels, place_request
from stratac.compiler.forms import Form, choose_form
from stratac.compiler.frontends.onnx import import_onnx
from stratac.compiler.options import CompileOptions, default_cache, environment_cc
from stratac.compiler.profiles import load_machine
from stratac.compiler.report.summary import build_report
from stratac.ir.dims import Bounds
from stratac.ir.machine import Machine
from stratac.ir.plan import READ_ALIGNMENT, Plan
from stratac.ir.verify_plan import verify_plan
from stratac.passes.base import run_passes
from stratac.passes.pipelines import GRAPH_PASSES
from stratac.passes.place.build import build_placed
from stratac.passes.place.evaluate import Evaluator, Outcome
from stratac.passes.place.naive import twin_decisions
from stratac.passes.place.problem import Decision, Problem, make_problem
from stratac.passes.schedule.schedule import schedule
from stratac.runtime.manifest import WEIGHTS
from stratac.runtime.session import load

from .cold import drop_cache
from .machine_facts import isa, machine_facts, versions
from .subjects import RESULTS, exported, say
from .zoo import inputs, row

MODELS = ("minilm", "resnet50", "convnext_tiny", "whisper_tiny_enc", "mobilenet_v2")
SECONDS, RUNS = 0.2, 3  # least seconds and runs of a turn
METHOD = (
    "All plans of a model have the same kernels and keep the same budget; they differ in which weights stay in memory and in the "
    "ring. They take turns in an order drawn anew for each round, {rounds} rounds at least and as many as {limit:.0f} s allow: the "
    "plan is opened, run once uncounted, then at least {seconds} s and {runs} runs; the turn's figure is their median. Since the "
    "machine is faster in one round than in another, a plan's time is the median over rounds of its turn over the median turn of "
    "the round, times the median of those. Reads are direct; where they are not, the system's cache of weights.bin is emptied "
    "before each turn. The correlation is Spearman's."
)


@dataclass(frozen=True)
class Contender:
    """A plan that keeps the budget, and what is predicted for it."""

    name: str
    plan: Plan
    folder: Path


def contenders(problem: Problem, form: Form, count: int) -> Iterator[tuple[str, Outcome]]:
    """The chosen decision, the twins' and random ones, each once."""
    chosen = decision_of(problem, form)
    evaluator = Evaluator(problem, chosen.options)
    found: dict[Decision, str] = {}
    twins = [(name, d) for name, d in twin_decisions(problem).items() if d.options == chosen.options]
    for name, decision in (("chosen", chosen), *twins):
        outcome = evaluator.outcome(decision.resident, decision.ring)
        if outcome is not None and outcome.decision not in found:
            found[outcome.decision] = name
            yield name, outcome
    for number in range(20 * count):
        if len(found) >= count:
            return
        outcome = random_outcome(evaluator, random.Random(number))
        if outcome is not None and outcome.decision not in found:
            found[outcome.decision] = f"random {number}"
            yield f"random {number}", outcome


def decision_of(problem: Problem, form: Form) -> Decision:
    """What placement decided, as numbers."""
    placed = form.placed
    options = []
    for node, row_ in zip(problem.nodes, problem.options, strict=True):
        candidate = placed.choices[node.outputs[0]].chosen.candidate
        options.append(next(n for n, option in enumerate(row_) if option.priced.candidate == candidate))
    memory = {tier.name for tier in problem.machine.tiers if tier.kind == "memory"}
    kept = (n for n, s in enumerate(problem.stores) if s.key in placed.homes and placed.homes[s.key].tier in memory)
    return Decision(tuple(options), frozenset(kept), placed.ring_bytes)


def random_outcome(evaluator: Evaluator, rng: random.Random) -> Outcome | None:
    """Weights drawn until memory is full beside a ring of one to six times the smallest; now and then in order of use."""
    stores = evaluator.problem.stores
    resident = evaluator.keep(s for s in evaluator.used if stores[s].small or not stores[s].may_stream)
    ring = rng.choice((1.0, 1.3, 2.0, 3.0, 6.0)) * evaluator.least(resident)
    order = [s for s in dict.fromkeys(s for _, s in evaluator.uses) if s in evaluator.can_stay and s not in resident]
    if rng.random() < 0.7:
        rng.shuffle(order)
    elif rng.random() < 0.5:
        order.reverse()
    for store in order:
        grown = resident | {store}
        if evaluator.room(grown) >= ring and evaluator.fits(grown):
            resident = grown
    size = int(min(ring, max(evaluator.room(resident), 0))) // READ_ALIGNMENT * READ_ALIGNMENT
    return evaluator.outcome(resident, max(size, evaluator.least(resident)))


def compile_all(
    model: Path, machine: Machine, options: CompileOptions, share: float, count: int, folder: Path
) -> tuple[int, list[Contender]]:
    """The budget, and plans that keep it."""
    threads = options.threads or machine.device("cpu").cores
    graph = run_passes(import_onnx(model, dict(options.dims)), GRAPH_PASSES)
    roomy = choose_form(graph, machine, place_request(machine, threads, options))
    assert roomy.placed.solution is not None
    budget = int(roomy.placed.solution.used["ram"] * share)
    options = replace(options, budgets={"ram": budget})
    request = place_request(machine, threads, options)
    form = choose_form(graph, machine, request)
    problem = make_problem(form.clusters, form.library, machine, request)
    found = []
    for name, outcome in contenders(problem, form, count):
        placed = build_placed(problem, outcome, name, 0.0)
        kernels = emit_kernels(placed, form.library, machine)
        plan = schedule(placed, machine, kernels.functions, threads)
        verify_plan(plan, placed)
        levels = Levels(machine, form.graph, form.clusters, placed, kernels, plan)
        target = folder / f"{len(found)}.plan"
        write_artifact(levels, build_report(plan, placed, machine), target, replace(options, keep_source=False), None)
        found.append(Contender(name, plan, target))
    return budget, found


def turn(contender: Contender, arrays: dict[str, Any], threads: int) -> tuple[float, str]:
    """Median seconds of a run, and how the session reads."""
    drop_cache(contender.folder / WEIGHTS)
    with load(contender.folder, threads=threads) as session:
        session.run(None, arrays)
        taken: list[float] = []
        while len(taken) < RUNS or sum(taken) < SECONDS:
            started = time.perf_counter()
            session.run(None, arrays)
            taken.append(time.perf_counter() - started)
        return statistics.median(taken), session.info().io


def correlation(some: Sequence[float], others: Sequence[float]) -> float:
    """Spearman's: of ranks, equal values sharing theirs."""

    def ranks(values: Sequence[float]) -> np.ndarray:
        array = np.asarray(values)
        return np.array([(np.sum(array < v) + np.sum(array <= v) - 1) / 2 for v in array])

    a, b = ranks(some), ranks(others)
    if a.std() == 0 or b.std() == 0:
        return 1.0 if a.std() == b.std() else 0.0
    return float(np.corrcoef(a, b)[0, 1])


def over_rounds(taken: Sequence[Sequence[float]]) -> list[float]:
    """One time for each plan from its turns in all rounds, what changed from round to round taken out."""
    middles = [statistics.median(turns) for turns in zip(*taken, strict=True)]
    usual = statistics.median(middles)
    return [usual * statistics.median(t / m for t, m in zip(turns, middles, strict=True)) for turns in taken]


def measure(name: str, machine: Machine, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One model's row."""
    model = row(name)
    dims = {dim: Bounds(size, size, size) for dim, size in model.typical.items()}
    options = CompileOptions(
        target=args.target, dims=dims, threads=args.threads, cc=environment_cc(), cache=default_cache()
    )
    folder = work / name
    say(f"{name}: compiling {args.plans} plans")
    budget, plans = compile_all(exported(name), machine, options, args.share, args.plans, folder)
    arrays = dict(inputs(name))
    taken: list[list[float]] = [[] for _ in plans]
    how = set()
    until = time.monotonic() + args.seconds
    number = 0
    while number < args.rounds or time.monotonic() < until:
        say(f"{name}: round {number + 1}")
        order = list(range(len(plans)))
        random.Random(number).shuffle(order)
        for position in order:
            seconds, io = turn(plans[position], arrays, args.threads)
            taken[position].append(seconds)
            how.add(io)
        number += 1
    shutil.rmtree(folder)
    measured = over_rounds(taken)
    predicted = [contender.plan.seconds for contender in plans]
    best = min(measured)
    rank = 1 + sum(seconds < measured[0] for seconds in measured)
    found = {
        "model": name,
        "budget": budget,
        "io": sorted(how),
        "plans": len(plans),
        "rank": rank,
        "over_best": measured[0] / best,
        "correlation": correlation(predicted, measured),
        "chosen": {"predicted": predicted[0], "measured": measured[0]},
        "all": [
            {"name": c.name, "predicted": p, "measured": m, "rounds": times, "ring": c.plan.arenas[-1].bytes}
            for c, p, m, times in zip(plans, predicted, measured, taken, strict=True)
        ],
    }
    say(
        f"{name}: rank {rank} of {len(plans)}, {measured[0] / best:.3f} of the best, correlation {found['correlation']:.3f}, "
        f"predicted {1e3 * predicted[0]:.1f} ms, measured {1e3 * measured[0]:.1f} ms"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", nargs="*", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--share", type=float, default=0.55, help="the budget as a share of the memory without one")
    parser.add_argument("--plans", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="more rounds of a model while this has not passed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--target", default="native")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    machine = load_machine(args.target)
    output = args.output or (None if args.models else RESULTS / f"ranking-{isa()}.json")
    rows: list[dict[str, Any]] = []
    for name in args.models or MODELS:
        with tempfile.TemporaryDirectory(prefix="stratac-ranking-") as work:
            rows.append(measure(name, machine, args, Path(work)))
        if output is None:
            continue
        method = METHOD.format(rounds=args.rounds, limit=args.seconds, seconds=SECONDS, runs=RUNS)
        facts = {
            "date": datetime.date.today().isoformat(),
            "method": method,
            "share": args.share,
            "threads": args.threads,
            "machine": machine_facts(),
            "profile": machine.name,
            "versions": versions(),
            "rows": rows,
        }
        output.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        say(f"{name} written to {output}")


if __name__ == "__main__":
    main()
