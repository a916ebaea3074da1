"""The clusters of a plan as one SVG picture: what reads what, what each does and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .layers import Layout, lay_out
from .words import ops_text, short, time_text

#: pixels of a cluster's box, and of the gaps between boxes
BOX_WIDTH, BOX_HEIGHT, GAP, LAYER = 196, 38, 20, 62
MARGIN = 12


def draw(report: Mapping[str, Any]) -> str:
    """An <svg> element; each box has its cluster as `data-cluster` and the class of its kernel family."""
    clusters = report["clusters"]
    layout = lay_out({c["cluster"]: c["inputs"] for c in clusters})
    width = int(layout.width * (BOX_WIDTH + GAP)) + 2 * MARGIN
    height = layout.layers * LAYER + 2 * MARGIN
    most = max((c["chosen"]["seconds"] for c in clusters), default=0.0) or 1.0
    parts = [f'<svg id="graph-svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">']
    parts.append("<title>clusters and what they read from each other</title>")
    for source, target, points in layout.edges:
        parts.append(
            f'<path class="edge" data-from="{escape(source)}" data-to="{escape(target)}" d="{_path(points)}"/>'
        )
    parts += [_box(c, layout, most) for c in clusters]
    parts.append("</svg>")
    return "".join(parts)


def _centre(x: float) -> float:
    return MARGIN + x * (BOX_WIDTH + GAP)


def _top(layer: int) -> float:
    return MARGIN + layer * LAYER + (LAYER - BOX_HEIGHT) / 2


def _path(points: tuple[tuple[int, float], ...]) -> str:
    """A smooth line from the bottom of the first box, straight past the layers between, to the top of the last."""
    layer, x = points[0]
    here = (_centre(x), _top(layer) + BOX_HEIGHT)
    text = [f"M{here[0]:.0f} {here[1]:.0f}"]
    for position, (layer, x) in enumerate(points[1:], 1):
        end = (_centre(x), _top(layer))
        middle = (here[1] + end[1]) / 2
        text.append(f"C{here[0]:.0f} {middle:.0f} {end[0]:.0f} {middle:.0f} {end[0]:.0f} {end[1]:.0f}")
        here = end
        if position < len(points) - 1:
            here = (end[0], end[1] + BOX_HEIGHT)
            text.append(f"L{here[0]:.0f} {here[1]:.0f}")
    return "".join(text)


def _box(cluster: Mapping[str, Any], layout: Layout, most: float) -> str:
    layer, x = layout.place[cluster["cluster"]]
    left, top = _centre(x) - BOX_WIDTH / 2, _top(layer)
    family = cluster["chosen"]["name"].split("/")[1]
    share = cluster["chosen"]["seconds"] / most
    time = time_text(cluster["chosen"]["seconds"])
    title = f"{cluster['name']}\n{cluster['chosen']['name']}, {time}\n{cluster['why']}"
    return (
        f'<g class="box f-{escape(family)}" data-cluster="{escape(cluster["cluster"])}" tabindex="0">'
        f"<title>{escape(title)}</title>"
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>'
        f'<rect class="heat" x="{left:.0f}" y="{top + BOX_HEIGHT - 3:.0f}" width="{max(share * BOX_WIDTH, 1):.0f}" height="3"/>'
        f'<text x="{left + 9:.0f}" y="{top + 15:.0f}">{escape(short(ops_text(cluster["ops"]), 26))}</text>'
        f'<text class="minor" x="{left + 9:.0f}" y="{top + 29:.0f}">{escape(short(cluster["name"], 18))}</text>'
        f'<text class="minor end" x="{left + BOX_WIDTH - 8:.0f}" y="{top + 29:.0f}">{escape(time)}</text>'
        "</g>"
    )
