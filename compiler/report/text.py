"""A plan for people: the verdict, its signature, memory by tier, storage, and the clusters that take the most time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..options import size_text
from .verdict import verdict
from .words import candidate_text, counted, ops_text, share_text, signed_time, table, time_text

__all__ = ["counted", "inspect_text", "table", "time_text"]


def inspect_text(manifest: Mapping[str, Any], report: Mapping[str, Any], top: int) -> str:
    """The whole `inspect` page; `top` limits the cluster table (0: all)."""
    threads = report["threads"]
    features = ", ".join(manifest["features"]) or "no CPU features"
    said = verdict(report)
    lines = [
        f"plan {manifest['name']}  (format {manifest['format_version']}, stratac {manifest['stratac_version']})",
        f"target {manifest['target']}, {counted(threads, 'thread')}, needs {features}",
        "",
        f"fits    {said.fits}",
        f"time    {said.speed}",
        f"why     {said.why}",
        "",
        "signature",
    ]
    for kind in ("inputs", "outputs"):
        lines += [f"  {kind[:-1]:6}  {p['name']}: {p['dtype']}{p['shape']}" for p in manifest[kind]]
    lines += [
        f"  state   {row['name']}: {row['type']}, {size_text(row['bytes'])}, starts as {row['starts']}"
        for row in report["states"]
    ]
    for name, b in manifest["symbols"].items():
        when = ", found out in each run" if b.get("runtime") else ""
        lines.append(f"  dim     {name} = {b['min']}:{b['typical']}:{b['max']} (min:typical:max{when})")
    said_too = ("dims", "constants", "ragged", "narrow", "regions", "loops")
    lines += [f"  note    {report['notes'][key]}" for key in said_too if key in report["notes"]]
    return "\n".join([*lines, *_memory_lines(report), *_storage_lines(report), *_time_lines(report, top)])


def _memory_lines(report: Mapping[str, Any]) -> list[str]:
    lines = ["", "memory, at the greatest dims"]
    for tier in report["tiers"]:
        if not tier["used"]:
            continue
        budget = f"budget {size_text(tier['budget'])}, " if tier["limited"] else ""
        what = "peak" if tier["kind"] == "memory" else "file"
        has = f"{budget}{tier['name']} has {size_text(tier['capacity'])}"
        lines.append(f"  {tier['name']:15} {size_text(tier['used']):>12}  {what}; {has}")
        if tier["kind"] == "memory":
            lines += [
                f"    {name:13} {size_text(size):>12}  {_part_note(name, report)}".rstrip()
                for name, size in sorted(tier["parts"].items(), key=lambda part: (-part[1], part[0]))
            ]
    return lines


def _part_note(name: str, report: Mapping[str, Any]) -> str:
    threads, arenas = report["threads"], report["memory"]["arenas"]
    if name == "workspace":
        return f"{size_text(arenas['workspace'])} for each of {counted(threads, 'thread')}"
    if name == "activations":
        return str(report["notes"].get("memory", ""))
    if name == "weights":
        return f"{counted(sum(w['how'] == 'resident' for w in report['weights']), 'weight')} stay in memory"
    if name == "mapped":
        count = counted(sum(w["how"] == "mapped" for w in report["weights"]), "weight")
        return f"of {count} at most: what lookups touched of the file, which the system may take back"
    if name == "ring":
        return "through which weights are streamed"
    return "at most, for the process itself" if name == "process floor" else ""


def _storage_lines(report: Mapping[str, Any]) -> list[str]:
    lines = []
    load = report["load"]
    if load["seconds"] is not None:
        at = f"{size_text(load['bytes'])} from {load['from']} in {time_text(load['seconds'])}, cold"
        lines.append(f"  open   {at}; peak {size_text(load['peak_bytes'])}")
    for kind, noun in (("read", "read"), ("lookup", "lookup by kernels"), ("transfer", "transfer")):
        rows = [row for row in report["crossings"] if row["kind"] == kind]
        if rows:
            total, seconds = sum(r["bytes"] for r in rows), sum(r["seconds"] for r in rows)
            hidden, exposed = sum(r["hidden"] for r in rows), sum(r["exposed"] for r in rows)
            number = f"{len(rows)} {noun}" if kind == "lookup" else counted(len(rows), noun)
            lines.append(
                f"  run    {number}, {size_text(total)} in {time_text(seconds)}: "
                f"{time_text(hidden)} hidden, {time_text(exposed)} exposed"
            )
    if any(row["kind"] == "read" for row in report["crossings"]):
        lines.append(f"  first  {time_text(report['first_seconds'])}: the ring is empty before the first run")
    return ["", "storage", *lines] if lines else []


def _time_lines(report: Mapping[str, Any], top: int) -> list[str]:
    total, clusters, solution = report["predicted_seconds"], report["clusters"], report["solution"]
    fused = sum(len(c["ops"]) for c in clusters)
    lines = [
        "",
        f"time, predicted at the typical dims: {time_text(total)} on {counted(report['threads'], 'thread')}",
        f"  {counted(fused, 'op')} in {counted(len(clusters), 'cluster')} "
        f"({counted(report['kernels'], 'different kernel')}); order: {report['notes']['order']}",
    ]
    if solution is not None:
        lines.append(
            f"  objective {solution['objective']}, by {solution['method']}; lower bound "
            f"{time_text(solution['lower_bound'])}, gap {solution['gap'] * 100:.2f} %"
        )
    ranked = sorted(clusters, key=lambda c: -(c["chosen"]["seconds"] + c["waited"]))
    shown = ranked[:top] if top else ranked
    waits = any(c["waited"] > 0 for c in clusters)
    cells = [
        (
            time_text(c["chosen"]["seconds"]),
            share_text(c["chosen"]["seconds"], total),
            *([time_text(c["waited"]) if c["waited"] > 0 else "-"] if waits else []),
            candidate_text(c["chosen"]["name"]),
            _runner_up(c),
            c["binding"] or c["chosen"]["bound"],
            c["outputs"][0].split(": ", 1)[1],
            ops_text(c["ops"]),
        )
        for c in shown
    ]
    head = ("time", "share", *(["waits"] if waits else []), "kernel", "runner-up", "bound by", "result", "fused ops")
    lines += ["", *(_fit(line) for line in table(cells, head, frozenset({0, 1, 2} if waits else {0, 1})))]
    if len(ranked) > len(shown):
        lines.append(f"... and {len(ranked) - len(shown)} more; --all shows them, --json gives everything")
    return lines


def _runner_up(cluster: Mapping[str, Any]) -> str:
    if cluster["runner_up"] is None:
        return "none"
    return f"{candidate_text(cluster['runner_up']['name'])} {signed_time(cluster['difference'])}"


def _fit(line: str) -> str:
    """Tables stay within 140 columns; what is cut is at the end, where ops are listed."""
    return line if len(line) <= 140 else f"{line[:139]}…"
