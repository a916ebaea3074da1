"""The `probe` command: measure, write the profile whole or not at all, and say what was found."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from ...ir.errors import EnvironmentProblem, StratacError
from ..options import default_cache, environment_cc, user_profile
from .measure import Probed, probe


def run_probe(output: Path | None, disk: Path | None, *, quick: bool, quiet: bool, as_json: bool) -> int:
    """Measure this machine; returns the exit code. Raises StratacError."""
    target = output if output is not None else user_profile()
    if output is not None and output.suffix != ".toml":
        raise StratacError(f"{output} would not be found as a profile", hint="give a name that ends in .toml")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {target}: {error.strerror}", hint="choose another -o") from error
    if disk is not None and not disk.is_dir():
        raise StratacError(f"--disk {disk} is not a folder")
    started = time.monotonic()

    def say(text: str) -> None:
        if not quiet and sys.stderr is not None:
            print(f"[{time.monotonic() - started:6.1f} s] {text}", file=sys.stderr, flush=True)

    found = probe(disk=disk or target.parent, quick=quick, cc=environment_cc(), cache=default_cache(), say=say)
    write_profile(target, found.text())
    print(json.dumps(facts(found, target), indent=1) if as_json else summary(found, target))
    return 0


def write_profile(path: Path, text: str) -> None:
    """The file appears under its name only whole. Raises EnvironmentProblem."""
    part = ""
    try:
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except OSError as error:
        if part:
            Path(part).unlink(missing_ok=True)
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}", hint="choose another -o") from error


def facts(found: Probed, path: Path) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "profile": str(path),
        "machine": found.machine.name,
        "source": found.machine.source,
        "seconds": found.seconds,
        "notes": list(found.notes),
        "figures": [
            {"name": f.name, "unit": f.unit, "median": f.median, "least": f.least, "most": f.most}
            for f in found.figures
        ],
        "fit": {family: {"median": m, "p95": p} for family, (m, p) in found.tables.errors.items()},
        "calls": found.tables.calls,
    }


def summary(found: Probed, path: Path) -> str:
    """What the command prints."""
    device, ram, disk = found.machine.device("cpu"), found.machine.tier("ram"), found.machine.tier("disk")
    worst = ", ".join(f"{family} {middle:.0%}" for family, (middle, _) in found.tables.errors.items())
    rates = "".join(f", {rate / 1e9:.0f} in {mode}" for mode, rate in sorted(device.modes.items()))
    lines = [
        f"{path}: {found.machine.name}",
        f"  {found.machine.source}",
        f"  {device.peak_flops / 1e9:.0f} Gflop/s a core{rates}, memory {ram.core_bandwidth / 1e9:.1f} GB/s on one core and "
        f"{ram.bandwidth / 1e9:.1f} on {device.cores}, disk {disk.bandwidth / 1e9:.2f} GB/s",
        f"  kernel tables from {found.tables.calls} calls; median distance to them: {worst}",
        *(f"  note: {note}" for note in found.notes),
        f"  done in {found.seconds:.0f} s",
    ]
    return "\n".join(lines)
