"""All measurements of this machine in turn, and the profile made of them."""

from __future__ import annotations

import datetime
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...codegen.facts import BFP_EXTENSION, BFP_MODES, PRODUCTS_OF_PARTS, TILE_EXTENSION, TILE_MODES
from ...codegen.toolchain import ToolchainOptions
from ...ir.machine import Device, Machine, Tier
from ...ir.machine_text import profile_text
from ...ir.plan import REQUEST_BYTES, REQUEST_DEPTH
from ...passes.place.cost import COMMON
from ..options import CompileOptions, version
from ..profiles import cpu_clock, cpu_model, cpu_name, native_extensions
from .disk import BESIDE_S, DiskFigures, at, measure_disk
from .hardware import Figure, Loops, Others, isa_levels, measure_caches, measure_memory, memory_bytes
from .kernels import STREAMING, Tables, measure_kernels, with_tables

Say = Callable[[str], None]
QUIET = 0.05  # share of CPU time that others may take unmentioned


@dataclass(frozen=True)
class Probed:
    """The profile, what was measured for it, and remarks the user should see."""

    machine: Machine
    figures: tuple[Figure, ...]
    tables: Tables
    notes: tuple[str, ...]
    seconds: float

    def text(self) -> str:
        """The profile file: what was measured, with spread, as comments."""
        errors = [
            f"kernels.{family}: {middle:.1%} median, {high:.1%} 95th percentile"
            for family, (middle, high) in self.tables.errors.items()
        ]
        lines = ["Written by `stratac probe`. Medians; least and most of several takes in brackets.", ""]
        lines += [str(figure) for figure in self.figures]
        lines += ["", f"How far the kernel tables are off the {self.tables.calls} calls they were fitted to:", *errors]
        return profile_text(self.machine, "\n".join([*lines, *(f"note: {note}" for note in self.notes)]))


def probe(*, disk: Path, quick: bool, cc: str | None, cache: Path | None, say: Say) -> Probed:
    """Measure this machine: about a minute, a third of that when `quick`. Raises EnvironmentProblem."""
    started, others = time.monotonic(), Others()
    figures: list[Figure] = []

    def tell(figure: Figure) -> None:
        figures.append(figure)
        say(str(figure))

    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="stratac-probe-") as name:
        device, ram, loops = _cpu(Path(name), cores, ToolchainOptions(cc=cc, cache=cache), tell)
        steps = loops.steps(BESIDE_S)
        found = measure_disk(disk, lambda: loops.busy(cores, steps), quick=quick)
    for figure in (found.latency, *found.figures):
        tell(figure)
    machine = _machine(device, ram, found)
    tables, _ = measure_kernels(machine, CompileOptions(cc=cc, cache=cache), quick, say)
    for figure in tables.figures:
        tell(figure)
    machine = replace(memory_priced(with_tables(machine, tables)), efficiency=tables.efficiency)
    notes = [found.note] if found.note else []
    if others.share() > QUIET:
        notes.append(
            f"other programs took {others.share():.0%} of the CPUs meanwhile: measure again when the machine is idle"
        )
    return Probed(machine, tuple(figures), tables, tuple(notes), time.monotonic() - started)


def _cpu(
    folder: Path, cores: int, options: ToolchainOptions, tell: Callable[[Figure], None]
) -> tuple[Device, Tier, Loops]:
    """The CPU without its kernel tables, its memory, and the loops of its best instruction set."""
    best: Loops | None = None
    peak = 0.0
    for isa in isa_levels():
        loops = Loops(isa, folder, options, native_extensions() if best is None else ())
        figure = loops.flops()
        tell(figure)
        if best is None:
            best, peak = loops, figure.most  # what disturbs a take only slows it
    assert best is not None
    modes = measure_modes(best, native_extensions(), tell)
    memory = measure_memory(best, sorted({1, 2, cores} & set(range(1, cores + 1))), tell)
    caches = measure_caches(best, memory[1].median, tell)
    clock = cpu_clock()
    device = Device(
        name="cpu",
        kind="cpu",
        arch=platform.machine(),
        isa=best.isa,
        cores=cores,
        clock_hz=clock,
        flops_per_cycle=peak / clock,
        caches=caches,
        launch_s=0.0,
        modes=modes,
        model=cpu_model(),
        extensions=native_extensions(),
    )
    alone = memory[1].median
    ram = Tier("ram", memory_bytes(), max(memory[cores].median, alone), alone)
    return device, ram, best


def measure_modes(loops: Loops, extensions: Sequence[str], tell: Callable[[Figure], None]) -> dict[str, float]:
    """Operations of a product per second of one core, by numeric mode where it is not f32. In tiles a mode takes several products
    of parts for one."""
    pairs, quads = loops.pair_flops(), loops.quad_flops()
    tell(pairs)
    tell(quads)
    if TILE_EXTENSION not in extensions:
        return {"bf16": pairs.median, "i8": quads.median}
    tiles = loops.tile_flops()
    tell(tiles)
    modes = {mode: tiles.median / PRODUCTS_OF_PARTS[parts] for mode, parts in TILE_MODES.items()}
    if BFP_EXTENSION in extensions:
        tiles = loops.tile_flops(of_bytes=True)
        tell(tiles)
        modes |= {mode: tiles.median / PRODUCTS_OF_PARTS[parts] for mode, parts in BFP_MODES.items()}
    return {**modes, "i8": quads.median}


def memory_priced(machine: Machine) -> Machine:
    """What no sample took from memory, because the last cache held it, costs what one core was measured to read; a line written is
    read before. Without a price it would be free."""
    byte = 1 / machine.tier("ram").core_bandwidth
    prices = {family: {"ram": byte} for family in STREAMING} | {COMMON: {"ram": byte, "to_ram": 2 * byte}}
    kernels = {
        family: dict(sorted({**prices.get(family, {}), **row}.items())) for family, row in machine.kernels.items()
    }
    return replace(machine, kernels=kernels)


def _machine(device: Device, ram: Tier, found: DiskFigures) -> Machine:
    rate = at(found.curve, REQUEST_BYTES, REQUEST_DEPTH)
    disk = Tier(
        "disk", max(found.free_bytes, 1), rate, rate, "disk", found.latency.median, found.curve, found.core_s_per_byte
    )
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    levels = ", ".join((*isa_levels(), *device.extensions))
    words = re.sub(r"[^a-z0-9]+", "-", f"{cpu_name()} {device.cores}c".lower()).strip("-")
    source = f"measured by stratac {version()} on {date}: {cpu_name()} ({device.model}), {device.cores} cores, {levels}"
    how = "cold sequential reads, " + (found.note or "direct I/O")
    return Machine(words, (device,), (ram, disk), source=source, sources={"tiers.disk": how})
