"""The texts of kernels, placed graphs and plans: print -> parse -> print is the identity, what is parsed is equal."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratac.codegen.library import Library
from stratac.compiler.driver import lower_model
from stratac.compiler.options import CompileOptions
from stratac.ir.dims import Bounds, dim_max, floordiv, symbol
from stratac.ir.kernel import (
    Accumulator,
    Apply,
    Axis,
    Const,
    Folded,
    Guarded,
    Index,
    Kernel,
    Loops,
    Nest,
    Operand,
    Position,
    Read,
    Reduce,
    Store,
)
from stratac.ir.lexer import ParseError
from stratac.ir.parse_kernel import parse_kernel
from stratac.ir.placed import Placed, Transfer
from stratac.ir.plan import Plan
from stratac.ir.text_kernel import print_kernel
from stratac.ir.text_placed import parse_placed, print_placed
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.types import bool_, f32, f64, i32, i64
from stratac.ir.verify_kernel import verify_kernel
from stratac.ir.verify_placed import verify_placed
from stratac.ir.verify_plan import verify_plan
from stratac.tests.random_graphs import Sample, random_graphs
from stratac.tests.runtime.tiny import tiny_plan

from .blocks import BLOCKS, lower_graph

ZOO = Path(__file__).parents[2] / "zoo"
SEQ = {"batch": Bounds(1, 2, 4), "seq": Bounds(1, 128, 512)}
IMAGE = {"batch": Bounds(1, 1, 4)}
SENTENCES, PICTURES = ("minilm", "bert_base", "gpt2"), ("mobilenet_v2", "resnet50", "convnext_tiny", "vit_b16")
MODELS = {**dict.fromkeys(SENTENCES, SEQ), **dict.fromkeys((*PICTURES, "whisper_tiny_enc"), IMAGE)}


def assert_kernel_round_trip(kernel: Kernel) -> str:
    text = print_kernel(kernel)
    again = parse_kernel(text)
    assert again == kernel
    assert repr(again) == repr(kernel)  # 0.0, -0.0, False and 0 are equal but not the same
    assert print_kernel(again) == text
    return text


def assert_round_trips(placed: Placed, plan: Plan) -> None:
    text = print_placed(placed)
    assert parse_placed(text) == placed
    assert print_placed(parse_placed(text)) == text
    text = print_plan(plan)
    assert parse_plan(text) == plan
    assert print_plan(parse_plan(text)) == text


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name: str, tmp_path: Path) -> None:
    levels = lower_graph(BLOCKS[name](tmp_path))
    assert_round_trips(levels.placed, levels.plan)
    assert parse_placed(print_placed(levels.placed), str(tmp_path)).graph.folder == str(tmp_path)
    verify_placed(levels.placed, levels.machine)
    verify_plan(levels.plan, levels.placed)
    for kernel, sizes in levels.kernels:
        assert_kernel_round_trip(kernel)
        verify_kernel(kernel, levels.clusters.symbols, sizes)


@pytest.mark.parametrize("name", MODELS)
def test_real_models(name: str) -> None:
    path = ZOO / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"no {path}")
    levels = lower_model(path, CompileOptions(target="generic-x86_64-avx2", dims=MODELS[name], threads=4))
    assert_round_trips(levels.placed, levels.plan)
    verify_plan(levels.plan)
    library, clusters = Library(), levels.clusters
    for node in clusters.nodes:
        sizes = [clusters.types[value].elements for value in (*node.used, *node.outputs)]
        for kernel in library.kernels(node, clusters):
            assert_kernel_round_trip(kernel)
            verify_kernel(kernel, clusters.symbols, sizes)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_graphs())
def test_random_graphs(sample: Sample) -> None:
    levels = lower_graph(sample.graph)
    text = print_placed(levels.placed)
    assert print_placed(parse_placed(text)) == text
    text = print_plan(levels.plan)
    assert parse_plan(text) == levels.plan
    verify_placed(levels.placed, levels.machine)
    verify_plan(levels.plan)
    verify_plan(levels.plan, levels.placed)
    for kernel, sizes in levels.kernels:
        assert_kernel_round_trip(kernel)
        verify_kernel(kernel, levels.clusters.symbols, sizes)


def test_tiny_plan() -> None:
    plan = tiny_plan()
    text = print_plan(plan)
    assert parse_plan(text) == plan
    assert print_plan(parse_plan(text)) == text
    verify_plan(plan)


def test_rare_parts_of_a_placed_graph(tmp_path: Path) -> None:
    placed = lower_graph(BLOCKS["conv_block"](tmp_path)).placed
    value = placed.graph.nodes[0].outputs[0]
    choice = placed.choices[value]
    candidate = choice.chosen.candidate
    work = type(candidate.work)(1e300, 0.1, 7, vector=False)
    odd = type(candidate)('gpu "0"', "loops", "bf16x3", work, (("odd name", "f(1;2)"), ("b", "dense")), 1e-7)
    chosen = type(choice.chosen)(odd, math.inf, "launch")
    changed = type(placed)(
        placed.graph,
        "my machine",
        {**placed.choices, value: type(choice)(value, chosen, chosen, "line\nline")},
        placed.homes,
        (Transfer(value, "ram", "gpu 0"),),
    )
    text = print_placed(changed)
    assert parse_placed(text) == changed
    assert print_placed(parse_placed(text)) == text


def _loops(value: Any, index: Index = Index()) -> Loops:
    operands = (Operand(f32, "in"), Operand(i32, "in"), Operand(f32, "row", 3 * symbol("n") - 1), Operand(f64, "out"))
    folds = (Reduce("s0", "max", (), Const(1.0, f64)), Reduce("t0", "max", (), Const(True, bool_)))
    axes = (Axis("n", symbol("n")), Axis("odd name", 2))
    return Loops(operands, (Nest(axes, (*folds, Store(3, (Axis("j", 0),), index, value))), Nest((), ())))


def _rare_expressions() -> list[Any]:
    n = symbol("n")
    read = Read(1, Index(3, (("n", 2 * n), ("odd name", n - 1), ("j", -1)), ()), i32)
    looked_up = Index(-n + 1, (), ((read, -4 * n), (Apply("add", (read, read), i32), 1), (Const(-1, i64), n + 1)))
    zero, minus = Const(0.0, f32), Const(-0.0, f32)
    shared = Apply("add", (zero, minus), f32)
    return [
        *(Const(v, t) for v in (0, -1, 1 << 62) for t in (i64, i32, f32)),
        *(Const(v, t) for v in (0.0, -0.0, math.inf, -math.inf, 1e-45, 0.1) for t in (f32, f64)),
        *(Const(v, t) for v in (True, False) for t in (bool_, i64)),
        Position(Index(floordiv(n, 2) * n - 1, (("n", -n),))),
        Position(Index(dim_max(n, 4)), i32),
        Position(Index()),
        Read(0, looked_up, f64),
        Folded("s0", f64),
        Folded("s0", f32),
        Folded("t0", bool_),
        Accumulator(),
        Accumulator(f64),
        Guarded(Apply("lt", (read, read), bool_), shared, shared),
        Apply("add", (shared, Apply("sub", (minus, zero), f32)), f32),
        Apply("mul", (shared, Apply("neg", (shared,), f32)), f64),
        Apply("cast", (zero,), i32),
        Apply("lt", (zero, zero), f32),
        Apply("nothing", (), f32),
    ]


@pytest.mark.parametrize("value", _rare_expressions(), ids=range(len(_rare_expressions())))
def test_rare_expressions(value: Any) -> None:
    assert_kernel_round_trip(_loops(value))


def test_indices_keep_their_order() -> None:
    n = symbol("n")
    for terms in ((("n", 1), ("j", 2)), (("j", 2), ("n", 1)), (("j", 0),), (("n", n), ("n", -1))):
        for base in (0, 5, -5, n, -n, n - 1, 1 - n, -2 * n * n + 3 * n - 1):
            assert_kernel_round_trip(_loops(Const(1.0, f64), Index(base, terms)))


def test_shared_expressions_print_once() -> None:
    x: Any = Read(0, Index.axis("n"), f32)
    for _ in range(12):
        x = Apply("add", (x, x), f32)
    text = assert_kernel_round_trip(_loops(x))
    assert text.count("add") == 12
    assert "let %t1 = a0[%n]" in text  # %t0 is a fold's name


ERRORS: list[tuple[Callable[[str], Any], str, str]] = [
    (
        parse_kernel,
        "kernel stuff {}",
        "line 1, column 8: expected loops, selection, routine, matmul, conv, attention, got stuff",
    ),
    (parse_kernel, "kernel loops { a1 : in f32 }", "expected operand a0, got a1"),
    (parse_kernel, "kernel loops { a0 : in float }", "expected an element type"),
    (parse_kernel, "kernel loops { stage }", "expected nest or '}', got stage"),
    (parse_kernel, "kernel loops { nest () { store a0[0] = 1.0 }", "expected nest or '}', got the end"),
    (parse_kernel, "kernel loops { nest () { store b[0] = 1.0 } }", "expected an operand such as a0, got b"),
    (parse_kernel, "kernel loops { nest () { store a0[%i*%j] = 1.0 } }", "a product holds one axis"),
    (parse_kernel, "kernel loops { nest () { store a0[0] = %s } }", "%s is no fold or let of this nest so far"),
    (parse_kernel, "kernel loops { nest () { store a0[0] = a1[0] } }", "a1 is no operand of this kernel"),
    (parse_kernel, "kernel loops { nest () { let %t = 1 let %t = 2 } }", "%t is given twice"),
    (parse_kernel, "kernel loops { nest () { store a0[0] = guard(true) } }", "guard takes a condition"),
    (parse_kernel, "kernel matmul { rows (%i < 4) }", "expected 'batch', got rows"),
    (parse_kernel, "kernel loops { nest () { store a0[0] = " + "add(" * 5000 + "} }", "nested too deeply"),
    (parse_plan, "plan @p { threads 1 }", "expected 'target', got threads"),
    (parse_plan, 'plan @p { target "x" features [] threads 1 }', "does not say its weights_bytes"),
    (parse_plan, 'plan @p { target "x" features [] threads 1 input 1 "x" : f32[] }', "expected number 0, got 1"),
    (parse_plan, 'plan @p { target "x" features [] threads 1 stuff }', "expected dim, input"),
    (parse_plan, 'plan @p { target "x" features [] threads 1 queue "q" { 1: } }', "expected number 0, got 1"),
    (parse_plan, 'plan @p { target "x" features [] threads 1 dim a = 1:1:1 dim a = 1:1:1 }', "dim a is declared twice"),
    (parse_placed, "placed @m { }", "expected 'graph', got }"),
    (
        parse_placed,
        "placed @m { graph @g {} stuff }",
        "expected choice, home, state, transfer, ring, solution or '}', got stuff",
    ),
    (parse_placed, 'placed @m { graph @g {} home %w = "d" in "r" + 1 home %w = "d" in "r" + 1 }', "%w has two homes"),
]


@pytest.mark.parametrize(("read", "text", "what"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_where_and_what(read: Callable[[str], Any], text: str, what: str) -> None:
    with pytest.raises(ParseError) as caught:
        read(text)
    assert what in str(caught.value)


GOLDEN = Path(__file__).parents[1] / "golden"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_texts_never_crash(data: st.DataObject) -> None:
    """Any cut or changed character gives a value or a ParseError, nothing else."""
    name, read = data.draw(st.sampled_from([("placed", parse_placed), ("plan", parse_plan), ("kernels", parse_kernel)]))
    text = (GOLDEN / f"conv_block_{name}.txt").read_text(encoding="utf-8")
    if name == "kernels":
        text = data.draw(st.sampled_from(text.split("\n\n")))
    at = data.draw(st.integers(0, len(text) - 1))
    text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(ParseError):
        read(text)
