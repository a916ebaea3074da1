"""Counting the heavy families: what csrc/kernels does for one contraction, at the typical sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..ir.dims import Dim, typical
from ..ir.dims import product as dim_product
from ..ir.kernel import Attention, Contraction, Conv, Matmul
from ..ir.types import bf16
from .facts import (
    ATTENTION_FEW,
    ATTENTION_KEYS,
    BFP_BYTES,
    BFP_PANEL,
    BFP_STEP,
    PRODUCTS_OF_PARTS,
    SPLIT_IN_TIME,
    STEP,
    TILE_PANEL,
    TILE_ROWS,
    TILES,
    Blocks,
    Tile,
    attention_chunk,
    attention_dots,
    attention_slots,
    attention_tile,
    attention_tile_slots,
    conv_bands,
    conv_direct,
    gemm_load_rows,
    tile_blocks,
    winograd_tiles,
)
from .families.contraction import finish_of, is_accumulator, narrow_rows, new_printer
from .family import Symbols
from .terms import Terms, ceil_div, column_blocks, product
from .terms_loops import stores_terms, value_terms

#: depthwise.c: outputs in registers, floats of a tile and of input rows in L1, channels at a time, what beginning with a run costs
_PIXELS, _TILE_FLOATS, _NEAR_FLOATS, _MOST_CHANNELS, _RUN_START = 8, 4096, 8192, 256, 24
_BLOCKS = 64  # of attention that are looked at one by one
_TURN = 5  # a vector of dot products from as many vectors of partial sums, in multiply-adds of one
_COPIED = 0.5  # a vector of bf16 moved to where tiles are loaded from, in vectors of floats split for that
#: tiles.c: loads of a tile of B for each step of k, by the number of parts
_LOADS = {1: 1, 2: 2, 3: 4}


def matmul_terms(kernel: Contraction, packed: bool, symbols: Symbols, isa: str, pairs: bool = False) -> Terms:
    """gemm.c: the product, its prologue or copies of A, its epilogue. In pairs of bf16 all of A is rounded on the way."""
    tile, terms, size = TILES[isa], Terms(), _sizes(symbols)
    root, times, m, n, k = _matmul(kernel, size)
    depth = ceil_div(k, 2) if pairs else k
    printer = new_printer(kernel, symbols)
    step = gemm_load_rows(isa, k) if root.prologue is not None else m
    for rows, count in _pieces(m, step):
        product(terms, tile, rows, n, depth, packed=packed, times=times * count)
    if root.prologue is not None:
        value_terms(terms, printer, symbols, tile.lanes, root.prologue, root.depth.name, k, times * m)
        terms.add("b_again", times * (ceil_div(m, max(step, 1)) - 1) * k * n * 4)
    elif not pairs:
        row, column = (size(stride) for stride in root.a.strides[-2:])
        passes = column_blocks(tile, m, n, depth, packed)
        if column != 1 and k > 1:
            terms.add("turn" if row == 1 else "fill", times * passes * m * ceil_div(k, tile.lanes))
        elif m > 6 and row % 1024 == 0:
            terms.add("copy", times * passes * m * ceil_div(k, tile.lanes))
    stretches = column_blocks(tile, m, n, depth, packed)
    if pairs:
        terms.add("round", times * stretches * m * ceil_div(k, tile.lanes))
    _epilogue(kernel, terms, symbols, tile.lanes, times * m, n, stretches)
    terms.units = times * max(m, ceil_div(n, tile.panel))
    return terms


def conv_terms(kernel: Contraction, symbols: Symbols, isa: str, pairs: bool = False) -> Terms:
    """conv.c: an implicit product whose rows are gathered unless they can be read in place. In pairs of bf16 all are rounded."""
    tile, terms, size = TILES[isa], Terms(), _sizes(symbols)
    at = _windows(kernel, size)
    depth = ceil_div(at.k, 2) if pairs else at.k
    whole = at.k <= tile.k_block
    near = at.in_line(tile)
    in_place = not pairs and whole and near and at.step % 1024 != 0
    period = at.ow if near and not at.pixels and not pairs else 0
    passes = column_blocks(tile, at.m, at.og, depth, True, period > 0)
    product(terms, tile, at.m, at.og, depth, packed=True, period=period, times=at.groups)
    if pairs:
        terms.add("round", at.groups * passes * at.m * ceil_div(at.k, tile.lanes))
    if not at.pixels:
        _gather(terms, at, tile, passes, in_place, tile.lanes)
    if finish_of(kernel) is None:
        _epilogue(kernel, terms, symbols, tile.lanes, at.m, at.og * at.groups, passes * at.groups)
    terms.units = at.groups * max(at.m, ceil_div(at.og, tile.panel))
    return terms


def _gather(terms: Terms, at: _Windows, tile: Tile, passes: int, in_place: bool, lanes: int) -> None:
    """Rows of a convolution that are copied together, `lanes` elements at a time: a filter row at once where that is dense. Of
    tiles that may be read in place only those at the edges are."""
    gathered = 1.0
    if in_place:
        inside_y = _inside(at.oh, at.stride_h, at.top, at.kh, at.h)
        columns = ceil_div(at.ow, tile.rows)
        edges = (at.left > 0) + ((at.ow - 1) * at.stride_w - at.left + at.kw > at.w)
        gathered = 1 - inside_y * max(columns - edges, 0) / max(columns, 1)
    pixels = at.groups * passes * at.m * gathered
    terms.add("gather_run", pixels * at.runs)
    terms.add("gather", pixels * at.runs * ceil_div(at.k // at.runs, lanes))


def whole_matmul_terms(kernel: Contraction, symbols: Symbols, isa: str) -> Terms:
    """whole.c: a product over words of four elements; rows of A that are no whole words are copied."""
    tile, terms, size = TILES[isa], Terms(), _sizes(symbols)
    root, times, m, n, k = _matmul(kernel, size)
    words = ceil_div(k, 4)
    product(terms, tile, m, n, words, packed=True, times=times)
    row, column = (size(stride) for stride in root.a.strides[-2:])
    stretches = column_blocks(tile, m, n, words, True)
    if k > 1 and column != 1:
        terms.add("fill", times * stretches * m * k)
    elif row % 4 or k % 4:
        terms.add("copy", times * stretches * m * ceil_div(k, 4 * tile.lanes))
    _epilogue(kernel, terms, symbols, tile.lanes, times * m, n, stretches)
    terms.units = times * max(m, ceil_div(n, tile.panel))
    return terms


def whole_conv_terms(kernel: Contraction, symbols: Symbols, isa: str) -> Terms:
    """whole.c: as `conv_terms`, over words of four elements."""
    tile, terms, size = TILES[isa], Terms(), _sizes(symbols)
    at = _windows(kernel, size)
    words = ceil_div(at.k, 4)
    pixels = at.aligned and at.pixels
    near = at.in_line(tile) and at.aligned and not pixels
    passes = column_blocks(tile, at.m, at.og, words, True, near)
    product(terms, tile, at.m, at.og, words, packed=True, period=at.ow if near else 0, times=at.groups)
    if not pixels:
        _gather(terms, at, tile, passes, near and words <= tile.k_block, 4 * tile.lanes)
    _epilogue(kernel, terms, symbols, tile.lanes, at.m, at.og * at.groups, passes * at.groups)
    terms.units = at.groups * max(at.m, ceil_div(at.og, tile.panel))
    return terms


def winograd_terms(kernel: Contraction, symbols: Symbols, isa: str) -> Terms:
    """winograd.c: windows to points, a product at each of 16 points for blocks of tiles, points to pixels."""
    root, tile, terms = kernel.root, TILES[isa], Terms()
    assert isinstance(root, Conv)
    size = _sizes(symbols)
    n, _, _, cg = (size(d) for d in root.size)
    oh, ow = (size(d) for d in root.out_size)
    og = size(root.column.extent)
    tiles = n * ceil_div(oh, 2) * ceil_div(ow, 2)
    blocks = ceil_div(tiles, winograd_tiles(isa))
    stretches = ceil_div(og, 2 * tile.panel)
    product(terms, tile, ceil_div(tiles, max(blocks, 1)), og, cg, packed=True, times=16 * blocks)
    terms.add("b_again", 16 * max(blocks - 1, 0) * cg * ceil_div(og, tile.panel) * tile.panel * 4)
    terms.add("a_again", 16 * (stretches - 1) * tiles * cg * 4)
    terms.add("window_in", tiles * ceil_div(cg, tile.lanes))
    terms.add("window_out", tiles * ceil_div(og, tile.lanes))
    _epilogue(kernel, terms, symbols, tile.lanes, n * oh * ow, og, stretches)
    terms.units = max(tiles, ceil_div(og, tile.panel))
    return terms


def matmul_tile_terms(kernel: Contraction, symbols: Symbols, isa: str, parts: int) -> Terms:
    """gemm.c in tiles: as `matmul_terms`, with a packed right operand."""
    tile, terms, size = TILES[isa], Terms(), _sizes(symbols)
    root, times, m, n, k = _matmul(kernel, size)
    narrow = parts == 1 and narrow_rows(root) is not None
    step = gemm_load_rows(isa, k, parts) if root.prologue is not None and not narrow else m
    passes = 0
    for rows, count in _pieces(m, step):
        moved = (0.0 if k % STEP == 0 else _COPIED) if narrow else 1.0
        passes = max(passes, _tile_product(terms, rows, n, k, parts, times * count, moved=moved))
    if root.prologue is not None and not narrow:
        value_terms(
            terms, new_printer(kernel, symbols), symbols, tile.lanes, root.prologue, root.depth.name, k, times * m
        )
        terms.add("b_again", times * (ceil_div(m, max(step, 1)) - 1) * k * n * BFP_BYTES.get(parts, 2 * parts))
    elif not narrow:
        row, column = (size(stride) for stride in root.a.strides[-2:])
        if column != 1 and k > 1:
            terms.add("turn" if row == 1 else "fill", times * passes * m * ceil_div(k, tile.lanes))
    _epilogue(kernel, terms, symbols, tile.lanes, times * m, n, ceil_div(n, 4 * TILE_PANEL))
    terms.units = times * max(m, ceil_div(n, TILE_PANEL))
    return terms


def conv_tile_terms(kernel: Contraction, symbols: Symbols, isa: str, parts: int) -> Terms:
    """conv.c in tiles: as `conv_terms`, with rows gathered wherever they do not lie in the image as they are."""
    tile, terms, size = TILES[isa], Terms(), _sizes(symbols)
    at = _windows(kernel, size)
    root = kernel.root
    assert isinstance(root, Conv)
    window, cg = root.window, size(root.size[3])
    narrow = kernel.operands[root.x.operand].dtype == bf16
    moved = (0.0 if at.pixels and at.k % STEP == 0 else _COPIED) if narrow else 1.0
    if steps := conv_direct(window, cg, parts):
        images = size(root.size[0])
        if at.m > 0 and at.og > 0:
            bands = conv_bands(window, cg, parts, images, (at.h, at.w), (at.oh, at.ow))
            _tile_product(
                terms,
                bands.rows,
                at.og,
                steps * STEP,
                parts,
                at.groups * bands.count,
                bands.split / bands.count,
                direct=True,
                moved=moved,
            )
            stored = 2 if parts in SPLIT_IN_TIME else parts
            terms.add("b_again", at.groups * (bands.count - 1) * steps * STEP * at.og * 2 * stored)
    else:
        passes = _tile_product(terms, at.m, at.og, at.k, parts, at.groups, moved=moved)
    if not steps and not at.pixels:
        terms.add("gather_run", at.groups * passes * at.m * at.runs)
        terms.add("gather", at.groups * passes * at.m * at.runs * ceil_div(at.k // at.runs, tile.lanes))
    _epilogue(kernel, terms, symbols, tile.lanes, at.m, at.og * at.groups, ceil_div(at.og, 4 * TILE_PANEL) * at.groups)
    terms.units = at.groups * max(at.m, ceil_div(at.og, TILE_PANEL))
    return terms


def _tile_product(
    terms: Terms,
    m: int,
    n: int,
    k: int,
    parts: int,
    times: float,
    split: float = 0.0,
    direct: bool = False,
    moved: float = 1.0,
) -> int:
    """st_tiles_run on m x n x k: rows of products of tiles, tiles of B loaded, vectors of 32 of A split, blocks of 32 x 32 sums,
    bytes walked again, pairs of rows of B split. Returns how often the left operand is walked. `direct`: that lies in parts, made
    of `split` vectors. `moved`: the share of a split that a vector of A takes; less than 1 of bf16."""
    if m <= 0 or n <= 0:
        return 0
    blocks = tile_blocks(m, k, parts, direct)
    if parts in BFP_BYTES:
        return _bfp_product(terms, m, n, k, parts, blocks, times)
    steps, wide, tall = ceil_div(k, STEP), ceil_div(n, TILE_PANEL // 2), ceil_div(m, TILE_ROWS)
    passes = ceil_div(n, blocks.columns)
    terms.add("dot", times * m * wide * steps * PRODUCTS_OF_PARTS[parts])
    terms.add("b_tile", times * tall * wide * steps * _LOADS[parts])
    terms.add("split", times * (split if direct else passes * m * steps) * parts * moved)
    terms.add("block", times * tall * ceil_div(n, TILE_PANEL) * max(ceil_div(k, blocks.depth), 1))
    terms.add("a_again", 0 if direct else times * (passes - 1) * m * k * (4 if moved == 1 else 2))
    stored = 2 if parts in SPLIT_IN_TIME else parts
    again = ceil_div(m, blocks.rows)
    terms.add("b_again", times * (again - 1) * wide * steps * STEP * TILE_PANEL * stored)
    if parts in SPLIT_IN_TIME:
        terms.add("b_split", times * again * wide * steps * STEP / 2)
    return passes


def _bfp_product(terms: Terms, m: int, n: int, k: int, parts: int, blocks: Blocks, times: float) -> int:
    """The same in block floating point, where a block of sums is 16 x 16 and always whole."""
    steps, wide, tall = ceil_div(k, BFP_STEP), ceil_div(n, BFP_PANEL), ceil_div(m, TILE_ROWS // 2)
    passes, again = ceil_div(n, blocks.columns), ceil_div(m, blocks.rows)
    terms.add("dot", times * 16 * tall * wide * steps * PRODUCTS_OF_PARTS[parts])
    terms.add("split", times * passes * m * steps)
    terms.add("block", times * tall * wide * max(ceil_div(k, blocks.depth), 1))
    terms.add("a_again", times * (passes - 1) * m * k * 4)
    terms.add("b_again", times * (again - 1) * wide * steps * BFP_STEP * BFP_PANEL * BFP_BYTES[parts])
    return passes


def depthwise_terms(kernel: Contraction, symbols: Symbols, isa: str) -> Terms:
    """depthwise.c: stretches of one output row, a vector of channels at a time."""
    root, tile, terms = kernel.root, TILES[isa], Terms()
    assert isinstance(root, Conv)
    size = _sizes(symbols)
    n, h, w, _ = (size(d) for d in root.size)
    oh, ow = (size(d) for d in root.out_size)
    kh, kw, stride_h, stride_w, dilation_h, dilation_w, top, left = root.window
    vectors = ceil_div(root.groups, tile.lanes)
    known = kw in (3, 5, 7) and stride_w <= 2 and dilation_w == 1
    pixels = 7 if known and ceil_div(ow, 7) == ceil_div(ow, 8) else _PIXELS
    # rows of taps that lie inside the image
    taps = sum(0 <= y * stride_h - top + i * dilation_h < h for y in range(oh) for i in range(kh)) * n
    reach = (pixels - 1) * stride_w + (kw - 1) * dilation_w
    span, width = _depthwise_block(root, ow, w, pixels, tile.lanes)
    # stretches that leave the image by as much as a window's half do not cost more
    inside = edge = 0
    for x0 in range(0, ow, span):
        end = min(x0 + span, ow)
        for begin in range(x0, end, pixels):
            first = max(min(begin, end - pixels), x0) * stride_w - left
            outside = {max(-first, 0), max(first + reach + 1 - w, 0)} - {0}
            fits = end - x0 >= pixels and outside <= ({kw // 2} if known else set())
            inside, edge = inside + fits, edge + (not fits)
    for count, name in ((inside, ""), (edge, "_edge")):
        each = float(count * vectors)
        terms.add("stretch", each * n * oh)
        if known:
            terms.add("tap" + name, each * taps * kw * pixels)
            terms.add("column" + name, each * taps * ((pixels - 1) * stride_w + kw))
        else:
            terms.add("any_tap" + name, each * taps * kw * pixels)
    blocks = ceil_div(root.groups, width)
    stretches = n * oh * ceil_div(ow, span) * blocks
    terms.add("block", stretches)
    if finish_of(kernel) is None:
        _epilogue(kernel, terms, symbols, tile.lanes, n * oh * ow, root.groups, blocks)
    terms.units = n * oh
    return terms


def _depthwise_block(root: Conv, ow: int, w: int, pixels: int, lanes: int) -> tuple[int, int]:
    """The outputs of a row and the channels that output rows follow each other over: block_of of depthwise.c."""
    kh, kw, stride_h, stride_w, dilation_h, dilation_w = root.window[:6]
    in_use = (kh - 1) * dilation_h + 1 + stride_h
    best, least = (0, 0), float("inf")
    for span in range(pixels, _TILE_FLOATS // lanes + 1, pixels):
        columns = min((span - 1) * stride_w + (kw - 1) * dilation_w + 1, w)
        room = min(_NEAR_FLOATS // (in_use * columns), _TILE_FLOATS // span, _MOST_CHANNELS) // lanes * lanes
        if room == 0 and best[0]:
            break
        blocks = ceil_div(root.groups, max(room, lanes))
        width = ceil_div(ceil_div(root.groups, blocks), lanes) * lanes
        cost = columns / min(span, ow) * (1 + _RUN_START / width)
        if cost < least:
            best, least = (span, width), cost
        if span >= ow:
            break
    return best


def _looked_at(
    rows: int, blocks: int, owners: int, queries: int, keys: int, causal: bool
) -> Iterator[tuple[float, int, int, float]]:
    """Some of the blocks of rows that share a key/value head: how many such blocks each stands for, its rows, the most keys that
    one of them sees, and the keys that all of them see."""
    some = min(blocks, _BLOCKS)
    for number in range(some):
        block = (2 * number + 1) * blocks // (2 * some)
        first, end = rows * block // blocks, rows * (block + 1) // blocks
        seen = [_seen(row % queries, queries, keys, causal) for row in range(first, end)]
        yield owners * blocks / some, end - first, max(seen), sum(seen)


def attention_terms(kernel: Contraction, symbols: Symbols, isa: str, by_key: bool, pairs: bool) -> Terms:
    """attention.c: two products around a softmax, for each block of the rows that share a key/value head and each tile of keys.
    `by_key`: the score change is a row of its own; `pairs`: products in bf16. No key counts as hidden by a mask."""
    root, tile, terms = kernel.root, TILES[isa], Terms()
    assert isinstance(root, Attention)
    size = _sizes(symbols)
    batch, heads = (size(a.extent) for a in (root.batch, root.heads))
    queries, keys, dim, v_dim = (size(d) for d in (*root.lengths, root.width, root.column.extent))
    owners, lanes = batch * root.kv_heads, tile.lanes
    rows = heads // root.kv_heads * queries
    blocks = ceil_div(rows, tile.rows)
    dots = rows <= attention_dots(isa)
    pairs = pairs and not dots
    direct = not pairs and rows <= tile.rows and v_dim % lanes == 0
    step = attention_tile(isa, keys)
    tiles = ceil_div(keys, step)
    passes = 1 if tiles <= 1 else ceil_div(blocks, attention_slots(isa, v_dim))
    q_vectors, v_vectors = ceil_div(dim, lanes), ceil_div(v_dim, lanes)
    printer = new_printer(kernel, symbols)
    packed = 0
    for times, count, most, shown in _looked_at(rows, blocks, owners, queries, keys, root.causal):
        shown /= lanes
        packed = max(packed, most)
        taken = ceil_div(most, step)
        for n, same in _pieces(most, step):
            if dots:
                terms.add("dot", times * same * count * ceil_div(n, lanes) * lanes * (q_vectors + _TURN))
            else:
                product(terms, tile, count, n, ceil_div(dim, 2) if pairs else dim, packed=True, times=times * same)
            product(terms, tile, count, v_dim, ceil_div(n, 2) if pairs else n, packed=True, times=times * same)
        terms.add("parked", times * max(taken - 1, 0) * count * v_vectors)
        terms.add("soft", times * shown)
        if by_key:
            terms.add("ld", times * shown)
            terms.add("op", times * shown)
        elif root.score is not None:
            value_terms(terms, printer, symbols, lanes, root.score, "j", most, times * count)
        terms.add("soft_row", times * count * taken)
        for term in ("ld", "st"):
            terms.add(term, times * count * (taken * q_vectors + v_vectors))
        if pairs:
            terms.add("round", times * count * taken * q_vectors)
    if by_key and root.score is not None:
        value_terms(terms, printer, symbols, lanes, root.score, "j", keys, owners * passes)
    if not dots:
        terms.add("turn", owners * passes * ceil_div(packed, lanes) * (ceil_div(dim, 2) if pairs else dim))
    if pairs:
        terms.add("round", owners * passes * packed * (q_vectors + v_vectors))
    elif not direct:
        terms.add("pack", owners * passes * packed * v_vectors)
    _attention_stores(kernel, terms, symbols, lanes, batch * heads * queries)
    terms.units = owners * blocks
    return terms


def _attention_stores(kernel: Contraction, terms: Terms, symbols: Symbols, lanes: int, rows: int) -> None:
    """What happens to so many finished rows where that is not a plain store."""
    (store, *others) = kernel.epilogue
    column = kernel.root.column
    if not is_accumulator(store) or others:
        printer, v_dim = new_printer(kernel, symbols), _sizes(symbols)(column.extent)
        stores_terms(terms, printer, symbols, lanes, kernel.epilogue, (), column.name, rows, v_dim, 1)


def attention_tile_terms(kernel: Contraction, symbols: Symbols, isa: str, by_key: bool, parts: int) -> Terms:
    """attention_tiles.c: as `attention_terms`, for blocks of 32 rows; K and V are packed once for all blocks of a key/value head,
    or once for as many as there is room for. What splits weights is in the price of their exponentials."""
    root, lanes, terms = kernel.root, TILES[isa].lanes, Terms()
    assert isinstance(root, Attention)
    size = _sizes(symbols)
    batch, heads = (size(a.extent) for a in (root.batch, root.heads))
    queries, keys, dim, v_dim = (size(d) for d in (*root.lengths, root.width, root.column.extent))
    owners, rows = batch * root.kv_heads, heads // root.kv_heads * queries
    if rows <= ATTENTION_FEW:
        return attention_terms(kernel, symbols, isa, by_key, False)
    blocks = ceil_div(rows, TILE_ROWS)
    passes = 1
    if attention_chunk(keys, dim, v_dim, parts) < keys:
        passes = ceil_div(blocks, attention_tile_slots(v_dim))
    steps, v_tiles, v_vectors = ceil_div(dim, STEP), ceil_div(v_dim, TILE_PANEL // 2), ceil_div(v_dim, lanes)
    printer = new_printer(kernel, symbols)
    packed = 0
    for times, count, most, shown in _looked_at(rows, blocks, owners, queries, keys, root.causal):
        shown /= lanes
        packed = max(packed, most)
        items = ceil_div(most, ATTENTION_KEYS)
        tiles = ceil_div(most, TILE_PANEL // 2) * steps + v_tiles * ceil_div(most, STEP)
        terms.add("dot", times * count * tiles * PRODUCTS_OF_PARTS[parts])
        terms.add("item", times * items * v_tiles)
        terms.add("split", times * count * steps * parts)
        terms.add("soft", times * shown)
        terms.add("soft_row", times * count * items)
        terms.add("st", times * count * v_vectors)
        if by_key:
            terms.add("ld", times * shown)
            terms.add("op", times * shown)
        elif root.score is not None:
            value_terms(terms, printer, symbols, lanes, root.score, "j", most, times * count)
    if by_key and root.score is not None:
        value_terms(terms, printer, symbols, lanes, root.score, "j", keys, owners * passes)
    terms.add("turn", owners * passes * ceil_div(packed, lanes) * dim)
    terms.add("pack", owners * passes * packed * v_vectors)
    _attention_stores(kernel, terms, symbols, lanes, batch * heads * queries)
    terms.units = owners * blocks
    return terms


def _seen(query: int, queries: int, keys: int, causal: bool) -> int:
    """Keys that a query sees."""
    return max(min(query + keys - queries + 1, keys), 0) if causal else keys


class _sizes:
    """Typical values of dims, at least 0."""

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols

    def __call__(self, dim: Dim) -> int:
        return max(typical(dim, self.symbols), 0)


class _Product(NamedTuple):
    """A product of m x k by k x n, so many times."""

    root: Matmul
    times: int
    m: int
    n: int
    k: int


def _matmul(kernel: Contraction, size: _sizes) -> _Product:
    root = kernel.root
    assert isinstance(root, Matmul)
    times = size(dim_product(a.extent for a in root.loops)) * size(root.batch.extent)
    rows = size(dim_product(a.extent for a in root.rows))
    return _Product(root, times, rows, size(root.column.extent), size(root.depth.extent))


@dataclass(frozen=True)
class _Windows:
    """A convolution as a product for each group: m output pixels, whose windows have k elements, by og channels.

    `dense`: the taps of a filter row are one run; `pixels`: windows are the pixels as they lie; `step`: elements between windows;
    `aligned`: all steps are whole words of four.
    """

    h: int
    w: int
    oh: int
    ow: int
    kh: int
    kw: int
    stride_h: int
    stride_w: int
    top: int
    left: int
    groups: int
    og: int
    m: int
    k: int
    dense: bool
    pixels: bool
    step: int
    aligned: bool

    @property
    def runs(self) -> int:
        """How many a window is gathered in."""
        return self.kh if self.dense else self.kh * self.kw

    def in_line(self, tile: Tile) -> bool:
        """Whether tiles of windows that are read in place end where rows of the image do (window.h)."""
        return self.dense and ceil_div(self.ow, tile.rows) * tile.rows * 8 <= self.ow * 9


def _windows(kernel: Contraction, size: _sizes) -> _Windows:
    root = kernel.root
    assert isinstance(root, Conv)
    n, h, w, cg = (size(d) for d in root.size)
    oh, ow = (size(d) for d in root.out_size)
    kh, kw, stride_h, stride_w, _, dilation_w, top, left = root.window
    steps = [size(step) for step in root.x.strides]
    return _Windows(
        h,
        w,
        oh,
        ow,
        kh,
        kw,
        stride_h,
        stride_w,
        top,
        left,
        groups=root.groups,
        og=size(root.column.extent) // root.groups,
        m=n * oh * ow,
        k=kh * kw * cg,
        dense=kw == 1 or (dilation_w == 1 and steps[2] == cg),
        pixels=(kh, kw, stride_h, stride_w, top, left) == (1, 1, 1, 1, 0, 0) and (oh, ow) == (h, w),
        step=stride_w * steps[2],
        aligned=all(step % 4 == 0 for step in (cg, *steps)),
    )


def _pieces(count: int, step: int) -> list[tuple[int, int]]:
    """(size, how many): whole steps and the rest."""
    whole, rest = divmod(count, max(step, 1))
    return [(size, times) for size, times in ((step, whole), (rest, 1)) if size and times]


def _inside(out: int, stride: int, before: int, window: int, extent: int) -> float:
    """Share of the output positions whose whole window lies inside the image."""
    fits = sum(y * stride - before >= 0 and y * stride - before + window <= extent for y in range(out))
    return fits / max(out, 1)


def _epilogue(
    kernel: Contraction, terms: Terms, symbols: Symbols, lanes: int, count: float, columns: int, stretches: int
) -> None:
    """What happens to `count` rows of finished elements."""
    root = kernel.root
    assert not isinstance(root, Attention)
    (first, *others) = kernel.epilogue
    plain = is_accumulator(first) and not others and len(root.rows) == 1
    if plain and first.index.coefficient(root.column.name) == 1:
        return  # the product itself writes the rows
    printer = new_printer(kernel, symbols)
    rows, column = root.rows, root.column.name
    stores_terms(terms, printer, symbols, lanes, kernel.epilogue, rows, column, count, columns, stretches)
