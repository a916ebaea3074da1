"""Elementwise nests that read along another axis than they write: transposes and whatever is computed on the way.

Vectors run along the axis the store walks, so such a read would gather floats from as many cache lines as a vector has lanes,
and use one float of each. Instead a tile is taken over both axes: lines are read whole along theirs, turned in registers and
put down beside each other; then the nest runs over the tile as if the read had been in its order all along. Values, and the
operations that make them, stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...ir.kernel import Apply, Axis, Guarded, Nest, Read, Scalar, Stage, Store
from ...ir.types import f32
from ..c_printer import Printer
from ..c_scalar import has_lanes

#: positions of the reads' axis in one tile, and elements of the vector axis in one unit of work. Four cache lines come one after
#: the other; reads of single lines a page apart take more than twice as long from memory, and no less time from a cache.
_NEAR = (64, 256)
#: the same of nests that are known to be larger than a cache of one core: lines of several pages are on their way at once
_FAR = (256, 64)
_FAR_ELEMENTS = 1 << 18
_LEAST = 8  # a shorter axis is not worth tiles


@dataclass(frozen=True)
class Tiling:
    """The axis that `reads` walk with step 1, while the vector axis takes them elsewhere. A tile has `length` positions of it, a
    unit of work `width` elements of the vector axis."""

    axis: Axis
    reads: tuple[Read, ...]
    length: int
    width: int


def tiling(printer: Printer, nest: Nest, vector: Axis) -> Tiling | None:
    """The tiles of an elementwise nest whose vectors run over the outer axis `vector`; None where no read needs them."""
    if any(stage.axes for stage in nest.stages):
        return None
    # a value that one stage writes and another reads must not be taken ahead of its time
    written = {stage.operand for stage in nest.stages if isinstance(stage, Store)}
    strided = [
        read
        for read in _unguarded(nest.stages)
        if read.dtype == f32
        and not read.index.gathers
        and read.operand not in written
        and read.index.coefficient(vector.name) not in (0, 1)
    ]
    best: Tiling | None = None
    least = math.prod(axis.extent for axis in nest.outer if isinstance(axis.extent, int))
    length, width = _FAR if least >= _FAR_ELEMENTS else _NEAR
    for axis in nest.outer:
        if axis == vector or (isinstance(axis.extent, int) and axis.extent < _LEAST):
            continue
        reads = tuple(dict.fromkeys(r for r in strided if r.index.coefficient(axis.name) == 1))
        if reads and (best is None or len(reads) > len(best.reads)):
            best = Tiling(axis, reads, length, width)
    return best


def _unguarded(stages: Sequence[Stage]) -> Iterator[Read]:
    """Reads that happen at every position: what a guard keeps from happening may lie outside its operand."""
    for stage in stages:
        yield from _reads(stage.value)


def _reads(expression: Scalar) -> Iterator[Read]:
    match expression:
        case Read():
            yield expression
        case Guarded(condition, _, _):
            yield from _reads(condition)
        case Apply(_, args):
            for part in args:
                yield from _reads(part)


def print_tile(printer: Printer, stages: Sequence[Stage], tiles: Tiling, start: str, end: str) -> None:
    """The body of a vector loop: the reads' tiles, then the stages at each position of their axis from `start` to `end`."""
    axis = tiles.axis.name
    names = {read: printer.fresh("tile") for read in tiles.reads}
    for read, name in names.items():
        step = printer.dim(read.index.coefficient(printer.vector_axis or ""))
        place = f"{printer.pointers[read.operand]} + ({printer.index(read.index, without=axis)}) + {start}"
        printer.out.put(f"_Alignas(64) float {name}[{tiles.length} * VL];")
        printer.out.put(f"vf_turn({name}, {place}, {step}, {printer.tail or 'VL'}, {end} - {start});")
    for read in _unguarded(stages):  # what is the same at all positions of the tile
        if has_lanes(read.dtype) and read not in names and printer.varies(read) and not _moves(read, axis):
            printer.vector(read)
    with printer.out.block(f"for (int64_t {axis} = {start}; {axis} < {end}; {axis}++)"), printer.scope():
        for read, name in names.items():
            printer.keep(read, True, "vf", f"vf_load({name} + ({axis} - {start}) * VL)", "v")
        printer.outer_vector_stages(stages)


def _moves(read: Read, axis: str) -> bool:
    """Whether a read may depend on the position along an axis."""
    return bool(read.index.gathers) or read.index.coefficient(axis) != 0
