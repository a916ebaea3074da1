"""Builders of ops that are routines: see random_ops."""

from __future__ import annotations

from .random_ops import builder
from .random_values import Maker, Value, is_bool


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
