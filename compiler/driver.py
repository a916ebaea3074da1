"""The whole compiler on one screen: model file -> Graph -> clusters -> Placed -> Plan -> artifact."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..codegen.compilers import find_compiler
from ..codegen.emit_kernels import EmittedKernels, emit_kernels
from ..ir.dims import Bounds
from ..ir.graph import Graph
from ..ir.machine import Machine
from ..ir.placed import Placed
from ..ir.plan import Plan
from ..ir.verify_placed import verify_placed
from ..ir.verify_plan import verify_plan
from ..passes.base import run_passes
from ..passes.graph.pack_rows import pack_rows
from ..passes.pipelines import GRAPH_PASSES, SIMPLIFY, exactly
from ..passes.place.request import PlaceRequest
from ..passes.schedule.schedule import schedule
from .artifact import PROCESS_FLOOR, BuildReport, check_output, write_artifact
from .constants import value_text
from .forms import choose_form
from .limits import memory_limit
from .options import CompileOptions, size_text
from .profiles import load_machine, target_arch
from .report.summary import build_report
from .source import ModelSource, as_source

Progress = Callable[[str, float], None]


@dataclass
class Levels:
    """A model at every level, for `inspect`, tests and debugging."""

    machine: Machine
    graph: Graph
    clusters: Graph
    placed: Placed
    kernels: EmittedKernels
    plan: Plan
    seconds: dict[str, float] = field(default_factory=dict)


def lower_model(model: Path | ModelSource, options: CompileOptions, progress: Progress | None = None) -> Levels:
    """Everything up to the plan; no C compiler is needed and no weight is read whole."""
    clock = Clock(progress)
    machine = load_machine(options.target)
    threads = options.threads or machine.device("cpu").cores
    graph, assumed, ragged = import_model(model, options, clock)
    with clock("place"):
        form = choose_form(graph, machine, place_request(machine, threads, options), options.max_error)
        verify_placed(form.placed, machine)
    with clock("emit"):
        kernels = emit_kernels(form.placed, form.library, machine)
    with clock("schedule"):
        plan = schedule(form.placed, machine, kernels.functions, threads)
        verify_plan(plan, form.placed)
    if assumed:
        fixed = ", ".join(f"{name}=1" for name in assumed)
        hint = ", ".join(f"--dim {name}=MIN:TYPICAL:MAX" for name in assumed)
        plan = replace(plan, notes={**plan.notes, "dims": f"{fixed} assumed, since no bounds were given: {hint}"})
    if priced := [device.name for device in machine.devices if device.kind != "cpu"]:
        text = f"planned for the CPU alone: no code is generated for {', '.join(priced)} yet; `stratac estimate` prices them"
        plan = replace(plan, notes={**plan.notes, "devices": text})
    if options.constants:
        values = ", ".join(f"{name} = {value_text(value)}" for name, value in options.constants.items())
        plan = replace(plan, notes={**plan.notes, "constants": f"inputs compiled in: {values}"})
    if ragged:
        plan = replace(plan, notes={**plan.notes, "ragged": ragged})
    if form.split:
        text = f"products whose weight is larger than {size_text(form.split)} are taken apart by columns"
        plan = replace(plan, notes={**plan.notes, "split": text})
    if form.why_narrow:
        plan = replace(plan, notes={**plan.notes, "narrow": form.why_narrow})
    return Levels(machine, form.graph, form.clusters, form.placed, kernels, plan, clock.seconds)


def import_model(
    model: Path | ModelSource, options: CompileOptions, clock: Clock | None = None
) -> tuple[Graph, list[str], str]:
    """The simplified graph of a model, the dims that were taken as a batch of 1 for want of bounds, and what was decided about
    padded rows."""
    clock = clock or Clock(None)
    with clock("import"):
        source = as_source(model)
        assumed = [name for name in source.batch_dims(options.constants, options.layout) if name not in options.dims]
        dims = {**options.dims, **dict.fromkeys(assumed, Bounds(1, 1, 1))}
        graph = source.graph(dims, options.constants, options.layout)
    with clock("simplify"):
        graph = run_passes(graph, exactly(GRAPH_PASSES) if options.max_error < 0 else GRAPH_PASSES)
        packed = pack_rows(graph, options.ragged)
        if packed.graph is not graph:
            graph = run_passes(packed.graph, SIMPLIFY)
    return graph, assumed, packed.note


def place_request(machine: Machine, threads: int, options: CompileOptions, executable: bool = True) -> PlaceRequest:
    """What placement is asked for. This machine's memory ends where its control group's limit is."""
    budgets = dict(options.budgets)
    limit = memory_limit() if options.target == "native" else None
    if limit is not None and limit < machine.tier("ram").bytes:
        budgets.setdefault("ram", limit)
    return PlaceRequest(threads, budgets, options.objective, options.pins, PROCESS_FLOOR, executable)


def compile_model(
    model: Path | ModelSource, output: Path, options: CompileOptions, progress: Progress | None = None
) -> BuildReport:
    """Compile an ONNX file, or what a front end made ready, to a plan folder. Raises StratacError; nothing is left under `output`
    unless all went well."""
    check_output(output)
    find_compiler(options.cc, target_arch(load_machine(options.target)))  # before any work is done
    source = as_source(model)
    options = replace(options, constants=source.fit_constants(options.constants))
    levels = lower_model(source, options, progress)
    report = {
        **build_report(levels.plan, levels.placed, levels.machine),
        "model": source.facts(),
        "options": options.facts(),
    }
    return write_artifact(levels, report, output, options, progress)


class Clock:
    """Times the steps and tells the user which one runs."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.seconds = progress, dict[str, float]()
        self.step, self.started = "", 0.0

    def __call__(self, step: str) -> Clock:
        self.step = step
        return self

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.step] = time.perf_counter() - self.started
        if self.progress is not None:
            self.progress(self.step, self.seconds[self.step])
