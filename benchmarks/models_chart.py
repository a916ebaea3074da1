"""The picture of a mode's results: for each model how many times as long as stratac every peer takes, on a log scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from . import svg
from .modes import Mode
from .tables import plural, systems_of
from .verdicts import Result, geometric_mean, ratio, verdict

WIDTH, LEFT, RIGHT, GAP, TOP, LINE = 860, 138, 24, 34, 104, 26
#: a colour on light pages, on dark ones; told apart by colour-blind eyes (Okabe and Ito)
COLOURS: Mapping[str, tuple[str, str]] = {
    "onnxruntime": ("#0072b2", "#56b4e9"),
    "openvino": ("#d55e00", "#f0894b"),
    "aotinductor": ("#009e73", "#33c29a"),
    "openvino-default": ("#d55e00", "#f0894b"),
    "inductor-bf16": ("#009e73", "#33c29a"),
    "iree": ("#7d8792", "#9ba4ae"),
}
_LIGHT = ".one { stroke: #1d2126; } .gain { stroke: #0072b2; stroke-opacity: .25; stroke-width: 9; }"
_DARK = ".one { stroke: #e6e8eb; } .gain { stroke: #56b4e9; }"


def _sheet() -> str:
    dots = [" ".join(f".{name} {{ fill: {pair[at]}; }}" for name, pair in COLOURS.items()) for at in (0, 1)]
    return svg.style(
        f"{_LIGHT} .dot {{ stroke: #ffffff; stroke-width: 1.2; }} .loss {{ stroke: #d55e00; stroke-opacity: .3; "
        f"stroke-width: 9; }} {dots[0]}",
        f"{_DARK} .dot {{ stroke: #1a1d21; }} .loss {{ stroke: #f0894b; }} {dots[1]}",
    )


def chart(mode: Mode, results: Result) -> str:
    """One panel for each thread count, one line for each model and one for the geometric mean over them.

    A dot is a peer; right of the line at 1 it takes longer than stratac. The bar reaches to the fastest rival of the mode.
    """
    models = [result for result in results["models"] if "error" not in result]
    systems = systems_of(results)
    panels = [_ratios(models, str(threads), systems) for threads in results["threads"]]
    values = [value for panel in panels for row in panel for value in row[1].values()]
    low, high = min([0.9, *(v * 0.94 for v in values)]), max([1.25, *(v * 1.06 for v in values)])
    bottom = TOP + LINE * (len(models) + 1)
    height = bottom + 52
    wide = (WIDTH - LEFT - RIGHT - GAP * (len(panels) - 1)) / len(panels)
    title = f"{mode.title}: time of peers over stratac's"
    parts = [svg.opening(WIDTH, height, title, _sheet()), svg.text(24, 32, title, "title")]
    parts += [svg.text(24, 54, _subtitle(results), "minor"), *_keys(systems)]
    for number, result in enumerate(models):
        parts.append(svg.text(24, _at(number) + 4, result["name"], "name"))
    parts.append(svg.text(24, _at(len(models)) + 4, "geometric mean", "name"))
    for at, (threads, panel) in enumerate(zip(results["threads"], panels, strict=True)):
        start = LEFT + at * (wide + GAP)

        def x(value: float, start: float = start) -> float:
            return start + wide * math.log(value / low) / math.log(high / low)

        parts.append(svg.text(start + wide / 2, TOP - 10, plural(threads), "minor", "middle"))
        for tick in _ticks(low, high, wide):
            kind = "one" if tick == 1 else "grid"
            parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{bottom}"/>')
            parts.append(svg.text(x(tick), bottom + 19, f"{tick:g}", "minor", "middle"))
        found = verdict(mode, threads, models)
        for number, (name, row) in enumerate(panel):
            best = found.ratios.get(name, found.mean)
            kind, y = ("gain" if best >= 1 else "loss"), _at(number)
            parts.append(f'<line class="{kind}" x1="{x(1):.1f}" x2="{x(best):.1f}" y1="{y}" y2="{y}"/>')
            parts += [
                f'<circle class="dot {system}" cx="{x(value):.1f}" cy="{y}" r="5"><title>{escape(name)}, {escape(system)}: '
                f"{value:.2f} times stratac's time</title></circle>"
                for system, value in row.items()
            ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(svg.text(middle, bottom + 40, "times stratac's time; right of 1 stratac is faster", "minor", "middle"))
    return "".join([*parts, "</svg>\n"])


def _at(number: int) -> float:
    return TOP + LINE * (number + 0.5)


def _ratios(models: Sequence[Result], threads: str, systems: Sequence[str]) -> list[tuple[str, dict[str, float]]]:
    """By model and, last, the geometric mean of the models that a system ran."""
    rows = []
    for result in models:
        found = result["threads"][threads]["systems"]
        rows.append((result["name"], {s: ratio(found, s) for s in systems if "seconds" in found.get(s, {})}))
    means = {
        s: geometric_mean(row[s] for _, row in rows if s in row) for s in systems if any(s in row for _, row in rows)
    }
    return [*rows, ("geometric mean", means)]


def _subtitle(results: Result) -> str:
    machine = results["machine"]
    return f"{machine['cpu']} ({machine['isa']}, {machine['cores']} cores), {results['date'][:10]}"


def _keys(systems: Sequence[str]) -> list[str]:
    parts, x = [], 24.0
    for name in systems:
        parts.append(
            f'<circle class="dot {name}" cx="{x + 5:.1f}" cy="73" r="5"/>' + svg.text(x + 16, 77, name, "minor")
        )
        x += 40 + 7 * len(name)
    return parts


def _ticks(low: float, high: float, wide: float) -> list[float]:
    """Round values on a log scale `wide` pixels long, 1 among them; the finest steps whose labels do not touch."""
    steps = (
        (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2),
        (0.5, 0.6, 0.8, 1, 1.2, 1.4, 1.6, 2, 2.5),
        (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4),
        (0.125, 0.25, 0.5, 1, 2, 4, 8, 16),
        tuple(10.0**power for power in range(-3, 5)),
    )
    for values in steps:
        found = [float(value) for value in values if low <= value <= high]
        apart = min((b / a for a, b in pairwise(found)), default=math.inf)
        reaches = high < 2 * values[-1] and low > values[0] / 2
        if reaches and wide * math.log(apart) / math.log(high / low) >= 30:
            return found
    return [1.0]
