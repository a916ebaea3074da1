"""Plans that stream: one broken plan for each rule about reads, the ring and the streamed part of weights.bin."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stratac.ir.errors import VerifyError
from stratac.ir.placed import Solution
from stratac.ir.text_placed import parse_placed, print_placed
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.verify_placed import verify_placed
from stratac.ir.verify_plan import verify_plan

PLACED = """
placed @"some machine" {
  graph @three {
    input %x "x" : f32[8]
    weight %t : f32[2000] = file "w.bin" @ 0 + 8000
    weight %v : f32[2000] = file "w.bin" @ 8000 + 8000
    weight %w : f32[1000] = file "w.bin" @ 16000 + 4000
    weight %b : f32[8] = file "w.bin" @ 20000 + 32
    %p = cluster(%x, %b) : f32[8] {
      %p = add(%x, %b) : f32[8]
    }
    %q = cluster(%p, %v) : f32[8] {
      %v1 = slice(%v) {axis = 0, extent = 8, start = 0} : f32[8]
      %q = add(%p, %v1) : f32[8]
    }
    %r = cluster(%q, %w, %t) : f32[8] {
      %w1 = slice(%w) {axis = 0, extent = 8, start = 0} : f32[8]
      %t1 = slice(%t) {axis = 0, extent = 8, start = 0} : f32[8]
      %s = add(%w1, %t1) : f32[8]
      %r = add(%q, %s) : f32[8]
    }
    output "r" = %r
  }
  choice %p "the only one" {
    chosen "cpu" "loops" "f32" seconds 1e-06 "launch" bound flops 1.0 bytes 2.0 workspace 0
  }
  choice %q "the only one" {
    chosen "cpu" "loops" "f32" seconds 1e-06 "launch" bound flops 1.0 bytes 2.0 workspace 0
  }
  choice %r "the rows" binding "budget ram" {
    chosen "cpu" "loops" "f32" seconds 1e-06 "launch" bound flops 1.0 bytes 2.0 workspace 0 terms ("rows" = 2.0) direct (%t)
    runner_up "gpu" "loops" "f32" seconds 2e-06 "launch" bound flops 1.0 bytes 2.0 workspace 0 estimate
  }
  home %b = "dense" in "ram" + 32 "small"
  home %v = "dense" in "disk" + 8000
  home %w = "dense" in "disk" + 4000
  home %t = "dense" in "disk" + 8000
  ring 8192
  solution "latency" "enumeration" seconds 0.001 bound 0.0005 budgets ("ram" = 100000, "disk" = 50000) used ("ram" = 13000, "disk" = 24576)
}
"""
PLAN = """
plan @three {
  target "some machine"
  features []
  threads 1
  input 0 "x" : f32[8]
  output 0 "r" : f32[8]
  arena 0 "weights" "weights" in "ram" = 4096
  arena 1 "activations" "scratch" in "ram" = 128
  arena 2 "workspace" "workspace" in "ram" = 0
  arena 3 "ring" "ring" in "ram" = 8192
  buffer 0 %p : f32[8] = arena 1 @ 0 + 64 live 0:1
  buffer 1 %q : f32[8] = arena 1 @ 64 + 64 live 1:2
  buffer 2 %"v for 1" : u8[8192] = arena 3 @ 0 + 8192 live 1:1
  buffer 3 %"w for 2" : u8[4096] = arena 3 @ 0 + 4096 live 2:2
  weight 0 "b" = "dense" @ 0 + 32
  weight 1 "v" = "dense" @ 4096 + 8000
  weight 2 "w" = "dense" @ 12288 + 4000
  weight 3 "t" = "dense" @ 16384 + 8000
  weights_bytes 24576 resident 4096
  seconds 0.001
  kernel 0 "k"
  queue "cpu" {
    0: kernel 0 (input 0, weight 0, buffer 0) seconds 1e-06 flops 1.0 bytes 2.0 "p"
    1: kernel 0 (buffer 0, buffer 2, buffer 1) barrier needs 1 seconds 1e-06 flops 1.0 bytes 2.0 "q"
    2: kernel 0 (buffer 1, buffer 3, file 3, output 0) barrier needs 2 seconds 1e-06 flops 1.0 bytes 2.0 "r"
  }
  queue "io" {
    0: read 4096 + 8192 to buffer 2 after 0 seconds 1e-05 "v"
    1: read 12288 + 4096 to buffer 3 after 2 seconds 1e-05 "w"
  }
}
"""


def test_the_good_ones_pass() -> None:
    placed, plan = parse_placed(PLACED), parse_plan(PLAN)
    verify_placed(placed)
    verify_plan(plan)
    verify_plan(plan, placed)
    assert print_placed(placed) == PLACED.lstrip() and print_plan(plan) == PLAN.lstrip()
    assert placed.solution == Solution(
        "latency", "enumeration", 0.001, 0.0005, {"ram": 100000, "disk": 50000}, {"ram": 13000, "disk": 24576}
    )
    assert placed.solution.gap == 1.0


BROKEN: list[tuple[str, str, str]] = [
    ("read 4096 + 8192", "read 4096 + 8000", "whole blocks"),
    ("read 4096 + 8192", "read 8192 + 8192", "where no streamed weight starts"),
    ("read 4096 + 8192", "read 4096 + 4096", "which has 8000"),
    ("to buffer 2", "to buffer 9", "does not exist"),
    ("to buffer 2", "to buffer 1", "is not in the ring"),
    ("to buffer 2", "to buffer 3", "reads 8192 bytes to"),
    ("after 2 seconds", "after 5 seconds", "and the plan has 3"),
    ('1e-05 "v"', '-1e-05 "v"', "negative or not finite"),
    ("needs 1 ", "", "does not wait for read 0"),
    ("needs 2 ", "needs 3 ", "needs 3 reads"),
    ("after 2 seconds", "after 1 seconds", "may overwrite read 0 while call 1 still needs it"),
    ("after 0 seconds", "after -1 seconds", "may overwrite read 1 while call 2 still needs it"),
    ("after 0 seconds", "after 2 seconds", "waits for call 1, or one before it"),
    ("file 3", "weight 3", "that weight stays in storage"),
    ("weight 0, buffer 0", "file 0, buffer 0", "that weight is resident"),
    ("resident 4096", "resident 64", "arenas of [4096] bytes"),
    ('"t" = "dense" @ 16384', '"t" = "dense" @ 16448', "starts at 16448"),
    ("weights_bytes 24576", "weights_bytes 24384", "weights end at 24576"),
    (
        '"ring" "ring" in "ram" = 8192',
        '"ring" "scratch" in "ram" = 8192',
        "0 rings and 2 reads|is not in the ring|share",
    ),
    ('queue "io"', 'queue "cpu2"', "reads on the queue io"),
    ("buffer 3, file 3", "file 2, file 3", "never used"),
]


@pytest.mark.parametrize(("old", "new", "what"), BROKEN, ids=range(len(BROKEN)))
def test_broken_plans_fail(old: str, new: str, what: str) -> None:
    assert old in PLAN
    with pytest.raises(VerifyError) as caught:
        verify_plan(parse_plan(PLAN.replace(old, new, 1)))
    assert any(part in str(caught.value) for part in what.split("|")), caught.value


def test_reads_fill_every_buffer_of_the_ring_once_and_in_order() -> None:
    plan = parse_plan(PLAN)
    cpu, io = plan.queues
    for reads, what in (
        ((io.reads[0], io.reads[0], io.reads[1]), "is read to 2 times"),
        ((io.reads[1], io.reads[0]), "before that of the read in front"),
    ):
        calls = tuple(replace(call, needs=len(reads) if call.needs else 0) for call in cpu.calls)
        with pytest.raises(VerifyError, match=what):
            verify_plan(replace(plan, queues=(replace(cpu, calls=calls), replace(io, reads=reads))))
    with pytest.raises(VerifyError, match="several queues have reads"):
        verify_plan(replace(plan, queues=(cpu, io, io)))


BROKEN_PLACED: list[tuple[str, str, str]] = [
    ("ring 8192", "ring 4096", "has a ring of 4096 bytes"),
    ("ring 8192", "ring 8200", "has a ring of 8200 bytes"),
    ("ring 8192\n", "\n", "has a ring of 0 bytes"),
    ("direct (%t)", "direct (%b)", "reads rows of %b from storage"),
    ("direct (%t)", "direct (%t, %t)", "each once"),
    ('home %t = "dense" in "disk"', 'home %t = "dense" in "ram"', "reads rows of %t from storage, but its home is ram"),
    ('used ("ram" = 13000', 'used ("ram" = 130000', "uses 130000 bytes of ram, budgeted 100000"),
    ("bound 0.0005", "bound 0.5", "with the lower bound 0.5"),
    ("seconds 0.001 bound", "seconds nan bound", "takes nan seconds"),
]


@pytest.mark.parametrize(("old", "new", "what"), BROKEN_PLACED, ids=range(len(BROKEN_PLACED)))
def test_broken_placed_graphs_fail(old: str, new: str, what: str) -> None:
    assert old in PLACED
    with pytest.raises(VerifyError) as caught:
        verify_placed(parse_placed(PLACED.replace(old, new, 1)))
    assert what in str(caught.value)


def test_plans_of_something_else_fail() -> None:
    plan, placed = parse_plan(PLAN), parse_placed(PLACED)
    weights = tuple(replace(w, bytes=7000) if w.name == "v" else w for w in plan.weights)
    with pytest.raises(VerifyError, match="weight 1 has 7000 bytes of dense"):
        verify_plan(replace(plan, weights=weights), placed)
    text = PLACED.replace(" direct (%t)", "").replace("ring 8192", "ring 12288")
    with pytest.raises(VerifyError, match="reads %t as file 3"):
        verify_plan(plan, parse_placed(text))
