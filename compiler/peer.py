"""One measured system in a process of its own: stratac or a peer of it, opened once, then run on request.

`Peer` starts the process (`python -m stratac.compiler.peer_child MAKER THREADS`) and talks to it in lines of JSON over its
standard input and output; arrays travel in .npz files. Peers live as long as a comparison does, so that they take turns
and any drift of the machine hits all alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from . import peer_child

TURN_SECONDS, TURN_RUNS, REST_SECONDS = 0.3, 2, 0.03
#: the systems that run an ONNX model or a plan made from one, and the class that does (`module:class`)
SYSTEMS: Mapping[str, str] = {
    "stratac": "stratac.compiler.peer_systems:Stratac",
    "onnxruntime": "stratac.compiler.peer_systems:OnnxRuntime",
    "openvino": "stratac.compiler.peer_systems:OpenVino",
    "openvino-default": "stratac.compiler.peer_systems:OpenVinoDefault",
    "iree": "stratac.compiler.peer_systems:Iree",
}


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

    `system` is one of SYSTEMS, or any name where `maker` says what it stands for (`module:class` of a `peer_child.System`).
    `how` is the system's own: how stratac reads what is streamed (`io` of `load`), or `mapped` for an onnxruntime that keeps
    weights as they are in the model's files. `environment` is added to the child's. `enter` runs in the child before
    anything else, to confine it. Raises PeerError where the system cannot be made, such as one that is not installed.
    """

    def __init__(
        self,
        system: str,
        threads: int = 1,
        *,
        how: str = "",
        maker: str = "",
        environment: Mapping[str, str] = MappingProxyType({}),
        enter: Callable[[], None] | None = None,
    ) -> None:
        self.system, self.threads = system, threads
        maker = maker or SYSTEMS.get(system, "")
        if not maker:
            raise PeerError(f"no system {system!r}; known: {', '.join(SYSTEMS)}")
        command = [sys.executable, "-m", peer_child.__name__, maker, str(threads), *([how] if how else [])]
        # numpy's BLAS starts threads as it is imported, which spin for some 20 ms, longer than a small plan takes to open
        inherited = {**os.environ, "HF_HUB_OFFLINE": "1", "OPENBLAS_NUM_THREADS": "1", **environment}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=inherited, preexec_fn=enter
        )
        try:
            self._answer()
        except PeerError:
            self.close()
            raise

    def open(self, path: Path, dims: Mapping[str, int] | None = None) -> float:
        """Open a plan folder (stratac), a model, or what was compiled from one; seconds from imported modules to a session.

        `dims`: the sizes of the model's symbolic dims in all runs to come, whose inputs are set already. Systems that can fix
        shapes then do so, and are the faster for it.
        """
        answer = self._call("open", path=str(path.resolve()), dims=dict(dims or {}), fixed=dims is not None)
        return float(answer["seconds"])

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

    def ended(self) -> bool:
        """Whether the child's process is no more."""
        return self._process.poll() is not None

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
