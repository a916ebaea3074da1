"""Guards: which values are needed only where a condition holds, found in graphs of ops and of clusters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Node, Port
from stratac.ir.guards import ALWAYS, Guard, choices, find_guards
from stratac.ir.interp import run
from stratac.ir.types import TensorType, bool_, f32
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES

from ..branch_graphs import branch_inputs, branches


class Net(GraphBuilder):
    """x: f32[64, 64] and the bools c and d."""

    def __init__(self, **symbols: Bounds) -> None:
        super().__init__(symbols=symbols)
        self.x = self.input("x", TensorType(f32, (64, 64)))
        self.c, self.d = (self.input(name, TensorType(bool_, ())) for name in "cd")

    def done(self, *values: str) -> Graph:
        return self.finish([Port(f"y{k}", value) for k, value in enumerate(values)])


def guards_of(graph: Graph, value: str) -> set[tuple[str, bool]]:
    found = find_guards(graph)
    (node,) = (node for node in graph.nodes if value in node.outputs)
    return {(guard.condition, guard.when) for guard in found[node.outputs[0]]}


def test_both_sides_and_what_only_they_need() -> None:
    net = Net()
    deep = net.op("exp", net.x)
    then, otherwise = net.op("neg", deep), net.op("tanh", net.x)
    both = net.op("abs", net.x)
    chosen = net.op("where", net.c, net.op("add", then, both), net.op("mul", otherwise, both))
    graph = net.done(chosen)
    assert guards_of(graph, deep) == guards_of(graph, then) == {(net.c, True)}
    assert guards_of(graph, otherwise) == {(net.c, False)}
    assert guards_of(graph, both) == guards_of(graph, chosen) == set()


def test_a_branch_in_a_branch() -> None:
    net = Net()
    value, inner = net.op("exp", net.x), net.op("neg", net.x)
    own = net.op("gt", net.op("reduce_sum", inner, axes=(0, 1), keepdims=False), net.constant(np.float32(0)))
    chosen = net.op("where", own, net.op("mul", value, value), inner)
    graph = net.done(net.op("where", net.c, chosen, net.x))
    assert guards_of(graph, value) == {(net.c, True)}  # `own` is no condition that is known in front of it
    assert guards_of(graph, inner) == guards_of(graph, own) == {(net.c, True)}
    late = net.op("sqrt", net.x)
    graph = net.done(net.op("where", net.c, net.op("where", own, late, inner), net.x))
    assert guards_of(graph, late) == {(net.c, True), (own, True)}


@pytest.mark.parametrize("how", ["both sides", "condition", "output", "elsewhere"])
def test_what_is_needed_in_any_case(how: str) -> None:
    net = Net()
    value = net.op("exp", net.x)
    condition = net.c
    if how == "condition":
        condition = net.op("gt", net.op("reduce_sum", value, axes=(0, 1), keepdims=False), net.constant(np.float32(0)))
    sides = [value, net.op("neg", value) if how == "both sides" else net.x]
    results = [net.op("where", condition, *sides)]
    results += [value] if how == "output" else [net.op("tanh", value)] if how == "elsewhere" else []
    assert guards_of(net.done(*results), value) == set()


def test_a_bool_behind_views() -> None:
    net = Net()
    value = net.op("exp", net.x)
    graph = net.done(net.op("where", net.op("reshape", net.c, shape=(1, 1)), net.x, value))
    assert guards_of(graph, value) == {(net.c, False)}
    wide = net.op("where", net.op("expand", net.c, shape=(64, 64)), net.op("exp", net.x), net.x)
    assert guards_of(net.done(wide), net.nodes[-2].output) == {(net.c, True)}


def test_many_bools_guard_nothing() -> None:
    net = Net()
    value = net.op("exp", net.x)
    mask = net.op("gt", net.x, net.constant(np.float32(0)))
    assert guards_of(net.done(net.op("where", mask, value, net.x)), value) == set()


@pytest.mark.parametrize("outside", [False, True])
def test_a_dim_is_found_wherever_it_is_mentioned(outside: bool) -> None:
    net = Net(k=Bounds(0, 2, 64))
    count = symbol("k")
    found = net.op(
        "nonzero",
        net.op("gt", net.op("reduce_sum", net.x, axes=(1,), keepdims=False), net.constant(np.float32(0))),
        count=count,
    )
    rows = net.op("gather", net.x, found, axis=0)
    results = [
        net.op(
            "where",
            net.c,
            net.op("reduce_sum", rows, axes=(0,), keepdims=False),
            net.constant(np.zeros(64, np.float32)),
        )
    ]
    if outside:
        results.append(net.op("add", net.op("dim", value=count, dtype=f32), net.constant(np.float32(0))))
    assert guards_of(net.done(*results), found) == (set() if outside else {(net.c, True)})


def test_clusters_choose_only_what_they_do_nothing_else_with() -> None:
    types = {name: TensorType(f32, (4,)) for name in ("x", "y", "m", "n", "z")} | {"c": TensorType(bool_, ())}

    def cluster(*body: Node) -> Node:
        return Node("cluster", ("c", "x", "y"), ("z",), (), body=body)

    def reads(*body: Node) -> dict[str, object]:
        return dict(choices(cluster(*body), types))

    chosen = Node("where", ("c", "m", "y"), ("z",))
    assert reads(Node("reshape", ("x",), ("m",)), chosen) == {
        "c": ALWAYS,
        "x": {Guard("c", True)},
        "y": {Guard("c", False)},
    }
    assert reads(Node("exp", ("x",), ("m",)), chosen)["x"] == ALWAYS
    both = Node("where", ("c", "x", "y"), ("m",)), Node("add", ("m", "y"), ("z",))
    assert reads(*both) == {"c": ALWAYS, "x": {Guard("c", True)}, "y": ALWAYS}


@pytest.mark.parametrize("seed", range(12))
def test_nobody_looks_at_what_is_guarded(seed: int) -> None:
    """Clusters whose guards do not hold are replaced by NaN, and nothing of it shows."""
    graph = branches(seed)
    clusters = run_passes(run_passes(graph, GRAPH_PASSES), CLUSTER_PASSES)
    found = find_guards(clusters)
    for number in range(4):
        given = branch_inputs(number, 5, number % 2 == 0)
        wanted = run(clusters, given)
        named = {port.value for port in clusters.outputs}
        conditions = {guard.condition for guards in found.values() for guard in guards} - named
        spied = [Port(f"spy {value}", value) for value in sorted(conditions - set(clusters.input_values))]
        facts = run(replace(clusters, outputs=(*clusters.outputs, *spied)), given)
        known = {port.value: bool(facts[port.name].reshape(())) for port in spied} | {"flag": bool(given["flag"])}
        known |= {port.value: bool(given["flag"]) for port in clusters.inputs if port.name == "flag"}
        nodes = []
        for node in clusters.nodes:
            left_out = any(known[g.condition] != g.when for g in found[node.outputs[0]])
            nodes.append(replace(node, body=_spoiled(node)) if left_out and not named & set(node.outputs) else node)
        got = run(replace(clusters, nodes=tuple(nodes)), given)
        for name, array in wanted.items():
            np.testing.assert_array_equal(got[name], array)


def _spoiled(node: Node) -> tuple[Node, ...]:
    """A body that stores what no computation gives, where its last op is one of floats."""
    last = node.body[-1]
    if last.op not in ("exp", "tanh", "neg", "add", "mul", "matmul", "softmax"):
        return node.body
    return (*node.body[:-1], Node("add", (last.inputs[0], last.inputs[0]), last.outputs, (), last.source))
