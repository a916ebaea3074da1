"""States through the levels' texts, meanings and verifiers: one broken graph, placed graph or plan for each rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stratac.ir.errors import StratacError, VerifyError
from stratac.ir.in_place import writes_in_place
from stratac.ir.interp import initial_state, run, step
from stratac.ir.lexer import ParseError
from stratac.ir.parse import parse_graph
from stratac.ir.plan import StateEntry
from stratac.ir.plan_binary import decode, encode
from stratac.ir.rewrite import drop_unused, rename_values, renumber, replace_values
from stratac.ir.text import print_graph
from stratac.ir.text_placed import parse_placed, print_placed
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.verify import verify_graph
from stratac.ir.verify_placed import verify_placed
from stratac.ir.verify_plan import verify_plan

GRAPH = """graph @sum {
  input %x "x" : f32[3]
  state %s "total" : f32[3] = %w0
  state %n "calls" : i64[] = zeros
  weight %w0 : f32[3] = [0.5, 0.0, -1.0]
  weight %w1 : i64[] = [1]
  %v0 = add(%s, %x) : f32[3]
  %v1 = sqrt(%v0) : f32[3]
  %v2 = add(%n, %w1) : i64[]
  output "y" = %v1
  next "total" = %v0
  next "calls" = %v2
}
"""
PLACED = """placed @"generic-portable" {
  graph @sum {
    input %x "x" : f32[3]
    state %s "total" : f32[3] = %w0
    weight %w0 : f32[3] = [0.5, 0.0, -1.0]
    %y = cluster(%s, %x) : f32[3] {
      %y = mul(%s, %x) : f32[3]
    }
    %t = cluster(%s, %x) : f32[3] {
      %t = add(%s, %x) : f32[3]
    }
    output "y" = %y
    next "total" = %t
  }
  choice %y "the only one" {
    chosen "cpu" "loops" "f32" seconds 1e-06 "compute" bound flops 1.0 bytes 2.0 workspace 0
  }
  choice %t "the only one" {
    chosen "cpu" "loops" "f32" seconds 1e-06 "compute" bound flops 1.0 bytes 2.0 workspace 0
  }
  home %w0 = "dense" in "ram" + 12
  state "total" in "ram" + 12
}
"""
PLAN = """plan @sum {
  target "generic-portable"
  features []
  threads 2
  input 0 "x" : f32[3]
  output 0 "y" : f32[3]
  arena 0 "weights" "weights" in "ram" = 4096
  arena 1 "activations" "scratch" in "ram" = 0
  arena 2 "workspace" "workspace" in "ram" = 0
  arena 3 "states" "state" in "ram" = 64
  weight 0 "w0" = "dense" @ 0 + 12
  state 0 "total" : f32[3] = @ 0 + 12 from weight 0
  weights_bytes 4096 resident 4096
  seconds 2e-06
  kernel 0 "k0"
  kernel 1 "k1"
  queue "cpu" {
    0: kernel 0 (workspace 0, state 0, input 0, output 0) seconds 1e-06 flops 1.0 bytes 2.0 "product"
    1: kernel 1 (workspace 0, state 0, input 0, next 0) barrier seconds 1e-06 flops 1.0 bytes 2.0 "sum"
  }
}
"""


def test_texts_round_trip() -> None:
    graph = parse_graph(GRAPH)
    verify_graph(graph)
    assert print_graph(graph) == GRAPH
    placed, plan = parse_placed(PLACED), parse_plan(PLAN)
    verify_placed(placed)
    verify_plan(plan)
    verify_plan(plan, placed)
    assert print_placed(placed) == PLACED and print_plan(plan) == PLAN
    assert decode(encode(plan)) == plan


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('next "total"', 'next "other"', "there is no state 'other'"),
        ("= zeros", "= ones", "a weight such as %w0, or zeros"),
    ],
)
def test_texts_that_are_refused(old: str, new: str, error: str) -> None:
    with pytest.raises(ParseError, match=error):
        parse_graph(GRAPH.replace(old, new, 1))


def test_runs_go_on_from_one_another() -> None:
    graph, x = parse_graph(GRAPH), np.array([1.0, 4.0, 2.0], np.float32)
    state = initial_state(graph)
    assert state["total"].tolist() == [0.5, 0.0, -1.0] and state["calls"] == 0
    total = state["total"].copy()
    for count in (1, 2, 3):
        outputs, state = step(graph, {"x": x}, state)
        total += x
        np.testing.assert_array_equal(state["total"], total)
        np.testing.assert_array_equal(outputs["y"], np.sqrt(total))
        assert state["calls"] == count
    np.testing.assert_array_equal(run(graph, {"x": x})["y"], np.sqrt(np.array([1.5, 4.0, 1.0], np.float32)))


def test_edits_keep_states() -> None:
    graph = parse_graph(GRAPH)
    assert drop_unused(graph) == graph
    renamed = rename_values(graph, {"s": "old", "v0": "new", "w0": "start"})
    verify_graph(renamed)
    assert renamed.states[0] == replace(graph.states[0], value="old", update="new", initial="start")
    assert print_graph(renumber(renamed)) == print_graph(renumber(graph))
    assert replace_values(graph, {"v0": "x"}).states[0].update == "x"


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"total"', '""', "empty or given twice"),
        ('%s "total" : f32[3]', '%s "total" : f32[4]', "of type f32.4. starts as %w0 of type f32.3."),
        ("= %w0\n", "= %w9\n", "starts as %w9, which is no weight"),
        ("add(%s, %x)", "add(%w0, %x)", "starts as %w0, which something else reads"),
        ('"calls" : i64[] = zeros', '"calls" : i64[] = %w1', "starts as %w1, which something else reads"),
        ('next "total" = %v0', 'next "total" = %v7', "becomes %v7, but nothing defines it"),
        ('next "calls" = %v2', 'next "calls" = %v0', "of type i64.. becomes %v0 of type f32.3."),
        ("%v0 = add(%s, %x)", "%v0 = add(%s, %x)", ""),
    ],
)
def test_graphs_that_are_refused(old: str, new: str, error: str) -> None:
    assert old in GRAPH
    graph = parse_graph(GRAPH.replace(old, new))
    if not error:
        return verify_graph(graph)
    with pytest.raises(VerifyError, match=error):
        verify_graph(graph)


def test_a_state_with_symbolic_extents_is_refused() -> None:
    text = 'graph @g {\n  dim n = 1:2:3\n  state %s "s" : f32[n] = zeros\n}\n'
    with pytest.raises(VerifyError, match="symbolic type"):
        verify_graph(parse_graph(text))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('  state "total" in "ram" + 12\n', "", "has no home"),
        ('state "total" in "ram"', 'state "other" in "ram"', "home of the state 'other'"),
        ('state "total" in "ram" + 12', 'state "total" in "disk" + 12', "is in the tier 'disk'"),
        ('state "total" in "ram" + 12', 'state "total" in "ram" + 16', "holds 16 bytes"),
        ('  home %w0 = "dense" in "ram" + 12\n', "", "starts as %w0, which is not in memory"),
        ('home %w0 = "dense" in "ram"', 'home %w0 = "dense" in "disk"', "not in memory"),
        ('next "total" = %t', 'next "total" = %y', "no cluster computes for it alone"),
        ('next "total" = %t', 'next "total" = %x', "no cluster computes for it alone"),
        (
            "%t = add(%s, %x) : f32[3]",
            "%q = reduce_sum(%s) {axes = (0,), keepdims = true} : f32[1]\n      %t = add(%q, %x) : f32[3]",
            "is read by .* where that has written",
        ),
    ],
)
def test_placed_graphs_that_are_refused(old: str, new: str, error: str) -> None:
    assert old in PLACED
    with pytest.raises(VerifyError, match=error):
        verify_placed(parse_placed(PLACED.replace(old, new, 1)))


def test_readers_come_before_the_writer() -> None:
    placed = parse_placed(PLACED)
    late = replace(placed, graph=replace(placed.graph, nodes=placed.graph.nodes[::-1]))
    with pytest.raises(VerifyError, match="written by cluster %t before %y reads it"):
        verify_placed(late)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("from weight 0", "from weight 7", "starts from weight 7"),
        ("f32[3] = @ 0 + 12", "f32[3] = @ 0 + 16", "has 16 bytes, but f32.3. needs 12"),
        ("f32[3] = @ 0 + 12", "f32[3] = @ 8 + 12", "is not aligned"),
        ("f32[3] = @ 0 + 12", "f32[3] = @ 64 + 12", "leaves its arena"),
        ('"w0" = "dense"', '"w0" = "panel8"', "starts from 12 bytes of panel8"),
        ('"states" "state"', '"states" "scratch"', "0 arenas of states and 1 states"),
        ("state 0, input 0, next 0", "state 7, input 0, next 0", "argument state 7"),
        ("state 0, input 0, next 0) barrier", "state 0, input 0, next 0)", "it needs a barrier|may still use"),
        ("state 0, input 0, output 0", "next 0, input 0, output 0", "has written over"),
        ('state 0 "total"', 'state 0 ""', "empty or given twice"),
    ],
)
def test_plans_that_are_refused(old: str, new: str, error: str) -> None:
    assert old in PLAN
    with pytest.raises(VerifyError, match=error):
        verify_plan(parse_plan(PLAN.replace(old, new, 1)))


def test_a_plan_of_other_states_is_refused() -> None:
    plan, placed = parse_plan(PLAN), parse_placed(PLACED)
    other = replace(plan, states=(replace(plan.states[0], name="other"),))
    with pytest.raises(VerifyError, match="the plan has the states"):
        verify_plan(other, placed)
    two = (*plan.states, StateEntry("more", plan.states[0].type, 0, 12))
    with pytest.raises(VerifyError, match="overlaps the one before"):
        verify_plan(replace(plan, states=two))


@pytest.mark.parametrize(
    ("body", "shape", "safe"),
    [
        ("%u = mul(%s, %x)", "", True),
        ("%u = softmax(%s) {axis = -1}", "", True),
        ("%u = transpose(%s) {perm = (1, 0)}", "", False),
        ("%u = cumsum(%s) {axis = 0}", "", True),
        ("%u = scatter_elements(%s, %i, %x) {axis = 0}", "", True),
        ("%u = scatter_elements(%x, %i, %s) {axis = 0}", "", False),
        ("%u = matmul(%s, %x)", "", False),
    ],
)
def test_which_kernels_write_in_place(body: str, shape: str, safe: bool) -> None:
    del shape
    used = [v for v in ("s", "i", "x") if f"%{v}" in body]
    text = f"""graph @g {{
  input %x "x" : f32[4, 4]
  input %i "i" : i64[4, 4]
  state %s "s" : f32[4, 4] = zeros
  %u = cluster({", ".join("%" + v for v in used)}) : f32[4, 4] {{
    {body} : f32[4, 4]
  }}
  next "s" = %u
}}
"""
    graph = parse_graph(text)
    verify_graph(graph, level="clusters")
    assert writes_in_place(graph.nodes[0], "s", "u", graph.types, graph.symbols) == safe


def test_a_missing_state_is_an_error() -> None:
    with pytest.raises((KeyError, StratacError)):
        step(parse_graph(GRAPH), {"x": np.zeros(3, np.float32)}, {})
