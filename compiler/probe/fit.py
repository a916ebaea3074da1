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
    samples: Sequence[Mapping[str, float]],
    seconds: Sequence[float],
    least: Mapping[str, float],
    fixed: Mapping[str, float] | None = None,
    traffic: frozenset[str] = frozenset(),
    loss: float = 1.0,
    rounds: int = 12,
) -> tuple[dict[str, float], np.ndarray]:
    """(price of each term, relative residual of each sample): relative errors count, and outliers for less with every round.

    Of the two sums over the terms in `traffic` and over the others, the lesser counts only by the share `loss`; which it is
    is found again in each round. No price is below `least`, and those in `fixed` are as given: what is known otherwise is not left
    to chance.
    """
    fixed = fixed or {}
    names = sorted({name for sample in samples for name in sample})
    counts = np.array([[sample.get(name, 0.0) for name in names] for sample in samples], dtype=float)
    wanted = np.asarray(seconds, dtype=float)
    relative = counts.reshape(len(samples), len(names)) / wanted[:, None]
    moved = np.array([name in traffic for name in names])
    known = np.array([fixed.get(name, least.get(name, 0.0)) for name in names])
    free = np.array([name not in fixed for name in names])
    weight, prices = np.ones(len(wanted)), known.copy()
    share = np.where(moved, loss, 1.0) * np.ones((len(wanted), 1))  # at first, arithmetic is the greater everywhere
    for _ in range(rounds):
        rest = 1.0 - (relative * share) @ known
        prices = nnls(relative * share * free * weight[:, None], rest * weight) * free + known
        memory, compute = relative @ (prices * moved), relative @ (prices * ~moved)
        bound = (memory > compute)[:, None]
        # half of the old guess keeps samples near the edge from jumping to and fro
        share = 0.5 * share + 0.5 * np.where(bound == moved, 1.0, loss)
        residual = np.maximum(memory, compute) + loss * np.minimum(memory, compute) - 1.0
        # Huber's weights: beyond a tenth, a sample pulls as if it were only that far off
        weight = np.sqrt(np.minimum(1.0, 0.1 / np.maximum(np.abs(residual), 1e-9)))
    return dict(zip(names, (float(p) for p in prices), strict=True)), residual
