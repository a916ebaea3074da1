"""The promise about memory: a fresh process that opens and runs a plan takes what the plan predicts, and never more."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from stratac.benchmarks import zoo
from stratac.benchmarks.memory import greatest_inputs, manifest_of, prove
from stratac.benchmarks.subjects import bounds_of
from stratac.codegen.compilers import find_compiler
from stratac.codegen.toolchain import CSRC
from stratac.compiler import resident
from stratac.compiler.driver import compile_model
from stratac.compiler.options import CompileOptions, default_cache
from stratac.ir.dims import Bounds

MIB = 1 << 20
TOLERANCE = 0.03  # of the prediction, beside the stated process floor
MODELS = ("small", "minilm", "mobilenet_v2", "resnet50")


def small_model(path: Path) -> tuple[Path, dict[str, Bounds]]:
    """Two linear layers with 8 MiB of weights over at most 512 rows."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(shape, np.float32) / 32 for shape in ((1024, 1024), (1024, 1024)))
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("MatMul", ["positive", "second"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1024]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    graph = helper.make_graph(nodes, "small", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path, {"rows": Bounds(1, 64, 512)}


@pytest.fixture(scope="module", params=MODELS)
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model; those of the zoo where they are exported."""
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    if name == "small":
        model, dims = small_model(folder / "small.onnx")
    else:
        model = zoo.folder_of(name) / f"{name}.onnx"
        if not model.exists():
            pytest.skip(f"{model} is not exported: python -m benchmarks.zoo {name}")
        dims = {dim: Bounds(*values) for dim, values in bounds_of(zoo.row(name)).items()}
    return compile_model(model, folder / f"{name}.plan", CompileOptions(dims=dims, cache=default_cache())).folder


@pytest.mark.parametrize("threads", [1, 2])
def test_measured_is_what_was_predicted(plan: Path, threads: int) -> None:
    proof = prove(plan, threads)
    assert proof.measured <= proof.predicted, f"more than predicted: {proof} {proof.mappings}"
    most = manifest_of(plan)["memory"].get("mapped", 0)
    touched = proof.mappings.get("weights.bin", 0)
    assert touched <= most, "other weights are read into memory, not mapped"
    slack = TOLERANCE * proof.predicted + proof.floor
    own = proof.predicted - most - (proof.measured - touched)
    assert own <= slack, f"predicted too much: {proof} {proof.mappings}"


COUNT = """
import ctypes, sys
import numpy as np
from stratac.runtime.session import load

session = load(sys.argv[1], threads=int(sys.argv[2]))
with np.load(sys.argv[3]) as archive:
    inputs = dict(archive)
outputs = dict(zip([port.name for port in session.get_outputs()], session.run(None, inputs)))
session.run_into(outputs=outputs, inputs=inputs)
counter, run = ctypes.CDLL(None), session._library._lib.st_run
handle = session._library._session
counter.count_end.restype = ctypes.c_long
run(handle)
statuses = [0] * 5
counter.count_begin()
for index in range(5):
    statuses[index] = run(handle)
counted = counter.count_end()
print(counted, *statuses)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_allocates_nothing(plan: Path, tmp_path: Path, threads: int) -> None:
    """Every malloc and mmap of the process, in any thread, while real kernels run at the greatest dims."""
    counter = tmp_path / "count.so"
    source = CSRC.parent / "tests" / "runtime" / "c" / "count.c"
    subprocess.run([find_compiler().path, "-shared", "-fPIC", "-O1", "-o", counter, source], check=True)
    np.savez(tmp_path / "inputs.npz", **greatest_inputs(manifest_of(plan)))  # type: ignore[arg-type]
    command = [sys.executable, "-c", COUNT, str(plan), str(threads), str(tmp_path / "inputs.npz")]
    found = subprocess.run(
        command, env={**os.environ, "LD_PRELOAD": str(counter)}, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["0", "0", "0", "0", "0", "0"]


def test_the_instrument_sees_memory() -> None:
    """Touched pages count at once, untouched ones do not, and the peak outlives what is given back."""
    resident.reset_peak()
    before = resident.resident_bytes()
    reserved = mmap.mmap(-1, 64 * MIB)  # numpy would ask for huge pages, which blur the count
    assert resident.resident_bytes() - before < MIB
    for page in range(0, 32 * MIB, mmap.PAGESIZE):
        reserved[page] = 1
    assert resident.resident_bytes() - before == pytest.approx(32 * MIB, abs=MIB)
    reserved.close()
    assert resident.resident_bytes() - before < MIB
    assert resident.peak_bytes() - before >= 30 * MIB
