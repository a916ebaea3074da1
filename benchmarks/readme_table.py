"""What README.md and docs/benchmarks.md say was measured, made from the results of `make bench` and `make bench-plan`.

    python -m benchmarks.readme_table            write the page and its charts, and between the markers in README.md
    python -m benchmarks.readme_table --check    say whether they are what the results give

The text between the markers in README.md is this module's alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import readme_promises
from .models_chart import chart
from .modes import Mode
from .results_page import chart_name, machines, measured, page
from .subjects import RESULTS, ROOT
from .tables import caption, plural, summary_table, targets_table
from .verdicts import Result

DOCS = ROOT / "docs"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PROMISES = "<!-- promises:begin -->", "<!-- promises:end -->"


def newest(kind: str) -> dict[str, Any] | None:
    """The results with the latest date, or None where none are."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{kind}-*.json"))]
    return max(found, key=lambda results: str(results["date"]), default=None)


def table_text() -> str | None:
    """What stands between the markers: targets, the zoo's table and chart, and where measured that of the held-out models."""
    zoo = next(iter(machines("models", RESULTS).items()), None)
    if zoo is None:
        return None
    isa, modes = zoo
    parts = [targets_table(modes)]
    for mode, results in measured(modes)[:1]:
        parts += [_told(mode, results), f"![{mode.title}](docs/{chart_name(isa, mode.name)})"]
    for modes in [*machines("heldout", RESULTS).values()][:1]:
        for mode, results in measured(modes)[:1]:
            parts += ["Models held out, never looked at while developing:", _told(mode, results)]
    return "\n\n".join(parts)


def _told(mode: Mode, results: Result) -> str:
    explained = (
        f"{mode.title}; above 1 stratac is faster. Errors are relative L2 against the model in float64, at the worst shape; "
        f"peak RSS is the whole process's at the greatest dims of the plan and {plural(results['threads'][-1])}."
    )
    return f"{summary_table(mode, results)}\n\n{explained} {caption(results)}"


def documents() -> dict[Path, str]:
    """The generated files of docs/: the page of results and its charts."""
    found = {DOCS / "benchmarks.md": page(RESULTS)}
    for isa, modes in machines("models", RESULTS).items():
        found |= {DOCS / chart_name(isa, mode.name): chart(mode, results) for mode, results in measured(modes)}
    return found


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
        where = readme_promises.caption(results)
        if parts and parts[-1] == where:
            parts.pop()  # measured where and when the one before was: said once, below both
        parts += [text, where]
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
    wanted = {path: new, **documents()}
    if not arguments.check:
        for file, text in wanted.items():
            file.write_text(text)
        return 0
    stale = [file.name for file, text in wanted.items() if not file.exists() or file.read_text() != text]
    if stale:
        print(f"out of date: {', '.join(stale)}: python -m benchmarks.readme_table", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
