"""Storage as a tier, measured: plans within a budget under a real memory limit, and the instruments of the streaming benchmark."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from stratac.benchmarks import cold, streaming
from stratac.benchmarks.memory_group import MemoryGroup, NoMemoryGroup
from stratac.compiler.artifact import PROCESS_FLOOR
from stratac.compiler.driver import compile_model
from stratac.compiler.options import EXACT, CompileOptions, default_cache
from stratac.compiler.peer import Peer, PeerError
from stratac.ir.plan_binary import decode
from stratac.runtime.session import load

MIB = 1 << 20
LAYERS, WIDTH = 24, 768  # 54 MiB of weights, 2.25 MiB each
BUDGET = 16 * MIB
SPARE = 6 * MIB  # page tables and stacks, which the group counts and the plan does not


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    try:
        made = MemoryGroup("stratac-test")
    except NoMemoryGroup as error:
        pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model with all weights in memory and within a quarter of them."""
    folder = tmp_path_factory.mktemp("layers")
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(LAYERS):
        weights.append(
            numpy_helper.from_array(rng.standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5, f"w{layer}")
        )
        nodes += [
            helper.make_node("MatMul", [value, f"w{layer}"], [f"p{layer}"]),
            helper.make_node("Tanh", [f"p{layer}"], [f"v{layer}"]),
        ]
        value = f"v{layer}"
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, WIDTH]) for name in ("x", value)]
    graph = helper.make_graph(nodes, "layers", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    options = {
        "resident": CompileOptions(cache=default_cache(), max_error=EXACT),
        "streamed": CompileOptions(cache=default_cache(), max_error=EXACT, budgets={"ram": BUDGET}),
    }
    found = {kind: compile_model(folder / "m.onnx", folder / f"{kind}.plan", o).folder for kind, o in options.items()}
    np.savez(folder / "inputs.npz", x=rng.standard_normal((8, WIDTH), np.float32))
    return {**found, "inputs": folder / "inputs.npz"}


def run_confined(group: MemoryGroup, plans: dict[str, Path], kind: str, how: str = "auto") -> str:
    """Open and run a plan three times with no more memory than its budget and what Python holds; its outputs' fingerprint."""
    with Peer("stratac", 2, how=how, enter=group.enter) as peer:
        peer.set_inputs(plans["inputs"])
        peer.begin()
        group.limit(group.used() + BUDGET + SPARE)
        peer.open(plans[kind])
        for _ in range(3):
            peer.run()
        held = peer.held()
        assert max(held.resident, held.peak) - held.outputs <= BUDGET or how == "mmap"
        return peer.fingerprint()


@pytest.mark.parametrize("how", ["auto", "threads", "mmap"])
def test_a_streamed_plan_runs_within_a_real_limit(group: MemoryGroup, plans: dict[str, Path], how: str) -> None:
    plan = decode((plans["streamed"] / "plan.bin").read_bytes())
    assert sum(read.bytes for read in plan.reads) > 32 * MIB, "most weights are streamed"
    with Peer("stratac", 2) as peer:
        peer.set_inputs(plans["inputs"])
        peer.open(plans["resident"])
        peer.run()
        wanted = peer.fingerprint()
    assert run_confined(group, plans, "streamed", how) == wanted
    assert group.kills() == 0


def test_no_budget_changes_a_bit(plans: dict[str, Path], tmp_path: Path) -> None:
    """Not even one that lacks room for a second weight in the ring, or for the kernels' workspace beside it; in f32, since of several
    modes that are as exact another one may be faster where weights are read from storage."""
    with np.load(plans["inputs"]) as inputs:
        arrays = dict(inputs)
    (wanted,) = load(plans["resident"]).run(None, arrays)
    model = plans["inputs"].with_name("m.onnx")
    for budget in (6 * MIB, 8 * MIB, 11 * MIB, 40 * MIB):
        options = CompileOptions(cache=default_cache(), max_error=EXACT, budgets={"ram": budget})
        plan = compile_model(model, tmp_path / f"{budget}.plan", options)
        assert plan.plan.peak_bytes() + PROCESS_FLOOR <= budget
        (got,) = load(plan.folder).run(None, arrays)
        assert got.tobytes() == wanted.tobytes(), f"{budget / MIB} MiB"


@pytest.mark.parametrize("io", ["auto", "threads", "mmap"])
def test_rows_of_a_table_that_stays_in_storage(tmp_path: Path, io: str) -> None:
    """A table larger than the budget: each row is read when it is asked for, from either end, and the first and last ones too."""
    rng = np.random.default_rng(0)
    table, weight = rng.standard_normal((20011, 100), np.float32), rng.standard_normal((100, 64), np.float32)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("MatMul", ["rows", "w"], ["y"])]
    ports = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, [3, 50]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        ports[:1],
        ports[1:],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    ids = rng.integers(-20011, 20011, (3, 50))
    ids[0, :3] = (0, 20010, -20011)
    found = []
    for budget in (64 * MIB, 5 * MIB):
        options = CompileOptions(cache=default_cache(), budgets={"ram": budget})
        built = compile_model(tmp_path / "m.onnx", tmp_path / f"{budget}.plan", options)
        found += load(built.folder, io=io).run(None, {"ids": ids})
        files = [arg for call in built.plan.calls for arg in call.args if arg.space == "file"]
        assert bool(files) == (budget < table.nbytes)
    assert found[0].tobytes() == found[1].tobytes()
    np.testing.assert_allclose(found[1], table[ids] @ weight, rtol=1e-4, atol=1e-4)


def test_the_limit_is_real(group: MemoryGroup, plans: dict[str, Path]) -> None:
    """With all its weights in memory the same model dies there."""
    with pytest.raises(PeerError, match="ended with code -9"):
        run_confined(group, plans, "resident")
    assert group.kills() == 1


def test_a_group_counts_and_kills(group: MemoryGroup) -> None:
    text = "import sys; sys.stdin.readline(); x = bytearray(96 << 20); print(len(x), flush=True); sys.stdin.readline()"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=pipe, stdout=pipe, text=True, preexec_fn=group.enter
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        group.limit(group.used() + 48 * MIB)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.read() == "" and child.wait() == -9
    assert group.kills() == 1
    peak = group.peak()
    assert peak is None or 40 * MIB < peak < 90 * MIB


def test_a_place_without_control_groups_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoMemoryGroup, match="no memory controller"):
        MemoryGroup(mount=tmp_path)


def cached(path: Path) -> bool:
    """Whether the first page of a file can be read without waiting for the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(handle, [bytearray(4096)], 0, os.RWF_NOWAIT) == 4096
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        pytest.skip(f"the file system cannot tell: {error.strerror}")
    finally:
        os.close(handle)


def test_cold_means_cold(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8 * MIB))
    assert cached(path)
    if os.path.realpath(tmp_path).startswith(("/dev/shm", "/run")):
        pytest.skip("a file system in memory is never cold")
    cold.drop_cache(path)
    assert not cached(path)


def test_the_sequential_read_covers_what_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10 * MIB + 77))
    assert cold.read_sequentially(path).bytes == 10 * MIB
    part = cold.read_sequentially(path, 3 * MIB + 5, 4 * MIB, request_bytes=64 << 10, depth=3)
    assert part.bytes == 4 * MIB and part.bandwidth == part.bytes / part.seconds > 0
    assert cold.read_sequentially(path, 9 * MIB, 4 * MIB).bytes == MIB, "no further than the file goes"


def row(**changes: object) -> dict[str, object]:
    ours = {
        "seconds": 5.0,
        "same_bits": True,
        "outcome": "ran",
        "memory": {"predicted": 100 * MIB, "measured": 99 * MIB, "group_peak": 98 * MIB},
        "facts": {"io": "io_uring, direct"},
    }
    systems = {
        "streamed": {**ours, **changes},
        "mmap": {"seconds": 20.0, "outcome": "ran"},
        "onnxruntime": {"outcome": "killed: beyond the memory limit"},
    }
    disk = {"bandwidth": 1e9, "over_best": 1.0417}
    facts = {"budget": 100 * MIB, "ratio": 4.0, "streamed_bytes": 4_800_000_000, "reads": 7, "predicted_seconds": 4.9}
    return {**facts, "no_limit": "", "systems": systems, "disk": disk}


def test_the_row_says_what_was_measured() -> None:
    resident = {"seconds": 2.0}
    text = streaming.row_text(row(), resident)
    for part in (
        "0.96 GB/s",
        "1.042 x max(bytes / 1.00 GB/s, 2.00 s)",
        "bits equal",
        "mmap: 20.000 s, 4.00 x",
        "onnxruntime: killed",
    ):
        assert part in text
    assert "bits DIFFER" in streaming.row_text(row(same_bits=False), resident)
    assert "FAILED: no" in streaming.row_text({"budget": MIB, "ratio": 9.0, "error": "no"}, resident)


def test_step_time_is_held_against_the_slower_of_disk_and_arithmetic() -> None:
    facts = {"streamed_bytes": 4_000_000_000}
    disk = streaming._disk(facts, [1e9, 2e9, 1e9], [4.4, 2.2, 5.0], compute=1.0)
    assert disk["over_best_rounds"] == pytest.approx([1.1, 1.1, 1.25]) and disk["over_best"] == pytest.approx(1.1)
    assert streaming._disk(facts, [1e9], [5.0], compute=8.0)["over_best"] == pytest.approx(0.625)


@pytest.mark.parametrize(
    "changes, good",
    [
        ({}, True),
        ({"same_bits": False}, False),
        ({"outcome": "killed: beyond the memory limit"}, False),
        ({"memory": {"predicted": 100, "measured": 101}}, False),
    ],
)
def test_what_counts_as_good(changes: dict[str, object], good: bool) -> None:
    assert streaming.is_good({"budgets": [row(), row(**changes)]}) == good
    assert not streaming.is_good({"budgets": [{"error": "no"}]})
