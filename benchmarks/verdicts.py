"""What results say: ratios, the fastest rival, targets met or missed, promises kept. Pure functions of the results' JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .modes import Mode

FIRST_RUN = 1.5  # times the median that the first run after opening may take
FAITHFUL = 1.5  # times onnxruntime's error against float64 that a faithful plan's may be
Result = Mapping[str, Any]


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else float("nan")


def ratio(systems: Result, system: str) -> float:
    """How many times as long as stratac `system` takes: the median over rounds."""
    pairs = zip(systems["stratac"]["rounds"], systems[system]["rounds"], strict=True)
    return statistics.median(float(theirs / ours) for ours, theirs in pairs)


def best_of(systems: Result, rivals: Sequence[str]) -> str:
    """The fastest of the rivals that ran; empty where none did."""
    ran = [name for name in rivals if "seconds" in systems.get(name, {})]
    return min(ran, key=lambda name: float(systems[name]["seconds"]), default="")


def opening(entry: Result) -> tuple[float, float]:
    """Median seconds to open, and to run for the first time, of a system."""
    return statistics.median(o for o, _ in entry["openings"]), statistics.median(f for _, f in entry["openings"])


@dataclass(frozen=True)
class Short:
    """A model below the target for every single one. `ratio` is NaN where stratac or all rivals failed."""

    model: str
    ratio: float
    needed: float


@dataclass(frozen=True)
class Verdict:
    """A mode at one thread count: ratios to the fastest rival by model, and how they stand to the target."""

    mode: Mode
    threads: int
    ratios: Mapping[str, float]
    rivals: Mapping[str, str]  # the fastest, by model
    failed: tuple[str, ...]  # models without a ratio

    @property
    def mean(self) -> float:
        return geometric_mean(self.ratios.values())

    @property
    def least(self) -> tuple[str, float]:
        """The model with the smallest ratio."""
        return min(self.ratios.items(), key=lambda item: item[1], default=("", float("nan")))

    @property
    def short(self) -> tuple[Short, ...]:
        below = [Short(name, value, self.mode.least) for name, value in self.ratios.items() if value < self.mode.least]
        return (*sorted(below, key=lambda s: s.ratio), *(Short(n, float("nan"), self.mode.least) for n in self.failed))

    @property
    def met(self) -> bool:
        return self.mean >= self.mode.mean and not self.short


def verdict(mode: Mode, threads: int, models: Sequence[Result]) -> Verdict:
    ratios, rivals, failed = {}, {}, []
    for result in models:
        systems = result.get("threads", {}).get(str(threads), {}).get("systems", {})
        best = best_of(systems, mode.rivals)
        if best:
            ratios[result["name"]], rivals[result["name"]] = ratio(systems, best), best
        else:
            failed.append(result["name"])
    return Verdict(mode, threads, ratios, rivals, tuple(failed))


@dataclass(frozen=True)
class Promise:
    """A promise beside the mode's target: what it is about, whether it was kept, the figure. `must`: results are wrong without."""

    name: str
    kept: bool
    figure: str
    must: bool = False


def promises(mode: Mode, result: Result) -> list[Promise]:
    """Of one model that ran."""
    return [*_right(mode, result), *(p for count, entry in result["threads"].items() for p in _cheap(count, entry))]


def _right(mode: Mode, result: Result) -> list[Promise]:
    shapes = result["accuracy"]["shapes"]
    ours = max((shape["rel_l2"]["stratac"] for shape in shapes), key=_nan_last)
    found = [
        Promise("right", ours <= mode.sane, f"{ours:.1e}", must=True),
        Promise(
            "same bits at all thread counts", bool(result["accuracy"]["same_bits_at_all_thread_counts"]), "", must=True
        ),
    ]
    if mode.faithful:
        times = error_ratio(result)
        found.append(Promise(f"error at most {FAITHFUL} x onnxruntime's", times <= FAITHFUL, f"{times:.2f} x"))
    return found


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def error_ratio(result: Result) -> float:
    """stratac's error against float64 over onnxruntime's, at the shape where that is greatest."""
    rows = [shape["rel_l2"] for shape in result["accuracy"]["shapes"]]
    return max((float(row["stratac"] / row["onnxruntime"]) for row in rows), key=_nan_last)


def _cheap(count: str, entry: Result) -> list[Promise]:
    systems, memory = entry["systems"], entry["memory"]
    ours = systems["stratac"]
    first = opening(ours)[1] / ours["seconds"]
    found = [
        Promise(
            f"first run at {count} threads, at most {FIRST_RUN} x the median", first <= FIRST_RUN, f"{first:.2f} x"
        ),
        Promise(f"memory as predicted at {count} threads", bool(memory["kept"]), "", must=True),
    ]
    for name, peak in memory["peaks"].items():
        if name != "stratac":
            share = memory["peaks"]["stratac"] / peak
            found.append(Promise(f"peak RSS below {name}'s at {count} threads", share < 1, f"{share:.2f} of it"))
    return found


def is_right(mode: Mode, result: Result) -> bool:
    """Whether a model ran, its results are right at any thread count, and it kept to its memory."""
    return "error" not in result and all(promise.kept for promise in promises(mode, result) if promise.must)
