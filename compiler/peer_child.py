"""The process behind a `Peer`: one system, which answers commands until standard input ends.

python -m stratac.compiler.peer_child MODULE:CLASS THREADS [HOW]
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from .resident import peak_bytes, reset_peak, resident_by_mapping, resident_bytes

Arrays = Mapping[str, np.ndarray]


class System(Protocol):
    """What is measured. Made with a thread count and, where the parent gives one, a word on how; imports what it runs with.

    `open` loads a model, a plan, or what was compiled from a model. A system that can fix its shapes takes those of `inputs`, and
    `dims`, the sizes of the model's symbolic dims; both are empty where shapes are to stay open. `run` takes the model's
    inputs by name, in the model's order, and returns its outputs. `facts` says what the open session is. `profile` lists
    calls as (label, mean seconds, predicted seconds); systems without one raise NotImplementedError.
    """

    def open(self, path: str, dims: Mapping[str, int], inputs: Arrays) -> None: ...
    def run(self, inputs: Arrays) -> list[np.ndarray]: ...
    def facts(self) -> dict[str, Any]: ...
    def profile(self) -> list[tuple[str, float, float]]: ...


class _Child:
    """Answers the commands of a `Peer`."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: list[np.ndarray] = []
        self.begin()

    def begin(self) -> dict[str, Any]:
        self.mappings = resident_by_mapping()
        reset_peak()
        self.base = resident_bytes()
        return {}

    def open(self, path: str, dims: dict[str, int], fixed: bool) -> dict[str, Any]:
        started = time.perf_counter()
        self.system.open(path, dims if fixed else {}, self.inputs if fixed else {})
        return {"seconds": time.perf_counter() - started}

    def set_inputs(self, path: str) -> dict[str, Any]:
        with np.load(path) as archive:
            self.inputs = {name: archive[name] for name in archive.files}
        self.outputs = []
        return {}

    def run(self, path: str) -> dict[str, Any]:
        self.outputs = []  # before the new ones are made, so that the caller's arrays are held once
        started = time.perf_counter()
        self.outputs = self.system.run(self.inputs)
        seconds = time.perf_counter() - started
        if path:
            np.savez(path, **{f"o{i}": array for i, array in enumerate(self.outputs)})  # type: ignore[arg-type]
        return {"seconds": seconds}

    def turn(self, seconds: float, runs: int) -> dict[str, Any]:
        self.run("")
        taken: list[float] = []
        while len(taken) < runs or sum(taken) < seconds:
            taken.append(self.run("")["seconds"])
        return {"runs": taken}

    def fingerprint(self) -> dict[str, Any]:
        found = hashlib.sha256()
        for array in self.outputs:
            found.update(f"{array.dtype.str} {array.shape} ".encode())
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return {"sha256": found.hexdigest()}

    def held(self) -> dict[str, Any]:
        now = resident_by_mapping()
        growth = {name: size - self.mappings.get(name, 0) for name, size in now.items()}
        return {
            "base": self.base,
            "resident": resident_bytes() - self.base,
            "peak": peak_bytes() - self.base,
            "outputs": sum(array.nbytes for array in self.outputs),
            "mappings": {name: size for name, size in growth.items() if size},
        }

    def facts(self) -> dict[str, Any]:
        return self.system.facts()

    def profile(self) -> dict[str, Any]:
        return {"rows": self.system.profile()}


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def main(arguments: list[str]) -> int:
    """Serve until standard input ends. Whatever else prints, prints to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    module, _, name = arguments[0].partition(":")
    try:
        child = _Child(getattr(importlib.import_module(module), name)(int(arguments[1]), *arguments[2:]))
    except Exception as error:  # such as a package that is not installed
        answer({"error": _text(error)})
        return 1
    answer({})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(child, request.pop("do"))(**request))
        except Exception as error:  # the parent decides what an error means
            answer({"error": _text(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
