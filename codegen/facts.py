"""Constants and workspace formulas of csrc/kernels, mirrored: planning for a machine needs them without running its code.

A test compiles the kernels for every ISA this CPU has and compares each number.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.dims import Dim


@dataclass(frozen=True)
class Tile:
    """csrc/kernels/tile.h: lanes, rows of the register tile, k-block, rows and columns kept while k is blocked.

    At most `k_block` is one block where all of k is wanted at once, elsewhere `k_few` or, of many rows, `k_many`, of which there
    are several else. A tile of at most `two_panels` rows takes two panels at once, one of at most `four_panels` rows four.
    `deep_columns` are kept of a packed right operand where a block is longer than a chain.
    """

    lanes: int
    rows: int
    k_block: int
    kept_rows: int
    two_panels: int
    four_panels: int
    k_few: int
    k_many: int
    kept_columns: int = 128
    deep_columns: int = 128
    pad: int = 16

    @property
    def panel(self) -> int:
        return 2 * self.lanes

    def depth(self, k: int, most: int) -> int:
        """k_block of product.c."""
        return max(_up(k, 16), 16) if k <= most else _up(-(-k // -(-k // self.k_many)), CHAIN)

    def depth_of(self, k: int, rows: int, near: bool = False) -> int:
        """The same of so many rows; `near`: windows that are read in place."""
        return self.depth(k, self.k_block if near else self.k_many if rows > FEW_ROWS else self.k_few)


TILES = {
    "avx512": Tile(16, 14, 768, 224, 6, 3, 512, 256, 256),
    "avx2": Tile(8, 6, 512, 96, 3, 1, 512, 512),
    "neon": Tile(4, 8, 512, 96, 5, 2, 512, 512),
    "portable": Tile(4, 4, 512, 64, 2, 1, 512, 512),
}
CHAIN, FEW_ROWS, SHORT = 256, 512, 4096  # tile.h
_LOAD_FLOATS = 65536  # gemm.c
STEP, TILE_ROWS, TILE_PANEL = 32, 32, 32  # tiles.c: of k, of C; columns of a panel
LEAST_DEPTH = 16  # that is multiplied in tiles
_GROUP = 128
_ALL = 1 << 40  # columns
_KEPT_ROWS = 256
#: numeric modes in tiles, and the parts of bf16 an operand is the sum of; what a device must have to be offered them
TILE_MODES = {"bf16": 1, "bf16x3": 2, "bf16x6": 3}
TILE_EXTENSION = "amx_bf16"
#: block floating point (tile_bfp.h), which products and convolutions have too: what stands for the number of parts, by mode, and
#: the bytes of an element by that; elements of a step of k and columns of a panel; what a device must have
BFP24, BFP16 = 4, 5
BFP_MODES = {"bfp24": BFP24, "bfp16": BFP16}
BFP_BYTES = {BFP24: 3, BFP16: 2}
BFP_STEP, BFP_PANEL, BFP_EXTENSION = 64, 16, "amx_int8"
PRODUCT_TILES = {**TILE_MODES, **BFP_MODES}
#: products of parts, or bytes, that make one product, by the number of parts
PRODUCTS_OF_PARTS = {1: 1, 2: 3, 3: 6, BFP24: 8, BFP16: 4}
#: the least depth at which 24 bits are as exact as a chain of f32 multiply-adds
_BFP24_DEPTH = 128
_DEEPEST = {1: 320, 2: 160, 3: 96, BFP24: 768, BFP16: 768}  # k_most
_FEW_DEPTH = {1: 192, 2: 128}  # k_block_of
#: so many parts of a right operand would take more room than its floats: it is packed as floats, and split when it is needed
SPLIT_IN_TIME = (3,)


def tile_extension(parts: int) -> str:
    """What a device must have to be offered products in so many parts."""
    return BFP_EXTENSION if parts in BFP_BYTES else TILE_EXTENSION


def tile_least_depth(parts: int) -> int:
    """Of products that are offered in so many parts."""
    return {BFP24: _BFP24_DEPTH, BFP16: BFP_STEP}.get(parts, LEAST_DEPTH)


@dataclass(frozen=True)
class Blocks:
    """csrc/kernels/tiles.c: the k-block, and the blocks of rows and columns whose sums are kept."""

    depth: int
    rows: int
    columns: int


def _block_depth(k: int, parts: int, few: bool = False) -> int:
    """k_block; of few rows k_block_of."""
    most, step = _DEEPEST[parts], BFP_STEP if parts in BFP_BYTES else STEP
    blocks = max(-(-k // (_FEW_DEPTH.get(parts, most) if few and k > most else most)), 1)
    return max(_up(-(-k // blocks), step), step)


def tile_blocks(m: int, k: int, parts: int, direct: bool = False) -> Blocks:
    """What st_tiles_run takes for m rows by k in so many parts of bf16; `direct`: rows that lie in parts already."""
    few = m <= 128
    depth = _block_depth(k, parts, few)
    rows, columns = (128, 1024) if few else (_DIRECT_ROWS, 256) if direct else (_KEPT_ROWS, 512)
    return Blocks(depth, rows, _ALL if depth >= k else columns)


def may_share_rows(m: Dim) -> bool:
    """Whether st_tiles_shared may find that parts share rows."""
    return not isinstance(m, int) or TILE_ROWS < m <= _KEPT_ROWS


def _tiles_floats(tile: Tile, m: int, n: int, k: int, parts: int) -> int:
    """st_tiles_floats."""
    blocks, depth = tile_blocks(m, k, parts), _block_depth(k, parts)
    panel = depth // STEP * parts * 512
    extra = 0
    if parts in BFP_BYTES:
        panel, extra = depth // BFP_STEP * BFP_BYTES[parts] * 512 + TILE_ROWS * 32, 2 * 4 * 256 + 768
    rows, columns = min(_up(m, TILE_ROWS), blocks.rows), _up(n, _GROUP)
    sums = rows * 2 * _GROUP
    if k > depth:
        few = min(_up(m, TILE_ROWS), 128) * min(columns, 1024)
        sums = few if m <= 128 else max(few, rows * min(columns, 512))
    split_here = 2 if parts in SPLIT_IN_TIME else 0
    return (2 * _up(rows // TILE_ROWS, 2) + split_here) * panel + tile.rows * (depth + tile.pad) + sums + extra


def _direct_floats(isa: str, og: int, steps: int, parts: int) -> int:
    """st_conv_tiles_floats."""
    tile, k = TILES[isa], steps * STEP
    depth = _block_depth(k, parts)
    columns = min(_up(og, _GROUP), 256) if k > depth else 2 * _GROUP
    panels = 2 * (depth // STEP * parts * 512) if parts in SPLIT_IN_TIME else 0
    room = panels + tile.rows * (depth + tile.pad) + _DIRECT_ROWS * columns
    return _PLANE_BYTES // 4 + _up(steps, 16) + _up(room, 16) + _tiles_floats(tile, 1, min(og, _GROUP), k, parts)


_PLANE_BYTES, _DIRECT_ROWS = 1 << 20, 512  # conv_tiles.c


def filter_rows_are_runs(window: Sequence[int], cg: int) -> bool:
    """st_rows_are_runs; `window` as of ir.kernel.Conv."""
    return window[0] * window[1] > 1 and cg % STEP != 0 and window[5] == 1


def conv_run(window: Sequence[int], cg: int) -> int:
    """Elements of k that a convolution in tiles pads to whole steps where its windows are not gathered: those of a tap, or of a
    row of the filter where pixels have few."""
    return window[1] * cg if filter_rows_are_runs(window, cg) else cg


def conv_direct(window: Sequence[int], cg: int, parts: int) -> int:
    """Steps of k of a convolution in so many parts of bf16 that gathers no windows (conv_tiles.c); 0 where windows do not overlap,
    so that gathering splits every pixel once too, or a row tile's part of a line has no room, and in block floating point, where
    the pixels of a window share an exponent."""
    kh, kw, stride_h, stride_w, dilation_h, dilation_w = window[:6]
    if parts in BFP_BYTES or kh * kw <= stride_h * stride_w:
        return 0
    columns = _plane_pixels(window, cg, parts) // (1 + (kh - 1) * dilation_h // stride_h)
    if min(columns, _DIRECT_ROWS) - (kw - 1) * dilation_w // stride_w < TILE_ROWS:
        return 0
    run = conv_run(window, cg)
    return kh * kw * cg // run * -(-run // STEP)


def _plane_pixels(window: Sequence[int], cg: int, parts: int) -> int:
    """Pixels of a band's planes that there is room for."""
    down, across = _along(window, 0, 0, 0), _along(window, 1, 0, 0)
    runs = filter_rows_are_runs(window, cg)
    planes = down.phases * parts * (1 if runs else across.phases * -(-cg // STEP))
    unit = 2 * (window[3] * cg if runs else STEP)
    return (_PLANE_BYTES // planes - 128) // unit - across.beyond - TILE_ROWS


@dataclass(frozen=True)
class _Along:
    """conv_tiles.c, `axis`."""

    phases: int
    beyond: int
    pitch: int


def _along(window: Sequence[int], axis: int, extent: int, out: int) -> _Along:
    taps, stride, dilation, before = window[axis::2]
    reach = (taps - 1) * dilation
    beyond = reach // stride
    near = max(out, -(-(extent + before) // stride), out + beyond - before // stride)
    return _Along(min(stride, reach + 1), beyond, min(out + beyond, near))


@dataclass(frozen=True)
class Bands:
    """What conv_tiles.c makes of a convolution: bands, rows of each (those between lines included), vectors of 32 elements that
    are split for one part."""

    count: int
    rows: int
    split: int


def conv_bands(
    window: Sequence[int], cg: int, parts: int, images: int, size: tuple[int, int], out: tuple[int, int]
) -> Bands:
    """Of images of so many lines and columns, and so many of the result, all at least 1."""
    down, across = (_along(window, axis, size[axis], out[axis]) for axis in (0, 1))
    pixels = _plane_pixels(window, cg, parts)
    most, columns = min(pixels // across.pitch - down.beyond, _DIRECT_ROWS // across.pitch), out[1]
    if most < 1:
        most, widest = 1, max(min(pixels // (1 + down.beyond), _DIRECT_ROWS) - across.beyond, 1)
        columns = -(-out[1] // -(-out[1] // widest))
    pieces = -(-out[1] // columns)
    pitch = across.pitch if pieces == 1 else columns + across.beyond
    lines = (images - 1) * down.pitch + out[0]
    bands = -(-lines // most)
    height = -(-lines // bands)
    taken = bands * pieces * (height + down.beyond) * down.phases
    if filter_rows_are_runs(window, cg):
        split = taken * -(-pitch * window[3] * cg // STEP)
    else:
        split = taken * across.phases * pitch * -(-cg // STEP)
    return Bands(bands * pieces, (height - 1) * pitch + columns, split)


_ATTENTION_TILE, _ATTENTION_SLOTS = 512, 65536  # attention.c: keys at a time, floats of unfinished rows
_POINT_APART = 16  # winograd.c


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _row_stride(count: int) -> int:
    stride = _up(count, 16)
    return stride + 16 if stride % 512 == 0 else stride


def _product_floats(tile: Tile, m: int, k: int, packed: bool) -> int:
    depth = tile.depth(k, tile.k_block)
    right = 0 if packed else depth * tile.kept_columns
    rows = tile.rows if k <= tile.k_many else min(_up(m, tile.rows), tile.kept_rows)
    return tile.rows * (depth + tile.pad) + max(rows * tile.kept_columns, SHORT) + right


def gemm_load_rows(isa: str, k: int, parts: int = 0) -> int:
    """load_rows: how many rows a prologue computes at a time."""
    return _load_rows(TILES[isa], k, parts)


def _load_rows(tile: Tile, k: int, parts: int = 0) -> int:
    if parts:
        return max(min(2 * _LOAD_FLOATS // (k + tile.pad) // TILE_ROWS, 8), 1) * TILE_ROWS
    return max(min(_LOAD_FLOATS // (k + tile.pad) // tile.rows, tile.kept_rows // tile.rows), 1) * tile.rows


def _load_floats(tile: Tile, m: int, k: int, parts: int = 0) -> int:
    return min(_up(m, tile.rows), _load_rows(tile, k, parts)) * _row_stride(k)


def gemm_workspace(isa: str, m: int, n: int, k: int, packed: bool, pairs: bool = False, parts: int = 0) -> int:
    """st_gemm_workspace: bytes of one thread. It grows with m, but not always with k; rows of a prologue are floats always."""
    tile = TILES[isa]
    product = (
        _tiles_floats(tile, m, n, k, parts) if parts else _product_floats(tile, m, -(-k // 2) if pairs else k, packed)
    )
    return 4 * (product + _load_floats(tile, m, k, parts)) + 64


@functools.cache
def gemm_workspace_up_to(isa: str, m: int, n: int, k: int, packed: bool) -> int:
    """What suffices for every smaller m, n and k as well: two even k-blocks, or a few rows less, may need less than one."""
    tile = TILES[isa]
    product = max(_product_floats(tile, m, i, packed) for i in (min(k, tile.k_block), k))
    # within 16 steps of k the row stride is the same and the rows only get fewer
    load = max(_load_floats(tile, m, i) for i in (*range(1, k + 1, 16), k))
    return 4 * (product + load) + 64


def conv_workspace(isa: str, k: int, og: int, pairs: bool = False, parts: int = 0, direct: int = 0) -> int:
    """st_conv_workspace: for pairs one pixel's window as floats beside the product."""
    tile = TILES[isa]
    if direct:
        return 4 * _direct_floats(isa, og, direct, parts) + 64
    if parts:
        return 4 * _tiles_floats(tile, (1 << 31) - 1, og, k, parts) + 64
    window = _up(k, 16) + tile.pad if pairs else 0
    return 4 * (_product_floats(tile, tile.kept_rows, -(-k // 2) if pairs else k, True) + window) + 64


def whole_workspace(isa: str, k: int) -> int:
    """st_gemm_i8_workspace: of products of whole numbers, and of convolutions whose windows have so many elements."""
    return 4 * _product_floats(TILES[isa], TILES[isa].kept_rows, -(-k // 4), True) + 64


def winograd_workspace(isa: str, cg: int) -> int:
    """st_winograd_workspace."""
    tile = TILES[isa]
    columns = 2 * tile.panel
    points = winograd_tiles(isa) * (_row_stride(cg) + columns) + 2 * _POINT_APART
    return 4 * (16 * points + 4 * tile.rows * columns + _product_floats(tile, winograd_tiles(isa), cg, True)) + 64


def winograd_tiles(isa: str) -> int:
    """TILES of winograd.c: output tiles transformed at a time."""
    tile = TILES[isa]
    return (4 if tile.lanes == 16 else 8) * tile.rows


def attention_dots(isa: str) -> int:
    """attention.c: up to so many rows that share a key/value head, scores are dot products."""
    return min(TILES[isa].rows, 6)


def attention_tile(isa: str, keys: int) -> int:
    """attention.c: keys at a time."""
    tiles = max(-(-keys // _ATTENTION_TILE), 1)
    return _up(max(-(-keys // tiles), 1), 4 * TILES[isa].lanes)


def attention_slots(isa: str, v_dim: int) -> int:
    """attention.c: how many blocks of rows may be unfinished."""
    return max(_ATTENTION_SLOTS // _slot_floats(TILES[isa], v_dim), 1)


def _slot_floats(tile: Tile, v_dim: int) -> int:
    return _up(tile.rows * _up(v_dim, tile.panel) + 2 * tile.rows + 1, 16)


def attention_workspace(isa: str, rows: int, keys: int, dim: int, v_dim: int, parts: int = 0) -> int:
    """st_attention_workspace; rows that share a key/value head. It stops growing with either."""
    if parts:
        return _attention_tiles_workspace(isa, rows, keys, dim, v_dim, parts)
    tile = TILES[isa]
    at_once = attention_tile(isa, min(keys, _ATTENTION_TILE))
    state = slot = _slot_floats(tile, v_dim)
    if keys > _ATTENTION_TILE:
        state = min(-(-rows // tile.rows) * slot, max(slot, _ATTENTION_SLOTS))
    block = tile.rows * (_row_stride(dim) + _row_stride(at_once))
    return 4 * (block + at_once * (1 + dim + _up(v_dim, tile.panel)) + state) + 64


#: attention_tiles.c: rows that share a key/value head and are computed in f32; keys of an item; floats of K and V held at once
ATTENTION_FEW, ATTENTION_KEYS, _ATTENTION_PACKED = 8, 128, 327680
_SLOT_HEAD = 688


def attention_key_floats(dim: int, v_dim: int, parts: int) -> int:
    """attention_tiles.c: what one key and its value take in so many parts."""
    return (_up(dim, STEP) + _up(v_dim, TILE_PANEL)) // 2 * parts


def attention_chunk(keys: int, dim: int, v_dim: int, parts: int) -> int:
    """attention_tiles.c: keys that are held at once."""
    chunks = max(-(-keys // _attention_held(dim, v_dim, parts)), 1)
    return max(_up(-(-keys // chunks), ATTENTION_KEYS), ATTENTION_KEYS)


def attention_tile_slots(v_dim: int) -> int:
    """attention_tiles.c: how many blocks of rows may be unfinished where keys are not held all at once."""
    return max(_ATTENTION_SLOTS // (_SLOT_HEAD + TILE_ROWS * _up(v_dim, 16)), 1)


def _attention_held(dim: int, v_dim: int, parts: int) -> int:
    return max(_ATTENTION_PACKED // attention_key_floats(dim, v_dim, parts) // ATTENTION_KEYS, 1) * ATTENTION_KEYS


def _attention_tiles_workspace(isa: str, rows: int, keys: int, dim: int, v_dim: int, parts: int) -> int:
    """st_attention_tiles_workspace."""
    part = TILE_ROWS * STEP // 2
    each, one = attention_key_floats(dim, v_dim, parts), _SLOT_HEAD + TILE_ROWS * _up(v_dim, 16)
    whole, state = _up(max(keys, 1), ATTENTION_KEYS), 3 * one
    if keys > _attention_held(dim, v_dim, parts):
        state = max(min(-(-rows // TILE_ROWS) * one, max(one, _ATTENTION_SLOTS)), state)
    buffers = (
        -(-dim // STEP) * parts * part
        + 2 * TILE_ROWS * (ATTENTION_KEYS + 16)
        + 2 * ATTENTION_KEYS // STEP * parts * part
    )
    packed = min(whole * each, max(_ATTENTION_PACKED, ATTENTION_KEYS * each))
    floats = buffers + packed + min(whole, _ATTENTION_PACKED // TILE_PANEL) + state
    return 4 * floats + 64 + attention_workspace(isa, min(rows, TILE_ROWS), keys, dim, v_dim)
