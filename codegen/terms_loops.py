"""Counting loop code: vector steps by kind, scalar steps, loop entries. It follows `families.loops` and `c_printer` step by step
without printing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir.dims import Dim, typical
from ..ir.dims import product as dim_product
from ..ir.kernel import (
    Accumulator,
    Apply,
    Axis,
    Const,
    Folded,
    Guarded,
    Index,
    Loops,
    Nest,
    Position,
    Read,
    Scalar,
    Stage,
    Store,
    indices_of,
)
from .c_printer import Printer
from .families.contraction import vector_stores
from .families.loops import CHUNK, FOLD_CHUNK, inner_axes, legal, longest_contiguous, vector_axis
from .families.tiles import Tiling, tiling
from .family import Symbols
from .terms import Terms, ceil_div

#: functions that cost more than one instruction, each a term of its own; the rest is `op`
DEAR = ("div", "sqrt", "exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "pow", "mod", "fmod")


_LINE = 16  # floats of a cache line; lines 1024 floats apart share one set of the first cache and evict each other
_LINES, _PAGES = 384, 64  # of the first data cache, and of its translations
_LONG, _FAR = 16, 256  # steps of a fold, and elements between two of them, from which it walks down a column


class Counter:
    """Counts what a printer would print. `times` is how often the code at hand runs."""

    def __init__(self, terms: Terms, printer: Printer, symbols: Symbols, lanes: int) -> None:
        self.terms, self.printer, self.symbols, self.lanes = terms, printer, symbols, lanes
        self.seen: set[tuple[Scalar, bool]] = set()
        self.length = 1  # elements along the vector axis

    def size(self, dim: Dim) -> int:
        return max(typical(dim, self.symbols), 0)

    def extent(self, axes: Sequence[Axis]) -> int:
        return self.size(dim_product(a.extent for a in axes))

    # -- expressions -----------------------------------------------------------------------------------------------

    def index(self, index: Index, times: float) -> None:
        for expression, _ in index.gathers:
            self.scalar(expression, times)
        if index.gathers:
            self.terms.add("lookup", times)  # wherever that is, it is not what the caches expect

    def load(self, step: Dim) -> str:
        """How far apart the lanes of a vector lie: side by side, within a line, or lines apart; and then, whether the next
        vectors still find those lines in the first cache and its translations."""
        apart = self.size(step)
        if apart == 1:
            return "ld"
        if apart < _LINE:
            return "strided_near"
        near = self.length <= _LINES and self.length * apart <= _PAGES * 1024 and apart % 1024
        return "strided" if near else "strided_far"

    def scalar(self, expression: Scalar, times: float) -> None:
        if (expression, False) in self.seen:
            return
        self.seen.add((expression, False))
        match expression:
            case Const() | Folded():
                return
            case Accumulator():
                self.terms.add("s_ld", times)
            case Position(index):
                self.index(index, times)
                self.terms.add("s_op", times)
            case Read(_, index):
                self.index(index, times)
                self.terms.add("s_ld", times)
            case Guarded(condition, value, otherwise):
                self.scalar(condition, times)
                self.scalar(value, times)
                self.scalar(otherwise, times)
            case Apply(function, args, dtype):
                for part in args:
                    self.scalar(part, times)
                if function in DEAR:
                    integer = not dtype.is_float
                    self.terms.add("s_div" if integer or function == "div" else "s_call", times)
                else:
                    self.terms.add("s_op", times)

    def vector(self, expression: Scalar, times: float, entries: float) -> None:
        """`times` vectors in `entries` loops: what does not vary is computed once for each loop."""
        if (expression, True) in self.seen:
            return
        self.seen.add((expression, True))
        if not self.printer.varies(expression):
            self.scalar(expression, entries)
            return
        match expression:
            case Accumulator():
                self.terms.add("ld", times)
            case Read(_, index):
                step = index.coefficient(self.printer.vector_axis or "")
                self.index(index, entries)
                self.terms.add(self.load(step), times)
            case Guarded(condition, value, otherwise):
                self.scalar(condition, entries)
                self.vector(value, times, entries)
                if not isinstance(otherwise, Const):
                    self.vector(otherwise, times, entries)
            case Apply("cast", (Position(),)):
                self.terms.add("op", 3 * times)
            case Apply(function, args):
                for part in args:
                    self.vector(part, times, entries)
                self.terms.add(function if function in DEAR else "op", times)

    # -- loops -----------------------------------------------------------------------------------------------------

    def vector_loop(self, axis: str, stages: Sequence[Stage], count: float, entries: float) -> None:
        """Stages over `count` elements along the axis, begun `entries` times."""
        steps, self.length = math.ceil(count / self.lanes) * entries, math.ceil(count)
        self.printer.vector_axis, self.printer.outer_vector = axis, False
        self.terms.add("row", entries)
        for stage in stages:
            self.vector(stage.value, steps, entries)
            if isinstance(stage, Store):
                self.terms.add("st", steps)
            else:
                self.terms.add("op", steps)
                self.terms.add("reduce", entries)
        self.printer.vector_axis = None

    def scalar_stages(self, stages: Sequence[Stage], times: float, axis: str = "") -> None:
        """Stages element by element; `axis` is the innermost loop's."""
        for stage in stages:
            self.scalar(stage.value, times)
            if isinstance(stage, Store):
                self.index(stage.index, times)
                apart = self.size(stage.index.coefficient(axis))
                collide = apart >= _LINE and apart % 1024 == 0
                self.terms.add("s_collide" if collide else "s_scatter" if apart >= _LINE else "s_st", times)
            else:
                self.terms.add("s_fold", times)

    def value(self, value: Scalar, axis: str, count: int, rows: float) -> None:
        """One value over `count` elements of an axis, `rows` times: what prologues and score changes do."""
        self.terms.add("row", rows)
        if not self.printer.can_vectorise(value, axis, False):
            self.scalar(value, rows * count)
            self.terms.add("s_st", rows * count)
            return
        steps, self.length = ceil_div(count, self.lanes) * rows, count
        self.printer.vector_axis = axis
        self.vector(value, steps, rows)
        self.terms.add("st", steps)
        self.printer.vector_axis = None

    def decode(self, axes: Sequence[Axis], times: float) -> None:
        """Positions of several axes from one number: a division and a remainder for each but the first."""
        self.terms.add("decode", max(len(axes) - 1, 0) * times)

    def nest(self, nest: Nest) -> tuple[float, float]:
        """(units of work, elements) of one nest."""
        self.seen = set()
        chosen = vector_axis(self.printer, nest)
        folds = inner_axes(nest)
        total = self.extent(nest.outer)
        if folds and (chosen is None or not chosen[1]):
            self.terms.add("unit", total)
            self.decode(nest.outer, total)
            for axes, group in self.printer.groups(nest.stages):
                self._row_group(axes, group, total, chosen is not None)
            return total, total * self.extent(folds)
        if not nest.outer:
            for axes, group in self.printer.groups(nest.stages):
                self.scalar_stages(group, self.extent(axes), axes[-1].name if axes else "")
            return 1, self.extent(folds)
        axis = chosen[0] if chosen else longest_contiguous(nest)
        others = self.extent([a for a in nest.outer if a != axis])
        length = self.size(axis.extent)
        if chosen is not None and (tiles := tiling(self.printer, nest, axis)) is not None:
            return self._tiled(nest, axis, tiles), total
        units = others * max(ceil_div(length, FOLD_CHUNK if folds else CHUNK), 1)
        self.terms.add("unit", units)
        self.decode(nest.outer, units)
        for axes, group in self.printer.groups(nest.stages):
            inner = self.extent(axes)
            if chosen is None:
                self.scalar_stages(group, total * inner, (axes[-1] if axes else axis).name)
            else:
                steps, self.length = others * ceil_div(length, self.lanes) * inner, length
                self._outer_group(axis.name, group, axes, steps, steps if axes else units)
        return units, total * self.extent(folds)

    def _tiled(self, nest: Nest, axis: Axis, tiles: Tiling) -> float:
        """Units of work of a nest that is computed in tiles along `tiles.axis` by one vector along `axis`.

        A read that is contiguous along `tiles.axis` and not along `axis` is first copied tile by tile, turned, to where
        vectors of it lie side by side ("turned" counts these vectors); the stages then load them like any other.
        """
        others = [a for a in nest.outer if a not in (axis, tiles.axis)]
        length, along = self.size(axis.extent), self.size(tiles.axis.extent)
        stretches = self.extent(others) * ceil_div(along, tiles.length)
        units = stretches * max(ceil_div(length, tiles.width), 1)
        self.terms.add("unit", units)
        self.decode(nest.outer, units)
        begun = stretches * ceil_div(length, self.lanes)  # tiles
        steps = self.extent(others) * ceil_div(length, self.lanes) * along
        self.terms.add("turned", len(tiles.reads) * steps)
        self.seen |= {(read, True) for read in tiles.reads}
        self.length = length
        self._outer_group(axis.name, nest.stages, (), steps, begun)
        return units

    def _outer_group(
        self, axis: str, group: Sequence[Stage], axes: Sequence[Axis], steps: float, entries: float
    ) -> None:
        """Vectors over an outer axis, perhaps with loops over `axes` inside each."""
        self.printer.vector_axis, self.printer.outer_vector = axis, True
        self.terms.add("row", entries if not axes else steps / max(self.size(axes[-1].extent), 1))
        for stage in group:
            self.vector(stage.value, steps, entries)
            self.terms.add("st" if isinstance(stage, Store) else "op", steps)
            if axes and self.size(axes[-1].extent) >= _LONG:
                # down a column: every load opens another line, often another page
                far = [i for i in indices_of(stage.value) if self.size(i.coefficient(axes[-1].name)) >= _FAR]
                self.terms.add("down", len(far) * steps)
        self.printer.vector_axis, self.printer.outer_vector = None, False

    def _row_group(self, axes: Sequence[Axis], group: list[Stage], total: int, vector: bool) -> None:
        if vector and axes and legal(self.printer, group, axes[-1], False):
            entries = total * self.extent(axes[:-1])
            self.vector_loop(axes[-1].name, group, self.size(axes[-1].extent), entries)
        else:
            self.scalar_stages(group, total * self.extent(axes), axes[-1].name if axes else "")


def loops_terms(kernel: Loops, symbols: Symbols, lanes: int) -> Terms:
    """Terms of a loop kernel."""
    terms = Terms()
    printer = Printer(kernel.operands, tuple(symbols), [f"a{k}" for k in range(len(kernel.operands))])
    counter = Counter(terms, printer, symbols, lanes)
    found = [counter.nest(nest) for nest in kernel.nests]
    work = sum(elements for _, elements in found)
    # the pieces of the nest with most work: small ones beside it hardly matter
    terms.units = max(found, key=lambda pair: pair[1])[0] if work else 1
    return terms


def stores_terms(
    terms: Terms, printer: Printer, symbols: Symbols, lanes: int, stores: Sequence[Store], rows: Sequence[Axis], column: str,
    count: float, columns: int, stretches: int,
) -> None:  # fmt: skip
    """An epilogue over `count` rows of `columns` columns, each of which arrives in so many stretches."""
    counter = Counter(terms, printer, symbols, lanes)
    entries = count * stretches
    counter.decode(rows, entries)
    if vector_stores(printer, stores, column):
        counter.vector_loop(column, stores, columns / stretches, entries)
    else:
        terms.add("row", entries)
        counter.scalar_stages(stores, count * columns, column)


def value_terms(
    terms: Terms, printer: Printer, symbols: Symbols, lanes: int, value: Scalar, axis: str, count: int, rows: float
) -> None:
    """A prologue or score change: `count` elements along the axis, `rows` times."""
    Counter(terms, printer, symbols, lanes).value(value, axis, count, rows)
