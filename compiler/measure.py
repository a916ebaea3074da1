"""Measuring a plan as it runs: times of calls and reads over several runs, and what the process grew by."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.dims import Bounds
from ..runtime.manifest import MANIFEST, WEIGHTS
from ..runtime.session import Session
from . import resident

#: runs that are measured unless the user says how many, and the seconds after which no further one begins
RUNS, ENOUGH_S = 5, 20.0
#: arenas of a session as reports call them
_PARTS = {"weights": "weights", "ring": "ring", "scratch": "activations", "states": "states"}


class Watch:
    """One measured opening and use of a plan. Make it before the plan is opened, then call `opened`, `first`
    and `rest`."""

    def __init__(self) -> None:
        np.random.default_rng(0).standard_normal(
            1
        )  # what inputs are made with is loaded now, so that it is not the plan's
        self.before = _resident()
        with suppress(OSError):
            resident.reset_peak()
        self.started = time.perf_counter()
        self.load_seconds = self.first_seconds = 0.0
        self.growth: int | None = None
        self.mapped = 0

    def opened(self) -> None:
        self.load_seconds = time.perf_counter() - self.started

    def first(self, session: Session, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        """The first run, whose caches are cold and whose ring is empty; also how much memory all of it took so far."""
        started = time.perf_counter()
        outputs = session.run([port.name for port in session.get_outputs()], inputs)
        self.first_seconds = time.perf_counter() - started
        if self.before is not None:
            with suppress(OSError):
                arrays = sum(np.asarray(a).nbytes for a in (*inputs.values(), *outputs))
                self.growth = max(resident.peak_bytes() - self.before - arrays, 0)
                self.mapped = resident.resident_by_mapping().get(WEIGHTS, 0)
        return outputs

    def rest(self, session: Session, inputs: Mapping[str, Any], runs: int) -> dict[str, Any]:
        """Further runs, and all that was measured: what `report.ledger.make_ledger` takes."""
        session.reset_profile()
        walls: list[float] = []
        began = time.perf_counter()
        while len(walls) < runs and (not walls or time.perf_counter() - began < ENOUGH_S):
            started = time.perf_counter()
            session.run([port.name for port in session.get_outputs()], inputs)
            walls.append(time.perf_counter() - started)
        memory, traffic, info = session.memory(), session.traffic(), session.info()
        held = {name: int(getattr(memory, field)) for field, name in _PARTS.items()}
        held["workspace"] = memory.workspace_per_thread * memory.threads
        if memory.mapped:  # of what may be touched, what the first run did
            held["mapped"] = min(self.mapped, memory.mapped)
        return {
            "digest": json.loads((session.path / MANIFEST).read_text())["digest"],
            "sizes": _sizes(session, inputs),
            "threads": session.threads,
            "runs": len(walls),
            "io": info.io,
            # means over all runs, whether a call ran in each of them or not
            "calls": [
                {"label": r.label, "seconds": r.seconds * r.count / len(walls), "waited": r.waited}
                for r in session.profile()
            ],
            "reads": [{"label": r.label, "seconds": r.seconds, "bytes": r.bytes} for r in session.reads()],
            "traffic": {
                "streamed": traffic.streamed / len(walls),
                "busy": traffic.busy / len(walls),
                "lookups": traffic.lookups / len(walls),
                "bandwidth": traffic.bandwidth,
            },
            "held": held,
            "growth": self.growth,
            "file_bytes": _file_bytes(session.path),
            "load_seconds": self.load_seconds,
            "first_seconds": self.first_seconds,
            "wall_seconds": sum(walls) / len(walls),
            "least_seconds": min(walls),
        }


def _resident() -> int | None:
    """None where the kernel does not say."""
    try:
        return resident.resident_bytes()
    except OSError:
        return None


def _file_bytes(plan: Path) -> int:
    return (plan / WEIGHTS).stat().st_size


def _sizes(session: Session, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Shapes that were run, and whether a symbol was not at its typical size."""
    symbols: Mapping[str, Bounds] = session.symbols
    differ = False
    shapes = {}
    for port in session.get_inputs():
        shape = tuple(np.shape(inputs[port.name]))
        shapes[port.name] = list(shape)
        names = [text.strip() for text in port.shape.strip("[]").split(",")]
        differ |= any(n in symbols and symbols[n].typical != extent for n, extent in zip(names, shape, strict=False))
    return {"shapes": shapes, "differ": differ}
