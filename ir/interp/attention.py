"""Meanings of recurrences that take the place of attention."""

from __future__ import annotations

import numpy as np

from .registry import Array, meaning, rounded, wide


@meaning("linear_attention")
def linear_attention(
    q: Array,
    k: Array,
    v: Array,
    factor: Array | None = None,
    rate: Array | None = None,
    state: Array | None = None,
    *,
    scale: float,
) -> tuple[Array, Array]:
    """the state of a key head serves all its query heads, and the other way round"""
    batch, steps, heads, size = q.shape
    groups, width = v.shape[2:]
    now = np.zeros((batch, groups, size, width)) if state is None else wide(state)
    most = max(heads, groups)
    out = np.zeros((batch, steps, most, width))
    for t in range(steps):
        if factor is not None:
            now = now * wide(factor[:, t])[..., None]
        added = wide(v[:, t])
        if rate is not None:
            held = np.einsum("bgde,bgd->bge", now, wide(k[:, t]))
            added = wide(rate[:, t])[..., None] * (added - held)
        now = now + wide(k[:, t])[..., None] * added[:, :, None, :]
        asked = np.repeat(wide(q[:, t]), most // max(heads, 1), axis=1)
        out[:, t] = scale * np.einsum("bhde,bhd->bhe", np.repeat(now, most // max(groups, 1), axis=1), asked)
    return rounded(out, q), rounded(now, q)
