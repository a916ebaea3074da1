"""`compile --tune`: a model's kernels timed one by one in plans of the model itself, in every numeric mode that is allowed.

The medians go into the machine profile (`[measured]`), where this and every later compilation finds them: compilation itself
never times anything. Equal kernels at equal typical sizes share a figure, across models too.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..codegen.emit_kernels import emit_kernels
from ..ir.candidate import MODE_ERRORS
from ..ir.errors import StratacError
from ..ir.graph import Graph
from ..ir.machine import Machine
from ..ir.machine_text import profile_text, with_measured
from ..passes.base import run_passes
from ..passes.pipelines import CLUSTER_PASSES
from ..passes.place.place import place
from ..passes.schedule.order import order
from ..passes.schedule.schedule import schedule
from ..runtime.session import load
from .artifact import write_artifact
from .checks import random_inputs
from .driver import Levels, Progress, import_model, place_request
from .options import CompileOptions, user_profile
from .probe.kernels import F32, Kind, OneKind, kinds_of
from .profiles import cpu_model, load_machine, misfit
from .report.summary import build_report
from .source import ModelSource

LEAST_RUNS = 5


def tune(
    model: Path | ModelSource, options: CompileOptions, seconds: float, progress: Progress | None = None
) -> tuple[Path, int]:
    """Time the kernels of a model for about so many seconds on this machine; the profile they were added to, and how many.

    All weights are in memory while it runs. Raises StratacError where the target is not this machine or they do not fit.
    """
    profile = profile_of(options.target)
    machine = load_machine(options.target)
    graph, _, _ = import_model(model, options)
    clusters = run_passes(graph, CLUSTER_PASSES)
    kinds = [F32, *(kind for kind in kinds_of(machine) if MODE_ERRORS[kind[0]] <= options.max_error)]
    found: dict[str, float] = {}
    for kind in kinds:
        if progress is not None:
            progress(f"tune: kernels in {' on '.join(filter(None, kind))}", 0.0)
        found |= _time(graph, clusters, machine, options, kind, seconds / len(kinds))
    save(profile, machine, found)
    return profile, len(found)


def profile_of(target: str) -> Path:
    """Where measurements for a target are kept. Raises StratacError for machines that only have a name, and where `native`
    would not find them again."""
    if target == "native":
        own = user_profile()
        if own.is_file() and (reason := misfit(load_machine(str(own)))):
            raise StratacError(
                f"cannot tune: the profile {own} {reason}", hint="run `stratac probe` on this machine first"
            )
        return own
    path = Path(target)
    if path.suffix == ".toml" and path.is_file():
        return path
    raise StratacError(
        f"cannot tune for {target}: kernels are timed on this machine",
        hint="use --target native, or the TOML file of a profile that `stratac probe -o` wrote here",
    )


def _time(
    graph: Graph, clusters: Graph, machine: Machine, options: CompileOptions, kind: Kind, seconds: float
) -> Mapping[str, float]:
    """Seconds of each call of the model's plan with kernels of one kind wherever there are any, by `measured_as`."""
    library = OneKind(kind)
    threads = options.threads or machine.device("cpu").cores
    placed = place(clusters, library, machine, place_request(machine, threads, replace(options, budgets={}, pins=())))
    kernels = emit_kernels(placed, library, machine)
    plan = schedule(placed, machine, kernels.functions, threads)
    if plan.reads:
        raise StratacError(
            "cannot tune: the weights of this model do not fit into memory, and reading them would be timed",
            hint="tune a smaller model of its kind: equal kernels share their figures",
        )
    levels = Levels(machine, graph, clusters, placed, kernels, plan)
    nodes, _ = order(placed.graph)
    names = [placed.choices[node.outputs[0]].chosen.candidate.measured_as(threads) for node in nodes]
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="stratac-tune-") as folder:
        report = build_report(plan, placed, machine)
        artifact = write_artifact(levels, report, Path(folder) / "tune.plan", options, None).folder
        sizes = {name: bounds.typical for name, bounds in plan.symbols.items()}
        inputs = random_inputs(artifact, sizes, 0)
        with load(artifact, threads=threads, verify=False) as session:
            session.run(None, inputs)
            until, runs = time.perf_counter() + seconds, 0
            while runs < LEAST_RUNS or time.perf_counter() < until:
                session.reset_profile()
                session.run(None, inputs)
                runs += 1
                for name, row in zip(names, session.profile(), strict=True):
                    taken.setdefault(name, []).append(row.seconds)
    return {name: float(f"{statistics.median(times):.4g}") for name, times in taken.items()}


def save(profile: Path, machine: Machine, found: Mapping[str, float]) -> None:
    """Add measurements to a profile, whole or not at all. Raises StratacError where it cannot be written."""
    measured = {**machine.measured, **found}
    if profile.is_file():
        text = with_measured(profile.read_text(), measured)
    else:  # the first of this user: what `native` stands for here, as a measured profile of this CPU
        devices = tuple(replace(d, model=cpu_model()) if d.kind == "cpu" else d for d in machine.devices)
        text = profile_text(
            replace(machine, devices=devices, measured=measured), f"{machine.name}, with kernels timed here"
        )
    part = profile.with_name(f".{profile.name}.{os.getpid()}")
    try:
        profile.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(profile)
    except OSError as error:
        part.unlink(missing_ok=True)
        hint = "name a profile that can be written: --target FILE.toml"
        raise StratacError(f"cannot write the profile {profile}: {error.strerror}", hint=hint) from error
