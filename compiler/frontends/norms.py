"""Norms over groups of channels, in terms of layer norms."""

from __future__ import annotations

from ...ir.dims import Dim, exact_div, product
from .draft import Draft
from .unsupported import Unsupported


def group_norm(draft: Draft, x: str, groups: Dim, epsilon: float) -> str:
    """x [batch, channels, ...], each group of neighbouring channels normalised by itself. Raises Unsupported."""
    dims, dtype = draft.type_of(x).shape, draft.type_of(x).dtype
    if len(dims) < 2 or (isinstance(groups, int) and groups < 1):
        raise Unsupported(f"{groups} groups of channels of {draft.type_of(x)}")
    inside = exact_div(dims[1], groups)
    if inside is None:
        raise Unsupported(f"{groups} groups do not divide {dims[1]} channels")
    flat = draft.reshape(x, (dims[0], groups, inside * product(dims[2:])))
    value = draft.emit("layer_norm", flat, draft.scalar(1.0, dtype), axis=2, epsilon=epsilon)
    return draft.reshape(value, dims)


def per_channel(draft: Draft, op: str, value: str, factor: str) -> str:
    """A value multiplied by, or added to, one number for each channel (axis 1)."""
    rank = draft.type_of(value).rank
    return draft.emit(op, value, draft.reshape(factor, (*draft.type_of(factor).shape, *(1,) * (rank - 2))))
