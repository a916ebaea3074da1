"""Estimates of very large models on every shipped machine, each in a process of its own: what they say, and what they take.

    python -m benchmarks.estimates [NAMES...] [--targets a,b] [--layers N] [-o FILE]

Graphs come from `benchmarks.big_graphs`, without weights. A complete run is written to benchmarks/results/estimates.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from stratac.compiler.profiles import shipped
from stratac.compiler.report.text import table, time_text

from .big_graphs import DECODERS, PHASES, decoder, write
from .machine_facts import machine_facts, versions

RESULTS = Path(__file__).resolve().parent / "results"
DIMS = {"prefill": ("batch=1", "seq=1:2048:8192"), "decode": ("batch=1", "past=0:2048:8192")}
#: what an estimate may take
MOST_SECONDS, MOST_BYTES = 60.0, 2 << 30


def measure(model: Path, phase: str, target: str) -> dict[str, Any]:
    """One estimate in a fresh process: its answer, its seconds from start to end and the greatest memory it had."""
    command = [sys.executable, "-m", "stratac.compiler.cli", "estimate", str(model), "--target", target, "--json"]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([*command, *(f"--dim={d}" for d in DIMS[phase])], stdout=out, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode not in (0, 2):
            raise SystemExit(f"the estimate of {model.name} on {target} failed with code {process.returncode}")
        out.seek(0)
        (answer,) = json.load(out)
    return {"taken_seconds": seconds, "taken_bytes": _peak(usage), "answer": answer}


def _peak(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def lines(rows: list[dict[str, Any]]) -> list[str]:
    cells = []
    for row in rows:
        a = row["answer"]
        fastest = min((h for h in a["hosts"] if h["fits"]), key=lambda h: h["seconds"], default=None)
        cells.append(
            (
                row["model"],
                row["phase"],
                row["target"],
                "fits" if a["fits"] else "does not fit",
                time_text(a["seconds"]) if a["fits"] else "-",
                f"{a['tokens_per_second']:.3g}" if a["fits"] else "-",
                a["bound"] if a["fits"] else ", ".join(f"{t} short" for t, m in a["memory"].items() if m["short"]),
                f"{time_text(fastest['seconds'])} on {fastest['hosts']}" if fastest else "-",
                f"{row['taken_seconds']:.1f} s",
                f"{row['taken_bytes'] / (1 << 20):.0f} MiB",
            )
        )
    head = (
        "model",
        "phase",
        "machine",
        "one host",
        "a run",
        "tokens/s",
        "bound by",
        "fastest, hosts",
        "took",
        "memory",
    )
    return table(cells, head, frozenset({4, 5, 8, 9}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(d.name for d in DECODERS)} (default: all)")
    parser.add_argument("--targets", default="", help="machines, comma separated (default: all shipped)")
    parser.add_argument("--layers", type=int, help="fewer layers, for a quick look")
    parser.add_argument("-o", "--output", type=Path, help="where to write the figures as JSON")
    args = parser.parse_args()
    targets = [t for t in args.targets.split(",") if t] or shipped()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or [d.name for d in DECODERS]:
            shape = decoder(name)
            shape = replace(shape, layers=args.layers) if args.layers else shape
            for phase in PHASES:
                model = write(shape, phase, Path(folder))
                for target in targets:
                    found = measure(model, phase, target)
                    rows.append({"model": name, "phase": phase, "target": target, **found})
                    print(f"{name} {phase} {target}: {found['taken_seconds']:.1f} s", file=sys.stderr, flush=True)
    print("\n".join(lines(rows)))
    slow = [r for r in rows if r["taken_seconds"] > MOST_SECONDS or r["taken_bytes"] > MOST_BYTES]
    print(f"{len(rows) - len(slow)} of {len(rows)} estimates took less than {MOST_SECONDS:.0f} s and 2 GiB")
    complete = not (args.names or args.targets or args.layers)
    output = args.output or (RESULTS / "estimates.json" if complete else None)
    if output is not None:
        facts = {"machine": machine_facts(), "versions": versions(), "dims": DIMS, "rows": rows}
        output.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
