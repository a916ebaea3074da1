"""Random graphs: compiled = interpreted at several sizes, and the same bits at 1..4 threads. `--rounds 100` runs many more."""

from __future__ import annotations

import pytest
from stratac.passes.base import Pass
from stratac.passes.pipelines import GRAPH_PASSES

from ..graph_samples import THEMES, theme_samples
from .harness import EMULATED, ISAS, Only, check_samples

COUNT = 14  # graphs of one plan
SEED = {theme: 1000 * number for number, theme in enumerate(THEMES)}


@pytest.mark.parametrize("theme", THEMES)
def test_compiled_is_interpreted(theme: str, round_: int) -> None:
    check_samples(theme_samples(theme, COUNT, SEED[theme] + round_))


@pytest.mark.parametrize("isa", [*ISAS[1:], *EMULATED])
@pytest.mark.parametrize("theme", ["pictures", "anything"])
def test_other_instruction_sets(isa: str, theme: str, round_: int) -> None:
    check_samples(theme_samples(theme, COUNT, 10_000 + SEED[theme] + round_), isa)


@pytest.mark.parametrize("passes", [(), GRAPH_PASSES], ids=["as-imported", "simplified"])
def test_plain_loops(passes: tuple[Pass, ...], round_: int) -> None:
    """Every contraction as loops; and graphs that no pass has simplified."""
    samples = theme_samples("products", COUNT, 20_000 + round_) + theme_samples("pictures", COUNT, 30_000 + round_)
    plan = check_samples(samples, library=Only("loops"), passes=passes)
    assert not plan.families() & {"matmul", "conv", "depthwise"} or passes == ()
