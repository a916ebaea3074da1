"""States written in place or by a copy: the interpreter, the passes and compiled plans agree over several runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stratac.codegen.library import Library
from stratac.compiler.profiles import load_machine
from stratac.ir.builder import GraphBuilder
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import initial_state, step
from stratac.ir.types import TensorType, f16, f32, i64
from stratac.ir.verify_placed import verify_placed
from stratac.ir.verify_plan import verify_plan
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.passes.place.check import check_placement
from stratac.passes.place.infeasible import Infeasible
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest
from stratac.passes.schedule.order import order_as_given, order_greedily
from stratac.passes.schedule.schedule import schedule
from stratac.runtime.session import Session
from stratac.tests.codegen.harness import Compiled, compiled

rng = np.random.default_rng(3)
ROW = TensorType(f32, (4, 8))


def running_sum() -> Graph:
    b = GraphBuilder(name="sum")
    x = b.input("x", ROW)
    s = b.state("total", ROW, b.constant(rng.standard_normal((4, 8), np.float32)))
    total = b.op("add", s, x)
    return b.finish([Port("y", b.op("tanh", total))], {"total": total})


def window() -> Graph:
    """Shifted by one: what is read lies behind what is written."""
    b = GraphBuilder(name="window")
    x = b.input("x", TensorType(f32, (1, 8)))
    s = b.state("window", ROW)
    rest = b.op("slice", s, axis=0, start=1, extent=3, step=1)
    new = b.op("concat", rest, x, axis=0)
    return b.finish([Port("y", b.op("reduce_mean", new, axes=(0,), keepdims=False))], {"window": new})


def swap() -> Graph:
    """Each becomes what the other was."""
    b = GraphBuilder(name="swap")
    x = b.input("x", ROW)
    left = b.state("left", ROW, b.constant(np.ones((4, 8), np.float32)))
    right = b.state("right", ROW)
    return b.finish([Port("y", b.op("sub", b.op("mul", left, x), right))], {"left": right, "right": left})


def registers() -> Graph:
    """A chain: x, then what the one before was."""
    b = GraphBuilder(name="registers")
    x = b.input("x", ROW)
    states = [b.state(f"r{k}", ROW) for k in range(3)]
    updates = {f"r{k}": value for k, value in enumerate([x, *states[:-1]])}
    return b.finish([Port("y", b.op("add", b.op("add", *states[:2]), states[2]))], updates)


def cache() -> Graph:
    """A row put at a position, which the state itself counts."""
    b = GraphBuilder(name="cache")
    x = b.input("x", TensorType(f32, (1, 8)))
    rows, at = b.state("rows", TensorType(f32, (16, 8))), b.state("at", TensorType(i64, (1,)))
    new = b.op("scatter", rows, at, x)
    scores = b.op("matmul", new, b.op("transpose", x, perm=(1, 0)))
    after = b.op("add", at, b.constant(np.array([1], np.int64)))
    return b.finish([Port("y", scores), Port("at", after)], {"rows": new, "at": after})


def normalised() -> Graph:
    """Row-wise folds over what is written, and another reader that is not elementwise."""
    b = GraphBuilder(name="normalised")
    x = b.input("x", ROW)
    s = b.state("s", ROW, b.constant(rng.standard_normal((4, 8), np.float32)))
    new = b.op("softmax", b.op("add", s, x), axis=-1)
    other = b.op("matmul", b.op("transpose", s, perm=(1, 0)), x)
    return b.finish([Port("y", other), Port("z", b.op("mul", new, x))], {"s": new})


def shared() -> Graph:
    """One value for two states and an output, an input for a third, one that never changes, and narrow elements."""
    b = GraphBuilder(name="shared")
    x = b.input("x", ROW)
    first, second, third = b.state("first", ROW), b.state("second", ROW), b.state("third", ROW)
    fixed = b.state("fixed", ROW, b.constant(rng.standard_normal((4, 8), np.float32)))
    half = b.state("half", TensorType(f16, (4, 8)))
    total = b.op("add", b.op("sub", first, second), b.op("mul", fixed, x))
    wide = b.op("add", b.op("cast", half, to=f32), x)
    updates = {"first": total, "second": total, "third": x, "half": b.op("cast", wide, to=f16)}
    return b.finish([Port("y", total), Port("w", b.op("add", third, wide))], updates)


def guarded() -> Graph:
    """What the state becomes is chosen by the data, and work that reads it is skipped where it is not chosen."""
    b = GraphBuilder(name="guarded")
    x = b.input("x", TensorType(f32, (64, 64)))
    s = b.state("s", TensorType(f32, (64, 64)), b.constant(rng.standard_normal((64, 64), np.float32)))
    t = b.state("t", TensorType(f32, (64, 64)))
    total = b.op("reduce_sum", x, axes=(0, 1), keepdims=False)
    positive = b.op("gt", total, b.constant(np.array(0, np.float32)))
    small = b.constant(np.array(0.01, np.float32))  # or rounding grows from run to run

    def product(left: str, right: str) -> str:
        return b.op("tanh", b.op("mul", b.op("matmul", left, right), small))

    new = b.op("where", positive, product(product(s, x), x), product(product(x, s), s))
    kept = b.op("where", positive, t, b.op("add", t, product(s, s)))
    return b.finish([Port("y", b.op("reduce_max", new, axes=(0,), keepdims=False))], {"s": new, "t": kept})


GRAPHS: tuple[Callable[[], Graph], ...] = (running_sum, window, swap, registers, cache, normalised, shared, guarded)
#: states that a copy writes
COPIES = {"window": 1, "swap": 1}


@pytest.fixture(scope="module", params=GRAPHS, ids=lambda make: make.__name__)
def made(request: pytest.FixtureRequest) -> Compiled:
    return compiled(request.param())


def inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    own = np.random.default_rng(seed)
    return {p.name: own.standard_normal(graph.types[p.value].shape, np.float32) for p in graph.inputs}  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 3])
def test_state_evolves_as_the_interpreter_says(made: Compiled, threads: int) -> None:
    graph = made.graph
    with Session(made.folder, threads=threads) as session:
        assert [port.name for port in session.get_states()] == [state.name for state in graph.states]
        for _ in range(2):
            state = initial_state(graph)
            for seed in range(5):
                for name, array in session.state().items():
                    np.testing.assert_allclose(
                        array, state[name], rtol=1e-5, atol=1e-6, err_msg=f"{name} before {seed}"
                    )
                outputs, state = step(graph, inputs(graph, seed), state)
                found = session.run(None, inputs(graph, seed))
                for port, array in zip(graph.outputs, found, strict=True):
                    np.testing.assert_allclose(array, outputs[port.name], rtol=1e-5, atol=1e-5)
            session.reset()


def test_levels_agree(made: Compiled) -> None:
    """Passes keep what a graph with states means, and the verifiers accept what is made of it."""
    verify_placed(made.levels.placed, made.levels.machine)
    verify_plan(made.levels.plan, made.levels.placed)
    simple = run_passes(made.graph, GRAPH_PASSES)
    clusters = run_passes(simple, CLUSTER_PASSES)
    states = [initial_state(graph) for graph in (made.graph, simple, clusters)]
    for seed in range(3):
        found = []
        for number, graph in enumerate((made.graph, simple, clusters)):
            outputs, states[number] = step(graph, inputs(graph, seed), states[number])
            found.append({**outputs, **states[number]})
        for other in found[1:]:
            for name, array in found[0].items():
                np.testing.assert_allclose(other[name], array, rtol=1e-5, atol=1e-6)
    for order in (order_as_given, order_greedily):
        place = {node.outputs[0]: k for k, node in enumerate(order(clusters))}
        for _, writer, readers in clusters.overwrites():
            assert all(place[node.outputs[0]] < place[writer.outputs[0]] for node in readers)


def test_only_what_needs_a_copy_gets_one(made: Compiled) -> None:
    updates = [state.update for state in made.levels.placed.graph.states]
    assert sum(value.endswith(".kept") for value in updates) == COPIES.get(made.graph.name, 0)


def test_memory_counts_states(made: Compiled) -> None:
    plan = made.levels.plan
    (arena,) = (arena for arena in plan.arenas if arena.kind == "state")
    assert arena.bytes >= sum(entry.bytes for entry in plan.states) > 0
    solution = made.levels.placed.solution
    assert solution is not None and solution.used["ram"] == plan.peak_bytes()
    with Session(made.folder, threads=plan.threads) as session:
        memory = session.memory()
        assert memory.states == arena.bytes and memory.total - memory.session == plan.peak_bytes()


def test_rows_put_in_place_are_priced_as_such() -> None:
    """The larger the state, the more a copy would take; putting one row takes what it takes."""

    def seconds(rows: int) -> float:
        b = GraphBuilder(name="large")
        x, at = b.input("x", TensorType(f32, (1, 256))), b.input("at", TensorType(i64, (1,)))
        new = b.op("scatter", b.state("rows", TensorType(f32, (rows, 256))), at, x)
        clusters = run_passes(b.finish([], {"rows": new}), (*GRAPH_PASSES, *CLUSTER_PASSES))
        placed = place(clusters, Library(), load_machine("generic-x86_64-avx2"), PlaceRequest(2))
        return sum(choice.chosen.seconds for choice in placed.choices.values())

    assert seconds(1 << 14) == pytest.approx(seconds(1 << 8), rel=0.5)


def test_states_under_a_budget() -> None:
    """Weights go to storage, states and what they start from stay: all sums agree, and less than the states is refused."""
    b = GraphBuilder(name="streamed")
    x = b.input("x", TensorType(f32, (4, 512)))
    s = b.state("s", TensorType(f32, (4, 512)), b.constant(np.ones((4, 512), np.float32)))
    value = b.op("add", s, x)
    for _ in range(4):
        value = b.op("tanh", b.op("matmul", value, b.constant(rng.standard_normal((512, 512), np.float32))))
    graph = run_passes(b.finish([Port("y", value)], {"s": value}), (*GRAPH_PASSES, *CLUSTER_PASSES))
    target = load_machine("generic-x86_64-avx2")
    roomy = place(graph, Library(), target, PlaceRequest(2))
    assert roomy.solution is not None
    tight = PlaceRequest(2, {"ram": roomy.solution.used["ram"] - (2 << 20)})
    placed = place(graph, Library(), target, tight)
    assert {home.tier for home in placed.homes.values()} == {"ram", "disk"}
    names = {node.outputs[0]: "k" for node in graph.nodes}
    for request, found in ((PlaceRequest(2), roomy), (tight, placed)):
        verify_placed(found, target)
        assert check_placement(found, target, request) == []
        plan = schedule(found, target, names, 2)
        verify_plan(plan, found)
        assert found.solution is not None and plan.peak_bytes() == found.solution.used["ram"]
        assert plan.weights_bytes == found.solution.used["disk"]
        assert plan.weights[0].name == found.graph.states[0].initial and plan.states[0].initial == 0
    with pytest.raises(Infeasible, match=r"states 16\.00 KiB"):
        place(graph, Library(), target, PlaceRequest(2, {"ram": 20_000}))


def test_sessions_share_no_state_and_threads_change_no_bit(made: Compiled) -> None:
    graph = made.graph
    with Session(made.folder, threads=1) as one, Session(made.folder, threads=4) as two:
        one.run(None, inputs(graph, 0))
        before = two.state()
        for name, array in initial_state(graph).items():
            np.testing.assert_array_equal(before[name], array)
        two.run(None, inputs(graph, 0))
        a, b = one.state(), two.state()
        assert all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_saved_state_goes_on_elsewhere(made: Compiled, tmp_path: Path) -> None:
    graph = made.graph
    with Session(made.folder) as one, Session(made.folder) as two:
        for seed in range(3):
            one.run(None, inputs(graph, seed))
        np.savez(tmp_path / "state.npz", **one.state())
        two.set_state(dict(np.load(tmp_path / "state.npz")))
        for a, b in zip(one.run(None, inputs(graph, 9)), two.run(None, inputs(graph, 9)), strict=True):
            np.testing.assert_array_equal(a, b)
