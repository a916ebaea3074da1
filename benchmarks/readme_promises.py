"""The README's measured promises: streaming, predictions and ranking, from the newest results of `make bench-plan`."""

from __future__ import annotations

from typing import Any

MIB, GIB = 1 << 20, 1 << 30


def streaming(results: dict[str, Any]) -> str:
    """One row for each budget."""
    weights = results["resident"]["weights_bytes"] / GIB
    lines = [
        f"Streaming (`python -m benchmarks.streaming`): a GPT-2-XL-like model, fp32, {weights:.1f} GiB of weights, "
        f"{results['dims']['seq']} tokens, {results['threads']} threads, cold; each system in a process of its own under the same "
        "memory limit, in turns. onnxruntime with its defaults is killed by the limit, so it also runs with mapped weights and "
        "without prepacking. Every plan gives the bits of the plan with all weights in memory.",
        "",
        "| budget | streamed | step, predicted / measured | over max(bytes ÷ disk, computing) | memory, predicted / measured "
        "| the same plan mapped | onnxruntime mapped |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in results["budgets"]:
        own = row["systems"]["streamed"]
        peers = [_times(row["systems"][name], own["seconds"]) for name in ("mmap", "onnxruntime, mapped")]
        cells = [
            f"{row['budget'] / MIB:.0f} MiB (1/{row['ratio']:.0f})",
            f"{row['streamed_bytes'] / GIB:.2f} GiB",
            f"{row['predicted_seconds']:.2f} / {own['seconds']:.2f} s",
            f"{row['disk']['over_best']:.2f}× at {row['disk']['bandwidth'] / 1e9:.2f} GB/s",
            f"{own['memory']['predicted'] / MIB:.0f} / {own['memory']['measured'] / MIB:.0f} MiB",
            *peers,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    large = results.get("throughput") or {}
    if "kept" in large:
        dims = large["dims"]
        lines += [
            "",
            f"At {dims['batch']} × {dims['seq']} tokens a {large['model']} plan with room for a quarter of its weights keeps "
            f"{large['kept']:.0%} of the throughput it has with all of them in memory.",
        ]
    return "\n".join(lines)


def _times(system: dict[str, Any], seconds: float) -> str:
    return f"{system['seconds'] / seconds:.1f}× as long" if "seconds" in system else str(system["outcome"])


def predictions(results: dict[str, Any]) -> str:
    """Errors by group."""
    found = results["summary"]
    lines = [
        "Predictions (`python -m benchmarks.predictions`): each model at two shapes, on 1 and 2 threads, with all weights in "
        "memory and with half of them streamed, against the medians of runs.",
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
    machine = results["machine"]
    return (
        f"{machine['cpu']} ({machine['isa']}, {machine['cores']} cores, {machine['memory_bytes'] / GIB:.0f} GiB), "
        f"{machine['system']}, {str(results['date'])[:10]}; the disk is a virtual one whose bandwidth changes from hour to hour."
    )
