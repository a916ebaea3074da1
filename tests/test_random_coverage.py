"""Random graphs draw the whole op table, but for what is listed here with a reason."""

from __future__ import annotations

from stratac.ir.ops import OPS

from .graph_samples import THEMES, theme_samples

#: op -> why no random graph has it, and what tests it instead
NOT_DRAWN = {
    **dict.fromkeys(
        (
            *("number_string", "string_case", "string_concat", "string_find", "string_match", "string_number"),
            "string_split",
        ),
        "works on slots of strings: tests/codegen/cases_strings.py",
    ),
    **dict.fromkeys(
        ("nonzero", "unique"),
        "sets a dim, at which other draws would stop: tests/codegen/cases_routines.py, tests/ir/test_runtime_dims.py",
    ),
    **dict.fromkeys(
        ("col2im", "max_pool_at", "non_max_suppression", "roi_align", "roi_pool", "sample"),
        "wants pictures with boxes or grids: tests/codegen/cases_routines.py",
    ),
    **dict.fromkeys(
        ("det", "linear_attention", "pairwise_probabilities", "recurrent", "trees"),
        "long chains of roundings or wide tables: tests/codegen/cases_routines.py",
    ),
    "loop": "repeats a graph of its own: tests/loop_graphs.py",
    "ragged_attention": "wants rows packed by a pass: tests/passes/test_pack_rows.py",
    "moe": "wants experts: tests/ir/test_moe.py",
}


def test_every_op_is_drawn() -> None:
    drawn = {
        node.op for theme in THEMES for seed in (5, 6) for s in theme_samples(theme, 60, seed) for node in s.graph.nodes
    }
    assert set(OPS) - drawn == set(NOT_DRAWN)
