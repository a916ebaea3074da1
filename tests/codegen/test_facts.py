"""Workspace formulas: what suffices at the greatest sizes suffices at all."""

from __future__ import annotations

import random

import pytest
from stratac.codegen.facts import TILES, attention_workspace, conv_workspace, gemm_workspace, gemm_workspace_up_to


@pytest.mark.parametrize("isa", TILES)
@pytest.mark.parametrize("packed", [True, False])
def test_product_workspace_suffices_for_smaller_sizes(isa: str, packed: bool) -> None:
    sizes = random.Random(1)
    for most in (1, 16, 100, 769, 1025, 1537, 5000):
        for rows in (1, 50, 1000):
            bound = gemm_workspace_up_to(isa, rows, 1, most, packed)
            for _ in range(200):
                m, k = sizes.randint(1, rows), sizes.randint(1, most)
                assert gemm_workspace(isa, m, 7, k, packed) <= bound, (m, k)


@pytest.mark.parametrize("parts", range(4))
@pytest.mark.parametrize("isa", TILES)
def test_the_workspace_of_attention_does_not_grow_with_the_sequence(isa: str, parts: int) -> None:
    long, longer = (attention_workspace(isa, n, n, 64, 64, parts) for n in (20_000, 10**6))
    assert long == longer < (1 << 20 if not parts else 1 << 21)


@pytest.mark.parametrize("isa", TILES)
def test_other_workspaces_grow_with_their_sizes(isa: str) -> None:
    for n in range(1, 1200):
        for rows in (1, 40, 2000):
            sizes = ((rows, n), (rows, n + 1), (rows + 1, n + 1))
            for parts in range(4):
                needs = [attention_workspace(isa, *size, 64, 64, parts) for size in sizes]
                needs.append(attention_workspace(isa, rows + 1, n + 1, 65, 81, parts))
                assert needs == sorted(needs)
        assert conv_workspace(isa, 64, n) <= conv_workspace(isa, 64, n + 1)
