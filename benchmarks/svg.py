"""What the charts share: texts and colours that read well on light and dark pages, where no script runs."""

from __future__ import annotations

from html import escape

FONT = 'svg { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }'
LIGHT = """.back { fill: #ffffff; } text { fill: #1d2126; } .minor { fill: #616a74; } .title { font-size: 17px; font-weight: 600; }
.axis { stroke: #b9bfc6; } .grid { stroke: #e6e8ea; }"""
DARK = """.back { fill: #1a1d21; } text { fill: #e6e8eb; } .minor { fill: #9ba4ae; } .axis { stroke: #4a525b; }
 .grid { stroke: #2d3238; }"""


def style(light: str, dark: str) -> str:
    """The style sheet of a chart with rules of its own for light and dark pages."""
    return f"\n{FONT}\n{LIGHT} {light}\n@media (prefers-color-scheme: dark) {{\n {DARK} {dark}\n}}\n"


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def opening(width: int, height: int, title: str, sheet: str) -> str:
    """The first tags: size, title for readers of screens, style, background."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f'<title>{escape(title)}</title><style>{sheet}</style><rect class="back" width="{width}" height="{height}" rx="8"/>'
    )
