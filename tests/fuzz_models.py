"""Damaged ONNX models against the compiler: every one must compile up to its plan or be refused with an error that says why.

`python tests/fuzz_models.py --minutes 20` compiles models that `damaged_models.py` makes, in a process with limits on time
and memory. What ends in a traceback, a hang or a crash is written to a folder, and printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from stratac.compiler.driver import import_model, lower_model
from stratac.compiler.frontends.onnx import importer
from stratac.compiler.frontends.onnx.protobuf import read_model
from stratac.compiler.frontends.onnx.refusals import DEFECT
from stratac.compiler.frontends.onnx.signature import read_inputs
from stratac.compiler.layout import Layout
from stratac.compiler.options import CompileOptions
from stratac.ir.dims import Bounds
from stratac.ir.errors import StratacError
from stratac.tests.damaged_models import corpus, mutate

#: A model takes milliseconds; what takes the processor for so long hangs, and so does what answers this many times later.
SECONDS, PATIENCE = 20.0, 10
#: Models that one process compiles.
TURN = 3000
MEMORY = 4 << 30


def options_of(path: Path) -> CompileOptions:
    """Options that a model can be compiled with: bounds of its dims, lengths of its sequences and iterations of its loops. They
    follow from the model's bytes."""
    model = read_model(path)
    rng = random.Random(path.stat().st_size)
    lists = [
        port.name for port in model.graph.input if port.type.WhichOneof("value") in ("sequence_type", "optional_type")
    ]
    elements = (None, (), (None,), (None, None), ((2,), (2, 3)))
    layout = Layout({name: rng.choice(elements) for name in lists}, trips=rng.choice((0, 3)))
    inputs, _ = read_inputs(model.graph, layout=layout)
    bounds = (Bounds(1, 2, 5), Bounds(0, 1, 3), Bounds(2, 2, 2), Bounds(1, 7, (1 << 31) - 1))
    names = dict.fromkeys(dim for one in inputs for dim in one.dims if isinstance(dim, str))
    dims = {name: rng.choice(bounds) for name in names}
    return CompileOptions(target="generic-x86_64-avx2", dims=dims, layout=layout)


def attempt(data: bytes, path: Path, compile: Callable[[Path, CompileOptions], object] = lower_model) -> str:
    """The outcome of one model: `plan`, `refused`, or a traceback; a `slip` is a refusal for a reason that no rule foresaw, behind
    which its traceback stands."""
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(path, options_of(path))
    except StratacError as error:
        text = str(error).strip()
        if any(DEFECT in line for line in text.splitlines()):
            return f"slip\n{text}\n" + "".join(traceback.format_exception(error.__cause__))
        return "refused" if text else "an error without a text"
    except BaseException:
        return traceback.format_exc()
    return "plan"


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """What `inference.inferred` gives, by a copy of this process, which has the package loaded: most of the time went there."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        with suppress(BaseException):
            signal.alarm(round(SECONDS))
            with os.fdopen(theirs, "wb") as out:
                out.write(onnx.shape_inference.infer_shapes(model).SerializeToString())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        data = answer.read()
    os.waitpid(process, 0)
    found = onnx.ModelProto()
    try:
        found.ParseFromString(data)
    except DecodeError:
        return model
    return found if found.HasField("graph") else model


def _serve(pipe: Connection, folder: str, whole: bool) -> None:
    """The process that compiles: models come in, outcomes go out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    importer.inferred = _inferred
    path = Path(folder) / "model.onnx"
    while True:
        pipe.send(attempt(pipe.recv(), path, lower_model if whole else import_model))


def _busy(process: int | None) -> float:
    """Seconds that a process and those it waited for have had the processor."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Subject:
    """A compiler in a process of its own, made anew when it dies or hangs, and after a number of models; unless `whole` only its
    front end, and what simplifies a graph."""

    def __init__(self, folder: str, whole: bool = True) -> None:
        self.folder, self.whole = folder, whole
        self.process: multiprocessing.process.BaseProcess | None = None
        self.turns = 0

    def __call__(self, data: bytes) -> str:
        if self.turns == TURN:
            self.close()
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.folder, self.whole), daemon=True)
            self.process.start()
            theirs.close()
            self.turns, patience = 0, SECONDS + 60  # it has to load first
        else:
            patience = SECONDS
        self.turns += 1
        self.pipe.send(data)
        began, ends = _busy(self.process.pid), time.monotonic() + PATIENCE * patience
        outcome = f"no answer within {SECONDS:.0f} s"
        try:
            while time.monotonic() < ends and _busy(self.process.pid) - began < patience:
                if self.pipe.poll(1.0):
                    return str(self.pipe.recv())
        except (EOFError, ConnectionError):
            self.process.join(5)
            outcome = f"the process died with {self.process.exitcode}"
        self.close()
        return outcome

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def place_of(outcome: str) -> str:
    """What tells one finding from another: the last line of our code, and the error's type."""
    lines = [line.strip() for line in outcome.splitlines()]
    ours = [line for line in lines if line.startswith("File") and "stratac" in line and "fuzz" not in line]
    return f"{ours[-1] if ours else ''} {' '.join(lines[-1].split(' at ')[0].split()[:12])}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; the same seed makes the same models")
    parser.add_argument("--import-only", action="store_true", help="plans are not made: more models in a minute")
    parser.add_argument("--models", type=Path, help="a folder of models to damage besides those of the operator tests")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where findings are written")
    given = parser.parse_args(arguments)
    rng, models, ends = random.Random(given.seed), corpus(given.models), time.monotonic() + 60 * given.minutes
    counts: dict[str, int] = {}
    found: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(folder, not given.import_only)
        while time.monotonic() < ends:
            data = mutate(rng, rng.choice(models), rng.choice(models))
            outcome = subject(data)
            kind = outcome if outcome in ("plan", "refused") else "finding"
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "finding" and place_of(outcome) not in found:
                given.keep.mkdir(parents=True, exist_ok=True)
                path = given.keep / f"{len(found)}.onnx"
                path.write_bytes(data)
                path.with_suffix(".txt").write_text(outcome)
                found[place_of(outcome)] = path
                print(f"{path}: {place_of(outcome)}", flush=True)
        subject.close()
    print(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())), f"({len(found)} different findings)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
