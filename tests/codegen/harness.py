"""Graphs to running sessions without a model file: what the driver does after import, with cheap C flags and one object cache.

A *forest* is the disjoint union of many small graphs: one plan, one C compilation and one run check all of them at once.
"""

from __future__ import annotations

import atexit
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stratac.codegen.compilers import find_compiler
from stratac.codegen.emit_kernels import EmittedKernels, emit_kernels
from stratac.codegen.facts import BFP_EXTENSION, TILE_EXTENSION
from stratac.codegen.library import Library
from stratac.codegen.toolchain import ToolchainOptions, compile_library
from stratac.compiler import artifact
from stratac.compiler.driver import Levels
from stratac.compiler.profiles import cpu_features, load_machine, target_arch
from stratac.compiler.write_weights import write_weights
from stratac.ir.candidate import Candidate
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.machine import EXTENSIONS, ISA_LEVELS, Machine
from stratac.ir.placed import Placed
from stratac.ir.plan import Plan
from stratac.ir.plan_binary import encode, plan_id
from stratac.ir.rewrite import rename_values
from stratac.ir.text import print_graph
from stratac.passes.base import Pass, run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest
from stratac.passes.schedule.schedule import schedule
from stratac.runtime.manifest import LIBRARY, PLAN, WEIGHTS, plan_fields, write_manifest
from stratac.runtime.session import Session

from ..emulation import ARM, arm_command, arm_compiler, run_plan
from ..random_graphs import Sample
from ..shrink import shrink

Arrays = dict[str, Any]
_PROFILES = {
    "avx512": "generic-x86_64-avx512",
    "avx2": "generic-x86_64-avx2",
    "neon": "generic-aarch64-neon",
    "portable": "generic-portable",
}
#: ISA levels of another architecture, which an emulator runs.
EMULATED = () if platform.machine() == ARM else ("neon", "portable-aarch64")
#: ISA levels that this CPU can run, best first.
ISAS = tuple(level.name for level in ISA_LEVELS if level.features <= cpu_features())
QUICK = ("-O1",)


@functools.cache
def scratch() -> Path:
    """A folder of this process: the object cache and plans under way."""
    folder = Path(tempfile.mkdtemp(prefix="stratac-tests-"))
    atexit.register(shutil.rmtree, folder, True)
    return folder


@functools.cache
def machine_for(isa: str) -> Machine:
    """The generic machine of an ISA level, or of one and an architecture."""
    level, _, arch = isa.partition("-")
    machine = load_machine(_PROFILES[level])
    return replace(machine, devices=(replace(machine.device("cpu"), arch=arch),)) if arch else machine


class Only(Library):
    """A library that offers the candidates of one family wherever that family has any."""

    def __init__(self, family: str) -> None:
        super().__init__(reference=True)
        self.family = family

    def candidates(self, cluster: Any, graph: Graph, machine: Machine) -> Sequence[Candidate]:
        found = super().candidates(cluster, graph, machine)
        return [c for c in found if c.family == self.family] or found


def compile_levels(
    graph: Graph,
    isa: str = ISAS[0],
    *,
    threads: int = 4,
    library: Library | None = None,
    passes: Sequence[Pass] = GRAPH_PASSES,
    choose: Callable[..., Placed] = place,
    machine: Machine | None = None,
) -> Levels:
    """The driver's steps from a graph on."""
    machine, library = machine or machine_for(isa), library or Library()
    simple = run_passes(graph, passes) if passes else graph
    clusters = run_passes(simple, CLUSTER_PASSES)
    placed = choose(clusters, library, machine, PlaceRequest(threads))
    kernels = emit_kernels(placed, library, machine)
    return Levels(machine, simple, clusters, placed, kernels, schedule(placed, machine, kernels.functions, threads))


def shared(plan: Plan) -> Plan:
    """The plan with every instruction shared by all threads, however small it is."""
    alone = {plan.calls[number] for number in plan.setters.values()}  # one thread sets a run-time dim
    queues = tuple(
        replace(q, calls=tuple(c if c in alone else replace(c, parts=0) for c in q.calls)) for q in plan.queues
    )
    return replace(plan, queues=queues)


def build(levels: Levels, folder: Path, *, flags: Sequence[str] = QUICK, link_flags: Sequence[str] = ()) -> Path:
    """Compile and write the plan folder."""
    folder.mkdir(parents=True, exist_ok=True)
    levels = replace(levels, plan=shared(levels.plan))
    number = plan_id(levels.plan)
    units = [replace(u, flags=(*u.flags, *flags)) for u in artifact._units(levels, number)]
    arch = target_arch(levels.machine)
    if arch == ARM:
        arm_compiler(), arm_command([])  # or the test is skipped
    options = ToolchainOptions(arch=arch, cache=scratch() / "objects", link_flags=tuple(link_flags))
    compile_library(units, folder / LIBRARY, options=options)
    sha, digests = write_weights(levels.placed, levels.plan, folder / WEIGHTS)
    (folder / PLAN).write_bytes(encode(levels.plan, digests=digests, plan_id=number))
    parts = [PLAN, WEIGHTS, LIBRARY]
    fields = plan_fields(levels.plan, stratac_version="0", process_floor=0)
    write_manifest(folder, fields, parts, known={WEIGHTS: sha})
    return folder


@dataclass
class Compiled:
    """A plan folder that can be run at any thread count."""

    graph: Graph
    levels: Levels
    folder: Path

    def run(self, inputs: Mapping[str, Any], threads: int = 1, cpu: str = "max") -> Arrays:
        """Outputs by name; of a plan for another architecture on an emulated `cpu`."""
        if target_arch(self.levels.machine) == ARM != platform.machine():
            found = run_plan(self.folder, inputs, threads, cpu).outputs
            return dict(zip([p.name for p in self.graph.outputs], found, strict=True))
        with Session(self.folder, threads=threads) as session:
            names = [p.name for p in self.graph.outputs]
            return dict(zip(names, session.run(None, dict(inputs)), strict=True))

    def families(self) -> set[str]:
        return {c.chosen.candidate.family for c in self.levels.placed.choices.values()}


def compiled(graph: Graph, isa: str = ISAS[0], **options: Any) -> Compiled:
    """Compile into a folder that lives until the process ends."""
    levels = compile_levels(graph, isa, **options)
    folder = Path(tempfile.mkdtemp(prefix="plan-", dir=scratch()))
    return Compiled(graph, levels, build(levels, folder))


def with_tiles(machine: Machine) -> Machine:
    """The machine with what tiles need, and nothing else beyond its ISA level."""
    return replace(machine, devices=(replace(machine.device("cpu"), extensions=(TILE_EXTENSION, BFP_EXTENSION)),))


def tiled(
    graph: Graph, isa: str = ISAS[0], *, library: Library, instructions: bool = False, **options: Any
) -> Compiled:
    """Planned for a machine with tiles. Built without the instructions: csrc/simd/simd_tiles.h does what they do; or with them, for
    this CPU or for tests/kernels/amx_trap.c."""
    plain, tiles = machine_for(isa), with_tiles(machine_for(isa))
    levels = compile_levels(graph, isa, library=library, machine=tiles, **options)
    plan = levels.plan
    if not (instructions and set(plan.features) <= cpu_features()):  # what is emulated, the plan must not ask for
        plan = replace(plan, features=tuple(sorted(plain.device("cpu").features())))
    levels = replace(levels, machine=levels.machine if instructions else plain, plan=plan)
    folder = Path(tempfile.mkdtemp(prefix="plan-", dir=scratch()))
    return Compiled(graph, levels, build(levels, folder))


_SESSIONS = """
import sys
import numpy as np
from stratac.runtime.session import Session
folder, given, out = sys.argv[1:]
for threads in (3, 1):
    with Session(folder, threads=threads) as session:
        names = [port.name for port in session.get_outputs()]
        np.savez(out + str(threads), **dict(zip(names, session.run(None, dict(np.load(given))))))
"""


def check_instructions(graph: Graph, inputs: Mapping[str, Any], libraries: Mapping[str, Library], folder: Path) -> None:
    """Whole plans with AMX give the bits of their emulation, threads and all: on this processor, or with its instructions carried out
    by tests/kernels/amx_trap.c. `folder`: for files under way."""
    environment = dict(os.environ)
    if not EXTENSIONS[TILE_EXTENSION][0] | EXTENSIONS[BFP_EXTENSION][0] <= cpu_features():
        trap, source = folder / "amx_trap.so", Path(__file__).parents[1] / "kernels" / "amx_trap.c"
        flags = ("-O2", "-mfma", "-ffp-contract=off", "-shared", "-fPIC")
        subprocess.run([find_compiler().path, *flags, source, "-o", trap, "-lm"], check=True)
        environment["LD_PRELOAD"] = str(trap)
    np.savez(folder / "in.npz", **inputs)
    for name, library in libraries.items():
        wanted = tiled(graph, library=library).run(inputs)
        plan = tiled(graph, library=library, instructions=True).folder
        given = [str(plan), str(folder / "in.npz"), str(folder / "out")]
        subprocess.run([sys.executable, "-c", _SESSIONS, *given], check=True, env=environment, timeout=300)
        for threads in (1, 3):
            check_bits(wanted, dict(np.load(folder / f"out{threads}.npz")), f"{name} on {threads} threads")


def forest(graphs: Sequence[Graph]) -> Graph:
    """The disjoint union; ports and values of graph number i get the prefix `g{i}.`. Symbols are shared by name."""
    parts = []
    for number, graph in enumerate(graphs):
        named = rename_values(graph, {v: f"g{number}.{v}" for v in graph.types})
        prefix = f"g{number}."
        parts.append(
            replace(
                named,
                inputs=tuple(Port(prefix + p.name, p.value) for p in named.inputs),
                outputs=tuple(Port(prefix + p.name, p.value) for p in named.outputs),
            )
        )
    return Graph(
        "forest",
        {k: v for p in parts for k, v in p.symbols.items()},
        tuple(port for p in parts for port in p.inputs),
        tuple(port for p in parts for port in p.outputs),
        {k: v for p in parts for k, v in p.weights.items()},
        tuple(node for p in parts for node in p.nodes),
        {k: v for p in parts for k, v in p.types.items()},
    )


def check_bits(first: Arrays, second: Arrays, what: str) -> None:
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), f"{name}: {what}"


def sizes_of(graph: Graph) -> list[dict[str, int]]:
    """Each symbol at its least, an odd middle and its greatest value."""
    if not graph.symbols:
        return [{}]
    middle = {k: min((b.min + b.max) // 2 | 1, b.max) for k, b in graph.symbols.items()}
    return [{k: b.min for k, b in graph.symbols.items()}, middle, {k: b.max for k, b in graph.symbols.items()}]


def check_samples(samples: Sequence[Sample], isa: str = ISAS[0], **options: Any) -> Compiled:
    """All samples in one plan: equal to the interpreter at several sizes, to the bit at 1..4 threads."""
    plan = compiled(forest([s.graph for s in samples]), isa, **options)
    for seed, sizes in enumerate(sizes_of(plan.graph)):
        inputs = [s.make_inputs(seed, **{k: v for k, v in sizes.items() if k in s.graph.symbols}) for s in samples]
        given = {f"g{i}.{k}": v for i, arrays in enumerate(inputs) for k, v in arrays.items()}
        one = plan.run(given, 1)
        for threads in (2, 3, 4) if seed != 1 else ():
            check_bits(one, plan.run(given, threads), f"{threads} threads give other bits than one at {sizes}")
        for number, (sample, arrays) in enumerate(zip(samples, inputs, strict=True)):
            actual = {p.name: one[f"g{number}.{p.name}"] for p in sample.graph.outputs}
            try:
                sample.compare(actual, run(sample.graph, arrays))
            except AssertionError as error:
                small = print_graph(smallest(sample, arrays, isa, **options))
                raise AssertionError(f"graph {number} at {sizes}, {isa}: {error}\n{small}") from error
    return plan


def smallest(sample: Sample, inputs: Arrays, isa: str, **options: Any) -> Graph:
    """The failing graph with what does not matter left out: one that is still further off than the sample tolerates."""
    worst = max([1e-5, *sample.tolerance.values()])

    def fails(graph: Graph, given: Mapping[str, Any]) -> bool:
        actual, expected = compiled(graph, isa, **options).run(dict(given), 1), run(graph, given)
        return not all(
            np.allclose(actual[name], wanted, atol=worst, equal_nan=True) for name, wanted in expected.items()
        )

    return shrink(sample.graph, inputs, fails)[0]


def same(actual: Any, expected: Any, tolerance: float = 0.0, what: str = "") -> None:
    """Equal dtype, shape and values; NaN equals NaN, infinities must agree."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=what)


__all__ = ["ISAS", "Compiled", "EmittedKernels", "Only", "check_samples", "compiled", "forest", "same"]
