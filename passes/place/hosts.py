"""Splits of a model over units, processors with a memory of their own, in one host or many: pipeline stages and tensor groups.

A model is a chain of pieces. A tensor group of t units shares the work and weights of every piece that can be split, and pays for
exchanges; p groups follow each other as the stages of a pipeline, through which m microbatches of one run pass. The pipeline is
simulated event by event. What is left of the units holds copies of the whole, which serve other runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .collectives import Way, all_gather_seconds, all_reduce_seconds

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """A cluster as one unit runs it. Seconds are of a whole run on one unit: `compute_s` of arithmetic, `weight_s` to bring the
    weights from the unit's memory, `moved_s` for everything else it moves; the slower of arithmetic and memory counts.

    `weights` and `state` are bytes held; `sent` the bytes that later pieces need of all values made so far. Of a piece that can be
    `split`, each member of a tensor group does and holds its part; then `reduce` bytes are summed over the members, and `gather`
    bytes brought together.
    """

    name: str
    compute_s: float
    weight_s: float
    moved_s: float
    launch_s: float
    weights: int = 0
    state: int = 0
    sent: float = 0.0
    split: bool = False
    reduce: float = 0.0
    gather: float = 0.0
    touched: float = 1.0  # share of the weights that a run reads: of a mixture of experts the chosen ones

    @property
    def memory_s(self) -> float:
        return self.weight_s + self.moved_s

    @property
    def seconds(self) -> float:
        return max(self.compute_s, self.memory_s) + self.launch_s


@dataclass(frozen=True)
class Below:
    """Where weights live that a unit's memory cannot hold: bytes of it for each unit, and bytes per second on the way from it."""

    bytes: float
    bandwidth: float


@dataclass(frozen=True)
class Unit:
    """What runs pieces: a GPU, or the processor of a host. `memory` is what weights and state may take. Weights that do not fit
    arrive during each run from the levels `below`, the nearest first; without any they must fit."""

    memory: float
    below: tuple[Below, ...] = ()

    def streaming(self, over: float, touched: float = 1.0) -> float | None:
        """Seconds to bring in a share of so many bytes, the ways from all levels working side by side; None where no level has
        room for them."""
        seconds = 0.0
        for level in self.below:
            if over <= 0:
                break
            seconds = max(seconds, over * touched / level.bandwidth)
            over -= level.bytes
        return seconds if over <= 0 else None


@dataclass(frozen=True)
class Fabric:
    """`per_host` equal units in each host, joined by `inside`; hosts joined by `between`, which is one unit's way out."""

    unit: Unit
    per_host: int
    inside: Way
    between: Way | None
    hosts: int = 1

    def way(self, units: int) -> Way | None:
        """Between neighbours in a group of so many units."""
        return self.inside if units <= self.per_host else self.between


@dataclass(frozen=True)
class Split:
    """A way to run the model: `stages` x `tensor` units, `copies` times, and what it gives."""

    hosts: int
    stages: int
    tensor: int
    microbatches: int
    copies: int
    seconds: float  # of one run
    runs_per_second: float  # runs back to back, over all copies
    bubble: float  # share of the stages' time spent waiting within one run
    exchange_s: float  # of `seconds`: collectives and transfers between stages, not overlapped
    memory: float  # bytes of weights and state on the fullest unit
    over: float  # bytes of weights that the fullest unit has no room for
    streamed: float  # bytes a run brings in from below, of the unit with most
    starved: bool  # whether a stage waits for these longer than it computes
    cuts: tuple[int, ...]  # the first piece of each stage


# -- the chain under a tensor group and microbatches -----------------------------------------------------------------


@dataclass(frozen=True)
class _Chain:
    """Per piece: seconds of one microbatch (exchanges included), exchange seconds alone, bytes held."""

    seconds: Floats
    exchange: Floats
    weights: Floats
    held: Floats


class Chain:
    """Pieces as arrays, and their sums under each split."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = tuple(pieces)
        self.column = {
            name: np.array([float(getattr(p, name)) for p in pieces])
            for name in (
                "compute_s",
                "weight_s",
                "moved_s",
                "launch_s",
                "weights",
                "state",
                "sent",
                "split",
                "reduce",
                "gather",
                "touched",
            )
        }

        self._known: dict[tuple[int, int, Way | None], _Chain] = {}

    def under(self, tensor: int, microbatches: int, way: Way | None) -> _Chain:
        """The chain as members of tensor groups see it."""
        key = (tensor, microbatches, way)
        if key not in self._known:
            self._known[key] = self._under(*key)
        return self._known[key]

    def _under(self, tensor: int, microbatches: int, way: Way | None) -> _Chain:
        c = self.column
        members = np.where(c["split"] > 0, float(tensor), 1.0)
        parts = members * microbatches
        busy = np.maximum(c["compute_s"] / parts, c["weight_s"] / members + c["moved_s"] / parts)
        exchange = np.zeros(len(self.pieces))
        if tensor > 1 and way is not None:
            for k in np.flatnonzero((c["reduce"] > 0) | (c["gather"] > 0)):
                reduced, gathered = c["reduce"][k] / microbatches, c["gather"][k] / microbatches
                exchange[k] = all_reduce_seconds(reduced, tensor, way) + all_gather_seconds(gathered, tensor, way)
        weights = c["weights"] / members
        return _Chain(busy + c["launch_s"] + exchange, exchange, weights, weights + c["state"] / members)


def balance(
    seconds: Sequence[float] | Floats, held: Sequence[float] | Floats, stages: int, limit: float
) -> tuple[int, ...] | None:
    """Cut a chain into at most so many runs of neighbours so that the slowest takes least and none holds more than `limit`.

    Returns the first piece of each stage, or None where no cut keeps the limit. Exact: for a bound on the slowest stage, filling
    stages from the front is optimal, and the bound is found by bisection.
    """
    time, memory = np.concatenate(([0.0], np.cumsum(seconds))), np.concatenate(([0.0], np.cumsum(held)))

    def cuts(bound: float) -> tuple[int, ...] | None:
        found: list[int] = []
        at = 0
        while at < len(time) - 1:
            if len(found) == stages:
                return None
            found.append(at)
            end = min(
                int(np.searchsorted(time, time[at] + bound * (1 + 1e-12), side="right")),
                int(np.searchsorted(memory, memory[at] + limit, side="right")),
            )
            if end - 1 <= at:
                return None
            at = end - 1
        return tuple(found)

    low, high = float(np.max(seconds, initial=0.0)), float(time[-1])
    best = cuts(high)
    if best is None:
        return None
    for _ in range(60):
        if high - low <= 1e-9 * high:
            break
        middle = (low + high) / 2
        found = cuts(middle)
        low, high, best = (middle, high, best) if found is None else (low, middle, found)
    return cuts(low) or best


# -- the pipeline, event by event --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """A simulated pipeline: seconds until the last microbatch leaves, and the share of the stages' time they waited."""

    seconds: float
    bubble: float


def simulate_pipeline(stages: Sequence[float], transfers: Sequence[float], microbatches: int) -> Flow:
    """Microbatches through stages in order. `stages[k]` is the time of one microbatch in stage k, `transfers[k]` of the link behind
    it; every stage and every link does one thing at a time, and a stage computes while its link sends."""
    count = len(stages)
    times = [t for k in range(count) for t in ((stages[k], transfers[k]) if k < count - 1 else (stages[k],))]
    free = [0.0] * len(times)  # when each stage or link, in the order of the chain, is done with what it has begun
    queue = [(0.0, batch, 0) for batch in range(microbatches)]  # (ready, microbatch, place)
    last = 0.0
    while queue:
        ready, batch, place = heapq.heappop(queue)
        end = max(ready, free[place]) + times[place]
        free[place] = end
        if place + 1 < len(times):
            heapq.heappush(queue, (end, batch, place + 1))
        else:
            last = max(last, end)
    busy = microbatches * sum(stages)
    return Flow(last, 1.0 - busy / (count * last) if last > 0 else 0.0)


# -- search ------------------------------------------------------------------------------------------------------------


def evaluate(chain: Chain, fabric: Fabric, stages: int, tensor: int, microbatches: int) -> Split | None:
    """One split; None where it does not fit the units' memory or has no network to go over."""
    units, total = stages * tensor, fabric.per_host * fabric.hosts
    inside, along = fabric.way(tensor), fabric.way(units)
    if units > total or (tensor > 1 and inside is None) or (stages > 1 and along is None):
        return None
    under, unit = chain.under(tensor, microbatches, inside), fabric.unit
    cuts = balance(under.seconds, under.held, stages, unit.memory)
    if cuts is None and unit.below:
        cuts = balance(under.seconds, under.held, stages, np.inf)
    if cuts is None or len(cuts) < stages:
        return None
    time, held, weights = [], [], []
    for start, end in zip(cuts, (*cuts[1:], len(chain.pieces)), strict=True):
        time.append(float(under.seconds[start:end].sum()))
        held.append(float(under.held[start:end].sum()))
        weights.append(float(under.weights[start:end].sum()))
    over = [max(h - unit.memory, 0.0) for h in held]
    if any(o > w for o, w in zip(over, weights, strict=True)):
        return None  # state cannot be streamed
    part = chain.column["touched"] * under.weights
    shares = [
        float(part[start:end].sum()) / total if total > 0 else 1.0
        for start, end, total in zip(cuts, (*cuts[1:], len(chain.pieces)), weights, strict=True)
    ]
    arrive = [unit.streaming(o, share) for o, share in zip(over, shares, strict=True)]
    if any(seconds is None for seconds in arrive):
        return None
    starved = any((seconds or 0.0) / microbatches > t for t, seconds in zip(time, arrive, strict=True))
    time = [max(t, (seconds or 0.0) / microbatches) for t, seconds in zip(time, arrive, strict=True)]
    sent = [float(chain.column["sent"][cut - 1]) / microbatches for cut in cuts[1:]]
    transfers = [along.seconds(n) for n in sent] if along is not None else []
    flow = simulate_pipeline(time, transfers, microbatches)
    copies = total // units
    exchange = float(under.exchange.sum()) * microbatches + sum(transfers)
    return Split(
        fabric.hosts,
        stages,
        tensor,
        microbatches,
        copies,
        flow.seconds,
        copies / (max([*time, *transfers]) * microbatches),
        flow.bubble,
        exchange,
        max(held),
        max(over),
        max(o * share for o, share in zip(over, shares, strict=True)),
        starved,
        cuts,
    )


def splits(chain: Chain, fabric: Fabric, batch: int, tensor_limit: int) -> Iterator[Split]:
    """Every split in powers of two that fits: tensor groups up to `tensor_limit`, microbatches up to `batch`."""
    total = fabric.per_host * fabric.hosts
    for tensor in _powers(min(tensor_limit, total)):
        for stages in _powers(total // tensor):
            for microbatches in _powers(batch) if stages > 1 else [1]:
                found = evaluate(chain, fabric, stages, tensor, microbatches)
                if found is not None:
                    yield found


def best_of(found: Iterable[Split], objective: str = "latency") -> Split | None:
    """The split with the shortest run, or for `throughput` the most runs per second; of equals the smaller. None of none."""
    least: Callable[[Split], tuple[float, ...]] = {
        "latency": lambda s: (s.seconds, s.stages * s.tensor, s.microbatches),
        "throughput": lambda s: (-s.runs_per_second, s.seconds, s.stages * s.tensor),
    }[objective]
    return min(found, key=least, default=None)


def best_split(
    chain: Chain, fabric: Fabric, batch: int = 1, tensor_limit: int = 64, objective: str = "latency"
) -> Split | None:
    """The best of all splits; None where none fits."""
    return best_of(splits(chain, fabric, batch, tensor_limit), objective)


@dataclass(frozen=True)
class Scale:
    """What a number of hosts can do at best: the fastest run, and the most runs per second."""

    hosts: int
    fastest: Split | None
    busiest: Split | None


def scaling(chain: Chain, fabric: Fabric, counts: Sequence[int], batch: int, tensor_limit: int) -> list[Scale]:
    """The best splits for each number of hosts."""
    rows = []
    for count in counts:
        found = list(splits(chain, replace(fabric, hosts=count), batch, tensor_limit))
        rows.append(Scale(count, best_of(found), best_of(found, "throughput")))
    return rows


def stops_paying(rows: Sequence[Scale], least: float = 0.1) -> int:
    """The last number of hosts that made a run faster by at least this share, against fewer; 0 where nothing fits."""
    best: Split | None = None
    last = 0
    for row in rows:
        if row.fastest is not None and (best is None or row.fastest.seconds < best.seconds * (1 - least)):
            best, last = row.fastest, row.hosts
    return last


def _powers(most: int) -> list[int]:
    return [1 << k for k in range(max(most, 0).bit_length()) if 1 << k <= most]
