"""Operations on known contents: views, elementwise functions, joining, selecting, folding. None means: not known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir.dims import Dim, Expr, Shape, evaluate_shape, product, symbol
from ...ir.narrow import number
from ...ir.types import DType, bool_
from . import scalars
from .known import LIMIT, Known, apply_cells, arange, filled, from_array, full, scalar, vector
from .scalars import Facts, Scalar, Undecided, axis_name, rename

__all__ = [
    "along",
    "arange",
    "broadcast",
    "cast_known",
    "concat",
    "elementwise",
    "expand",
    "from_array",
    "full",
    "gather",
    "gather_nd",
    "held",
    "reduce",
    "reshape",
    "rounded",
    "running_sum",
    "scalar",
    "slice_axis",
    "transpose",
    "vector",
]


#: Characters of an expression that elements are known by: what computes with itself again and again grows without end.
_LONGEST = 1 << 12


def _cell(known: Known, at: tuple[Any, ...]) -> Any:
    return known.cells[at]


# -- views


def _aligned(known: Known, rank: int) -> Known:
    """Leading axes of extent 1 added up to `rank`."""
    missing = rank - known.rank
    if not missing:
        return known
    cells = known.cells
    if known.any_spread:
        shift = {a: symbol(axis_name(a + missing)) for a in range(known.rank)}
        cells = apply_cells(lambda v: rename(v, shift), cells)
    return Known(known.dtype, (1,) * missing + known.shape, cells.reshape((1,) * missing + cells.shape))


def _together(parts: Sequence[Known], axes: Sequence[int]) -> list[Known] | None:
    """Of equal rank: where one part lists an axis, all that depend on a position along it list it too."""
    fitted = list(parts)
    for axis in axes:
        if any(p.cells.shape[axis] != 1 for p in fitted):
            listed = [p.listed_axis(axis) for p in fitted]
            if any(p is None for p in listed):
                listed = [p.spread_axis(axis) for p in fitted]
            if any(p is None for p in listed):
                return None
            fitted = [p for p in listed if p is not None]
    return fitted


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, extent in enumerate(shape, rank - len(shape)):
            if extent == 1 or extent == result[axis]:
                continue
            if result[axis] != 1:
                return None
            result[axis] = extent
    return tuple(result)


def held(dtype: DType, value: Scalar) -> Scalar:
    """`value`, a number that elements of `dtype` hold, or what a dim comes to. Raises Undecided for a whole number beyond, since
    arithmetic in `dtype` wraps around, and for an expression out of all proportion: what these give is found when the plan runs."""
    if dtype.is_integer and isinstance(value, int):
        least, most = dtype.limits
        if not least <= value <= most:
            raise Undecided
    if isinstance(value, Expr) and len(str(value)) > _LONGEST:
        raise Undecided
    return value


def elementwise(facts: Facts, dtype: DType, function: Callable[..., Scalar], *inputs: Known) -> Known | None:
    """`function(facts, *elements)` of broadcast inputs; None where it raises Undecided or the shapes do not fit."""
    shape = broadcast([k.shape for k in inputs])
    if shape is None:
        return None
    parts = _together([_aligned(k, len(shape)) for k in inputs], range(len(shape)))
    if parts is None:
        return None
    size = np.broadcast_shapes(*(p.cells.shape for p in parts))
    if np.prod(size, dtype=np.int64) > LIMIT:
        return None
    over = facts.over(shape)
    try:
        return Known(dtype, shape, apply_cells(lambda *v: held(dtype, function(over, *v)), *(p.cells for p in parts)))
    except Undecided:
        return None


def rounded(dtype: DType, function: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """Floating-point results as the element type rounds them;"""

    def apply(*args: object) -> Scalar:
        value = function(*args)
        if dtype.is_float and not isinstance(value, Expr):
            with np.errstate(over="ignore"):
                return float(number(value, dtype) if dtype.is_narrow else dtype.np.type(value))
        return value

    return apply


def cast_known(facts: Facts, known: Known, to: DType) -> Known | None:
    """Known contents in another element type, where that is known too."""
    function: Callable[[Facts, Scalar], Scalar] | None = None
    if to == bool_:
        function = lambda f, a: int(not f.equal(a, 0))  # noqa: E731
    elif to.is_integer:
        function = lambda f, a: scalars.truncate(a)  # noqa: E731
    elif known.dtype != bool_ or not known.any_spread:
        function = lambda f, a: a if isinstance(a, Expr) else float(a)  # noqa: E731
    return elementwise(facts, to, rounded(to, function), known) if function else None


def expand(known: Known, shape: Shape) -> Known | None:
    wanted = broadcast([known.shape, shape])
    return None if wanted is None else Known(known.dtype, wanted, _aligned(known, len(wanted)).cells)


def transpose(known: Known, perm: Sequence[int]) -> Known:
    cells = known.cells.transpose(tuple(perm))
    if known.any_spread:
        moved = {old: symbol(axis_name(new)) for new, old in enumerate(perm)}
        cells = apply_cells(lambda v: rename(v, moved), cells)
    return Known(known.dtype, tuple(known.shape[p] for p in perm), cells)


def reshape(known: Known, shape: Shape) -> Known | None:
    old = [a for a, d in enumerate(known.shape) if d != 1]
    new = [a for a, d in enumerate(shape) if d != 1]
    if [known.shape[a] for a in old] == [shape[a] for a in new]:
        cells = known.cells
        if known.any_spread:
            moved: dict[int, Dim] = {a: symbol(axis_name(b)) for a, b in zip(old, new, strict=True)}
            cells = apply_cells(lambda v: rename(v, moved), cells)
        sizes = [1] * len(shape)
        for a, b in zip(old, new, strict=True):
            sizes[b] = known.cells.shape[a]
        return Known(known.dtype, shape, cells.reshape(sizes))
    if product(known.shape) != product(shape):
        return None
    if known.uniform is not None:
        return full(known.dtype, shape, known.uniform)
    listed = known.listed()
    if listed is None or not all(isinstance(d, int) for d in shape):
        return None
    return Known(known.dtype, shape, listed.cells.reshape(evaluate_shape(shape, {})))


def along(dtype: DType, start: Dim, extent: Dim, axis: int, rank: int) -> Known:
    """start, start + 1, ... along one axis of `rank`, the others of extent 1."""
    found = reshape(arange(dtype, start, 1, extent), (*(1,) * axis, extent, *(1,) * (rank - axis - 1)))
    assert found is not None, "an axis may stand anywhere"
    return found


def slice_axis(known: Known, axis: int, start: Dim, extent: Dim, step: int) -> Known | None:
    have, shape = known.shape[axis], (*known.shape[:axis], extent, *known.shape[axis + 1 :])
    if isinstance(start, int) and isinstance(extent, int) and isinstance(have, int):
        last = start + (extent - 1) * step
        if extent < 0 or (extent and not (min(start, last) >= 0 and max(start, last) < have)):
            return None
    if not known.is_spread(axis) and isinstance(start, int) and isinstance(extent, int):
        return Known(known.dtype, shape, known.cells.take([start + i * step for i in range(extent)], axis))
    spread = known.spread_axis(axis)
    if spread is None:
        return None
    where: Dim = start if extent == 1 else start + symbol(axis_name(axis)) * step
    return Known(known.dtype, shape, apply_cells(lambda v: rename(v, {axis: where}), spread.cells))


# -- joining and selecting


def concat(parts: Sequence[Known], axis: int) -> Known | None:
    rank = parts[0].rank
    fitted = _together(parts, [a for a in range(rank) if a != axis])
    if fitted is None:
        return None
    total: Dim = 0
    for part in fitted:
        total = total + part.shape[axis]
    shape = (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])
    listed = [p.listed_axis(axis) for p in fitted]
    if all(p is not None for p in listed):
        arrays = [p.cells for p in listed if p is not None]
        sizes = [max(a.shape[i] for a in arrays) for i in range(rank)]
        arrays = [np.broadcast_to(a, [a.shape[i] if i == axis else sizes[i] for i in range(rank)]) for a in arrays]
        if sum(a.size for a in arrays) <= LIMIT:
            return Known(parts[0].dtype, shape, np.concatenate(arrays, axis))
    return _concat_spread(fitted, axis, shape)


def _concat_spread(parts: Sequence[Known], axis: int, shape: Shape) -> Known | None:
    """One expression that holds over all parts, such as [-1] before 0, 1, 2, ..."""
    offsets: list[Dim] = []
    total: Dim = 0
    for part in parts:
        offsets.append(total)
        total = total + part.shape[axis]
    where = symbol(axis_name(axis))
    for candidate, offset in zip(parts, offsets, strict=True):
        if not candidate.is_spread(axis):
            continue
        whole = apply_cells(lambda v, o=offset: rename(v, {axis: where - o}), candidate.cells)
        if all(_continues(whole, part, axis, at) for part, at in zip(parts, offsets, strict=True)):
            return Known(parts[0].dtype, shape, whole)
    return None


def _continues(whole: np.ndarray, part: Known, axis: int, offset: Dim) -> bool:
    where = symbol(axis_name(axis))
    if part.is_spread(axis):
        return bool(np.all(apply_cells(lambda v: rename(v, {axis: where + offset}), whole) == part.cells))
    for position in range(part.cells.shape[axis]):
        here = apply_cells(lambda v, p=position: rename(v, {axis: offset + p}), whole)
        if not np.all(here == part.cells.take([position], axis)):
            return False
    return True


def gather(facts: Facts, data: Known, indices: Known, axis: int) -> Known | None:
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    grown = indices.rank - 1
    spread = data.is_spread(axis)
    if not spread and any(isinstance(v, Expr) for v in indices.cells.flat):
        as_spread = data.spread_axis(axis)
        if as_spread is None:
            return None
        data, spread = as_spread, True
    sizes = (*data.cells.shape[:axis], *indices.cells.shape, *data.cells.shape[axis + 1 :])
    if np.prod(sizes, dtype=np.int64) > LIMIT:
        return None
    out = np.empty(sizes, object)
    index_axes: dict[int, Dim] = {a: symbol(axis_name(a + axis)) for a in range(indices.rank)}
    data_axes: dict[int, Dim] = {a: symbol(axis_name(a + grown)) for a in range(axis + 1, data.rank)}
    over = facts.over(indices.shape)
    try:
        for at in np.ndindex(sizes):
            before, middle, after = at[:axis], at[axis : axis + indices.rank], at[axis + indices.rank :]
            picked: Dim = _cell(indices, middle)
            wanted, extent = over.position(picked, data.shape[axis]), data.shape[axis]
            if isinstance(wanted, int) and isinstance(extent, int) and not 0 <= wanted < extent:
                return None
            cell = _cell(data, (*before, 0 if spread else wanted, *after))
            out[at] = rename(cell, {**data_axes, axis: rename(wanted, index_axes)})  # type: ignore[dict-item]
    except Undecided:
        return None
    return Known(data.dtype, shape, out)


def gather_nd(facts: Facts, data: Known, indices: Known) -> Known | None:
    """GatherND without batch dims."""
    depth = indices.shape[-1]
    listed = indices.listed_axis(indices.rank - 1)
    if not isinstance(depth, int) or listed is None:
        return None
    current: Known | None = data
    for axis in range(depth):
        current = current and current.spread_axis(axis)
    if current is None:
        return None
    lead = listed.rank - 1
    sizes = (*listed.cells.shape[:-1], *current.cells.shape[depth:])
    if math.prod(sizes) > LIMIT:
        return None
    rest: dict[int, Dim] = {a: symbol(axis_name(a - depth + lead)) for a in range(depth, data.rank)}
    over = facts.over(listed.shape)
    out = np.empty(sizes, object)
    try:
        for at in np.ndindex(sizes):
            chosen = {k: over.position(listed.cells[(*at[:lead], k)], data.shape[k]) for k in range(depth)}
            out[at] = rename(current.cells[(*(0,) * depth, *at[lead:])], {**rest, **chosen})
    except Undecided:
        return None
    return Known(data.dtype, (*listed.shape[:-1], *data.shape[depth:]), out)


def reduce(
    known: Known, axes: Sequence[int], keepdims: bool, function: Callable[[Scalar, Scalar], Scalar]
) -> Known | None:
    """A fold over listed axes."""
    dtype = known.dtype
    current: Known | None = known
    for axis in axes:
        current = current and current.listed_axis(axis)
    if current is None or any(current.cells.shape[a] == 0 for a in axes):
        return None
    cells = current.cells
    try:
        for axis in sorted(axes, reverse=True):
            lines = np.moveaxis(cells, axis, 0)
            total = lines[0]
            for line in lines[1:]:
                total = apply_cells(lambda a, b: held(dtype, function(a, b)), total, line)
            folded = filled(np.shape(total), 0)
            folded[...] = total  # which may be one number, not an array
            cells = np.expand_dims(folded, axis)
    except Undecided:
        return None
    kept = tuple(1 if a in axes else d for a, d in enumerate(known.shape))
    result = Known(known.dtype, kept, cells)
    return result if keepdims else reshape(result, tuple(d for a, d in enumerate(kept) if a not in axes))


def running_sum(known: Known, axis: int) -> Known | None:
    """Of one whole number: its multiples, as positions count from 0."""
    if known.uniform is None or known.dtype.is_float:
        return None
    where: Dim = symbol(axis_name(axis)) if known.shape[axis] != 1 else 0
    return full(known.dtype, known.shape, scalars.times(scalars.plus(where, 1), known.uniform))
