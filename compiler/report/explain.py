"""`explain`: everything a plan says about one cluster or weight, found by any of its names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...ir.errors import StratacError
from ..options import size_text
from .words import candidate_text, counted, format_text, ops_text, rate_text, signed_time, time_text

#: matches shown in full; more are listed
IN_FULL = 6


def find(report: Mapping[str, Any], wanted: str) -> list[dict[str, Any]]:
    """What a name, or a regular expression where no name is equal, stands for: clusters in order, then weights.

    A cluster goes by its outputs and the model's nodes in it, a weight by its label and its key. Raises StratacError with the
    nearest names.
    """
    names = [({*_cluster_names(c)}, "cluster", c) for c in report["clusters"]]
    names += [({w["label"], w["key"]}, "weight", w) for w in report["weights"]]
    found = [(kind, row) for known, kind, row in names if wanted in known]
    if not found:
        try:
            pattern = re.compile(wanted)
        except re.error as error:
            raise StratacError(f"{wanted!r} is no node, and no regular expression: {error}") from error
        found = [(kind, row) for known, kind, row in names if any(pattern.search(name) for name in known)]
    if not found:
        every = sorted({name for known, _, _ in names for name in known})
        close = difflib.get_close_matches(wanted, every, 3, 0.4)
        hint = f"nearest: {', '.join(close)}" if close else "`stratac inspect --all` lists the clusters"
        raise StratacError(f"plan {report['name']} has no node or weight {wanted!r}", hint=hint)
    return [
        {"kind": kind, **(_cluster(report, row) if kind == "cluster" else _weight(report, row))} for kind, row in found
    ]


def _cluster_names(cluster: Mapping[str, Any]) -> Iterable[str]:
    yield from (cluster["cluster"], cluster["name"], *cluster["nodes"])
    yield from (text.split(": ", 1)[0] for text in cluster["outputs"])


def _cluster(report: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, Any]:
    """The row of report.json with its weights, reads and neighbours in place of their keys."""
    weights = {w["key"]: w for w in report["weights"]}
    names = {c["cluster"]: c["name"] for c in report["clusters"]}
    crossings = [row for row in report["crossings"] if row["cluster"] == cluster["cluster"]]
    return {
        **cluster,
        "weights": [weights[key] for key in cluster["weights"] if key in weights],
        "inputs": [names[key] for key in cluster["inputs"]],
        "feeds": [c["name"] for c in report["clusters"] if cluster["cluster"] in c["inputs"]],
        "crossings": crossings,
        "run_seconds": report["predicted_seconds"],
        "calls": report["instructions"],
        "threads": report["threads"],
    }


def _weight(report: Mapping[str, Any], weight: Mapping[str, Any]) -> dict[str, Any]:
    names = {c["cluster"]: c["name"] for c in report["clusters"]}
    return {
        **weight,
        "users": [names.get(user, user) for user in weight["users"]],
        "crossings": [row for row in report["crossings"] if row["weight"] == weight["key"]],
    }


def explain_text(found: list[dict[str, Any]]) -> str:
    """The answer for people: a few in full, more as a list."""
    if len(found) > IN_FULL:
        lines = [f"{len(found)} match; a longer name shows one in full", ""]
        lines += [_line(row) for row in found]
        return "\n".join(lines)
    return "\n\n".join(_cluster_text(row) if row["kind"] == "cluster" else _weight_text(row) for row in found)


def _line(row: Mapping[str, Any]) -> str:
    if row["kind"] == "weight":
        return f"weight   {row['label']}: {size_text(row['bytes'])} {row['how']} in {row['tier']}"
    chosen = row["chosen"]
    return f"cluster  {row['name']}: {ops_text(row['ops'])}, {candidate_text(chosen['name'])} {time_text(chosen['seconds'])}"


def _fields(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"  {name:10} {text}".rstrip() for name, text in rows]


def _cluster_text(c: Mapping[str, Any]) -> str:
    chosen, other = c["chosen"], c["runner_up"]
    parts = ", ".join(dict.fromkeys(c["nodes"])) or "no named node"
    fused = f"{counted(len(c['ops']), 'op')} in one kernel" if len(c["ops"]) > 1 else "one op, one kernel"
    rows = [
        ("computes", "; ".join(c["outputs"])),
        ("made of", f"{' + '.join(dict.fromkeys(c['ops']))} ({fused})"),
        ("nodes", parts),
        ("runs on", f"{c['device']}, {candidate_text(chosen['name'])}: {time_text(chosen['seconds'])}"),
        ("bound by", _work(c)),
        *[("accuracy", text) for text in _accuracy(chosen)],
        ("runner-up", "none" if other is None else _runner_up(other, c["difference"])),
        ("binds", c["binding"] or "nothing: the fastest of the allowed candidates runs"),
        ("why", c["why"]),
        ("when", _when(c)),
        ("waits for", _waits(c)),
        ("feeds", ", ".join(c["feeds"]) or "only outputs of the model"),
        ("holds", _holds(c)),
    ]
    lines = [f"cluster {c['name']}  (%{c['cluster']})", *_fields(rows)]
    if c["weights"]:
        lines.append("  weights")
        lines += [f"    {w['label']}: {_home(w)}" for w in c["weights"]]
    return "\n".join(lines)


def _runner_up(other: Mapping[str, Any], difference: float) -> str:
    return f"{candidate_text(other['name'])}: {time_text(other['seconds'])}, {signed_time(difference)}"


#: of modes other than f32 that are as exact: how
_AS_EXACT = {
    "bf16x6": "as exact as f32: each operand in three parts of bf16 that hold it, and their six products that count",
    "bfp24": "as exact as f32 for its row and column: 24 bits below the greatest of a block, in three bytes, and eight of nine "
    "products",
    "winograd": "as exact as f32: fewer multiplications, of sums over windows",
}


def _accuracy(chosen: Mapping[str, Any]) -> list[str]:
    if chosen.get("error"):
        return [f"products within {chosen['error']:.1e} of those in f32, in relative L2"]
    mode = chosen["name"].rpartition("/")[2]
    return [_AS_EXACT[mode]] if mode in _AS_EXACT else []


def _work(c: Mapping[str, Any]) -> str:
    moved = f"{size_text(c['bytes'])} moved, {c['intensity']:.3g} FLOP per byte"
    return f"{c['chosen']['bound']}: {rate_text(c['flops'], 'FLOP')}, {moved}"


def _when(c: Mapping[str, Any]) -> str:
    span = f"{time_text(c['start'])} to {time_text(c['end'])} of {time_text(c['run_seconds'])}"
    only = f", only where {' and '.join(c['only_where'])}" if c["only_where"] else ""
    times = f", {c['trips']} times in a loop, all of them together" if c.get("trips", 1) > 1 else ""
    return f"{span}, call {c['call']} of {c['calls']}{times}{only}"


def _waits(c: Mapping[str, Any]) -> str:
    parts = [f"values of {', '.join(c['inputs'])}" if c["inputs"] else "no other cluster"]
    reads = [row for row in c["crossings"] if row["kind"] == "read"]
    parts += [
        f"read {row['number']} of {row['label']} ({size_text(row['bytes'])}, complete at {time_text(row['end'])})"
        for row in reads
    ]
    if c["waited"] > 0:
        parts.append(f"in all {time_text(c['waited'])} for reads")
    elif reads:
        parts.append("complete before it is needed")
    return "; ".join(parts)


def _holds(c: Mapping[str, Any]) -> str:
    parts = [f"{size_text(b['bytes'])} for %{b['value']} from call {b['first']} to {b['last']}" for b in c["holds"]]
    if c["workspace"]:
        parts.append(f"{size_text(c['workspace'])} of workspace for each of {counted(c['threads'], 'thread')}")
    return "; ".join(parts) or "nothing: its results are outputs of the model"


def _home(w: Mapping[str, Any]) -> str:
    where = f"in {w['tier']}" if w["how"] in ("resident", "mapped") else f"from {w['tier']}"
    return f"{size_text(w['bytes'])} {w['how']} {where} as {format_text(w['format'])}: {w['why']}"


def _weight_text(w: Mapping[str, Any]) -> str:
    rows = [
        ("home", _home(w)),
        ("format", w["format"]),
        ("used by", ", ".join(w["users"]) or "nothing"),
    ]
    for row in w["crossings"]:
        when = "" if row["start"] is None else f" from {time_text(row['start'])} to {time_text(row['end'])},"
        rows.append(
            (
                row["kind"],
                f"{size_text(row['bytes'])} {row['from']} to {row['to']},{when} {time_text(row['seconds'])}: "
                f"{time_text(row['hidden'])} hidden, {time_text(row['exposed'])} exposed",
            )
        )
    return "\n".join([f"weight {w['label']}  ({w['key']})", *_fields(rows)])
