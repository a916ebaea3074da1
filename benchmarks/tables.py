"""Results of the zoo as tables in Markdown: for the terminal, the README and docs/benchmarks.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .modes import MODES, Mode
from .verdicts import Result, Verdict, best_of, error_ratio, geometric_mean, opening, promises, ratio, verdict

MIB = 1 << 20
PEERS = ("onnxruntime", "openvino", "torch", "iree-base-compiler")  # the packages behind the peers


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose first `left` columns are text and the others figures. Short rows are filled up."""
    lines = [list(head), ["---"] * left + ["---:"] * (len(head) - left)]
    lines += [[*row, *[""] * (len(head) - len(row))] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def shape_text(dims: Mapping[str, int]) -> str:
    return " × ".join(f"{name} {size}" for name, size in dims.items())


def plural(threads: int) -> str:
    return f"{threads} thread{'' if threads == 1 else 's'}"


def systems_of(results: Result) -> list[str]:
    """The peers of these results, in order."""
    found: dict[str, None] = {}
    for result in results["models"]:
        for entry in result.get("threads", {}).values():
            found |= dict.fromkeys(entry["systems"])
    return [name for name in found if name != "stratac"]


def _mib(count: float) -> str:
    return f"{count / MIB:.0f}"


# ---------------------------------------------------------------------------------------------------- targets


def verdict_text(found: Verdict, amx: bool) -> str:
    """`met`, or what falls short and by how much; `amx`: this machine has AMX."""
    if found.mode.amx and not amx:
        return "a target of machines with AMX: this one has none"
    if found.met:
        return "met"
    parts = []
    if not found.mean >= found.mode.mean:
        parts.append(f"mean by {found.mode.mean - found.mean:.2f}")
    for short in found.short:
        lacking = (
            "did not run"
            if math.isnan(short.ratio)
            else f"{short.ratio:.2f}, short by {short.needed - short.ratio:.2f}"
        )
        parts.append(f"{short.model} {lacking}")
    return "falls short: " + "; ".join(parts)


def targets_table(modes: Mapping[str, Result]) -> str:
    """One row for each mode and thread count: the target, what was reached, the verdict.

    A mode with nothing to mask on this CPU is held to its own target with what was measured for its twin.
    """
    rows = []
    for name, results in modes.items():
        mode = MODES[name]
        twin = results.get("same_as", "")
        measured = modes.get(twin) if twin else results
        target = f"{mode.mean:.2f}, none under {mode.least:.2f}"
        if measured is None:
            rows.append(
                [mode.title, ", ".join(mode.rivals), target, "", "", f"the same as {MODES[twin].title} on this CPU"]
            )
            continue
        amx = "amx_tile" in measured["machine"]["features"]
        for threads in measured["threads"]:
            found = verdict(mode, threads, measured["models"])
            model, least = found.least
            reached = [f"**{found.mean:.2f}**", f"{least:.2f} ({model})" if model else ""]
            said = verdict_text(found, amx) + (
                f" (nothing to mask: the figures of {MODES[twin].title})" if twin else ""
            )
            rows.append([f"{mode.title}, {plural(threads)}", ", ".join(mode.rivals), target, *reached, said])
    head = ["plans", "against the fastest of", "target: mean, least", "mean", "least", "verdict"]
    return table(head, rows, 3)


# ---------------------------------------------------------------------------------------------------- one mode


def _reason(entry: Mapping[str, Any]) -> str:
    return "not run" if not entry else f"failed: {str(entry.get('error', '')).splitlines()[0][:120]}"


def speed_table(mode: Mode, results: Result) -> str:
    """Times of all systems in ms, ratios to stratac in brackets; the fastest rival is bold."""
    systems = systems_of(results)
    head = ["model", "shape"]
    for threads in results["threads"]:
        head += [f"stratac, {plural(threads)}", *systems, "against the fastest"]
    rows = []
    for result in results["models"]:
        if "error" in result:
            rows.append([result["name"], f"failed: {str(result['error']).splitlines()[0]}"])
            continue
        cells = [result["name"], shape_text(result["dims"])]
        for threads in results["threads"]:
            found = result["threads"][str(threads)]["systems"]
            best = best_of(found, mode.rivals)
            cells.append(milliseconds(found["stratac"]["seconds"]))
            for name in systems:
                if "seconds" not in found.get(name, {}):
                    cells.append(_reason(found.get(name, {})))
                    continue
                text = f"{milliseconds(found[name]['seconds'])} ({ratio(found, name):.2f})"
                cells.append(f"**{text}**" if name == best else text)
            cells.append(f"**{ratio(found, best):.2f}**" if best else "")
        rows.append(cells)
    means = ["geometric mean", ""]
    for threads in results["threads"]:
        ran = [e["threads"][str(threads)]["systems"] for e in results["models"] if "error" not in e]
        means.append("")
        for name in systems:
            ratios = [ratio(found, name) for found in ran if "seconds" in found.get(name, {})]
            means.append(f"({geometric_mean(ratios):.2f})" if ratios else "")
        means.append(f"**{verdict(mode, threads, results['models']).mean:.2f}**")
    return table(head, [*rows, means], 2)


def summary_table(mode: Mode, results: Result) -> str:
    """One line for each model: time and the fastest rival at each thread count, error, peak RSS at the greatest dims."""
    peers = [name for name in systems_of(results) if name.startswith(("onnxruntime", "openvino"))]
    head = ["model", "shape"]
    for threads in results["threads"]:
        head += [f"stratac, {plural(threads)} (ms)", "fastest rival (ms)", "ratio"]
    head += [
        "error",
        *(["over onnxruntime's"] if mode.faithful else []),
        "peak RSS (MiB)",
        *(f"{name}'s" for name in peers),
    ]
    rows = []
    for result in results["models"]:
        if "error" in result:
            rows.append([result["name"], f"failed: {str(result['error']).splitlines()[0]}"])
            continue
        cells = [result["name"], shape_text(result["dims"])]
        for threads in results["threads"]:
            found = result["threads"][str(threads)]["systems"]
            best = best_of(found, mode.rivals)
            cells.append(milliseconds(found["stratac"]["seconds"]))
            cells += (
                [f"{milliseconds(found[best]['seconds'])} {best}", f"**{ratio(found, best):.2f}**"]
                if best
                else ["", ""]
            )
        worst = max(shape["rel_l2"]["stratac"] for shape in result["accuracy"]["shapes"])
        cells += [f"{worst:.0e}", *([f"{error_ratio(result):.2f}"] if mode.faithful else [])]
        peaks = result["threads"][str(results["threads"][-1])]["memory"]["peaks"]
        cells += [_mib(peaks[name]) if name in peaks else "" for name in ("stratac", *peers)]
        rows.append(cells)
    means = ["geometric mean", ""]
    for threads in results["threads"]:
        means += ["", "", f"**{verdict(mode, threads, results['models']).mean:.2f}**"]
    return table(head, [*rows, means], 2)


def accuracy_table(mode: Mode, results: Result) -> str:
    """Relative L2 against float64, the worst of the seeds at the typical shape; of a faithful mode also ours over
    onnxruntime's, at the shape where that is greatest."""
    systems = ["stratac", *systems_of(results)]
    rows = []
    for result in results["models"]:
        if "error" in result:
            continue
        found = result["accuracy"]["shapes"][0]["rel_l2"]
        cells = [result["name"], *(f"{found[name]:.1e}" if name in found else "" for name in systems)]
        rows.append([*cells, f"{error_ratio(result):.2f}"] if mode.faithful else cells)
    return table(["model", *systems, *(["stratac over onnxruntime, worst shape"] if mode.faithful else [])], rows)


def opening_table(results: Result) -> str:
    """Seconds to open and run once, at the first thread count; our first run over the median; compile times of peers."""
    systems = ["stratac", *systems_of(results)]
    threads = str(results["threads"][0])
    rows = []
    for result in results["models"]:
        if "error" in result:
            continue
        found = result["threads"][threads]["systems"]
        cells = [result["name"]]
        for name in systems:
            entry = found.get(name, {})
            if "seconds" not in entry:
                cells.append("")
                continue
            text = "{:.2f} + {:.2f}".format(*opening(entry))
            cells.append(text + (f", after {entry['compile_seconds']:.0f}" if "compile_seconds" in entry else ""))
        ours = [entry["systems"]["stratac"] for entry in result["threads"].values()]
        cells.append(f"{max(opening(entry)[1] / entry['seconds'] for entry in ours):.2f}")
        rows.append([*cells, f"{result['compile']['cold']['seconds']:.1f}"])
    return table(["model", *systems, "first run over median", "stratac compiles in"], rows)


def memory_table(results: Result) -> str:
    """MiB at the last thread count: peak RSS of whole processes at the typical and the greatest dims, and the promise."""
    systems = ["stratac", *systems_of(results)]
    bounded = ["stratac", *(name for name in systems if name.startswith(("onnxruntime", "openvino")))]
    threads = str(results["threads"][-1])
    rows = []
    for result in results["models"]:
        if "error" in result:
            continue
        entry = result["threads"][threads]
        found, memory = entry["systems"], entry["memory"]
        cells = [_mib(found[name]["peak_bytes"]) if "peak_bytes" in found.get(name, {}) else "" for name in systems]
        cells += [_mib(memory["peaks"][name]) if name in memory["peaks"] else "" for name in bounded]
        rows.append([result["name"], *cells, _mib(memory["predicted"]), _mib(memory["measured"])])
    head = ["model", *systems, *(f"{name}, greatest dims" for name in bounded), "the plan alone, predicted", "measured"]
    return table(head, rows)


def broken_promises(mode: Mode, results: Result) -> list[str]:
    """A line for each promise that a model did not keep."""
    lines = []
    for result in results["models"]:
        if "error" in result:
            lines.append(f"{result['name']}: failed: {str(result['error']).splitlines()[0]}")
            continue
        kept = promises(mode, result)
        lines += [f"{result['name']}: {p.name}: {p.figure or 'not kept'}" for p in kept if not p.kept]
    return lines


def caption(results: Result) -> str:
    """Where, when and with what it was measured."""
    machine, used = results["machine"], results["versions"]
    others = max((result.get("cpu_share_of_others", 0.0) for result in results["models"]), default=0.0)
    peers = ", ".join(f"{name} {used[name]}" for name in PEERS if used.get(name, "absent") != "absent")
    return (
        f"{machine['cpu']} ({machine['isa']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB), "
        f"{machine['system']}, {results['date'][:10]}; stratac {used['stratac']} ({used['revision'] or 'no revision'}), "
        f"{peers}; other programs took at most {others:.0%} of the CPUs."
    )
