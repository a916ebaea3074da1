"""Weight layouts: how the bytes of a weight are arranged ahead of time so that kernels stream them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..ir.errors import StratacError
from ..ir.placed import DENSE
from .facts import BFP_BYTES, BFP_PANEL, BFP_STEP, SPLIT_IN_TIME, STEP, TILES, tile_blocks

#: columns of a panel, by ISA: st_panel() of that build
PANELS = {isa: tile.panel for isa, tile in TILES.items()}

#: Winograd's F(2, 3) for filters, and the points of two dimensions in their order
_TRANSFORM = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
POINTS = tuple((i, j) for i in range(4) for j in range(4))


@dataclass(frozen=True)
class Layout:
    """A strided selection of a weight's elements, then panels.

    The elements are those of the dense weight at offset + sum(i * stride) over `dims` = (matrices, *depth, columns). With
    `panel` > 0 every matrix, its depth dims flattened to K, becomes ceil(columns / panel) panels of K rows by `panel` columns,
    zero padded (see csrc/kernels/kernels.h); with panel 0 the selection is stored densely. With `pairs` a panel has ceil(K / 2)
    rows of words: two elements that follow each other along K, rounded to bf16, the first in the low half. With `tiles` such words
    hold the elements as sums of so many bf16: for every 32 of K, zero padded, 16 rows of the first parts, then of the next. Three
    parts would take more room than the floats: two rows of these stand there instead, 16 columns of both in turn. Four and five
    stand for block floating point (csrc/kernels/tile_bfp.h): panels of 16 columns, each k-block in three or two bytes an element,
    and the columns' units behind. With `points` the depth dims are (3, 3, K): every matrix becomes 16, the filters at each point of
    csrc/kernels/winograd.c. With `quads` a panel of bytes has ceil(K / 4) rows of words, four elements that follow each other along
    K in each, and one more with the sums of its columns as i32. A `run` of tiles is so many elements of K that are padded to whole
    steps; 0: all of K.
    """

    panel: int
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    pairs: bool = False
    points: bool = False
    tiles: int = 0
    quads: bool = False
    run: int = 0

    def __str__(self) -> str:
        dims, strides = (",".join(map(str, t)) for t in (self.dims, self.strides))
        tiles = f"tiles{self.tiles}" + (f"run{self.run}" if self.run else "")
        kinds = {"pairs": self.pairs, "points": self.points, "quads": self.quads, tiles: self.tiles}
        kind = next((name for name, is_it in kinds.items() if is_it), "")
        return f"panel{self.panel}{kind}({self.offset};{dims};{strides})"

    @staticmethod
    def parse(text: str) -> Layout:
        match = re.fullmatch(
            r"panel(\d+)(pairs|points|quads|tiles([1-5])(?:run(\d+))?)?\((\d+);([\d,]*);([-\d,]*)\)", text
        )
        if match is None:
            raise StratacError(f"unknown weight format {text!r}")
        panel, kind, parts, run, offset, dims, strides = match.groups()
        numbers = [tuple(int(n) for n in part.split(",") if n) for part in (dims, strides)]
        return Layout(
            int(panel),
            int(offset),
            numbers[0],
            numbers[1],
            kind == "pairs",
            kind == "points",
            int(parts or 0),
            kind == "quads",
            int(run or 0),
        )

    @property
    def elements(self) -> int:
        """Elements once packed, padding included; of pairs and tiles the words, of quads the bytes."""
        depth = math.prod(self.dims[1:-1])
        if self.tiles in BFP_BYTES:
            steps, blocks = -(-depth // BFP_STEP), -(-depth // tile_blocks(1, depth, self.tiles).depth)
            words = max(steps, 1) * BFP_STEP * BFP_BYTES[self.tiles] // 4 + max(blocks, 1)  # of a column
            return self.dims[0] * words * -(-self.dims[-1] // self.panel) * self.panel
        if self.tiles:
            run = self.run or max(depth, 1)
            depth = depth // run * -(-run // STEP) * STEP * (2 if self.tiles in SPLIT_IN_TIME else self.tiles) // 2
        if self.quads:
            depth = (-(-depth // 4) + 1) * 4
        count = self.dims[0] * (-(-depth // 2) if self.pairs else depth // 9 * len(POINTS) if self.points else depth)
        columns = self.dims[-1]
        return count * (-(-columns // self.panel) * self.panel if self.panel else columns)


def packed_bytes(format: str, dense_bytes: int, element_bytes: int) -> int:
    """Bytes of a weight in a format."""
    return dense_bytes if format == DENSE else Layout.parse(format).elements * element_bytes


def narrowed(format: str) -> float:
    """Bytes of an element in a format over those of one in the weight itself; padding does not count."""
    layout = None if format == DENSE else Layout.parse(format)
    if layout is None:
        return 1.0
    if layout.tiles in SPLIT_IN_TIME:
        return 1.0
    if layout.tiles in BFP_BYTES:
        return BFP_BYTES[layout.tiles] / 4
    return 0.5 if layout.pairs else len(POINTS) / 9 if layout.points else layout.tiles / 2 or 1.0


def pack(array: np.ndarray, format: str) -> np.ndarray:
    """The weight's elements in their packed order: a flat, contiguous array of the same dtype."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if format == DENSE:
        return flat
    layout = Layout.parse(format)
    size = flat.itemsize
    chosen = np.lib.stride_tricks.as_strided(
        flat[layout.offset :], layout.dims, tuple(s * size for s in layout.strides), writeable=False
    )
    if not layout.panel:
        return np.ascontiguousarray(chosen).reshape(-1)
    return np.concatenate(list(_panel_pieces(chosen, layout, layout.dims[-1])))


def _panel_pieces(chosen: np.ndarray, layout: Layout, columns: int) -> Iterator[np.ndarray]:
    """Panels of so many columns at a time, in their order. `chosen` holds the selected elements, its shape the layout's dims."""
    for matrix in chosen:
        for point in POINTS if layout.points else (None,):
            for start in range(0, layout.dims[-1], columns):
                part = matrix[..., start : start + columns]
                rows = part if point is None else _at_point(part, point)
                yield _panels(rows.reshape(-1, part.shape[-1]), layout)


def _at_point(filters: np.ndarray, point: tuple[int, int]) -> np.ndarray:
    """Filters (3, 3, channels, columns) at one point of the transform G g G', taken in float64."""
    down, across = (_TRANSFORM[i] for i in point)
    sums = sum(
        down[i] * across[j] * filters[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
        if down[i] and across[j]
    )
    return np.asarray(sums).astype(filters.dtype)


def _panels(matrix: np.ndarray, layout: Layout) -> np.ndarray:
    """Some columns of one matrix, the first of them a panel's first: its panels, flat."""
    if layout.run:
        runs = matrix.reshape(-1, layout.run, matrix.shape[-1])
        matrix = np.pad(runs, ((0, 0), (0, -layout.run % STEP), (0, 0))).reshape(-1, matrix.shape[-1])
    if layout.tiles in BFP_BYTES:
        return _bfp_panels(matrix, layout.tiles, -(-matrix.shape[1] // layout.panel) * layout.panel)
    depth, columns = matrix.shape
    count = -(-columns // layout.panel)
    step = STEP if layout.tiles else 4 if layout.quads else 2 if layout.pairs else 1
    whole = np.zeros((-(-depth // step) * step, count * layout.panel), matrix.dtype)
    whole[:depth, :columns] = matrix
    panels = whole.reshape(len(whole), count, layout.panel).transpose(1, 0, 2)
    if layout.quads:
        words = panels.reshape(count, -1, 4, layout.panel).swapaxes(2, 3)
        sums = np.ascontiguousarray(panels.sum(1, np.int32)).view(np.int8).reshape(count, 1, layout.panel, 4)
        return np.concatenate((words, sums), axis=1).reshape(-1)
    if layout.tiles in SPLIT_IN_TIME:
        halves = panels.reshape(count, -1, 2, layout.panel // 16, 16).swapaxes(2, 3)
        return np.ascontiguousarray(halves).reshape(-1)
    if layout.tiles:
        steps = panels.reshape(count, -1, STEP // 2, 2, layout.panel).swapaxes(3, 4)
        parts = np.stack(split_bf16(steps, layout.tiles), axis=2)
        return parts.reshape(-1).view(np.float32)
    if not layout.pairs:
        return np.ascontiguousarray(panels).reshape(-1)
    halves = to_bf16(panels).reshape(count, -1, 2, layout.panel).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(halves).reshape(-1).view(np.float32)


_BFP_BELOW = 1.004  # tile_bfp.h: 2**e over the greatest element


#: elements that are rounded at a time, in f64
_BFP_ELEMENTS = 1 << 18


def _bfp_panels(matrix: np.ndarray, tiles: int, columns: int) -> np.ndarray:
    """Panels in block floating point, with columns of zeros up to so many. No element but 0 becomes 0: it may meet infinity."""
    some = max(_BFP_ELEMENTS // max(len(matrix), 1) // BFP_PANEL, 1) * BFP_PANEL
    pieces = [_bfp_some(matrix[:, j : j + some], tiles, min(some, columns - j)) for j in range(0, columns, some)]
    return np.concatenate(pieces)


def _bfp_some(matrix: np.ndarray, tiles: int, columns: int) -> np.ndarray:
    """The same at once: a panel after the other, each k-block's bytes and units."""
    depth, held = matrix.shape
    slices = BFP_BYTES[tiles]
    count, deepest = columns // BFP_PANEL, tile_blocks(1, depth, tiles).depth
    half, least = sum(0x80 << 8 * n for n in range(slices)), -(1 << 8 * slices - 1)
    pieces = []
    for k in range(0, max(depth, 1), deepest):
        values = matrix[k : k + deepest].astype(np.float64)
        finite = np.isfinite(values)
        numbers = np.where(finite, values, 0.0)
        unit, near = _bfp_units(numbers, slices)
        whole = np.zeros((max(-(-len(values) // BFP_STEP), 1) * BFP_STEP, columns), np.int32)
        whole[: len(values), :held] = np.where((near == 0) & (numbers != 0), np.sign(numbers), near)
        odd = ~finite.all(0)
        if odd.any():  # NaN, infinity and its opposite are the least numbers
            codes = least + np.select([np.isnan(values), values > 0], [0, 1], 2)
            whole[: len(values), :held] = np.where(finite, whole[: len(values), :held], codes)
        stored = np.ones(columns, np.float32)
        stored[:held] = unit * 2.0 ** (8 * slices - 8) * np.where(odd, -1, 1)
        bytes_ = np.ascontiguousarray((whole + half) ^ half).view(np.uint8)
        steps = bytes_.reshape(-1, 4, BFP_STEP // 4, count, BFP_PANEL, 4)[..., slices - 1 :: -1]
        data = steps.transpose(3, 0, 5, 2, 4, 1).reshape(count, -1)
        pieces += [data, stored.view(np.uint8).reshape(count, -1)]
    return np.concatenate(pieces, axis=1).reshape(-1).view(np.float32)


def _bfp_units(values: np.ndarray, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Of columns of finite f64: the unit of each, and the whole numbers of units nearest to its elements. The unit is a power of
    two where that is exact, or the greatest element too small for another; else the greatest element is the greatest number."""
    most, bits = sum(127 << 8 * n for n in range(slices)), 8 * slices - 1
    least = bits - 127  # 2**e
    greatest = np.abs(values).max(0, initial=0.0)
    exponents = np.where(greatest > 0, np.maximum(np.frexp(greatest * _BFP_BELOW)[1], least), least)
    powers = 2.0 ** (exponents - float(bits))
    near = np.rint(values / powers)
    exact = (near * powers == values).all(0) | (greatest < 2.0**least)
    unit = np.where(exact, powers, (greatest / most).astype(np.float32))
    return unit, np.where(exact, near, np.clip(np.rint(values / unit), -most, most))


def to_bf16(values: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 of each f32, ties to even, as its bits: csrc/simd/simd_pairs.h."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    near = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.where(nan, bits >> np.uint32(16) | np.uint32(0x40), near).astype(np.uint16)


def split_bf16(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Each f32 as a sum of bfloat16s, as their bits: the nearest, then the nearest to what is left; three are exact but for parts
    that would be denormal. Several never add up to infinity unless the value is infinite: then the others are 0; where only
    the nearest is infinite, all parts are those next towards zero."""
    parts, rest = [], np.ascontiguousarray(values, np.float32)
    near = to_bf16(rest)
    over = ((near & 0x7FFF) == 0x7F80) & np.isfinite(rest) if count > 1 else None
    for _ in range(count):
        near = to_bf16(rest)
        if over is not None:
            near = np.where(over, (rest.view(np.uint32) >> np.uint32(16)).astype(np.uint16), near)
        parts.append(near)
        held = (near.astype(np.uint32) << np.uint32(16)).view(np.float32)
        rest = np.subtract(rest, held, where=np.isfinite(held), out=np.zeros_like(rest))
    return parts


#: bytes of packed weight made at a time
PIECE_BYTES = 16 << 20


def pack_pieces(array: np.ndarray, format: str, piece_bytes: int = PIECE_BYTES) -> Iterator[np.ndarray]:
    """What `pack` gives, in flat pieces of about `piece_bytes`, at least one panel: beside the weight only a piece is held.

    A weight that is a view (transposed, sliced) is read through the view, not copied, wherever the layout walks its axes.
    """
    if array.nbytes <= piece_bytes:
        yield pack(array, format)
        return
    if format == DENSE:
        yield from _dense_pieces(array, piece_bytes)
        return
    layout = Layout.parse(format)
    chosen = _selection(array, layout)
    if not layout.panel:
        yield from _dense_pieces(chosen, piece_bytes)
        return
    depth = int(np.prod(layout.dims[1:-1], dtype=np.int64))
    panels = max(piece_bytes // max(depth * layout.panel * array.itemsize, 1), 1)
    yield from _panel_pieces(chosen, layout, panels * layout.panel)


def _dense_pieces(array: np.ndarray, piece_bytes: int) -> Iterator[np.ndarray]:
    """The elements in row-major order."""
    if array.nbytes <= piece_bytes or array.ndim == 0:
        yield np.ascontiguousarray(array).reshape(-1)
    elif array.flags.c_contiguous:
        flat, step = array.reshape(-1), max(piece_bytes // array.itemsize, 1)
        for start in range(0, flat.size, step):
            yield flat[start : start + step]
    else:
        rows = piece_bytes // max(array.nbytes // len(array), 1)
        for start in range(0, len(array), max(rows, 1)):
            yield from _dense_pieces(array[start : start + rows] if rows else array[start], piece_bytes)


def _selection(array: np.ndarray, layout: Layout) -> np.ndarray:
    """The elements a layout selects, as a view with its dims. Only where its dims do not each walk one axis of a view that is
    not dense is the weight copied first."""
    steps = _axis_steps(array.shape, layout)
    if steps is not None:
        start = np.unravel_index(layout.offset, array.shape)
        corner = array[tuple(slice(int(at), None) for at in start)]
        strides = tuple(0 if axis is None else array.strides[axis] * step for axis, step in steps)
        return np.lib.stride_tricks.as_strided(corner, layout.dims, strides, writeable=False)
    flat = np.ascontiguousarray(array).reshape(-1)
    strides = tuple(s * flat.itemsize for s in layout.strides)
    return np.lib.stride_tricks.as_strided(flat[layout.offset :], layout.dims, strides, writeable=False)


def _axis_steps(shape: tuple[int, ...], layout: Layout) -> list[tuple[int | None, int]] | None:
    """For each dim of a layout the axis of the weight it walks and in what steps, or None where some dim walks several."""
    dense = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    start = [int(at) for at in np.unravel_index(layout.offset, shape)]
    found: list[tuple[int | None, int]] = []
    for extent, stride in zip(layout.dims, layout.strides, strict=True):
        if extent == 1 or stride == 0:
            found.append((None, 0))
            continue
        fits = [
            a for a, d in enumerate(dense) if stride % d == 0 and 0 < stride // d * (extent - 1) < shape[a] - start[a]
        ]
        axis = next((a for a in fits if all(a != other for other, _ in found)), None)
        if axis is None:
            return None
        found.append((axis, stride // dense[axis]))
    return found
