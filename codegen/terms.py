"""What kernels do, counted: quantities by name ("terms") that a machine profile prices one by one.

Counts follow the code that runs: tiles with their edges, panels packed, passes over operands, vector steps of callbacks. All
are at the typical sizes and for one thread; `UNITS` alone is no quantity of work but the number of equal pieces it can be
split into.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..ir.candidate import UNITS
from .facts import CHAIN, SHORT, Tile


class Terms:
    """Quantities by name, added up."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self.units = 1.0

    def add(self, name: str, count: float) -> None:
        if count > 0:
            self.counts[name] = self.counts.get(name, 0.0) + count

    def merge(self, counts: Mapping[str, float], times: float) -> None:
        for name, count in counts.items():
            self.add(name, count * times)

    def rows(self) -> tuple[tuple[str, float], ...]:
        """Sorted by name, the number of equal pieces included."""
        return tuple(sorted({**self.counts, UNITS: max(self.units, 1.0)}.items()))


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def vectors_of(columns: int, lanes: int) -> int:
    """Vectors that the register tiles compute for this many columns: whole panels, and half a one where that suffices."""
    over = columns % (2 * lanes)
    return columns // (2 * lanes) * 2 + (0 if over == 0 else 1 if over <= lanes else 2)


def column_blocks(tile: Tile, m: int, n: int, k: int, packed: bool, near: bool = False) -> int:
    """How often the left operand is walked: blocks of columns (product.c). `near`: windows that are read in place."""
    deep = packed and tile.depth_of(k, m, near) > CHAIN
    block = tile.deep_columns if deep else tile.kept_columns
    if packed and 0 < m <= tile.rows:
        block = max(block, SHORT // m // tile.panel * tile.panel)
    return ceil_div(n, block)


def product(
    terms: Terms, tile: Tile, m: int, n: int, k: int, *, packed: bool, period: int = 0, times: float = 1.0
) -> None:
    """st_product_run on m x n x k: fused multiply-adds of vectors, vectors of B read per row tile, register tiles begun,
    accumulators parked between k-blocks, bytes of A walked again for further column blocks. `period`: row tiles end there, since
    windows are read in place."""
    if m <= 0 or n <= 0:
        return
    wide = vectors_of(n, tile.lanes)
    if period:
        images, rest = divmod(m, period)
        tiles = images * ceil_div(period, tile.rows) + ceil_div(rest, tile.rows)
    else:
        tiles = ceil_div(m, tile.rows)
    rows = m / tiles
    panels = ceil_div(n, tile.panel)
    together = 4 if rows <= tile.four_panels else 2 if rows <= tile.two_panels else 1
    blocks = max(ceil_div(k, tile.depth_of(k, m, period > 0)), 1)
    passes = column_blocks(tile, m, n, k, packed, period > 0)
    terms.add("fma", times * m * wide * k)
    terms.add("b_vector", times * tiles * wide * k)
    terms.add("tile", times * tiles * max(panels / together, 1) * blocks)
    terms.add("parked", times * (blocks - 1) * m * wide)
    terms.add("a_again", times * (passes - 1) * m * k * 4)
    if packed and blocks > 1:
        terms.add("b_again", times * (ceil_div(m, tile.kept_rows) - 1) * k * wide * tile.lanes * 4)
    if not packed:
        direct = m <= tile.rows and n % tile.panel == 0
        again = ceil_div(m, tile.kept_rows) if blocks > 1 else 1
        terms.add("pack", 0 if direct else times * again * k * wide)
