"""Damaged ONNX models against the compiler: every one must compile up to its plan or be refused with an error that says why.

`python tests/fuzz_models.py --minutes 20` mutates models of the official operator tests, as bytes and as messages, and compiles each
in a process with limits on time and memory. What ends in a traceback, a hang or a crash is written to a folder, and printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
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
from google.protobuf.message import DecodeError, Message
from stratac.compiler.driver import lower_model
from stratac.compiler.frontends.onnx.importer import DEFECT
from stratac.compiler.options import CompileOptions
from stratac.ir.errors import StratacError

#: A model takes milliseconds; what takes so long hangs.
SECONDS = 20.0
MEMORY = 4 << 30
NUMBERS = (0, 1, -1, 2, 3, 7, 31, 127, 255, 1 << 16, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    "y",
    "Add",
    "Reshape",
    "ai.onnx",
    "com.microsoft",
    "/etc/passwd",
    "../x",
    "\u00e9",
    "a" * 300,
    "%s",
    "\n",
)


def corpus() -> list[bytes]:
    """The models of the official operator tests."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case.model.SerializeToString() for case in collect_testcases(None) if case.model is not None]


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A damaged copy: mostly of the message, sometimes of the bytes. `other` is a model to take pieces from."""
    if rng.random() < 0.2:
        return _bytes(rng, data, other)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return _bytes(rng, data, other)
    donor = onnx.ModelProto()
    donor.ParseFromString(other)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        with suppress(ValueError):  # a number that the field cannot hold
            rng.choice(_MESSAGES)(rng, model, donor)
    return model.SerializeToString()


def _bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    text = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(text) + 1)
        match rng.randrange(5):
            case 0 if at < len(text):
                text[at] ^= 1 << rng.randrange(8)
            case 1:
                del text[at : at + rng.randrange(1, 16)]
            case 2:
                text[at:at] = rng.randbytes(rng.randrange(1, 16))
            case 3:
                del text[at:]
            case 4:
                begin = rng.randrange(len(other))
                text[at:at] = other[begin : begin + rng.randrange(1, 64)]
    return bytes(text)


def _fields(message: Message, depth: int = 0) -> list[tuple[Message, object]]:
    """Every field that is set, with the message it is in."""
    found: list[tuple[Message, object]] = []
    for field, value in message.ListFields():
        found.append((message, field))
        if field.message_type is None or depth > 8:
            continue
        for part in value if field.is_repeated else (value,):
            found += _fields(part, depth + 1)
    return found


def _change_a_field(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A number, text or flag becomes another; a repeated field loses, doubles or swaps a part."""
    message, field = rng.choice(_fields(model) or [(model, None)])
    if field is None:
        return
    name = field.name  # type: ignore[attr-defined]
    value = getattr(message, name)
    if field.is_repeated:  # type: ignore[attr-defined]
        at = rng.randrange(len(value))
        match rng.randrange(4):
            case 0:
                del value[at]
            case 1 if field.message_type is not None:  # type: ignore[attr-defined]
                value.add().CopyFrom(value[at])
            case 1:
                value.append(value[at])
            case 2 if field.message_type is None:  # type: ignore[attr-defined]
                value[at] = _other(rng, value[at])
            case 3 if field.message_type is None:  # type: ignore[attr-defined]
                value[at] = value[rng.randrange(len(value))]
    elif field.message_type is not None or rng.random() < 0.2:  # type: ignore[attr-defined]
        message.ClearField(name)
    else:
        setattr(message, name, _other(rng, value))


def _other(rng: random.Random, value: object) -> object:
    """Another value of a field's type, often one that is near."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((*NUMBERS, value + 1, value - 1, rng.randrange(64)))
    if isinstance(value, float):
        return rng.choice((*FLOATS, value * 2))
    if isinstance(value, str):
        return rng.choice((*TEXTS, value + "_", value[:-1]))
    assert isinstance(value, bytes)
    return rng.choice((b"", value[:-1], value + b"\0", value[::-1], rng.randbytes(len(value))))


def _swap_operators(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A node becomes another operator with the same inputs."""
    if model.graph.node and donor.graph.node:
        node, from_ = rng.choice(model.graph.node), rng.choice(donor.graph.node)
        node.op_type, node.domain = from_.op_type, from_.domain
        if rng.random() < 0.5:
            del node.attribute[:]
            node.attribute.extend(from_.attribute)


def _rewire(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """An input or output of a node gets another name of the model."""
    names = [info.name for info in (*model.graph.input, *model.graph.output)]
    names += [name for node in model.graph.node for name in (*node.input, *node.output)] + [""]
    for node in model.graph.node[:1] if rng.random() < 0.5 else model.graph.node:
        side = node.input if rng.random() < 0.7 else node.output
        if side:
            side[rng.randrange(len(side))] = rng.choice(names)


def _reshape(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A port gets another shape, a symbolic dim or another element type."""
    ports = [*model.graph.input, *model.graph.output]
    if not ports:
        return
    tensor = rng.choice(ports).type.tensor_type
    match rng.randrange(5):
        case 0:
            tensor.elem_type = rng.randrange(30)
        case 1:
            tensor.shape.dim.add().dim_value = rng.choice((0, 1, 2, 5, -1))
        case 2 if tensor.shape.dim:
            del tensor.shape.dim[rng.randrange(len(tensor.shape.dim))]
        case 3 if tensor.shape.dim:
            rng.choice(tensor.shape.dim).dim_value = rng.choice((*NUMBERS, 2, 3, 4))
        case 4 if tensor.shape.dim:
            rng.choice(tensor.shape.dim).dim_param = rng.choice(("n", "batch", "", "a b", "1"))


def _make_constant(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """An input becomes an initializer, whose values decide shapes: small numbers, or what does not fit."""
    if not model.graph.input:
        return
    port = rng.choice(model.graph.input)
    kind, dims = port.type.tensor_type.elem_type, [d.dim_value for d in port.type.tensor_type.shape.dim]
    tensor = onnx.TensorProto(name=port.name, data_type=kind, dims=dims)
    count = 1
    for extent in dims:
        count *= max(extent, 0)
    if count > 4096:
        return
    if kind == onnx.TensorProto.INT64:
        tensor.int64_data.extend(rng.choice((*NUMBERS[:7], -2)) for _ in range(count))
    else:
        tensor.raw_data = rng.randbytes(count * rng.choice((1, 2, 4, 4, 8)))
    model.graph.initializer.append(tensor)
    if rng.random() < 0.7:
        model.graph.input.remove(port)


def _change_opset(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    if model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((*NUMBERS, *range(1, 30)))


_MESSAGES: tuple[Callable[[random.Random, onnx.ModelProto, onnx.ModelProto], None], ...] = (
    *(_change_a_field,) * 4,
    _swap_operators,
    _rewire,
    _reshape,
    *(_make_constant,) * 2,
    _change_opset,
)


def attempt(data: bytes, path: Path) -> str:
    """The outcome of one model: `plan`, `refused`, or a traceback; a `slip` is a refusal for a reason that no rule foresaw."""
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lower_model(path, CompileOptions(target="generic-x86_64-avx2"))
    except StratacError as error:
        text = str(error).strip()
        slips = [line for line in text.splitlines() if DEFECT in line]
        return f"slip\n{text}\n{slips[0]}" if slips else "refused" if text else "an error without a text"
    except BaseException:
        return traceback.format_exc()
    return "plan"


def _serve(pipe: Connection, folder: str) -> None:
    """The process that compiles: models come in, outcomes go out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    path = Path(folder) / "model.onnx"
    while True:
        pipe.send(attempt(pipe.recv(), path))


class Subject:
    """A compiler in a process of its own, made anew when it dies or hangs."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.process: multiprocessing.process.BaseProcess | None = None

    def __call__(self, data: bytes) -> str:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.folder), daemon=True)
            self.process.start()
            theirs.close()
            patience = SECONDS + 60  # it has to load first
        else:
            patience = SECONDS
        self.pipe.send(data)
        try:
            if self.pipe.poll(patience):
                return str(self.pipe.recv())
            outcome = f"no answer within {SECONDS:.0f} s"
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
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where findings are written")
    given = parser.parse_args(arguments)
    rng, models, ends = random.Random(given.seed), corpus(), time.monotonic() + 60 * given.minutes
    counts: dict[str, int] = {}
    found: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(folder)
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
