"""Rules of operators that pick elements by index. Evenly spaced known indices become slices: views, not copies."""

from __future__ import annotations

import math

from ....ir.dims import Dim, Shape, product, symbol
from ....ir.types import i64
from .. import contents
from ..indexing import along_axis, apart, evenly, not_negative, row_numbers, taken, taken_together
from ..known import Known
from ..scalars import axis_name, used_axes
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


@rule("Gather")
def gather(site: Site) -> Result:
    data, indices = site.type(0), site.type(1)
    axis = site.axis(site.get_int("axis"), data.rank)
    index, known = site.known(1), site.known(0)
    if index is None:
        return site.emit("gather", site.x(0), site.x(1), axis=axis)
    if known is not None:
        folded = contents.gather(site.facts, known, index, axis)
        if folded is not None:
            return folded
    even = evenly(site.facts, index, data.shape[axis])
    if even is None or (even.along is None and any(d != 1 for d in indices.shape)):
        _check_range(site, index, data.shape[axis])
        return site.emit("gather", site.x(0), site.x(1), axis=axis)
    return taken(site, site.x(0), axis, even, indices.shape)


def _check_range(site: Site, index: Known, extent: Dim) -> None:
    for cell in index.cells.flat:
        low, high = site.facts.over(index.shape).range(cell)
        greatest = site.facts.range(extent)[1]
        if high < -greatest or low >= greatest:
            raise Unsupported(f"index {cell} is out of range for an extent of {extent}")


@rule("GatherND")
@rule("GatherND", domain="com.microsoft")
def gather_nd(site: Site) -> Result:
    data, indices, batch = site.type(0), site.type(1), site.get_int("batch_dims")
    depth = indices.shape[-1] if indices.rank else 0
    if not indices.dtype.is_integer:
        raise Unsupported(f"indices must be whole numbers, got {indices}")
    if not isinstance(depth, int) or depth < 1 or batch + depth > data.rank or not 0 <= batch < indices.rank:
        raise Unsupported(f"indices {indices} do not fit data {data} with {batch} batch dims")
    index, known = site.known(1), site.known(0)
    if index is not None and not batch:
        folded: Result | None = contents.gather_nd(site.facts, known, index) if known is not None else None
        folded = folded or _as_view(site, index, depth)
        if folded is not None:
            return folded
    # in general: one gather from the flattened leading axes
    whole, lead = batch + depth, indices.shape[:-1]
    flat = site.reshape(site.x(0), (product(data.shape[:whole]), *data.shape[whole:]))
    total = flat_rows(site, data.shape[:whole], lead, batch)
    return site.emit("gather", flat, total, axis=0)


def flat_rows(site: Site, dims: Shape, lead: Shape, batch: int = 0) -> str:
    """Input 1, coordinates [*lead, depth], as positions in row-major order over `dims`; the first `batch` of them are `lead`'s."""
    indices, own = site.type(1), dims[batch:]
    where: Dim = 0
    for axis in range(batch):
        where = where + symbol(axis_name(axis)) * product(dims[axis + 1 :]) if lead[axis] != 1 else where
    columns = (site.slice(site.x(1), indices.rank - 1, axis, 1) for axis in range(len(own)))
    found = (not_negative(site, site.reshape(one, lead), extent) for one, extent in zip(columns, own, strict=True))
    total = row_numbers(site, found, own)
    if where != 0:
        total = site.emit("add", total, site.data(contents.full(indices.dtype, lead, where)))
    return total


def _as_view(site: Site, index: Known, depth: int) -> Result | None:
    """Slices, a transpose and an expand, where each axis is read at a number or along one axis of the indices."""
    listed = index.listed_axis(index.rank - 1)
    if listed is None:
        return None
    reads = []
    for axis in range(depth):
        cells = listed.cells.take([axis], index.rank - 1)[..., 0]
        even = evenly(site.facts, Known(index.dtype, index.shape[:-1], cells), site.type(0).shape[axis])
        if even is None:
            return None
        reads.append(even)
    return taken_together(site, site.x(0), list(enumerate(reads)), index.shape[:-1]) if apart(reads) else None


@rule("GatherElements")
def gather_elements(site: Site) -> Result:
    data, indices = site.type(0), site.type(1)
    if data.rank != indices.rank or not data.rank:
        raise Unsupported(f"data {data} and indices {indices} must have one rank of 1 or more")
    axis = site.axis(site.get_int("axis"), data.rank)
    pairs = enumerate(zip(data.shape, indices.shape, strict=True))
    if any(isinstance(h, int) and isinstance(w, int) and w > h for a, (h, w) in pairs if a != axis):
        raise Unsupported(f"indices {indices} are longer than data {data} beside axis {axis}")
    index = site.known(1)
    if index is not None:
        _check_range(site, index, data.shape[axis])
    known = site.known(0)
    if known is not None and known.uniform is not None:
        return contents.full(data.dtype, indices.shape, known.uniform)
    source = known.spread_axis(axis) if known is not None else None
    if source is not None and source.cells.size == 1 and axis not in used_axes(source.cells.flat[0]):
        result = source
        for a in range(data.rank):
            if a != axis and indices.shape[a] != data.shape[a]:
                result = contents.slice_axis(result, a, 0, indices.shape[a], 1) or result
        return Known(data.dtype, indices.shape, result.cells)
    total = along_axis(site, data, axis, indices.shape, index, lambda: site.cast(site.x(1), i64))
    return site.emit("gather", site.reshape(site.x(0), (data.elements,)), total, axis=0)


@rule("OneHot")
def one_hot(site: Site) -> Result:
    """Indices in [-depth, depth); others give a row of `off`."""
    depth = site.number(1, "depth")
    if isinstance(depth, float):
        if not math.isfinite(depth):
            raise Unsupported(f"a depth of {depth}")
        depth = int(depth)
    indices, values = site.cast(site.x(0), i64), site.x(2)
    shape = site.type(0).shape
    rank = len(shape) + 1
    axis = site.axis(site.get_int("axis", -1), rank)
    indices = not_negative(site, indices, depth)
    indices = site.reshape(indices, (*shape[:axis], 1, *shape[axis:]))
    here = site.emit("eq", indices, site.data(contents.along(i64, 0, depth, axis, rank)))
    off, on = (site.reshape(site.slice(values, 0, i, 1), ()) for i in (0, 1))
    return site.emit("where", here, on, off)


@rule("ReverseSequence")
def reverse_sequence(site: Site) -> Result:
    """Of each sequence of a batch the first elements, so many as its length says, in reverse order."""
    type = site.type()
    time, batch = site.get_int("time_axis"), site.get_int("batch_axis", 1)
    if type.rank < 2 or sorted((time, batch)) != [0, 1]:
        raise Unsupported(f"time_axis = {time} and batch_axis = {batch} of {type}")
    lengths = site.reshape(site.cast(site.x(1), i64), (1, type.shape[1]) if batch else (type.shape[0], 1))
    rows, columns = contents.arange(i64, 0, 1, type.shape[0]), contents.arange(i64, 0, 1, type.shape[1])
    down, across = site.reshape(site.data(rows), (type.shape[0], 1)), site.data(columns)
    step = across if time else down
    last = site.emit("sub", lengths, site.scalar(1, i64))
    step = site.emit("where", site.emit("lt", step, lengths), site.emit("sub", last, step), step)
    parts = (down, step) if time else (step, across)
    total = site.emit("add", site.emit("mul", parts[0], site.scalar(type.shape[1], i64)), parts[1])
    flat = site.reshape(site.x(0), (product(type.shape[:2]), *type.shape[2:]))
    return site.emit("gather", flat, total, axis=0)
