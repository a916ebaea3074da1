"""Directed cases of ensembles of decision trees."""

from __future__ import annotations

import itertools

import numpy as np
from stratac.ir.ops_trees import MODES

from .cases import M, Net, case


@case(*itertools.product(("sum", "average", "min", "max"), ("float32", "float64")))
def trees(net: Net, aggregate: str, dtype: str) -> tuple[str, ...]:
    """Every comparison, with and without missing features; one tree is a leaf, one leaf is empty, one has two targets."""
    x = np.random.default_rng(0).integers(-2, 3, (40, 3)).astype(dtype)
    x[::4, 1] = np.nan
    modes = [m + missing for missing in (0, len(MODES)) for m in range(len(MODES))]
    count = len(modes)
    true = [~(i % 3) for i in range(count)]
    false = [i + 1 if i % count < count - 1 else ~1 for i in range(count)]
    tables = [[i % 3 for i in range(count)], modes, true, false, [0, 5, ~2, 9], [0, 1, 1, 3], [1, 0, 1]]
    whole = [net.array(table, "int32") for table in tables]
    real = [net.array([i % 3 - 1 for i in range(count)], dtype), net.array([0.5, 2.0, -1.25], dtype)]
    options = {"targets": 3, "aggregate": aggregate}
    fixed = net.trees(net.input(x), *whole, *real, **options)
    return fixed, net.trees(net.input((M, 3), dtype), *whole, *real, **options)
