"""`inspect --html`: one page that holds everything, charts included, and asks the network for nothing.

Names come from models, so every text goes through `html.escape`, and the data of the charts through `embedded`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ...ir.machine import machine_from_table
from ..options import size_text
from . import sections
from .drawing import draw
from .verdict import verdict
from .words import counted, format_text, ops_text, time_text

FOLDER = Path(__file__).parent
#: id and name of each section, in order; the page's links and its test use them
SECTIONS = {
    "timeline": "Timeline",
    "memory": "Memory",
    "roofline": "Roofline",
    "clusters": "Clusters",
    "crossings": "Boundary bill",
    "weights": "Weights",
    "graph": "Graph",
    "decisions": "Decisions",
    "machine": "Machine",
}


class _Page(Template):
    """Placeholders are @@name: neither CSS nor JavaScript has two @."""

    delimiter = "@@"


def page(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The page's HTML. Equal plans give equal pages. Needs the plotly package, whose script is put into the page."""
    machine = machine_from_table(tomllib.loads(report["profile"]))
    said = verdict(report)
    shown = {
        "version": escape(manifest["stratac_version"]),
        "name": escape(report["name"]),
        "facts": escape(_facts(manifest, report)),
        "answers": sections.answers(report, said),
        "navigation": "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name in SECTIONS.items()),
        "timeline_lead": escape(_timeline_lead(report)),
        "timeline_height": str(230 if _reads(report) else 180),
        "memory_lead": escape(_memory_lead(report)),
        "tiers": sections.tier_bars(report),
        "roofline_lead": escape(
            "Each cluster's predicted speed under the machine's limits. Larger points take longer; a point under a sloped "
            "line of a level is bound by that level's bandwidth."
        ),
        "families": sections.family_bars(report),
        "clusters_lead": "What was chosen for each cluster, the runner-up and what it would cost more, and what binds. "
        "Click a row for its weights and reasons, a heading to sort.",
        "clusters": sections.cluster_table(report),
        "crossings_lead": escape(_crossings_lead(report)),
        "crossings": sections.crossing_tables(report),
        "weights_lead": escape(_weights_lead(report)),
        "weights": sections.weight_table(report),
        "legend": sections.legend(report),
        "graph": draw(report),
        "decisions": sections.decisions(report),
        "machine_lead": escape(f"{machine.name}. {machine.source}"),
        "machine": sections.machine_tables(machine),
        "profile": escape(report["profile"]),
        "footer": escape(_footer(manifest, report)),
        "data": embedded(chart_data(report)),
    }
    shown |= {"css": _file("page.css"), "script": _file("page.js"), "plotly": _plotly()}
    return _Page(_file("page.html")).substitute(shown)  # in one pass: what is put in is not read again


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """plotly.js as its Python package brings it; ModuleNotFoundError where that is missing."""
    return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def embedded(value: Any) -> str:
    """JSON that can stand in a <script>: no text in it ends the element or begins a comment."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=True, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("@", "\\u0040")


def chart_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the charts and the rows' details show."""
    weights = {row["key"]: row for row in report["weights"]}
    clusters = [
        {
            "cluster": c["cluster"],
            "name": c["name"],
            "ops": ops_text(c["ops"]),
            "kernel": c["chosen"]["name"],
            "family": c["chosen"]["name"].split("/")[1],
            "result": "; ".join(c["outputs"]),
            "nodes": ", ".join(c["nodes"]) or "none of the model's own",
            "why": c["why"],
            "flops": c["flops"],
            "bytes": c["bytes"],
            "workspace": c["workspace"],
            "start": c["start"],
            "end": c["end"],
            "waited": c["waited"],
            "weights": [
                {**{k: w[k] for k in ("label", "bytes", "how", "tier", "why")}, "format": format_text(w["format"])}
                for w in (weights[key] for key in c["weights"] if key in weights)
            ],
        }
        for c in report["clusters"]
    ]
    wanted = ("label", "bytes", "start", "end", "exposed", "cluster")
    return {
        "seconds": report["predicted_seconds"],
        "clusters": clusters,
        "reads": [{key: row[key] for key in wanted} for row in _reads(report)],
        "tiers": report["tiers"],
        "roofs": report["roofs"],
    }


def _reads(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in report["crossings"] if row["kind"] == "read"]


def _facts(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    dims = ", ".join(f"{n} {b['min']}:{b['typical']}:{b['max']}" for n, b in manifest["symbols"].items())
    sizes = f" · {dims} (min:typical:max)" if dims else ""
    fused = sum(len(c["ops"]) for c in report["clusters"])
    made = f"{counted(fused, 'op')} in {counted(len(report['clusters']), 'cluster')}"
    return f"{manifest['target']} · {counted(report['threads'], 'thread')} · {made}{sizes}"


def _timeline_lead(report: Mapping[str, Any]) -> str:
    text = f"One run at the typical dims, {time_text(report['predicted_seconds'])}, as simulated from the plan."
    reads = _reads(report)
    if not reads:
        return f"{text} All weights are in memory: one queue, no waits."
    hidden, exposed = sum(r["hidden"] for r in reads), sum(r["exposed"] for r in reads)
    return (
        f"{text} {counted(len(reads), 'read')} of {size_text(sum(r['bytes'] for r in reads))}: {time_text(hidden)} hidden "
        f"behind calls, {time_text(exposed)} exposed. The first run takes {time_text(report['first_seconds'])}."
    )


def _memory_lead(report: Mapping[str, Any]) -> str:
    load = report["load"]
    opened = ""
    if load["seconds"] is not None:
        opened = (
            f" Opening reads {size_text(load['bytes'])} from {load['from']}, about {time_text(load['seconds'])} cold, "
            "and never holds more."
        )
    mapped = ""
    if any(row["how"] == "mapped" for row in report["weights"]):
        mapped = (
            " Mapped weights are pages of the file: only those that lookups touched are in memory, at most all of them."
        )
    return f"At the greatest dims. All of it is taken when the plan is opened and none later.{mapped}{opened}"


def _crossings_lead(report: Mapping[str, Any]) -> str:
    if not report["crossings"]:
        return "Nothing crosses from one tier to another while the plan runs."
    exposed = sum(row["exposed"] for row in report["links"])
    share = exposed / report["predicted_seconds"] if report["predicted_seconds"] else 0.0
    return (
        "Every crossing of one run, in order. Hidden time passes while calls compute; exposed time, "
        f"{time_text(exposed)} or {share * 100:.1f} % of the run, is what the run is longer for it."
    )


def _weights_lead(report: Mapping[str, Any]) -> str:
    parts = []
    for how in ("resident", "mapped", "streamed", "looked up"):
        rows = [row for row in report["weights"] if row["how"] == how]
        if rows:
            parts.append(f"{size_text(sum(r['bytes'] for r in rows))} {how} ({counted(len(rows), 'weight')})")
    return f"Where each weight lives, and why: {', '.join(parts) or 'there are none'}."


def _footer(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    model = report.get("model", {})
    source = f"Model {model['file']}, sha256 {model['sha256'][:16]}…. " if model else ""
    return f"{source}Made by stratac {manifest['stratac_version']}; plan format {manifest['format_version']}."
