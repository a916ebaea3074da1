"""Kernel tables: sample graphs compiled, run and timed call by call, and the price of each term fitted to the times."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...codegen.emit_kernels import emit_kernels
from ...codegen.facts import BFP_EXTENSION, TILE_EXTENSION, TILE_MODES
from ...codegen.library import FAMILIES, LIGHT, Library
from ...ir.candidate import EXACT_MODES, MODE_ERRORS, UNITS, Candidate
from ...ir.graph import Graph, Node
from ...ir.machine import Machine
from ...passes.base import run_passes
from ...passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from ...passes.place.cost import COMMON, OVERLAP_LOSS, TRAFFIC, WORTH_SHARING_S, memory_bandwidth
from ...passes.place.place import place
from ...passes.place.request import PlaceRequest
from ...passes.schedule.order import order
from ...passes.schedule.schedule import schedule
from ...runtime.session import load
from ..artifact import write_artifact
from ..driver import Levels
from ..options import CompileOptions
from . import samples
from .fit import fit_prices
from .hardware import Figure

Say = Callable[[str], None]

#: terms that every family shares: callbacks of heavy kernels are made of what loops are made of
SHARED = frozenset(
    (
        "ld",
        "st",
        "op",
        "row",
        "reduce",
        "strided",
        "strided_near",
        "strided_far",
        "unit",
        "decode",
        "lookup",
        "down",
        "div",
        "sqrt",
        "exp",
        "log",
        "tanh",
        "sigmoid",
        "erf",
    )
    + (
        "sin",
        "cos",
        "pow",
        "mod",
        "fmod",
        "s_ld",
        "s_st",
        "s_op",
        "s_div",
        "s_call",
        "s_fold",
        "s_scatter",
        "s_collide",
        "to_l1",
        "to_l2",
        "to_l3",
        "to_l4",
        "to_ram",
    )
)
#: the register tile's terms, and the families that are made of it
PRODUCT_TERMS = frozenset(("fma", "b_vector", "tile", "parked", "a_again", "b_again", "pack", "turn", "copy", "fill"))
PRODUCTS = ("matmul", "conv", "winograd", "attention")
#: the same of products in tiles, whatever the parts; but how far loads of tiles hide behind products depends on how many of
#: these there are to a load
TILE_TERMS = frozenset(("split", "b_split", "block", "a_again", "b_again"))
PARTS_TERMS = frozenset(("dot", "b_tile"))
TILED = tuple(row.name for row in FAMILIES if row.extension == TILE_EXTENSION)
#: and of products in block floating point
BFP_TILED = tuple(row.name for row in FAMILIES if row.extension == BFP_EXTENSION)
#: these stream what they take from memory, so that it costs what memory gives
STREAMING = tuple(row.name for row in FAMILIES if row.name not in LIGHT)
#: and of whole numbers, whose register tiles are the same with other multiplications
WHOLE = tuple(row.name for row in FAMILIES if row.mode == "i8")
_PRODUCT, _TILED, _BFP_TILED, _WHOLE = "product", "tiled", "bfp", "whole"
_PARTS = {f"{_TILED} {mode}": tuple(n for n in TILED if n.endswith(f"_{mode}")) for mode in TILE_MODES}
#: owners of terms that several families share, which are then fitted as one
_OWNERS = {
    _PRODUCT: (PRODUCTS, PRODUCT_TERMS),
    _TILED: (TILED, TILE_TERMS),
    _BFP_TILED: (BFP_TILED, TILE_TERMS | PARTS_TERMS),
    _WHOLE: (WHOLE, PRODUCT_TERMS),
    **{owner: (families, PARTS_TERMS) for owner, families in _PARTS.items()},
}
#: owners whose families a machine may lack
_OPTIONAL = (_TILED, _BFP_TILED, *_PARTS)
LAUNCH = "launch"
_BRIEF_S = 50e-6  # calls that a barrier is a visible part of


@dataclass(frozen=True)
class Timed:
    """One call of a sample plan: its family, its terms, its arithmetic and the seconds of its runs by thread count.

    `waited`: whether the threads met right after it.
    """

    label: str
    waited: bool
    family: str
    terms: Mapping[str, float]
    flops: float
    seconds: Mapping[int, tuple[float, ...]]

    def typical(self, threads: int) -> float:
        """Seconds of a usual run, disturbed as runs usually are: predictions are held against medians too."""
        return statistics.median(self.seconds[threads])


@dataclass(frozen=True)
class Tables:
    """What was fitted. `errors` are the shares by which the tables miss the samples, by family; `efficiency` is what each
    family reaches of its numeric mode's rate, for a roofline instead of its table."""

    kernels: Mapping[str, Mapping[str, float]]
    launch_s: float
    barrier_s: float
    run_s: float
    errors: Mapping[str, tuple[float, float]]  # family -> (median, 95th percentile)
    efficiency: Mapping[str, float]
    calls: int
    figures: tuple[Figure, ...] = ()


def sample_graphs(quick: bool) -> list[Graph]:
    sizes = (1 << 16,) if quick else (1 << 12, 1 << 16, 1 << 20)
    return [samples.transformer(), samples.convolutional(), *(samples.loops(n, quick) for n in sizes)]


#: a numeric mode and the extension its families need, or ""
Kind = tuple[str, str]
F32: Kind = ("f32", "")


def kinds_of(machine: Machine) -> list[Kind]:
    """The kinds of families beside those in f32 that are offered on a machine's CPU."""
    found = dict.fromkeys((row.mode, row.extension) for row in FAMILIES)
    return [k for k in found if k != F32 and (not k[1] or k[1] in machine.device("cpu").extensions)]


def families_of(kind: Kind) -> frozenset[str]:
    return frozenset(row.name for row in FAMILIES if (row.mode, row.extension) == kind)


class OneKind(Library):
    """Offers kernels of one kind where a cluster has such, else those of the exact modes: what they cost is not known yet."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(max_error=MODE_ERRORS[kind[0]])
        self.names = families_of(kind)

    def candidates(self, cluster: Node, graph: Graph, machine: Machine) -> Sequence[Candidate]:
        found = super().candidates(cluster, graph, machine)
        return [c for c in found if c.family in self.names] or [c for c in found if c.mode in EXACT_MODES]


def lower_samples(graph: Graph, machine: Machine, threads: int, kind: Kind = F32) -> Levels:
    """The driver's steps from a graph on, products of one kind wherever they can be."""
    library = OneKind(kind)
    simple = run_passes(graph, GRAPH_PASSES)
    clusters = run_passes(simple, CLUSTER_PASSES)
    placed = place(clusters, library, machine, PlaceRequest(threads))
    kernels = emit_kernels(placed, library, machine)
    return Levels(machine, simple, clusters, placed, kernels, schedule(placed, machine, kernels.functions, threads))


def time_graph(
    graph: Graph,
    machine: Machine,
    counts: Sequence[int],
    options: CompileOptions,
    seconds: float,
    kind: Kind = F32,
) -> tuple[list[Timed], list[float]]:
    """Compile a graph and time each of its calls, about so many seconds for each thread count. Beside the calls: by how much
    each run took longer than they did together."""
    levels = lower_samples(graph, machine, max(counts), kind)
    inputs = {port.name: _values(levels.graph, port.value) for port in levels.graph.inputs}
    outputs = {port.name: _values(levels.graph, port.value) for port in levels.graph.outputs}
    rows: dict[int, np.ndarray] = {}
    outside: list[float] = []
    with tempfile.TemporaryDirectory(prefix="stratac-probe-") as name:
        folder = write_artifact(levels, {}, Path(name) / "samples.plan", options, None).folder
        for threads in counts:
            with load(folder, threads=threads, verify=False) as session:
                session.run_into(outputs=outputs, inputs=inputs)
                taken: list[list[float]] = []
                until = time.perf_counter() + seconds
                while len(taken) < 9 or (time.perf_counter() < until and len(taken) < 400):
                    session.reset_profile()
                    begin = time.perf_counter()
                    session.run_into(outputs=outputs, inputs=inputs)
                    passed = time.perf_counter() - begin
                    taken.append([row.seconds for row in session.profile()])
                    outside.append(max(passed - sum(taken[-1]), 0.0))
                labels = [row.label for row in session.profile()]
            rows[threads] = np.array(taken)
    nodes, _ = order(levels.placed.graph)
    waits = [*(call.barrier for call in levels.plan.calls[1:]), True]
    found = []
    for i, node in enumerate(nodes):
        candidate = levels.placed.choices[node.outputs[0]].chosen.candidate
        times = {threads: tuple(float(t) for t in rows[threads][:, i]) for threads in counts}
        found.append(
            Timed(labels[i], waits[i], candidate.family, dict(candidate.work.terms), candidate.work.flops, times)
        )
    return found, outside


def _values(graph: Graph, value: str) -> np.ndarray:
    """Floats of usual size; small whole numbers, valid as positions."""
    kind = graph.types[value]
    shape = tuple(int(str(d)) for d in kind.shape)
    rng = np.random.default_rng(1)
    return (rng.standard_normal(shape) if kind.dtype.is_float else rng.integers(0, 4, shape)).astype(kind.dtype.np)


def fit_tables(timed: Sequence[Timed], outside: Sequence[float], machine: Machine, threads: int) -> Tables:
    """Prices of all families at once, from the times on one thread; launch and barrier beside them. `outside` are the seconds
    of runs that no call accounts for.

    A multiply-add never costs less than the measured peak says, packing never less than the second cache's bandwidth; what
    families with streams take from memory costs what one core was measured to read.
    """
    device = machine.device("cpu")
    kept = [t for t in timed if t.typical(1) > 0 and not _bound_by_memory(t, machine)]
    columns = [{LAUNCH: 1.0, **{_column(t.family, n): c for n, c in t.terms.items() if n != UNITS}} for t in kept]
    least = {f"{_PRODUCT}.fma": 2 * device.lanes / device.peak_flops}
    if "i8" in device.modes:
        least[f"{_WHOLE}.fma"] = 8 * device.lanes / device.modes["i8"]
    if TILE_EXTENSION in device.extensions and "bf16" in device.modes:
        row = 2 * 16 * 32 / device.modes["bf16"]  # a row of one product of tiles, of bytes too
        least |= {f"{owner}.dot": row for owner in (_BFP_TILED, *_PARTS)}
    if len(device.caches) > 1:  # a vector packed is read from one place and written to another
        least |= {f"{_PRODUCT}.{term}": 8 * device.lanes / device.caches[1].bandwidth for term in ("pack", "copy")}
    seen = {t.family for t in kept}
    traffic = frozenset(_column(family, term) for family in seen for term in TRAFFIC)
    fixed = {f"{family}.ram": 1 / machine.tier("ram").core_bandwidth for family in STREAMING}
    # left operands walked again are split again, which has a price of its own: too alike to be told apart
    fixed |= {f"{owner}.a_again": 1 / device.caches[-1].bandwidth for owner in (_TILED, _BFP_TILED) if device.caches}
    # attention packs what it reads once: brief calls would take what a head costs beside for traffic
    fixed |= {f"{n}.l{c.level}": 1 / c.bandwidth for n in TILED if n.startswith("attention") for c in device.caches}
    prices, residual = fit_prices(columns, [t.typical(1) for t in kept], least, fixed, traffic, OVERLAP_LOSS)
    launch = prices.pop(LAUNCH)
    kernels: dict[str, dict[str, float]] = {}
    for column, price in sorted(prices.items()):
        owner, _, term = column.partition(".")
        families = _OWNERS[owner][0] if owner in _OWNERS else (owner,)
        for family in sorted(seen & {*families}) if owner in _OPTIONAL else families:
            kernels.setdefault(family, {})[term] = price
    errors = {}
    for family in sorted(seen):
        own = np.abs([r for t, r in zip(kept, residual, strict=True) if t.family == family])
        errors[family] = (float(np.median(own)), float(np.quantile(own, 0.95)))
    kernels = {family: dict(sorted(row.items())) for family, row in sorted(kernels.items())}
    lost = _lost_at_barriers(timed, machine, launch, threads)
    barrier = max(statistics.median(lost), 0.0) if lost else 0.0
    figures = [Figure.of("one run beside its calls", "s", outside)]
    if lost:
        quarters = statistics.quantiles(lost, n=4) if len(lost) > 1 else lost * 3
        figures.append(Figure(f"one barrier of {threads} threads, quartiles", "s", barrier, quarters[0], quarters[2]))
    rates = {row.name: device.modes.get(row.mode, device.peak_flops) for row in FAMILIES}
    shares = {family: _share(family, kept, rates[family]) for family in errors}
    return Tables(kernels, launch, barrier, statistics.median(outside), errors, shares, len(kept), tuple(figures))


def _share(family: str, timed: Sequence[Timed], peak: float) -> float:
    """The part of its mode's rate that a family's calls reach together, to three digits."""
    own = [t for t in timed if t.family == family]
    share = sum(t.flops for t in own) / (peak * sum(t.typical(1) for t in own))
    return float(f"{min(max(share, 1e-3), 1.0):.3g}")


def _lost_at_barriers(timed: Sequence[Timed], machine: Machine, launch: float, threads: int) -> list[float]:
    """For calls with a barrier after them: by how much the threads together took longer than their share of one's time."""
    found = []
    for t in timed:
        alone = t.typical(1)
        if threads > 1 and t.waited and alone < _BRIEF_S:
            units = t.terms.get(UNITS, 1.0)
            share = 1.0 if alone < WORTH_SHARING_S else math.ceil(units / threads) / units
            moved = t.terms.get("ram", 0.0) + t.terms.get("to_ram", 0.0)
            least = moved / memory_bandwidth(machine.tier("ram"), threads)
            found.append(t.typical(threads) - max((alone - launch) * share, least) - launch)
    return found


def _bound_by_memory(timed: Timed, machine: Machine) -> bool:
    """Whether a call waited for memory most of its time: then it tells nothing about its terms."""
    moved = timed.terms.get("ram", 0.0) + timed.terms.get("to_ram", 0.0)
    return moved / memory_bandwidth(machine.tier("ram"), 1) > 0.7 * timed.typical(1)


def _column(family: str, term: str) -> str:
    several = (owner for owner, (families, terms) in _OWNERS.items() if family in families and term in terms)
    return f"{next(several, COMMON if term in SHARED else family)}.{term}"


def measure_kernels(machine: Machine, options: CompileOptions, quick: bool, say: Say) -> tuple[Tables, list[Timed]]:
    """Compile and time all samples on 1 and all cores, and fit."""
    cores = machine.device("cpu").cores
    counts = sorted({1, cores})
    timed: list[Timed] = []
    for graph in sample_graphs(quick):
        say(f"kernels: compiling and timing {graph.name}")
        timed += time_graph(graph, machine, counts, options, 1.0 if quick else 3.0)[0]
    for kind in kinds_of(machine):
        say(f"kernels: products in {' on '.join(filter(None, kind))}")
        own = families_of(kind)
        for graph in samples.products(kind[0]):
            calls, _ = time_graph(graph, machine, counts, options, 1.0 if quick else 2.0, kind)
            timed += [call for call in calls if call.family in own]
    _, outside = time_graph(samples.brief(), machine, counts, options, 0.3)
    return fit_tables(timed, outside, machine, cores), timed


def with_tables(machine: Machine, tables: Tables) -> Machine:
    """The machine with fitted tables, launch and barrier costs in it."""
    devices = tuple(
        replace(d, launch_s=tables.launch_s, barrier_s=tables.barrier_s, run_s=tables.run_s) if d.kind == "cpu" else d
        for d in machine.devices
    )
    return replace(machine, devices=devices, kernels={**machine.kernels, **tables.kernels})
