"""The meaning of ensembles of decision trees."""

from __future__ import annotations

import operator

import numpy as np

from ..ops_trees import MODES
from .registry import Array, meaning, rounded

_COMPARE = (operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne)


@meaning("trees")
def trees(
    x: Array,
    features: Array,
    modes: Array,
    true: Array,
    false: Array,
    roots: Array,
    starts: Array,
    owners: Array,
    splits: Array,
    weights: Array,
    *,
    targets: int,
    aggregate: str,
) -> Array:
    """a target that no leaf has is 0, or the greatest (least) number of the type for min (max)"""
    limits = np.finfo(x.dtype)
    empty = {"min": limits.max, "max": limits.min}.get(aggregate, 0)
    result = np.full((len(x), targets), empty, np.float64)
    for row, total in zip(x, result, strict=True):
        for root in roots:
            at = int(root)
            while at >= 0:
                value, mode = row[features[at]], int(modes[at])
                passes = _COMPARE[mode % len(MODES)](value, splits[at]) or (mode >= len(MODES) and np.isnan(value))
                at = int(true[at] if passes else false[at])
            for k in range(starts[~at], starts[~at + 1]):
                target, weight = owners[k], float(weights[k])
                if aggregate in ("min", "max"):
                    total[target] = min(total[target], weight) if aggregate == "min" else max(total[target], weight)
                else:
                    total[target] += weight
    return rounded(result / len(roots) if aggregate == "average" else result, x)
