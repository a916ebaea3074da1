"""`docs/ir.md` is true: its generated tables are current, its examples parse, verify and print as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stratac.ir import document
from stratac.ir.parse import parse_graph
from stratac.ir.text import print_graph
from stratac.ir.verify import verify_graph

PAGE = Path(document.PAGE).read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```stratac-(graph|clusters)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_generated_tables_are_current() -> None:
    assert document.regenerate(PAGE) == PAGE, "run python -m stratac.ir.document"


def test_there_are_examples_of_both_levels() -> None:
    assert {level for level, _ in EXAMPLES} == {"graph", "clusters"}


@pytest.mark.parametrize(("level", "text"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_are_canonical(level: str, text: str) -> None:
    graph = parse_graph(text)
    verify_graph(graph, level=level)
    assert print_graph(graph) == text
