"""What the README says was measured, made from the newest results of `python -m benchmarks.models` and `make bench-plan`.

    python -m benchmarks.readme_table            rewrite what stands between the markers in README.md
    python -m benchmarks.readme_table --check    say whether it is what the results give

The text between the markers in README.md is this module's alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import readme_promises

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PROMISES = "<!-- promises:begin -->", "<!-- promises:end -->"
MIB = 1 << 20


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else float("nan")


def newest(kind: str = "models") -> dict[str, Any] | None:
    """The results with the latest date, or None where none are."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{kind}-*.json"))]
    return max(found, key=lambda results: str(results["date"]), default=None)


def _milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _shape(dims: dict[str, int]) -> str:
    return " × ".join(f"{name} {size}" for name, size in dims.items())


def _cells(result: dict[str, Any], threads: Sequence[int]) -> list[str]:
    if "error" in result:
        return [f"failed: {str(result['error']).splitlines()[0]}"]
    cells = [_shape(result["dims"])]
    for count in threads:
        entry = result["threads"][str(count)]
        ours, theirs = entry["stratac"]["seconds"], entry["onnxruntime"]["seconds"]
        cells += [_milliseconds(ours), _milliseconds(theirs), f"**{entry['ratio']:.2f}**"]
    memory = result["threads"][str(threads[-1])]["memory"]
    agreement = result["agreement"]
    cells.append(f"{agreement['rel_l2']:.0e}" + ("" if agreement["agrees"] else " (differs)"))
    cells += [f"{memory[key] / MIB:.0f}" for key in ("predicted", "measured", "onnxruntime_peak")]
    cells.append(f"{result['compile']['cold']['seconds']:.1f}")
    return cells


def markdown(results: dict[str, Any]) -> str:
    """The table, a row of geometric means, and a caption that says what was measured where and when."""
    threads: list[int] = results["threads"]
    head = ["model", "shape"]
    for count in threads:
        label = f"{count} thread{'s' if count > 1 else ''}"
        head += [f"stratac, {label} (ms)", "onnxruntime (ms)", "ratio"]
    head += ["rel. L2", "peak predicted (MiB)", "measured", "onnxruntime", "compile (s)"]
    rows = [[result["name"], *_cells(result, threads)] for result in results["models"]]
    means = ["geometric mean", ""]
    for count in threads:
        means += ["", "", f"**{results['geometric_means'][str(count)]:.2f}**"]
    rows.append(means)
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)], *(row + [""] * (len(head) - len(row)) for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{caption(results)}"


def caption(results: dict[str, Any]) -> str:
    machine, used = results["machine"], results["versions"]
    others = max((result.get("cpu_share_of_others", 0.0) for result in results["models"]), default=0.0)
    return (
        f"Ratio above 1: stratac is faster. {machine['cpu']} ({machine['isa']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB), {machine['system']}, {results['date'][:10]}; "
        f"stratac {used['stratac']} ({used['revision'] or 'no revision'}), onnxruntime {used['onnxruntime']}. "
        "fp32; median of one inference, the two in turns; "
        f"other programs took at most {others:.0%} of the CPUs. Memory at {results['threads'][-1]} "
        f"thread{'s' if results['threads'][-1] > 1 else ''} and the greatest dims the plan allows, without the caller's "
        "arrays; relative L2 over all outputs against onnxruntime, the worst of several shapes and seeds."
    )


def table_text() -> str | None:
    """What stands between the markers: the zoo's table and, where measured, that of the held-out models."""
    results = newest()
    if results is None:
        return None
    parts = [markdown(results)]
    heldout = newest("heldout")
    if heldout is not None:
        parts += ["Models held out, never looked at while developing:", markdown(heldout)]
    return "\n\n".join(parts)


def promises_text() -> str | None:
    """What stands between the markers of promises, as far as it was measured."""
    makers = {
        "streaming": readme_promises.streaming,
        "predictions": readme_promises.predictions,
        "ranking": readme_promises.ranking,
    }
    found = [(make(results), results) for kind, make in makers.items() if (results := newest(kind)) is not None]
    parts: list[str] = []
    for text, results in found:
        caption = readme_promises.caption(results)
        if parts and parts[-1] == caption:
            parts.pop()  # measured where and when the one before was: said once, below both
        parts += [text, caption]
    return "\n\n".join(parts) or None


def with_table(readme: str, table: str, markers: tuple[str, str] = (BEGIN, END)) -> str:
    """`readme` with `table` between the markers. Raises ValueError where they are missing."""
    head, begin, rest = readme.partition(markers[0])
    _, end, tail = rest.partition(markers[1])
    if not begin or not end:
        raise ValueError(f"README.md lacks the markers {markers[0]} and {markers[1]}")
    return f"{head}{begin}\n{table}\n{end}{tail}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme_table", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the table is out of date")
    arguments = parser.parse_args(argv)
    path, table, promises = ROOT / "README.md", table_text(), promises_text()
    if table is None and promises is None:
        print("no results yet: python -m benchmarks.models, make bench-plan", file=sys.stderr)
        return 1
    try:
        old = path.read_text()
        new = with_table(old, table) if table is not None else old
        new = with_table(new, promises, PROMISES) if promises is not None else new
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if not arguments.check:
        path.write_text(new)
    elif old != new:
        print("README.md is out of date: python -m benchmarks.readme_table", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
