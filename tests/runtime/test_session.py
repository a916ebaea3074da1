"""Loading and running a plan from Python."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stratac.compiler.resident import resident_bytes
from stratac.ir.dims import Bounds, symbol
from stratac.ir.errors import PlanError, StratacError
from stratac.ir.plan import Plan, PlanPort
from stratac.ir.types import TensorType, bf16, f32, i64
from stratac.runtime.session import Session, load
from stratac.tests.runtime.tiny import N_MAX, example, tiny_plan


@pytest.fixture(scope="module")
def session(tiny: Path) -> Session:
    return load(tiny, threads=2)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_same_bits_at_any_thread_count(tiny: Path, threads: int) -> None:
    with load(tiny, threads=threads) as session:
        assert session.threads == threads
        for n in (1, 2, 3, 7, 64, N_MAX):
            inputs, z = example(n)
            got, rows = session.run(None, inputs)
            np.testing.assert_array_equal(got, z)
            np.testing.assert_array_equal(rows, n + np.arange(n // 2 + 1))
            assert rows.dtype == np.int64


def test_describes_itself(session: Session) -> None:
    assert [str(p) for p in session.get_inputs()] == ["x: f32[n, 4]", "y: f32[n, 4]"]
    assert [str(p) for p in session.get_outputs()] == ["z: f32[n, 4]", "rows: i64[floordiv(n, 2) + 1]"]
    assert session.symbols == {"n": Bounds(1, 16, N_MAX)}
    assert (session.name, session.target, session.threads) == ("tiny", "any", 2)
    assert session.predicted_seconds == pytest.approx(tiny_plan().seconds)
    assert "f32[n, 4]" in repr(session)


def test_memory_is_what_the_plan_says(session: Session) -> None:
    memory, plan = session.memory(), tiny_plan()
    assert memory.weights == plan.weights_bytes
    assert memory.total - memory.session == plan.peak_bytes(2)
    assert memory.arenas == (("weights", "ram", 80), ("scratch", "ram", N_MAX * 16 + 64), ("work", "ram", 64))


def test_profile_counts_and_predicts(tiny: Path) -> None:
    with load(tiny, threads=1) as session:
        inputs, _ = example(8)
        for _ in range(3):
            session.run(["z"], inputs)
        rows = session.profile()
        assert [row.label for row in rows] == ["add x y", "scale", "count – ünï"]
        assert [row.count for row in rows] == [3, 3, 3]
        assert all(row.seconds > 0 for row in rows)
        assert [row.predicted_seconds for row in rows] == [1e-6, 2e-6, 0.5e-6]
        session.reset_profile()
        assert session.profile()[0].count == 0
    with load(tiny, profile=False) as session:
        session.run(None, inputs)
        assert session.profile()[0].count == 0


def test_keyword_call_selected_outputs_and_order(session: Session) -> None:
    inputs, z = example(5)
    np.testing.assert_array_equal(session(**inputs)[0], z)
    rows, got = session.run(["rows", "z"], inputs)
    np.testing.assert_array_equal(got, z)
    assert rows.shape == (3,)


def test_run_into_given_arrays(session: Session) -> None:
    inputs, z = example(5)
    out = np.zeros((5, 4), np.float32)
    session.run_into(outputs={"z": out}, inputs=inputs)
    np.testing.assert_array_equal(out, z)
    for wrong, message in (
        (np.zeros((5, 4), np.float64), "float64"),
        (np.zeros((4, 5), np.float32).T, "strided"),
        (np.zeros((6, 4), np.float32), r"takes shape \[n, 4\] and got \[6, 4\] where these inputs give \[5, 4\]"),
        (inputs["x"], "output 'z' shares memory with input 'x'"),
    ):
        with pytest.raises(StratacError, match=message):
            session.run_into(outputs={"z": wrong}, inputs=inputs)
    with pytest.raises(StratacError, match=r"no output 'zz'.*did you mean 'z'"):
        session.run_into(outputs={"zz": out}, inputs=inputs)


def test_takes_strided_big_endian_unaligned_and_literal_inputs(session: Session) -> None:
    inputs, z = example(6)
    x, y = inputs["x"], inputs["y"]
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(6, 4)
    assert not unaligned.flags.aligned
    for variant in (np.asfortranarray(x), x.astype(">f4"), unaligned, np.repeat(x, 2, axis=0)[::2], x.tolist()):
        np.testing.assert_array_equal(session.run(["z"], {"x": variant, "y": y})[0], z)
    readonly = x.copy()
    readonly.flags.writeable = False
    np.testing.assert_array_equal(session.run(["z"], {"x": readonly, "y": y})[0], z)


def test_takes_dlpack(session: Session) -> None:
    class Foreign:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **options: object) -> object:
            return self.array.__dlpack__(**options)  # type: ignore[arg-type]

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    class Elsewhere(Foreign):
        def __dlpack__(self, **options: object) -> object:
            raise BufferError("the tensor lives on a GPU")

    inputs, z = example(6)
    np.testing.assert_array_equal(session.run(["z"], {"x": Foreign(inputs["x"]), "y": inputs["y"]})[0], z)
    with pytest.raises(StratacError, match="input 'x': cannot take the Elsewhere through DLPack: the tensor lives"):
        session.run(None, {"x": Elsewhere(inputs["x"]), "y": inputs["y"]})


def test_wrong_inputs_say_what_was_expected(session: Session) -> None:
    inputs, z = example(4)
    x = inputs["x"]

    def fails(pattern: str, **changed: object) -> None:
        with pytest.raises(StratacError, match=pattern):
            session.run(None, {**inputs, **changed})

    fails(r"no input 'X'.*the inputs are 'x', 'y'", X=x)
    with pytest.raises(StratacError, match=r"got no 'y'.*y: f32\[n, 4\]"):
        session.run(None, {"x": x})
    with pytest.raises(StratacError, match="no output 'w'"):
        session.run(["w"], inputs)
    fails(r"input 'x' has element type f32 \(float32\) and got float64.*astype", x=x.astype(np.float64))
    fails("input 'x' has element type f32", x=x.astype(np.int32))
    fails(r"input 'x' takes shape \[n, 4\] and got \[4\]", x=x[0])
    fails(r"input 'x' takes shape \[n, 4\] and got \[4, 3\]", x=x[:, :3])
    fails(r"input 'x' takes shape \[n, 4\] and got \[4, 4, 1\]", x=x[:, :, None])
    fails(r"input 'y' takes \[n, 4\]; its axis 0 is 3 where 4 is needed", y=x[:3])
    fails(r"dim n is 0 in axis 0 of input 'x', outside its bounds 1 to 4096; .*--dim n=", x=x[:0])
    big = np.zeros((N_MAX + 1, 4), np.float32)
    fails(r"dim n is 4097 in axis 0 of input 'x', outside its bounds 1 to 4096", x=big, y=big)
    fails("input 'x'", x=object())
    fails("input 'x'", x=[["a"]])
    # an error leaves the session usable
    np.testing.assert_array_equal(session.run(["z"], inputs)[0], z)


def test_closed_session_says_so(tiny: Path) -> None:
    session = load(tiny)
    session.close()
    session.close()
    for call in (session.memory, session.profile, lambda: session.run(None, example(2)[0])):
        with pytest.raises(StratacError, match="closed"):
            call()
    with pytest.raises(StratacError, match="at least 1"):
        load(tiny, threads=0)
    with pytest.raises(StratacError, match="5000 threads were asked for"):
        load(tiny, threads=5000)


def test_threads_and_sessions_at_once(tiny: Path) -> None:
    sessions = [load(tiny, threads=1), load(tiny, threads=2)]
    problems: list[BaseException] = []

    def work(session: Session, seed: int) -> None:
        try:
            for n in range(1, 60):
                inputs, z = example(n, seed)
                np.testing.assert_array_equal(session.run(["z"], inputs)[0], z)
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=work, args=(sessions[i % 2], i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not problems
    for session in sessions:
        session.close()


def test_fork_is_refused_not_hung(tiny: Path) -> None:
    code = f"""
import os, sys, numpy as np
from stratac.runtime.session import load
session = load({str(tiny)!r}, threads=2)
x = np.ones((4, 4), np.float32)
child = os.fork()
if child == 0:
    try:
        session.run(None, dict(x=x, y=x))
    except Exception as error:
        session.close()
        os._exit(7 if "forked" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
session.run(None, dict(x=x, y=x))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_caller_float_modes_do_not_change_bits(tiny: Path) -> None:
    torch = pytest.importorskip("torch")
    tiny_value = np.full((4, 4), 1e-39, np.float32)  # denormal
    try:
        if not torch.set_flush_denormal(True):
            pytest.skip("this CPU cannot flush denormals")
        for threads in (1, 2):
            with load(tiny, threads=threads) as session:
                (z,) = session.run(["z"], {"x": tiny_value, "y": np.zeros_like(tiny_value)})
                assert (z.view(np.uint32)[:, 0] != 0).all()
    finally:
        torch.set_flush_denormal(False)


def shape_plan(inputs: tuple[PlanPort, ...], **symbols: Bounds) -> Plan:
    """A plan without instructions, for its signature only."""
    return dataclasses.replace(
        tiny_plan(),
        symbols=symbols,
        inputs=inputs,
        outputs=(),
        queues=(),
        buffers=(),
    )


def test_symbols_from_expressions(tmp_path: Path, variant: Callable[[Path, Plan], Path]) -> None:
    n, m = symbol("n"), symbol("m")
    ports = (PlanPort("a", TensorType(f32, (2 * n + 1, n + m))), PlanPort("b", TensorType(i64, (n * m,))))
    plan = shape_plan(ports, n=Bounds(1, 4, 8), m=Bounds(0, 2, 8))
    with load(variant(tmp_path / "plan", plan)) as session:
        assert session.run(None, {"a": np.zeros((7, 5), np.float32), "b": np.zeros(6, np.int64)}) == []
        for a, b, message in (
            ((8, 5), 6, "axis 0 is 8 where 7 is needed"),
            ((7, 5), 7, "input 'b' takes .*axis 0 is 7 where 6"),
            ((7, 2), 6, "dim m is -1 in axis 1 of input 'a'"),
            ((19, 10), 9, "dim n is 9"),
        ):
            with pytest.raises(StratacError, match=message):
                session.run(None, {"a": np.zeros(a, np.float32), "b": np.zeros(b, np.int64)})


def test_scalars_and_bf16(tmp_path: Path, variant: Callable[[Path, Plan], Path]) -> None:
    ports = (PlanPort("a", TensorType(f32, ())), PlanPort("b", TensorType(bf16, (2,))))
    with load(variant(tmp_path / "plan", shape_plan(ports))) as session:
        bits = np.zeros(2, np.uint16)
        for a in (1.5, np.array(1.5, np.float32), np.array(1.5, ">f4"), np.float32(1.5)):
            session.run(None, {"a": a, "b": bits})
        ml_dtypes = pytest.importorskip("ml_dtypes")
        session.run(None, {"a": 1.5, "b": bits.view(ml_dtypes.bfloat16)})
        with pytest.raises(StratacError, match=r"takes shape \[\] and got \[1\]"):
            session.run(None, {"a": [1.5], "b": bits})
        with pytest.raises(StratacError, match="input 'b' has element type bf16"):
            session.run(None, {"a": 1.5, "b": np.zeros(2, np.float32)})


def test_a_symbol_no_input_determines(tmp_path: Path, variant: Callable[[Path, Plan], Path]) -> None:
    port = (PlanPort("a", TensorType(f32, (symbol("n"),))),)
    plan = shape_plan(port, n=Bounds(1, 4, 8), m=Bounds(0, 2, 8))
    message = "no input's extents determine dim m"
    with load(variant(tmp_path / "plan", plan)) as session, pytest.raises(StratacError, match=message):
        session.run(None, {"a": np.zeros(2, np.float32)})
    fixed = shape_plan(port, n=Bounds(1, 4, 8), m=Bounds(2, 2, 2))
    with load(variant(tmp_path / "fixed", fixed)) as session:
        session.run(None, {"a": np.zeros(2, np.float32)})


def test_plans_the_runtime_refuses(tmp_path: Path, variant: Callable[[Path, Plan], Path]) -> None:
    plan = tiny_plan()
    held, arena, work = plan.arenas
    buffer = plan.buffers[0]
    (queue,) = plan.queues
    big = dataclasses.replace(arena, bytes=1 << 50)
    cases: list[tuple[str, Plan]] = [
        ("buffer 0: it lies outside", dataclasses.replace(plan, buffers=(dataclasses.replace(buffer, offset=128),))),
        ("offset is not aligned", dataclasses.replace(plan, buffers=(dataclasses.replace(buffer, offset=8),))),
        ("in no scratch arena", dataclasses.replace(plan, buffers=(dataclasses.replace(buffer, arena=2),))),
        (
            "multiple of the alignment",
            dataclasses.replace(plan, arenas=(held, arena, dataclasses.replace(work, bytes=65))),
        ),
        ("queue 1: a queue of its name", dataclasses.replace(plan, queues=(queue, queue))),
        ("only `cpu` and `io`", dataclasses.replace(plan, queues=(dataclasses.replace(queue, name="gpu"),))),
        ("has 3 kernels, plan.bin names 4", dataclasses.replace(plan, kernels=(*plan.kernels, "more"))),
        ("call 0: an unknown kernel", dataclasses.replace(plan, kernels=())),
        ("kernel 0 is tiny_add", dataclasses.replace(plan, kernels=("other", *plan.kernels[1:]))),
        ("arg 0: it refers", dataclasses.replace(plan, inputs=())),
        ("this machine has", dataclasses.replace(plan, arenas=(held, big, work))),
        ("plans 5000 threads", dataclasses.replace(plan, threads=5000)),
    ]
    for number, (message, broken) in enumerate(cases):
        with pytest.raises(StratacError, match=message):
            load(variant(tmp_path / str(number), broken))


def test_library_of_another_plan_is_refused(tiny: Path, tmp_path: Path) -> None:
    from stratac.runtime.lib import Library
    from stratac.tests.runtime.tiny import write_plan

    other = dataclasses.replace(tiny_plan(), name="other")
    folder = write_plan(tmp_path / "plan", other)
    (folder / "libplan.so").write_bytes((tiny / "libplan.so").read_bytes())
    with pytest.raises(PlanError, match=r"libplan.so belongs to another plan"):
        Library(folder, threads=1, affinity=False, verify=True, profile=True)


def test_affinity_leaves_the_caller_alone(tiny: Path) -> None:
    before = os.sched_getaffinity(0)
    with load(tiny, threads=2, affinity=True) as session:
        inputs, z = example(9)
        np.testing.assert_array_equal(session.run(["z"], inputs)[0], z)
    assert os.sched_getaffinity(0) == before


def test_import_is_light() -> None:
    code = (
        "import sys, stratac.runtime.session\n"
        "heavy = [m for m in ('cffi', 'onnx', 'torch', 'jinja2', 'networkx') if m in sys.modules]\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


LARGE = 1 << 18  # rows of the tiny plan's z: 4 MiB


@pytest.fixture
def large(variant: Callable[[Path, Plan], Path], tmp_path: Path) -> Path:
    """The tiny plan with large outputs at its typical dims."""
    plan = tiny_plan()
    weights, _, work = plan.arenas
    scratch = dataclasses.replace(plan.arenas[1], bytes=LARGE * 16 + 64)
    buffers = tuple(dataclasses.replace(b, bytes=LARGE * 16) for b in plan.buffers)
    arenas, symbols = (weights, scratch, work), {"n": Bounds(1, LARGE // 2, LARGE)}
    return variant(tmp_path / "plan", dataclasses.replace(plan, symbols=symbols, arenas=arenas, buffers=buffers))


def test_the_first_run_finds_its_large_outputs_in_memory(large: Path) -> None:
    with load(large, threads=1) as session:
        inputs, z = example(LARGE // 2)
        before = resident_bytes()
        got = session.run(["z"], inputs)[0]
        assert resident_bytes() - before < got.nbytes // 2
        assert got.ctypes.data % 64 == 0
        np.testing.assert_array_equal(got, z)
        again = session.run(["z"], inputs)[0]
        assert not np.shares_memory(got, again)
        np.testing.assert_array_equal(again, z)


def test_outputs_made_ahead_are_for_one_run_of_their_dims(large: Path) -> None:
    for n in (1, LARGE):
        with load(large, threads=1) as session:
            inputs, z = example(n)
            np.testing.assert_array_equal(session.run(["z"], inputs)[0], z)
    with load(large, threads=1) as session:
        inputs, z = example(LARGE // 2)
        own = np.empty_like(z)
        session.run_into(outputs={"z": own}, inputs=inputs)
        np.testing.assert_array_equal(own, z)
        again = session.run(["z"], inputs)[0]
        assert again is not own and not np.shares_memory(own, again)
        assert again.ctypes.data % 64 == 0  # or every vector that is stored would lie in two lines
    load(large).close()
