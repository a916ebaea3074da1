"""Indices: which of them are evenly spaced, and counting from the end made counting from the start."""

from __future__ import annotations

from ...ir.dims import Dim, symbol
from . import contents
from .draft import Draft
from .known import Known
from .scalars import Facts, Undecided, axis_name, integer, rename, used_axes


def evenly(facts: Facts, indices: Known, extent: Dim) -> tuple[Dim, Dim, int, int | None] | None:
    """(start, count, step, axis of the indices along which they run) where indices are `start + step * position`."""
    if indices.rank == 1:
        indices = indices.spread_axis(0) or indices
    if indices.cells.size != 1:
        return None
    cell = indices.cells.reshape(-1)[0]
    axes = used_axes(cell)
    if len(axes) > 1:
        return None
    facts = facts.over(indices.shape)
    try:
        cell = facts.position(cell, extent)
    except Undecided:
        return None
    if not facts.at_least(cell, 0) or not facts.at_least(extent - 1, cell):
        return None
    if not axes:
        return cell, 1, 1, None
    (axis,) = axes
    start = integer(rename(cell, {axis: 0}))
    step = integer(rename(cell, {axis: 1})) - start
    if not isinstance(step, int) or step < 1 or start + symbol(axis_name(axis)) * step != cell:
        return None
    return start, indices.shape[axis], step, axis


def not_negative(draft: Draft, indices: str, extent: Dim) -> str:
    """Indices that count from the end made to count from the start."""
    dtype = draft.type_of(indices).dtype
    below = draft.emit("lt", indices, draft.scalar(0, dtype))
    moved = draft.emit("add", indices, draft.data(contents.scalar(dtype, extent)))
    return draft.emit("where", below, moved, indices)
