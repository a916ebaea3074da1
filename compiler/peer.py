"""One measured system in a process of its own: stratac or onnxruntime, opened once, then run on request.

`Peer` starts the process (`python -m stratac.compiler.peer SYSTEM THREADS`) and talks to it in lines of JSON over its
standard input and output; arrays travel in .npz files. Peers live as long as a comparison does, so that they take turns
and any drift of the machine hits all alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from ..runtime.session import load
from .resident import peak_bytes, reset_peak, resident_by_mapping, resident_bytes

Arrays = Mapping[str, np.ndarray]
SYSTEMS = ("stratac", "onnxruntime")
TURN_SECONDS, TURN_RUNS, REST_SECONDS = 0.3, 2, 0.03


class PeerError(RuntimeError):
    """A peer's process reported an error, or died."""


@dataclass(frozen=True)
class Held:
    """Bytes a peer's process took since `begin`: resident now, and at most.

    `base` was resident at `begin`: interpreter, imported modules, inputs. `outputs` are the caller's arrays, part of
    `resident` and `peak`. `mappings`: the growth of `resident` by mapped file.
    """

    base: int
    resident: int
    peak: int
    outputs: int
    mappings: dict[str, int]


class Peer:
    """A system in a child process. A context manager; every method waits for the child's answer.

    `how` is the system's own: how stratac reads what is streamed (`io` of `load`), or `mapped` for an onnxruntime that keeps
    weights as they are in the model's files. `enter` runs in the child before anything else, to confine it.
    """

    def __init__(
        self, system: str, threads: int = 1, *, how: str = "", enter: Callable[[], None] | None = None
    ) -> None:
        self.system, self.threads = system, threads
        command = [sys.executable, "-m", __spec__.name, system, str(threads), *([how] if how else [])]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=enter
        )
        self._answer()

    def open(self, path: Path) -> float:
        """Open a plan folder (stratac) or a model (onnxruntime); seconds from imported modules to a ready session."""
        return float(self._call("open", path=str(path.resolve()))["seconds"])

    def set_inputs(self, archive: Path) -> None:
        """Take the arrays of an .npz file as the inputs of all runs to come."""
        self._call("set_inputs", path=str(archive.resolve()))

    def run(self, save: Path | None = None) -> float:
        """Seconds of one run; its outputs go to the .npz file `save`, in order, as o0, o1, ..."""
        return float(self._call("run", path=str(save.resolve()) if save else "")["seconds"])

    def turn(self, seconds: float, runs: int) -> list[float]:
        """After one run that is not counted: the seconds of each run, at least `runs` and at least `seconds` in all."""
        return [float(value) for value in self._call("turn", seconds=seconds, runs=runs)["runs"]]

    def fingerprint(self) -> str:
        """sha256 of the last run's outputs, made where they are: nothing is copied."""
        return str(self._call("fingerprint")["sha256"])

    def begin(self) -> None:
        """Count memory from here."""
        self._call("begin")

    def held(self) -> Held:
        return Held(**self._call("held"))

    def facts(self) -> dict[str, Any]:
        """What the open session says about itself: threads, predicted_seconds, io, bytes (stratac only)."""
        return self._call("facts")

    def profile(self) -> list[tuple[str, float, float]]:
        """Of each call since the session was opened: its label, mean seconds and predicted seconds (stratac only)."""
        return [(label, seconds, predicted) for label, seconds, predicted in self._call("profile")["rows"]]

    def cpu_seconds(self) -> float:
        """CPU time of the child so far, all threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(f"the {self.system} process ended with code {self._process.wait()}") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"the {self.system} process ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.system}: {answer['error']}")
        return answer


def take_turns(peers: dict[tuple[str, int], Peer], rounds: int) -> dict[tuple[str, int], list[float]]:
    """Seconds of one run, by peer and round."""
    order = list(peers)
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in order}
    for number in range(rounds):
        start = number % len(order)
        for key in order[start:] + order[:start]:
            taken[key].append(statistics.median(peers[key].turn(TURN_SECONDS, TURN_RUNS)))
            time.sleep(REST_SECONDS)  # threads of the last one that still spin go to sleep
    return taken


# ---------------------------------------------------------------------------------------------------- in the child


class _System(Protocol):
    def open(self, path: str) -> None: ...
    def run(self, inputs: Arrays) -> list[np.ndarray]: ...
    def facts(self) -> dict[str, Any]: ...
    def profile(self) -> list[tuple[str, float, float]]: ...


class _Stratac:
    def __init__(self, threads: int, io: str = "auto") -> None:
        self.threads, self.io = threads, io

    def open(self, path: str) -> None:
        self.session = load(path, threads=self.threads, io=self.io)

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        return self.session.run(None, inputs)

    def facts(self) -> dict[str, Any]:
        memory, info = self.session.memory(), self.session.info()
        return {
            "threads": self.session.threads,
            "predicted_seconds": self.session.predicted_seconds,
            "io": info.io,
            "planned_bytes": memory.weights
            + memory.scratch
            + memory.threads * memory.workspace_per_thread
            + memory.ring,
            "session_bytes": memory.session,
            "outputs": [port.name for port in self.session.get_outputs()],
        }

    def profile(self) -> list[tuple[str, float, float]]:
        return [(row.label, row.seconds, row.predicted_seconds) for row in self.session.profile()]


class _OnnxRuntime:
    def __init__(self, threads: int, how: str = "") -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        self.module, self.threads, self.mapped = onnxruntime, threads, how == "mapped"

    def open(self, path: str) -> None:
        options = self.module.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        skipped = ["ConstantFolding"] if self.mapped else []
        if self.mapped:
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.enable_cpu_mem_arena = False
        self.session = self.module.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=skipped
        )

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self.session.run(None, dict(inputs))
        return outputs

    def facts(self) -> dict[str, Any]:
        return {"threads": self.threads, "outputs": [port.name for port in self.session.get_outputs()]}

    def profile(self) -> list[tuple[str, float, float]]:
        raise NotImplementedError("onnxruntime's calls are not timed one by one")


class _Child:
    """Answers the commands of a `Peer`."""

    def __init__(self, system: _System) -> None:
        self.system = system
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: list[np.ndarray] = []
        self.begin()

    def begin(self) -> dict[str, Any]:
        self.mappings = resident_by_mapping()
        reset_peak()
        self.base = resident_bytes()
        return {}

    def open(self, path: str) -> dict[str, Any]:
        started = time.perf_counter()
        self.system.open(path)
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


def main(arguments: list[str]) -> int:
    """Serve until standard input ends. Whatever else prints, prints to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    makers: dict[str, Callable[..., _System]] = {"stratac": _Stratac, "onnxruntime": _OnnxRuntime}
    try:
        child = _Child(makers[arguments[0]](int(arguments[1]), *arguments[2:]))
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        return 1
    answer({})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(child, request.pop("do"))(**request))
        except Exception as error:  # the parent decides what an error means
            answer({"error": f"{type(error).__name__}: {error}"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
