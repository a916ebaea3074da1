"""Non-negative least squares: measured seconds as a sum of terms, each at a price that is never negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def nnls(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The x >= 0 that minimises |a x - b| (Lawson and Hanson, Solving Least Squares Problems, chapter 23).

    Columns may be of any size and may depend on each other; ties go to the first. Deterministic.
    """
    rows, columns = a.shape
    scale = np.linalg.norm(a, axis=0)
    scale[scale == 0] = 1.0
    a = a / scale
    x = np.zeros(columns)
    free = np.zeros(columns, bool)
    tolerance = 1e-12 * max(rows, columns) * max(float(np.abs(a.T @ b).max(initial=0.0)), 1e-300)
    for _ in range(10 * columns + 10):
        gradient = a.T @ (b - a @ x)
        gradient[free] = -np.inf
        if free.all() or gradient.max() <= tolerance:
            break
        free[int(gradient.argmax())] = True
        while True:
            trial = np.zeros(columns)
            trial[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            if trial[free].min() > 0:
                break
            # go towards the trial until the first price reaches zero, and hold that one there
            falling = free & (trial <= 0)
            steps = x[falling] / np.maximum(x[falling] - trial[falling], 1e-300)
            x = x + float(steps.min()) * (trial - x)
            free &= x > 1e-14 * max(float(x.max()), 1e-300)
            x[~free] = 0.0
            if not free.any():
                break
        x = np.where(free, trial, 0.0)
    prices: np.ndarray = x / scale
    return prices


def fit_prices(
    samples: Sequence[Mapping[str, float]], seconds: Sequence[float], least: Mapping[str, float], rounds: int = 6
) -> tuple[dict[str, float], np.ndarray]:
    """(price of each term, relative residual of each sample): relative errors count, and outliers for less with every round.

    No price is below `least`: what is known otherwise is not left to chance.
    """
    names = sorted({name for sample in samples for name in sample})
    counts = np.array([[sample.get(name, 0.0) for name in names] for sample in samples], dtype=float)
    wanted = np.asarray(seconds, dtype=float)
    relative = counts.reshape(len(samples), len(names)) / wanted[:, None]
    known = np.array([least.get(name, 0.0) for name in names])
    rest = 1.0 - relative @ known
    weight = np.ones(len(wanted))
    prices = np.zeros(len(names))
    for _ in range(rounds):
        prices = nnls(relative * weight[:, None], rest * weight)
        # Huber's weights: beyond a tenth, a sample pulls as if it were only that far off
        weight = np.sqrt(np.minimum(1.0, 0.1 / np.maximum(np.abs(relative @ prices - rest), 1e-9)))
    return dict(zip(names, (float(p) for p in prices + known), strict=True)), relative @ prices - rest
