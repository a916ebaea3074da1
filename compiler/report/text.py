"""A plan for people: signature, memory per tier, time per cluster, what was fused, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..options import size_text


def table(rows: Sequence[Sequence[str]], head: Sequence[str], right: frozenset[int] = frozenset()) -> list[str]:
    """Aligned columns; the numbers in `right` are right-aligned."""
    widths = [max(len(str(r[k])) for r in [head, *rows]) for k in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        parts = [c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(parts).rstrip()

    return [line(head), line(["-" * w for w in widths]), *(line([str(c) for c in row]) for row in rows)]


def time_text(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _ops_text(ops: Sequence[str]) -> str:
    quiet = {"reshape", "transpose", "fill", "expand", "slice"}
    shown = [op for op in ops if op not in quiet] or list(ops)
    return " + ".join(dict.fromkeys(shown))


def inspect_text(manifest: Mapping[str, Any], report: Mapping[str, Any], top: int) -> str:
    """The whole `inspect` page; `top` limits the cluster table (0: all)."""
    memory, threads = report["memory"], report["threads"]
    lines = [f"plan {manifest['name']}  (format {manifest['format_version']}, stratac {manifest['stratac_version']})"]
    features = ", ".join(manifest["features"]) or "no CPU features"
    lines += [f"target {manifest['target']}, {counted(threads, 'thread')}, needs {features}"]
    lines += ["", "signature"]
    for kind in ("inputs", "outputs"):
        lines += [f"  {kind[:-1]:6}  {p['name']}: {p['dtype']}{p['shape']}" for p in manifest[kind]]
    for name, b in manifest["symbols"].items():
        lines.append(f"  dim     {name} = {b['min']}:{b['typical']}:{b['max']} (min:typical:max)")
    if "dims" in report["notes"]:
        lines.append(f"  note    {report['notes']['dims']}")
    floor = manifest["memory"]["process_floor"]
    lines += ["", "memory, tier ram, at the greatest dims"]
    rows = [("weights", size_text(memory["weights"]), "mapped from weights.bin, used in place")]
    rows += [
        (name, size_text(size * (threads if name == "workspace" else 1)), _arena_note(name, size, threads, report))
        for name, size in memory["arenas"].items()
    ]
    rows += [("peak", size_text(memory["peak"]), f"and at most {size_text(floor)} for the process itself")]
    lines += [f"  {a:12} {b:>12}  {c}" for a, b, c in rows]
    total = report["predicted_seconds"]
    clusters = report["clusters"]
    fused = sum(len(c["ops"]) for c in clusters)
    lines += [
        "",
        f"time, predicted at the typical dims: {time_text(total)} on {counted(threads, 'thread')}",
        f"  {counted(fused, 'op')} in {counted(len(clusters), 'cluster')} ({counted(report['kernels'], 'different kernel')}); "
        f"order: {report['notes']['order']}",
        "",
    ]
    ranked = sorted(clusters, key=lambda c: -c["chosen"]["seconds"])
    shown = ranked[:top] if top else ranked
    cells = [
        (
            time_text(c["chosen"]["seconds"]),
            f"{c['chosen']['seconds'] / total * 100:.1f} %" if total else "-",
            c["chosen"]["name"].split("/", 1)[1],
            c["chosen"]["bound"],
            c["outputs"][0].split(": ", 1)[1],
            _ops_text(c["ops"]),
        )
        for c in shown
    ]
    lines += table(cells, ("time", "share", "kernel", "bound by", "result", "fused ops"), frozenset({0, 1}))
    if len(ranked) > len(shown):
        lines.append(f"... and {len(ranked) - len(shown)} more; --all shows them, --json gives everything")
    return "\n".join(lines)


def _arena_note(name: str, size: int, threads: int, report: Mapping[str, Any]) -> str:
    if name == "workspace":
        return f"{size_text(size)} for each of {counted(threads, 'thread')}"
    return str(report["notes"]["memory"])
