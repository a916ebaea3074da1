"""weights.bin: its bytes and digests for plans with streamed parts, progress, disk space, and the memory a compilation takes."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from stratac.codegen.pack import PIECE_BYTES, Layout, pack
from stratac.compiler import artifact
from stratac.compiler.driver import compile_model
from stratac.compiler.options import CompileOptions
from stratac.compiler.write_weights import write_weights
from stratac.ir.builder import GraphBuilder
from stratac.ir.errors import EnvironmentProblem
from stratac.ir.graph import Derived, FileBytes, Graph, Port, Weight
from stratac.ir.interp import evaluate_weight
from stratac.ir.placed import DENSE, Home, Placed, home_key
from stratac.ir.plan import READ_ALIGNMENT, Arg, Call, Plan, Queue, Read, WeightEntry
from stratac.ir.plan_digest import digest64
from stratac.ir.types import TensorType, f32

MIB = 1 << 20


def graph_of(folder: Path, *shapes: tuple[int, int]) -> Graph:
    """Weights in one file, and for each its transpose as a derived weight."""
    builder = GraphBuilder()
    builder.folder = str(folder)
    top = 0
    for number, shape in enumerate(shapes):
        size = 4 * shape[0] * shape[1]
        weight = Weight(f"w{number}", TensorType(f32, shape), FileBytes("w.bin", top, size))
        turned = Derived("transpose", (f"w{number}",), (("perm", (1, 0)),))
        builder.weight(weight)
        builder.weight(Weight(f"t{number}", TensorType(f32, shape[::-1]), turned))
        top += size
    np.random.default_rng(1).standard_normal(top // 4, np.float32).tofile(folder / "w.bin")
    x = builder.input("x", TensorType(f32, (2, shapes[0][0])))
    return builder.finish([Port("y", builder.op("matmul", x, "w0"))])


def padded(size: int, to: int) -> int:
    return size + -size % to


def streamed_plan(
    graph: Graph, resident: list[tuple[str, str]], streamed: list[tuple[str, str]]
) -> tuple[Placed, Plan]:
    """Entries in two parts; every streamed weight is read twice, but the last, which a kernel reads by itself."""
    homes, entries, reads = {}, [], []
    top = 0
    for part, align in ((resident, 64), (streamed, READ_ALIGNMENT)):
        top = padded(top, align)
        for value, format in part:
            key = home_key(value, format)
            count = pack(evaluate_weight(graph, value), format).nbytes
            homes[key] = Home(value, "ram", format, count)
            entries.append(WeightEntry(key, top, count, format))
            if part is streamed:
                reads.append(Read(top, padded(count, align), len(reads), 0))
            top = padded(top + count, align)
        if part is resident:
            boundary = top = padded(top, READ_ALIGNMENT if streamed else 64)
    call = Call(0, (Arg("workspace", 0), Arg("file", len(entries) - 1)) if streamed else (), False, 0, "")
    queues = (Queue("cpu", (call,)), Queue("io", reads=(*reads[:-1], *reads[:-1])))
    plan = Plan("p", "m", (), 1, {}, (), (), (), (), tuple(entries), top, boundary, (), queues)
    return Placed(graph, "m", {}, homes), plan


def panels(shape: tuple[int, int]) -> str:
    return str(Layout(16, 0, (1, *shape), (0, shape[1], 1)))


@pytest.mark.parametrize("streams", [True, False])
def test_bytes_and_digests(tmp_path: Path, streams: bool) -> None:
    shapes = [(40, 50), (3000, 1700), (7, 9), (1200, 64), (5000, 3)]
    graph = graph_of(tmp_path, *shapes)
    resident = [("w0", panels(shapes[0])), ("t0", DENSE), ("t1", panels(shapes[1][::-1]))]
    streamed = [("w2", DENSE), ("w1", panels(shapes[1])), ("t3", DENSE), ("w4", DENSE)] if streams else []
    placed, plan = streamed_plan(graph, resident, streamed)
    path = tmp_path / "weights.bin"
    told: list[tuple[int, int]] = []
    sha, digests = write_weights(placed, plan, path, lambda done, total: told.append((done, total)))
    data = path.read_bytes()
    wanted = bytearray(plan.weights_bytes)
    for entry in plan.weights:
        packed = pack(evaluate_weight(graph, placed.homes[entry.name].weight), entry.format)
        wanted[entry.offset : entry.offset + entry.bytes] = packed.tobytes()
    assert data == bytes(wanted)
    assert sha == hashlib.sha256(data).hexdigest()
    assert digests.resident == digest64(data[: plan.resident_bytes])
    assert digests.reads == tuple(digest64(data[r.offset : r.offset + r.bytes]) for r in plan.reads)
    files = {k: digest64(data[w.offset : padded(w.offset + w.bytes, 4096)]) for k, w in enumerate(plan.weights)}
    assert digests.files == ({len(files) - 1: files[len(files) - 1]} if streams else {})
    assert told[-1] == (plan.weights_bytes, plan.weights_bytes)


def linear_layers(path: Path, layers: int, width: int) -> Path:
    """y = x w0 w1^T w2 w3^T ..: square weights of width * width floats in an external file, written one by one."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    with open(path.with_name("data.bin"), "wb") as file:
        for layer in range(layers):
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[width, width])
            weight.data_location = TensorProto.EXTERNAL
            for key, text in (("location", "data.bin"), ("offset", file.tell()), ("length", 4 * width * width)):
                weight.external_data.add(key=key, value=str(text))
            weights.append(weight)
            for _ in range(0, width, min(width, 256)):
                file.write(rng.standard_normal((min(width, 256), width), np.float32) / width**0.5)
            gemm = helper.make_node("Gemm", [value, f"w{layer}"], [f"v{layer}"], transB=layer % 2)
            nodes, value = [*nodes, gemm], f"v{layer}"
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, width]) for name in ("x", value)]
    graph = helper.make_graph(nodes, "layers", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


_PEAK = """
import sys
from pathlib import Path
from stratac.compiler.driver import compile_model
from stratac.compiler.options import CompileOptions

compile_model(Path(sys.argv[1]), Path(sys.argv[2]), CompileOptions(cache=Path(sys.argv[3])))
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def compiling_takes(model: Path, output: Path, cache: Path) -> int:
    """Greatest resident bytes of a fresh process that compiles a model."""
    command = [sys.executable, "-c", _PEAK, str(model), str(output), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"VmHWM:\s*(\d+) kB", done.stdout)
    assert found is not None
    return int(found[1]) << 10


def test_compiling_takes_memory_for_pieces_not_for_the_model(tmp_path: Path, cache: Path) -> None:
    """640 MiB of weights, the largest 16 MiB, half of them transposed, beside 0.6 MiB of them."""
    small = linear_layers(tmp_path / "small" / "m.onnx", 40, 64) if (tmp_path / "small").mkdir() is None else None
    (tmp_path / "large").mkdir()
    large = linear_layers(tmp_path / "large" / "m.onnx", 40, 2048)
    assert small is not None
    base = compiling_takes(small, tmp_path / "small.plan", cache)
    peak = compiling_takes(large, tmp_path / "large.plan", cache)
    stored = (tmp_path / "large.plan" / "weights.bin").stat().st_size
    assert 480 * MIB < stored <= 640 * MIB  # with AMX three bytes a weight
    assert peak - base < 2 * 16 * MIB + 4 * PIECE_BYTES, f"{(peak - base) / MIB:.0f} MiB more than for a small model"
    shutil.rmtree(tmp_path / "large.plan")
    shutil.rmtree(tmp_path / "large")


def test_a_full_disk_is_known_before_anything_is_compiled(
    small: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiles(*_: object, **__: object) -> None:
        raise AssertionError("compiled before the disk was looked at")

    monkeypatch.setattr(artifact.shutil, "disk_usage", lambda folder: SimpleNamespace(free=MIB))
    monkeypatch.setattr(artifact, "compile_library", compiles)
    from stratac.ir.dims import Bounds

    options = CompileOptions(cache=cache, dims={"batch": Bounds(1, 2, 4), "seq": Bounds(1, 5, 16)})
    with pytest.raises(EnvironmentProblem, match=r"needs .* for its weights, but .* has 1\.0+ MiB free"):
        compile_model(small / "mlp.onnx", tmp_path / "mlp.plan", options)
    assert list(tmp_path.iterdir()) == []


def test_large_weights_tell_how_far_they_are(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, (4096, 9000))
    placed, plan = streamed_plan(graph, [("w0", DENSE)], [])
    told: list[int] = []
    write_weights(placed, replace(plan), tmp_path / "weights.bin", lambda done, total: told.append(done))
    assert len(told) == 3 and told == sorted(told) and told[-1] == plan.weights_bytes
