"""The zoo, compiled and run beside all peers: time, error against float64, opening, memory, and the targets met or missed.

    python -m benchmarks.models [--mode MODE,...|all] [--models NAME,...] [--heldout] [--against SYSTEM,...]
                                [--threads 1,2] [--rounds N] [-o FOLDER]

A mode is a row of the table of targets (benchmarks/modes.py). Results are written to MODE.partial.json as each model ends, and a
run that was cut off goes on where it ended. A whole run ends in benchmarks/results/models/ISA/MODE.json (results/heldout with
--heldout), from which `python -m benchmarks.readme_table` makes the README's tables, docs/benchmarks.md and its charts. A run
of some models, peers or rounds only prints, unless -o names a folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stratac.compiler.peer import SYSTEMS, PeerError

from .machine_facts import isa, machine_facts, versions
from .measure_model import Settings, measure
from .modes import MODES, TORCH_SYSTEMS, Mode, twin_of
from .results_page import mode_text
from .subjects import RESULTS, say
from .tables import targets_table
from .verdicts import Result, best_of, is_right, promises, ratio
from .zoo import HELDOUT, ZOO

QUIET = 0.03  # share of all CPU time that others may take before a row is called disturbed
ROUNDS, THREADS = 7, (1, 2)

METHOD = (
    "Every system holds the model in a process of its own, one for each thread count, and they take turns: {rounds} rounds in "
    "rotating order; a turn is one uncounted run, then at least 0.3 s and 2 runs; its figure is the median of its runs. "
    "Times are medians over rounds of one inference through the Python interface, outputs included, inputs fixed; a ratio is "
    "the median over rounds of the peer's turn divided by stratac's of the same round. Peers are given the typical shape "
    "as fixed; stratac's plan keeps its dims open within their bounds. Errors are relative L2 against the model evaluated in "
    "float64, the worst of seeds 0 to 2. Opening is from imported modules to a session, files in the page cache; the first "
    "run follows; both are medians over three fresh processes, in which numpy's BLAS has one thread: its others would spin "
    "beside a first run. Peak RSS is the whole process's, Python and imports included. The "
    "promise of memory is what a fresh process takes after its imports to open the plan and run it at its greatest dims. No "
    "figure of memory at the greatest dims counts the caller's outputs."
)


def identity(mode: Mode, systems: Sequence[str], threads: Sequence[int], rounds: int) -> dict[str, Any]:
    """What makes two results comparable: results of another identity are measured anew."""
    return {
        "format": 2,
        "mode": mode.name,
        "machine": machine_facts(),
        "versions": versions(),
        "systems": list(systems),
        "threads": list(threads),
        "rounds": rounds,
    }


def one_line(mode: Mode, result: Result) -> str:
    if "error" in result:
        return f"{result['name']:<18} FAILED: {result['error']}"
    parts = [f"{result['name']:<18}"]
    for threads, entry in result["threads"].items():
        found = entry["systems"]
        best = best_of(found, mode.rivals)
        parts.append(f"{threads}t {found['stratac']['seconds'] * 1e3:8.2f} ms")
        parts.append(
            f"{best} {found[best]['seconds'] * 1e3:8.2f} ms: {ratio(found, best):.2f}x " if best else "no rival ran "
        )
    parts += [f"NOT {p.name.upper()} {p.figure}" for p in promises(mode, result) if p.must and not p.kept]
    others = result["cpu_share_of_others"]
    parts.append(f"(DISTURBED: others took {others:.0%} of the CPUs)" if others > QUIET else "")
    return " ".join(part for part in parts if part)


def measured_already(mode: Mode, wanted: Mapping[str, Any], folder: Path) -> dict[str, Result]:
    """Rows of another mode that hold for this one where the plan turns out the same: equal mask, versions, rounds and peers."""
    for other in MODES.values():
        path = folder / f"{other.name}.json"
        found = _read(_partial(path)) or _read(path)
        keys = ("format", "machine", "versions", "threads", "rounds")
        alike = all(found.get(key) == wanted[key] for key in keys) and set(wanted["systems"]) <= {*found["systems"]}
        if other is not mode and other.mask == mode.mask and alike:
            return {result["name"]: {**result, "same_plan_as": other.name} for result in found["models"]}
    return {}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _row(name: str, settings: Settings) -> dict[str, Any]:
    try:
        return measure(name, settings)
    except (PeerError, subprocess.CalledProcessError, OSError) as error:
        return {"name": name, "error": str(error)}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _partial(path: Path) -> Path:
    """Where results stay until the run has ended, of which they are a part."""
    return path.with_suffix(".partial.json")


def _write(path: Path, results: Result) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(path)


def run_mode(names: Sequence[str], settings: Settings, path: Path) -> dict[str, Any]:
    """Measure the named models; a model that fails becomes a row with `error`.

    Rows are written to `path` one by one; what is found there already, of the same identity, is not measured again.
    """
    mode = settings.mode
    fixed = identity(mode, settings.systems, settings.threads, settings.rounds)
    found = _read(path)
    done = {r["name"]: r for r in found.get("models", []) if "error" not in r} if fixed.items() <= found.items() else {}
    results = {**fixed, "method": METHOD.format(rounds=settings.rounds), "load_average_before": os.getloadavg()[0]}
    for number, name in enumerate(names, 1):
        if name not in done:
            say(f"[{mode.name} {number}/{len(names)}] {name}")
            done[name] = _row(name, settings)
        say(one_line(mode, done[name]))
        results["date"] = _now()
        results["models"] = [done[n] for n in names if n in done]
        _write(path, results)
    return results


def _list(known: Sequence[str], what: str, parser: argparse.ArgumentParser, words: str) -> tuple[str, ...]:
    names = tuple(word for word in words.split(",") if word)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no {what} {', '.join(unknown)}; known: {', '.join(known)}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.splitlines()[0])
    parser.add_argument("--mode", default="faithful", help=f"all, or some of {', '.join(MODES)} (default faithful)")
    parser.add_argument("--models", default="", help=f"some of {', '.join([*ZOO, *HELDOUT])} (default: the zoo)")
    parser.add_argument("--heldout", action="store_true", help=f"the held-out models: {', '.join(HELDOUT)}")
    parser.add_argument("--against", default="", help="the peers (default: those of the mode)")
    parser.add_argument("--threads", default=",".join(map(str, THREADS)), help="thread counts (default 1,2)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each system (default {ROUNDS})")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where the modes' JSON files go")
    arguments = parser.parse_args(argv)
    modes = tuple(MODES) if arguments.mode == "all" else _list(list(MODES), "mode", parser, arguments.mode)
    names = _list([*ZOO, *HELDOUT], "model", parser, arguments.models) or tuple(HELDOUT if arguments.heldout else ZOO)
    peers = [*(name for name in SYSTEMS if name != "stratac"), *TORCH_SYSTEMS]
    against = _list(peers, "peer", parser, arguments.against)
    threads = tuple(int(word) for word in arguments.threads.split(","))
    whole = not arguments.models and not against and threads == THREADS and arguments.rounds == ROUNDS
    group = "heldout" if arguments.heldout else "models"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="stratac-models-") as name:
        work = Path(name)
        folder = arguments.output or (RESULTS / group / isa() if whole else work / "results")
        for mode in (MODES[m] for m in modes):
            twin = twin_of(mode)
            if twin:
                say(f"{mode.name}: this CPU has nothing to mask, so the row is that of {twin}")
                found[mode.name] = {"same_as": twin, "date": _now(), "machine": machine_facts()}
                _write(_partial(folder / f"{mode.name}.json"), found[mode.name])
                continue
            systems = against or mode.systems
            same = measured_already(mode, identity(mode, systems, threads, arguments.rounds), folder)
            settings = Settings(mode, systems, threads, arguments.rounds, work, same)
            found[mode.name] = run_mode(names, settings, _partial(folder / f"{mode.name}.json"))
            print(mode_text(mode, found[mode.name]) + "\n", flush=True)
        for path in (folder / f"{name}.json" for name in found):
            _partial(path).replace(path)
        print(targets_table(found))
        if arguments.output or whole:
            say(f"written to {folder}")
    measured = [(MODES[m], result) for m, results in found.items() for result in results.get("models", [])]
    return 0 if all(is_right(mode, result) for mode, result in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
