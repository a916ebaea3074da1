"""Elements picked by index. Evenly spaced known indices become slices: views, not copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ...ir.dims import Dim, Expr, Shape, product, symbol
from ...ir.types import TensorType, i64
from . import contents
from .draft import Draft
from .known import Known
from .scalars import Facts, Undecided, axis_name, integer, plus, rename, times, used_axes


class Even(NamedTuple):
    """Indices that are `start + step * position` along one of their axes, `along`; None: all of them are `start`."""

    start: Dim
    number: Dim
    step: int
    along: int | None


def evenly(facts: Facts, indices: Known, extent: Dim) -> Even | None:
    """How indices into an axis of some extent are spaced, where they are so evenly."""
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
        return Even(cell, 1, 1, None)
    (axis,) = axes
    start = integer(rename(cell, {axis: 0}))
    step = integer(rename(cell, {axis: 1})) - start
    if not isinstance(step, int) or step < 1 or start + symbol(axis_name(axis)) * step != cell:
        return None
    return Even(start, indices.shape[axis], step, axis)


def taken(draft: Draft, value: str, axis: int, even: Even, shape: Shape) -> str:
    """The elements of one axis at evenly spaced indices, whose `shape` takes its place."""
    have = draft.type_of(value).shape
    before, after = have[:axis], have[axis + 1 :]
    value = draft.slice(value, axis, even.start, even.number, even.step)
    middle = tuple(even.number if a == even.along else 1 for a in range(len(shape)))
    return draft.expand(draft.reshape(value, (*before, *middle, *after)), (*before, *shape, *after))


def apart(reads: Iterable[Even]) -> bool:
    """Whether no two run along one axis of the indices."""
    along = [read.along for read in reads if read.along is not None]
    return len(set(along)) == len(along)


def taken_together(draft: Draft, value: str, reads: Sequence[tuple[int, Even]], shape: Shape) -> str:
    """The same of several axes by indices of one `shape`, which comes first, each along an axis of its own: slices, a transpose
    and an expand."""
    rank = len(draft.type_of(value).shape)
    for axis, even in reads:
        value = draft.slice(value, axis, even.start, even.number, even.step)
    single = [axis for axis, even in reads if even.along is None]
    running = sorted((even.along, axis) for axis, even in reads if even.along is not None)
    rest = [axis for axis in range(rank) if axis not in dict(reads)]
    value = draft.transpose(value, [*single, *(axis for _, axis in running), *rest])
    tail = draft.type_of(value).shape[len(reads) :]
    used = dict(running)
    value = draft.reshape(value, (*(shape[a] if a in used else 1 for a in range(len(shape))), *tail))
    return draft.expand(value, (*shape, *tail))


def not_negative(draft: Draft, indices: str, extent: Dim) -> str:
    """Indices that count from the end made to count from the start."""
    dtype = draft.type_of(indices).dtype
    below = draft.emit("lt", indices, draft.scalar(0, dtype))
    return draft.emit("where", below, draft.emit("add", indices, draft.scalar(extent, dtype)), indices)


def row_numbers(draft: Draft, coordinates: Iterable[str], dims: Shape) -> str:
    """Coordinates, one for each of `dims`, as positions in row-major order."""
    total = ""
    for axis, one in enumerate(coordinates):
        stride = product(dims[axis + 1 :])
        if stride != 1:
            one = draft.emit("mul", one, draft.scalar(stride, draft.type_of(one).dtype))
        total = draft.emit("add", total, one) if total else one
    return total


def along_axis(
    draft: Draft, data: TensorType, axis: int, shape: Shape, index: Known | None, value: Callable[[], str]
) -> str:
    """Where elements lie in flattened data that are found at the same position but for one axis, along which indices of some shape
    say where: `index`, what is known of them, or else `value()`, i64."""
    where: Dim = 0
    stride: Dim = 1
    step: Dim = 1
    for a in reversed(range(data.rank)):
        if a == axis:
            step = stride
        elif shape[a] != 1:
            where = where + symbol(axis_name(a)) * stride
        stride = stride * data.shape[a]
    extent, offsets = data.shape[axis], contents.full(i64, shape, where)
    if index is not None:
        found = contents.elementwise(
            draft.facts, i64, lambda f, v, at: plus(times(f.position(v, extent), step), at), index, offsets
        )
        if found is not None:
            return draft.data(found)
    total = not_negative(draft, value(), extent)
    if step != 1:
        total = draft.emit("mul", total, draft.scalar(step, i64))
    return draft.emit("add", total, draft.data(offsets)) if isinstance(where, Expr) else total
