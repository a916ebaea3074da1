"""Builders of ops that are routines: see random_ops."""

from __future__ import annotations

import numpy as np
from stratac.ir.types import TensorType, i64

from .random_ops import builder
from .random_values import UNIT, Maker, Value, is_bool, is_float


@builder
def topk(m: Maker) -> Value | None:
    """Positions only where all implementations see the same elements."""
    x = m.pick(lambda v: v.rank > 0 and v.exact and not is_bool(v))
    if x is None:
        return None
    axis = m.integer(-x.rank, x.rank - 1)
    k = m.integer(1, m.least(x.shape[axis]))
    places = (0, m.most(x.shape[axis]) - 1, 0.0)
    found = m.add_all("topk", x, facts=((x.lo, x.hi, x.err), places), axis=axis, k=k, largest=m.flag())
    return found[0] if found else None


_REDUCTIONS = ("none", "add", "mul", "min", "max")


def _combined(x: Value, y: Value, op: str, times: int) -> tuple[float, float, float]:
    """Range and error of x after up to `times` elements of y were combined with one of its own."""
    lo, hi, err = min(x.lo, y.lo), max(x.hi, y.hi), max(x.err, y.err)
    if op == "add":
        total = x.size + times * y.size
        return -total, total, x.err + times * (y.err + UNIT * total)
    if op == "mul":
        total = max(x.size, 1.0) * max(y.size, 1.0) ** times
        return -total, total, (times + 1) * total * (max(x.err, y.err) + UNIT)
    return lo, hi, err


def _positions(m: Maker, shape: tuple[int, ...], extent: int, apart: bool) -> Value:
    """A constant of positions on an axis, some from its end; `apart`: no two the same."""
    rng = np.random.default_rng(m.integer(0, 9))
    count = int(np.prod(shape))
    found = rng.permutation(extent)[:count] if apart else rng.integers(-extent, extent, count)
    array = found.reshape(shape).astype(np.int64)
    return Value(m.builder.constant(array), TensorType(i64, shape), -extent, extent - 1)


@builder
def scatter(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.rank > 0 and all(isinstance(d, int) for d in v.shape))
    if x is None:
        return None
    extent, op = x.shape[0], m.choice(_REDUCTIONS)
    assert isinstance(extent, int)
    count = m.integer(1, min(extent, 4))
    rows = _positions(m, (count,), extent, op == "none")
    updates = m.constant((count, *x.shape[1:]), -1.0, 1.0)  # type: ignore[arg-type]
    lo, hi, err = _combined(x, updates, op, count)
    return m.add("scatter", x, rows, updates, lo=lo, hi=hi, err=err, reduction=op)


@builder
def scatter_elements(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.rank > 0 and all(isinstance(d, int) for d in v.shape))
    if x is None:
        return None
    axis, op = m.integer(0, x.rank - 1), m.choice(_REDUCTIONS)
    shape = [m.integer(1, m.most(extent)) for extent in x.shape]
    shape[axis] = 1 if op == "none" else m.integer(1, 3)
    at = _positions(m, tuple(shape), m.most(x.shape[axis]), False)
    updates = m.constant(shape, -1.0, 1.0)
    lo, hi, err = _combined(x, updates, op, shape[axis])
    return m.add("scatter_elements", x, at, updates, lo=lo, hi=hi, err=err, axis=axis - x.rank, reduction=op)
