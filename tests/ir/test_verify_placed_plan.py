"""One broken placed graph or plan for each rule of their verifiers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stratac.compiler.profiles import load_machine
from stratac.ir.errors import VerifyError
from stratac.ir.placed import Placed, Transfer
from stratac.ir.plan import Buffer, Plan
from stratac.ir.text_placed import parse_placed, print_placed
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.verify_placed import verify_placed
from stratac.ir.verify_plan import verify_plan

PLACED = """
placed @"generic-portable" {
  graph @two {
    dim n = 1:4:8
    input %x "x" : f32[n, 8]
    weight %w : f32[8, 8] = file "w.bin" @ 0 + 256
    weight %b : f32[8] = file "w.bin" @ 256 + 32
    %u = cluster(%x, %w) : f32[n, 8] {
      %u = matmul(%x, %w) : f32[n, 8]
    }
    %v = cluster(%x, %w) : f32[n, 8] {
      %v = matmul(%x, %w) : f32[n, 8]
    }
    %z = cluster(%u, %v, %b) : f32[n, 8] {
      %y = add(%u, %v) : f32[n, 8]
      %z = add(%y, %b) : f32[n, 8]
    }
    output "z" = %z
  }
  choice %u "packed" {
    chosen "cpu" "matmul" "f32" seconds 1e-06 "compute" bound flops 1.0 bytes 2.0 workspace 64 formats (%w = "panel8(0;1,8,8;0,8,1)")
    runner_up "cpu" "loops" "f32" seconds 2e-06 "memory" bound flops 1.0 bytes 2.0 workspace 0
  }
  choice %v "plain" {
    chosen "cpu" "loops" "f32" seconds 1e-06 "compute" bound flops 1.0 bytes 2.0 workspace 0
  }
  choice %z "the only one" {
    chosen "cpu" "loops" "f32" seconds 1e-06 "launch" bound flops 1.0 bytes 2.0 workspace 0
  }
  home %w = "panel8(0;1,8,8;0,8,1)" in "ram" + 256
  home %w = "dense" in "ram" + 256
  home %b = "dense" in "ram" + 32
}
"""
PLAN = """
plan @two {
  target "generic-portable"
  features []
  threads 2
  dim n = 1:4:8
  input 0 "x" : f32[n, 8]
  output 0 "z" : f32[n, 8]
  arena 0 "weights" "weights" in "ram" = 576
  arena 1 "activations" "scratch" in "ram" = 512
  arena 2 "workspace" "workspace" in "ram" = 64
  buffer 0 %u : f32[n, 8] = arena 1 @ 0 + 256 live 0:2 "at the arena's start"
  buffer 1 %v : f32[n, 8] = arena 1 @ 256 + 256 live 1:2 "at a gap"
  weight 0 "w as panel8(0;1,8,8;0,8,1)" = "panel8(0;1,8,8;0,8,1)" @ 0 + 256
  weight 1 "w" = "dense" @ 256 + 256
  weight 2 "b" = "dense" @ 512 + 32
  weights_bytes 576 resident 576
  seconds 3e-06
  kernel 0 "k0"
  kernel 1 "k1"
  kernel 2 "k2"
  queue "cpu" {
    0: kernel 0 (workspace 0, input 0, weight 0, buffer 0) seconds 1e-06 flops 1.0 bytes 2.0 "product"
    1: kernel 1 (workspace 0, input 0, weight 1, buffer 1) seconds 1e-06 flops 1.0 bytes 2.0 "product again"
    2: kernel 2 (workspace 0, buffer 0, buffer 1, weight 2, output 0) barrier parts 1 seconds 1e-06 flops 1.0 bytes 2.0 "sum"
  }
  note "order" = "as given"
}
"""
MACHINE = load_machine("generic-portable")


def placed_from(old: str = "", new: str = "", text: str = PLACED) -> Placed:
    assert old in text
    return parse_placed(text.replace(old, new, 1))


def plan_from(old: str = "", new: str = "") -> Plan:
    assert old in PLAN
    return parse_plan(PLAN.replace(old, new, 1))


def test_the_good_ones_pass() -> None:
    placed, plan = placed_from(), plan_from()
    verify_placed(placed)
    verify_placed(placed, MACHINE)
    verify_plan(plan)
    verify_plan(plan, placed)
    assert print_placed(placed) == PLACED.lstrip()
    assert print_plan(plan) == PLAN.lstrip()


MATMUL = '"matmul" "f32" seconds 1e-06'
BROKEN_PLACED: list[tuple[str, str, str]] = [
    ("%y = add(%u, %v) : f32[n, 8]", "%y = add(%u, %v) : f32[n, 9]", "%y is declared f32[n, 9]"),
    ('placed @"generic-portable"', "placed @other", "was placed for 'other', not for 'generic-portable'"),
    ("choice %v ", "choice %x ", "has no candidate chosen"),
    (
        "  choice %v ",
        '  choice %x "" { chosen "" "" "" seconds 0.0 "" bound flops 0.0 bytes 0.0 workspace 0 }\n  choice %v ',
        "there is a choice for %x, which is no cluster's first output",
    ),
    ('"plain"', '""', "is chosen without a reason"),
    (MATMUL, '"matmul" "f32" seconds -1.0', "a number that is negative or not finite"),
    (MATMUL, '"matmul" "f32" seconds nan', "a number that is negative or not finite"),
    ("flops 1.0", "flops inf", "a number that is negative or not finite"),
    ("workspace 64", "workspace -64", "a number that is negative or not finite"),
    ("workspace 64", "workspace 64 error -0.5", "a number that is negative or not finite"),
    ("seconds 2e-06", "seconds inf", "cpu/loops/f32 has a number"),
    ('"memory" bound', '"luck" bound', "is bound by 'luck'"),
    ('"cpu" "matmul"', '"tpu" "matmul"', "runs on 'tpu', which generic-portable does not have"),
    ("formats (%w", "formats (%b", "wants a format for %b"),
    ("formats (%w", "formats (%x", "wants a format for %x"),
    ("formats (%w", 'formats (%w = "a", %w', "wants a format for %w"),
    ('home %w = "dense"', 'home %w = "odd"', "reads %w as 'dense', but no home holds it so"),
    ('home %w = "dense"', 'home %w = "odd" in "ram" + 1\n  home %w = "dense"', "nothing reads it as 'odd'"),
    ("home %b", 'home %x = "dense" in "ram" + 1\n  home %b', "expected the key of a weight and its format"),
    ('"dense" in "ram"', '"dense" in "attic"', "is in the tier 'attic'"),
    ('"dense" in "ram" + 32', '"dense" in "ram" + 33', "holds 33 bytes of f32[8], expected 32"),
    ('in "ram" + 256', 'in "ram" + -1', "'+'|holds -1 bytes"),
    ("home %b", 'transfer %q : "ram" -> "attic"\n  home %b', "nothing defines the value"),
    ("home %b", 'transfer %x : "ram" -> "ram"\n  home %b', "starts and ends in 'ram'"),
    ("home %b", 'transfer %x : "ram" -> "attic"\n  home %b', "names the tier 'attic'"),
]


@pytest.mark.parametrize(("old", "new", "what"), BROKEN_PLACED, ids=range(len(BROKEN_PLACED)))
def test_broken_placed_graphs_fail(old: str, new: str, what: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify_placed(placed_from(old, new), MACHINE)
    assert any(part in str(caught.value) for part in what.split("|")), caught.value


def test_keys_agree_with_what_stands_under_them() -> None:
    placed = placed_from()
    choices = {**placed.choices, "u": placed.choices["v"]}
    with pytest.raises(VerifyError, match="has the choice of %v"):
        verify_placed(replace(placed, choices=choices))
    homes = {**placed.homes, "b": placed.homes["w"]}
    with pytest.raises(VerifyError, match="stands under 'b'"):
        verify_placed(replace(placed, homes=homes))
    with pytest.raises(VerifyError, match="names the tier 'gpu'"):
        verify_placed(replace(placed, transfers=(Transfer("u", "ram", "gpu"),)))


CALL = "0: kernel 0 (workspace 0, input 0, weight 0, buffer 0)"
BROKEN_PLANS: list[tuple[str, str, str]] = [
    # what is declared
    ("threads 2", "threads 0", "the plan is for 0 threads"),
    ("dim n", "dim f32", "a dim may not be called 'f32'"),
    ('"x" : f32[n, 8]', '"x" : f32[q, 8]', "input 'x' uses the symbol 'q'"),
    ("%u : f32[n, 8]", "%u : f32[q, 8]", "buffer 0 (%u) uses the symbol 'q'"),
    ('input 0 "x"', 'input 0 ""', "the input name '' is empty or given twice"),
    (
        'input 0 "x" : f32[n, 8]',
        'input 0 "x" : f32[n, 8] input 1 "x" : f32[n, 8]',
        "the input name 'x' is empty or given",
    ),
    ('"activations" "scratch"', '"activations" "attic"', "arena 'activations' has the unknown kind 'attic'"),
    ('in "ram" = 64', 'in "ram" = -64', "arena 'workspace' has -64 bytes"),
    # weights
    ('weight 1 "w"', 'weight 1 "b"', "weight 2 (b) is given twice"),
    ('"dense" @ 256 + 256', '"dense" @ 260 + 8', "weight 1 (w) starts at 260"),
    ('"dense" @ 256 + 256', '"dense" @ 192 + 256', "weight 1 (w) at 192 + 256 overlaps the one before"),
    ('"dense" @ 256 + 256', '"dense" @ 256 + -1', "overlaps the one before"),
    ("weights_bytes 576", "weights_bytes 543", "weights end at 544, but weights_bytes is 543"),
    ("resident 576", "resident 512", "arenas of [576] bytes hold the 512 bytes of weights"),
    ('"weights" "weights" in "ram" = 576', '"weights" "weights" in "ram" = 512', "arenas of [512] bytes"),
    ("workspace 0, input 0, weight 1", "workspace 0, input 0, weight 0", "weight 1 (w) is never used"),
    ("input 0, weight 0, buffer 0", "input 0, weight 1, buffer 0", "weight 0 (w as|weight 1 (w) is used before"),
    # buffers
    ("buffer 1 %v", "buffer 1 %u", "two buffers are called %u"),
    ("arena 1 @ 0 +", "arena 7 @ 0 +", "buffer 0 (%u) lies in arena 7, which does not exist"),
    ("arena 1 @ 0 +", "arena 2 @ 0 +", "lies in arena 'workspace' of kind workspace"),
    ("arena 1 @ 0 +", "arena 1 @ 32 +", "buffer 0 (%u) starts at 32"),
    ("arena 1 @ 0 +", "arena 1 @ -64 +", "buffer 0 (%u) at -64 + 256 leaves its arena"),
    ("@ 256 + 256 live", "@ 320 + 256 live", "buffer 1 (%v) at 320 + 256 leaves its arena of 512 bytes"),
    ("@ 0 + 256 live", "@ 0 + 192 live", "buffer 0 (%u) has 192 bytes, but f32[n, 8] needs up to 256"),
    # calls
    ("2: kernel 2", "2: kernel 3", "calls kernel 3, but there are 3"),
    ("1: kernel 1", "1: kernel 0", "kernel 1 (k1) is never called"),
    ("input 0, weight 0", "input 1, weight 0", "has the argument input 1, but there are 1"),
    ("workspace 0, input 0, weight 0", "workspace 1, input 0, weight 0", "has the argument workspace 1"),
    ("input 0, weight 0", "inbox 0, weight 0", "has an argument in 'inbox'"),
    ("parts 1", "parts -1", "has -1 parts"),
    ("seconds 1e-06", "seconds -1e-06", "predicts a number that is negative or not finite"),
    ("flops 1.0", "flops nan", "predicts a number that is negative or not finite"),
    (
        'queue "cpu" {',
        'queue "gpu" { 0: kernel 0 () seconds 0.0 flops 0.0 bytes 0.0 "" } queue "cpu" {',
        "several queues",
    ),
    # what follows from the calls
    ("live 0:2", "live 0:1", "buffer 0 (%u) says live 0:1, but calls 0:2 use it"),
    ("live 1:2", "live 0:2", "buffer 1 (%v) says live 0:2, but calls 1:2 use it"),
    ("buffer 0, buffer 1, weight 2", "buffer 0, buffer 0, weight 2", "says live 1:2, but calls 1:1 use it"),
    (
        "buffer 1 %v",
        "buffer 1 %t : f32[1] = arena 1 @ 0 + 64 live 0:0 buffer 2 %v",
        "buffer 1 (%t) is never used|says live",
    ),
    ("arena 1 @ 256 + 256", "arena 1 @ 192 + 256", "%u and %v share bytes while both live"),
    ("weight 2, output 0", "weight 2", "output 'z' is never written"),
    ("barrier ", "", "reads %u while call 0 may still use %u|reads %v while"),
]


@pytest.mark.parametrize(("old", "new", "what"), BROKEN_PLANS, ids=range(len(BROKEN_PLANS)))
def test_broken_plans_fail(old: str, new: str, what: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify_plan(plan_from(old, new))
    assert any(part in str(caught.value) for part in what.split("|")), caught.value
    assert caught.value.level == "plan"


def test_bytes_that_are_used_again_need_a_barrier() -> None:
    """A call that writes over a buffer must wait for the last reader of what was there."""
    plan = plan_from()
    (queue,) = plan.queues
    last = queue.calls[2]
    more = replace(last, args=(*last.args[:1], *queue.calls[0].args[1:3], replace(last.args[1], index=2)), kernel=0)
    over = Buffer("t", 1, 0, 256, 3, 3, plan.buffers[0].type)
    for barrier in (True, False):
        calls = (*queue.calls, replace(more, barrier=barrier))
        grown = replace(plan, buffers=(*plan.buffers, over), queues=(replace(queue, calls=calls),))
        if barrier:
            verify_plan(grown)
        else:
            with pytest.raises(VerifyError, match="writes %t while call 2 may still use %u"):
                verify_plan(grown)


#: Plans that are right by themselves, but not plans of PLACED.
FOREIGN: list[tuple[str, str, str]] = [
    (
        "buffer 0, buffer 1, weight 2",
        "buffer 1, buffer 0, weight 2",
        "has the arguments v, u, b, z, expected u, v, b, z",
    ),
    ("%v : f32[n, 8]", "%v : f32[n, 4]", "buffer 1 has type f32[n, 4], expected f32[n, 8]"),
    ("%v : f32[n, 8]", "%q : f32[n, 8]", "its last argument is no result of a cluster"),
    ('"w" = "dense" @ 256 + 256', '"w" = "dense" @ 256 + 128', "weight 1 has 128 bytes of dense"),
    ('"w" = "dense"', '"w" = "other"', "weight 1 has 256 bytes of other"),
]


@pytest.mark.parametrize(("old", "new", "what"), FOREIGN, ids=range(len(FOREIGN)))
def test_plans_of_something_else_fail(old: str, new: str, what: str) -> None:
    plan = plan_from(old, new)
    verify_plan(plan)
    with pytest.raises(VerifyError) as caught:
        verify_plan(plan, placed_from())
    assert what in str(caught.value)


def test_calls_run_every_cluster_once_in_order() -> None:
    plan, placed = plan_from(), placed_from()
    (queue,) = plan.queues
    twice = replace(queue, calls=(*queue.calls[:2], replace(queue.calls[0], barrier=True), *queue.calls[2:]))
    with pytest.raises(VerifyError, match="runs %u again, after call 0"):
        verify_plan(_relive(plan, twice.calls), placed)
    text = PLACED.replace('output "z"', 'output "v" = %v\n    output "z"')
    with pytest.raises(VerifyError):
        verify_plan(plan, placed_from(text=text))
    more = PLACED.replace(
        '    output "z"', '    %n = cluster(%z) : f32[n, 8] {\n %n = neg(%z) : f32[n, 8]\n }\n    output "z"'
    )
    with pytest.raises(VerifyError, match="is never run"):
        verify_plan(plan, placed_from(text=more))


def test_reading_before_writing_fails() -> None:
    """Without the placed graph the first mention of a buffer counts as its writing; with it, as what it is."""
    plan, placed = plan_from(), placed_from()
    (queue,) = plan.queues
    calls = (queue.calls[2], replace(queue.calls[0], barrier=True), queue.calls[1])
    weights = [plan.weights[k] for k in (2, 0, 1)]
    weights = [replace(w, offset=64 + 256 * k if k else 0) for k, w in zip((0, 1, 2), weights, strict=True)]
    weights = [replace(w, offset=o) for w, o in zip(weights, (0, 64, 320), strict=True)]
    number = {2: 0, 0: 1, 1: 2}
    calls = tuple(
        replace(c, args=tuple(replace(a, index=number[a.index]) if a.space == "weight" else a for a in c.args))
        for c in calls
    )
    moved = _relive(replace(plan, weights=tuple(weights)), calls)
    with pytest.raises(VerifyError, match="reads %u before it is written"):
        verify_plan(moved, placed)


def _relive(plan: Plan, calls: tuple) -> Plan:  # type: ignore[type-arg]
    """The plan with other calls and lifetimes that fit them."""
    uses = [[n for n, c in enumerate(calls) if ("buffer", k) in [(a.space, a.index) for a in c.args]] for k in range(2)]
    buffers = tuple(replace(b, first=u[0], last=u[-1]) for b, u in zip(plan.buffers, uses, strict=True))
    return replace(plan, buffers=buffers, queues=(replace(plan.queues[0], calls=calls),))


#: PLACED and PLAN with %b, the last weight, as pages of weights.bin.
MAPPED_CHOICE = '"launch" bound flops 1.0 bytes 2.0 workspace 0'
MAPPED_PLACED = PLACED.replace(MAPPED_CHOICE, f"{MAPPED_CHOICE} sparse (%b)").replace(
    'home %b = "dense" in "ram" +', 'home %b = "dense" in "ram" mapped +'
)
MAPPED_PLAN = PLAN.replace('"weights" "weights" in "ram" = 576', '"weights" "weights" in "ram" = 512').replace(
    '  arena 2 "workspace" "workspace" in "ram" = 64\n',
    '  arena 2 "workspace" "workspace" in "ram" = 64\n  arena 3 "mapped" "mapped" in "ram" = 64\n',
)


def test_mapped_weights() -> None:
    placed, plan = parse_placed(MAPPED_PLACED), parse_plan(MAPPED_PLAN)
    verify_placed(placed, MACHINE)
    verify_plan(plan, placed)
    assert placed.homes["b"].mapped and plan.mapped_bytes == 64 and plan.peak_bytes() == plan_from().peak_bytes()
    assert print_placed(placed) == MAPPED_PLACED.lstrip() and print_plan(plan) == MAPPED_PLAN.lstrip()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (" sparse (%b)", "", "reads %b, which is mapped"),
        ("sparse (%b)", "sparse (%x)", "reads few rows of %x"),
        ("sparse (%b)", "sparse (%b, %b)", "reads few rows of %b"),
        ('%b = "dense" in "ram" mapped', '%b = "dense" in "disk" mapped', "is mapped in disk"),
        ('%w = "dense" in "ram"', '%w = "dense" in "disk"', "is mapped in ram"),
    ],
)
def test_broken_mapped_homes_fail(old: str, new: str, what: str) -> None:
    assert old in MAPPED_PLACED
    with pytest.raises(VerifyError, match=what):
        verify_placed(parse_placed(MAPPED_PLACED.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"mapped" in "ram" = 64', '"mapped" in "ram" = 0', "arenas of"),
        ('"ram" = 512\n  arena 1', '"ram" = 448\n  arena 1', "arenas of"),
        ("weights_bytes 576", "weights_bytes 8192", "stay in storage"),
        (
            '  arena 3 "mapped"',
            '  arena 3 "more" "mapped" in "ram" = 64\n  arena 4 "mapped"',
            "arenas of",
        ),
    ],
)
def test_broken_plans_with_mapped_weights_fail(old: str, new: str, what: str) -> None:
    assert old in MAPPED_PLAN
    with pytest.raises(VerifyError, match=what):
        verify_plan(parse_plan(MAPPED_PLAN.replace(old, new, 1)))


def test_a_weight_is_read_or_mapped_as_its_home_says() -> None:
    with pytest.raises(VerifyError, match="weight 2 is mapped"):
        verify_plan(parse_plan(MAPPED_PLAN), placed_from())
    with pytest.raises(VerifyError, match="weight 2 is read"):
        verify_plan(plan_from(), parse_placed(MAPPED_PLACED))
    wider = MAPPED_PLAN.replace('"ram" = 64\n  buffer', '"ram" = 128\n  buffer').replace(
        '"weights" in "ram" = 512', '"weights" in "ram" = 448'
    )
    with pytest.raises(VerifyError, match="neither read nor mapped"):
        verify_plan(parse_plan(wider))
