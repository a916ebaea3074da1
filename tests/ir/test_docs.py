"""`docs/ir.md` is true: its generated tables are current, its examples parse, verify and print as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stratac.ir import document
from stratac.ir.parse import parse, parse_graph, read_symbol
from stratac.ir.parse_kernel import parse_kernel
from stratac.ir.placed import Placed
from stratac.ir.text import print_graph
from stratac.ir.text_kernel import print_kernel
from stratac.ir.text_placed import parse_placed, print_placed
from stratac.ir.text_plan import parse_plan, print_plan
from stratac.ir.verify import verify_graph
from stratac.ir.verify_kernel import verify_kernel
from stratac.ir.verify_placed import verify_placed
from stratac.ir.verify_plan import verify_plan

PAGE = Path(document.PAGE).read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```stratac-(graph|clusters)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
KERNELS = re.findall(r"^```stratac-kernel (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_generated_tables_are_current() -> None:
    assert document.regenerate(PAGE) == PAGE, "run python -m stratac.ir.document"


def test_there_are_examples_of_both_levels() -> None:
    assert {level for level, _ in EXAMPLES} == {"graph", "clusters"}


@pytest.mark.parametrize(("level", "text"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_are_canonical(level: str, text: str) -> None:
    graph = parse_graph(text)
    verify_graph(graph, level=level)
    assert print_graph(graph) == text


@pytest.mark.parametrize(("dim", "text"), KERNELS, ids=range(len(KERNELS)))
def test_kernels_are_canonical(dim: str, text: str) -> None:
    kernel = parse_kernel(text)
    verify_kernel(kernel, dict([parse(dim, read_symbol)]))
    assert print_kernel(kernel) == text


def test_there_are_kernels_of_every_kind() -> None:
    kinds = {"loops", "matmul", "conv", "attention", "selection", "routine"}
    assert {text.split()[1] for _, text in KERNELS} == kinds


def test_the_plan_is_a_plan_of_the_placed_graph() -> None:
    placed_text, plan_text = (_only(level) for level in ("placed", "plan"))
    placed: Placed = parse_placed(placed_text)
    verify_placed(placed)
    assert print_placed(placed) == placed_text
    plan = parse_plan(plan_text)
    verify_plan(plan, placed)
    assert print_plan(plan) == plan_text


def _only(level: str) -> str:
    (text,) = re.findall(rf"^```stratac-{level}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(text)
