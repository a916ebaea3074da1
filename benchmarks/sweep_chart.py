"""The picture of a budget sweep: an SVG that reads well on light and dark pages, and where no script runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stratac.compiler.options import size_text

from . import svg

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 76, 28, 78, 58
_STYLE = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.back { fill: #ffffff; } text { fill: #1d2126; } .minor { fill: #616a74; } .title { font-size: 17px; font-weight: 600; }
.axis { stroke: #b9bfc6; } .grid { stroke: #e6e8ea; } .line { fill: none; stroke: #0072b2; stroke-width: 2.2; }
.bound { fill: none; stroke: #7d8792; stroke-width: 1.3; stroke-dasharray: 5 4; } .dot { fill: #0072b2; }
.point { fill: #d55e00; stroke: #ffffff; stroke-width: 1.6; } .none { fill: #d55e00; fill-opacity: .09; }
.edge { stroke: #d55e00; stroke-dasharray: 2 3; }
@media (prefers-color-scheme: dark) {
 .back { fill: #1a1d21; } text { fill: #e6e8eb; } .minor { fill: #9ba4ae; } .axis { stroke: #4a525b; }
 .grid { stroke: #2d3238; } .line { stroke: #56b4e9; } .dot { fill: #56b4e9; } .none { fill: #f0894b; }
 .point { fill: #f0894b; stroke: #1a1d21; } .edge { stroke: #f0894b; }
}
"""


def chart(found: Mapping[str, Any]) -> str:
    """`found` is what `benchmarks.sweep.sweep` returns."""
    rows = [row for row in found["predicted"] if row["seconds"] is not None]
    least, resident = found["smallest_budget"], found["resident"]
    low, high = min(row["budget"] for row in found["predicted"]), max(row["budget"] for row in rows)
    low, high = low * 0.97, high * 1.05
    top = 1.12 * max([row["seconds"] for row in rows] + [row["seconds"] for row in found["measured"]])
    unit, name = (1.0, "s") if top >= 2 else (1e-3, "ms")

    def x(budget: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(budget / low) / math.log(high / low)

    def y(seconds: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * seconds / top

    floor = HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>Time of one run of {escape(found['model'])} over the memory it may take</title><style>{_STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        svg.text(LEFT - 44, 30, f"{found['model']}: time of one run over the memory it may take", "title"),
        svg.text(LEFT - 44, 51, _subtitle(found), "minor"),
    ]
    for tick in _ticks(top / unit):
        at = y(tick * unit)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(svg.text(LEFT - 10, at + 4, f"{tick:g} {name}", "minor", "end"))
    for budget in _sizes(low, high):
        parts.append(f'<line class="axis" x1="{x(budget):.1f}" x2="{x(budget):.1f}" y1="{floor}" y2="{floor + 5}"/>')
        parts.append(svg.text(x(budget), floor + 21, _round_size(budget), "minor", "middle"))
    parts += [
        f'<rect class="none" x="{LEFT}" y="{TOP}" width="{x(least) - LEFT:.1f}" height="{floor - TOP}"/>',
        f'<line class="edge" x1="{x(least):.1f}" x2="{x(least):.1f}" y1="{TOP}" y2="{floor}"/>',
        svg.text(x(least) + 7, TOP - 5, f"no plan below {size_text(least)}", "minor"),
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>',
        svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "budget of ram, the process included", "minor", "middle"),
        f'<path class="bound" d="{_path([(x(r["budget"]), y(r["lower_bound"])) for r in rows])}"/>',
        f'<path class="line" d="{_path([(x(r["budget"]), y(r["seconds"])) for r in rows])}"/>',
        *(f'<circle class="dot" cx="{x(r["budget"]):.1f}" cy="{y(r["seconds"]):.1f}" r="2.4"/>' for r in rows),
    ]
    parts += [
        f'<circle class="point" cx="{x(r["budget"]):.1f}" cy="{y(r["seconds"]):.1f}" r="5.5"><title>'
        f"{size_text(r['budget'])}: {r['seconds'] / unit:.4g} {name} measured, {escape(r['io'])}</title></circle>"
        for r in found["measured"]
    ]
    keys = [("line", "predicted"), ("bound", "lower bound"), ("point", "measured")]
    at = WIDTH - RIGHT - 318
    for kind, label in keys:
        mark = (
            f'<circle class="point" cx="{at + 12}" cy="47" r="5.5"/>'
            if kind == "point"
            else f'<path class="{kind}" d="M{at} 47h24"/>'
        )
        parts += [mark, svg.text(at + 31, 51, label, "minor")]
        at += 47 + 7 * len(label)
    if resident["used"] < high:
        parts += [
            f'<line class="axis" x1="{x(resident["used"]):.1f}" x2="{x(resident["used"]):.1f}" y1="{floor - 7}" y2="{floor}"/>',
            svg.text(
                x(resident["used"]) - 6, floor - 9, f"all in memory: {size_text(resident['used'])}", "minor", "end"
            ),
        ]
    return "".join([*parts, "</svg>\n"])


def _subtitle(found: Mapping[str, Any]) -> str:
    dims = ", ".join(f"{name} {bounds[1]}" for name, bounds in found["dims"].items())
    threads = f"{found['threads']} thread" + ("" if found["threads"] == 1 else "s")
    return ", ".join(text for text in (found["machine"], threads, dims) if text)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _ticks(top: float) -> list[float]:
    """Round steps from 0, at most seven of them."""
    step = next(s for power in range(-6, 9) for s in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if top / s <= 7)
    return [k * step for k in range(int(top / step) + 1)]


def _sizes(low: float, high: float) -> list[int]:
    """Powers of two between two sizes, and halves between where those are few."""
    powers = [1 << k for k in range(10, 50) if low <= 1 << k <= high]
    if len(powers) < 4:
        powers = sorted({*powers, *(3 << k for k in range(10, 50) if low <= 3 << k <= high)})
    return powers


def _round_size(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count} B"
