"""The README's measured promises: streaming, predictions and ranking, from the newest results of `make bench-plan`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MIB, GIB = 1 << 20, 1 << 30


def streaming(results: dict[str, Any]) -> str:
    """One row for each budget."""
    weights = results["resident"]["weights_bytes"] / GIB
    rows = results["budgets"]
    lines = [
        f"Streaming (`python -m benchmarks.streaming`): `{results['model']}` of benchmarks/large.py, fp32, {weights:.1f} GiB of "
        f"random weights, {results['dims']['seq']} tokens, {results['threads']} threads, cold; each "
        f"system in a process of its own under the same memory limit, in turns. {_defaults(rows)} "
        f"`onnxruntime mapped` has mapped weights and does not prepack. {_bits(rows)}",
        "",
        "| budget | streamed | step, predicted / measured | over max(bytes ÷ disk, computing) | memory, predicted / measured "
        "| the same plan mapped | onnxruntime mapped |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join([_budget(row), *_streamed(row)])} |" for row in rows),
    ]
    large = results.get("throughput") or {}
    if "kept" in large:
        dims = large["dims"]
        lines += [
            "",
            f"At {dims['batch']} × {dims['seq']} tokens a {large['model']} plan with room for a quarter of its weights keeps "
            f"{large['kept']:.0%} of the throughput it has with all of them in memory.",
        ]
    return "\n".join(lines)


def _budget(row: dict[str, Any]) -> str:
    return f"{row['budget'] / MIB:.0f} MiB (1/{row['ratio']:.0f})"


def _streamed(row: dict[str, Any]) -> list[str]:
    """What was measured at one budget, or why nothing was."""
    if "error" in row:
        return [f"failed: {row['error']}", *[""] * 5]
    own, read = row["systems"]["streamed"], f"{row['streamed_bytes'] / GIB:.2f} GiB"
    if "seconds" not in own:
        return [read, own["outcome"], *[""] * 4]
    slow, fast = min(row["disk"]["rounds"]) / 1e9, max(row["disk"]["rounds"]) / 1e9
    return [
        read,
        f"{row['predicted_seconds']:.2f} / {own['seconds']:.2f} s",
        f"{row['disk']['over_best']:.2f}× at {slow:.2f} to {fast:.2f} GB/s",
        f"{own['memory']['predicted'] / MIB:.0f} / {own['memory']['measured'] / MIB:.0f} MiB",
        *(_times(row["systems"][name], own["seconds"]) for name in ("mmap", "onnxruntime, mapped")),
    ]


def _times(system: dict[str, Any], seconds: float) -> str:
    return f"{system['seconds'] / seconds:.1f}× as long" if "seconds" in system else str(system["outcome"])


def _defaults(rows: Sequence[dict[str, Any]]) -> str:
    """What became of onnxruntime as it is without options, by budget."""
    outcomes: dict[str, list[str]] = {}
    for row in rows:
        if "systems" in row:
            own = row["systems"]["streamed"].get("seconds", math.nan)
            outcomes.setdefault(_times(row["systems"]["onnxruntime"], own), []).append(_budget(row))
    measured = sum(map(len, outcomes.values()))
    told = (
        f"{outcome.replace(': ', ', ')}, at {'every budget' if len(budgets) == measured else ', '.join(budgets)}"
        for outcome, budgets in outcomes.items()
    )
    return f"onnxruntime with its defaults: {'; '.join(told) or 'not measured'}."


def _bits(rows: Sequence[dict[str, Any]]) -> str:
    same = [system["same_bits"] for row in rows for system in row.get("systems", {}).values() if "same_bits" in system]
    if all(same):
        return "Every plan gives the bits of the plan with all weights in memory."
    return f"{same.count(False)} of {len(same)} plans give other bits than the plan with all weights in memory."


def predictions(results: dict[str, Any]) -> str:
    """Errors by group."""
    found, cases = results["summary"], results["cases"]
    threads = " and ".join(str(count) for count in sorted({case["threads"] for case in cases}))
    lines = [
        f"Predictions (`python -m benchmarks.predictions`): {len({case['model'] for case in cases})} models at several shapes, on "
        f"{threads} threads, with all weights in memory and with half of them streamed, against the medians of runs.",
        "",
        "| plans | count | median error | 95th percentile | greatest |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    names = {"zoo": "zoo", "heldout": "held-out models", "resident": "all in memory", "streamed": "half streamed"}
    for key, name in names.items():
        if key in found:
            row = found[key]
            lines.append(f"| {name} | {row['cases']} | {row['median']:.1%} | {row['p95']:.1%} | {row['most']:.1%} |")
    memory = found["memory"]
    lines += [
        "",
        f"Memory: {memory['kept']} of {memory['cases']} promises kept, at the median {memory['median_slack']:.1%} above what was "
        "taken.",
    ]
    return "\n".join(lines)


def ranking(results: dict[str, Any]) -> str:
    """One row for each model."""
    lines = [
        f"Ranking (`python -m benchmarks.ranking`): the chosen plan among {results['rows'][0]['plans']} that keep the same budget, "
        f"{results['share']:.0%} of what the model takes without one, {results['threads']} threads, all of them run.",
        "",
        "| model | time over the best one's | rank |",
        "| --- | ---: | ---: |",
        *(f"| {row['model']} | {row['over_best']:.3f} | {row['rank']} of {row['plans']} |" for row in results["rows"]),
    ]
    return "\n".join(lines)


def caption(results: dict[str, Any]) -> str:
    """Where and when one file of results was measured."""
    machine, used = results["machine"], results["versions"]
    return (
        f"{machine['cpu']} ({machine['isa']}, {machine['cores']} cores, {machine['memory_bytes'] / GIB:.0f} GiB), "
        f"{machine['system']}, {str(results['date'])[:10]}; stratac {used['stratac']} ({used['revision'] or 'no revision'}), "
        f"onnxruntime {used['onnxruntime']}."
    )
