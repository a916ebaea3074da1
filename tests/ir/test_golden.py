"""Two small blocks at every level, word for word. A change here that the change at hand does not explain is a finding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stratac.ir.lower import lower_cluster
from stratac.ir.text import print_graph
from stratac.ir.text_kernel import print_kernel
from stratac.ir.text_placed import print_placed
from stratac.ir.text_plan import print_plan

from .blocks import BLOCKS, lower_graph

Golden = Callable[[str, str], None]


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_at_every_level(name: str, golden: Golden, tmp_path: Path) -> None:
    levels = lower_graph(BLOCKS[name](tmp_path))
    golden(f"{name}_graph", print_graph(levels.graph))
    golden(f"{name}_clusters", print_graph(levels.clusters))
    clusters: dict[str, list[str]] = {}
    for node in levels.clusters.nodes:
        text = print_kernel(lower_cluster(node, levels.clusters.types, levels.clusters.symbols))
        clusters.setdefault(text, []).append(f"%{node.outputs[0]}")
    golden(f"{name}_kernels", "\n".join(f"# {' '.join(values)}\n{text}" for text, values in clusters.items()))
    golden(f"{name}_placed", print_placed(levels.placed))
    golden(f"{name}_plan", print_plan(levels.plan))
