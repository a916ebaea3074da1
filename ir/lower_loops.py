"""Bodies without a heavy root as loop nests: elementwise code, row-wise reductions (softmax, norms), windows, and contractions
as plain loops (the reference every device can run)."""

from __future__ import annotations

from collections.abc import Sequence

from .affine import PerDim, linear, regroup
from .dims import Dim, Shape, product, upper
from .graph import Node
from .kernel import (
    Axis,
    Folded,
    Index,
    Loops,
    Nest,
    Operand,
    Position,
    Read,
    Reduce,
    Scalar,
    Stage,
    Store,
)
from .lower_scope import NotLowerable, Scope, store
from .lower_windows import WINDOWS, window_nest
from .ops import OPS
from .scalars import apply, const, cost, narrow, widen
from .types import f32, i64

#: an expression at least this costly is kept in a row rather than computed again in a second pass
ROW_COST = 3
_FOLD = {"reduce_sum": "sum", "reduce_mean": "sum", "reduce_max": "max", "reduce_min": "min", "reduce_prod": "prod"}


def lower_loops(scope: Scope) -> Loops:
    """Raises NotLowerable."""
    windows = [n for n in scope.body if n.op in WINDOWS]
    reductions = [n for n in scope.body if OPS[n.op].category == "reduction" and n.op not in WINDOWS]
    if len(windows) > 1 or (windows and reductions):
        raise NotLowerable("two folds over different windows")
    if any(n.op in ("attention", "ragged_attention") for n in scope.body):
        raise NotLowerable("attention as loops needs its decomposition")
    nests: tuple[Nest, ...]
    if windows:
        nests = (window_nest(scope, windows[0]),)
    elif reductions:
        nests = (_row_nest(scope, reductions),)
    else:
        nests = _elementwise_nests(scope)
    return Loops(tuple(scope.operands), nests)


# -- elementwise ---------------------------------------------------------------------------------------------------


def _elementwise_nests(scope: Scope) -> tuple[Nest, ...]:
    nests: list[Nest] = []
    waiting = list(scope.outputs)
    while waiting:
        value = waiting[0]
        node = scope.producer.get(value)
        if node is not None and node.op == "concat":
            nests += _concat_nests(scope, node)
            waiting.remove(value)
            continue
        nest, done = _store_nest(scope, value, waiting)
        nests.append(nest)
        waiting = [v for v in waiting if v not in done]
    return tuple(nests)


def _iteration_shapes(scope: Scope, shape: Shape) -> list[Shape]:
    """The output's shape, then finer ones met in the body that list the same elements in the same order."""
    found = [shape]
    for node in scope.body:
        for value in (*node.inputs, *node.outputs):
            other = scope.shape(value)
            if len(other) > len(shape) and other not in found and product(other) == product(shape):
                found.append(other)
    return found


def _store_nest(scope: Scope, value: str, waiting: list[str]) -> tuple[Nest, list[str]]:
    reason = ""
    for shape in _iteration_shapes(scope, scope.shape(value)):
        scope.extents.clear()
        axes, identity = scope.axes_for(shape, "i")
        index = regroup(identity, shape, scope.shape(value), scope.extents, scope.symbols)
        if index is None:
            continue
        scope.index_of = {value: index}
        scope.ready = {}
        scope.spread()
        stores, done = [], []
        try:
            for output in waiting:
                if output == value or (output in scope.index_of and scope.producer[output].op != "concat"):
                    stores.append(store(scope, output, scope.index_of[output], ()))
                    done.append(output)
        except NotLowerable as failure:
            reason = str(failure)
            continue
        return Nest(axes, tuple(stores)), done
    raise NotLowerable(reason or f"no loop order fits {value}")


def _concat_nests(scope: Scope, node: Node) -> list[Nest]:
    """One nest per input, each filling its slice of the output."""
    nests = []
    axis = node.attr("axis") % len(scope.shape(node.output))
    start: Dim = 0
    for value in node.inputs:
        scope.extents.clear()
        scope.ready = {}
        axes, index = scope.axes_for(scope.shape(value), "i")
        place = (*index[:axis], index[axis].shifted(start), *index[axis + 1 :])
        store = Store(scope.operand[node.output], (), scope.address(node.output, place), scope.expression(value, index))
        nests.append(Nest(axes, (store,)))
        start = start + scope.shape(value)[axis]
    return nests


# -- row-wise reductions -------------------------------------------------------------------------------------------


def _reduced_axes(scope: Scope, node: Node) -> set[int]:
    rank = len(scope.shape(node.inputs[0]))
    axes = node.attr("axes") if node.op in _FOLD else (node.attr("axis"),)
    return {a % rank for a in axes}


def _kept(index: PerDim, reduced: set[int], keepdims: bool) -> PerDim:
    return tuple(Index() if k in reduced else part for k, part in enumerate(index) if keepdims or k not in reduced)


def _row_nest(scope: Scope, reductions: list[Node]) -> Nest:
    first = reductions[0]
    source = first.inputs[0]
    reduced = _reduced_axes(scope, first)
    axes, identity = scope.axes_for(scope.shape(source), "i")
    folded_names = {name for k in reduced for name, _ in identity[k].terms}
    outer = tuple(a for a in axes if a.name not in folded_names)
    inner = tuple(a for a in axes if a.name in folded_names)
    scope.index_of = {source: identity}
    outer_names = {a.name for a in outer}
    for node in reductions:
        scope.spread()
        value = node.inputs[0]
        if value not in scope.index_of:
            raise NotLowerable(f"{node.op} runs over another domain")
        gone = _reduced_axes(scope, node)
        index = scope.index_of[value]
        inside = {name for k in gone for name, _ in index[k].terms}
        outside = {name for k, part in enumerate(index) if k not in gone for name, _ in part.terms}
        if inside != folded_names or not outside <= outer_names:
            raise NotLowerable(f"{node.op} folds other axes than the rest of the cluster")
        scope.index_of[node.output] = _kept(index, gone, node.attr("keepdims", True))
    scope.spread()
    return Nest(outer, tuple(_row_stages(scope, reductions, inner, folded_names)))


def _row_stages(scope: Scope, reductions: list[Node], inner: tuple[Axis, ...], folded: set[str]) -> list[Stage]:
    stages: list[Stage] = []
    pending = set(scope.outputs)
    for value in pending:
        if value not in scope.index_of:
            raise NotLowerable(f"{value} is not aligned with the rows")
    rows = _rows_to_keep(scope, reductions, folded)

    def full(value: str) -> bool:
        return any(name in folded for part in scope.index_of[value] for name, _ in part.terms)

    def keep(value: str) -> None:
        """Store a value of the row where later stages can read it back."""
        index = scope.index_of[value]
        if value in pending:
            stages.append(store(scope, value, index, inner))
            pending.discard(value)
            back = Read(scope.operand[value], scope.address(value, index), scope.types[value].dtype)
        else:
            extents = tuple(a.extent for a in inner)
            place = linear(tuple(Index.axis(a.name) for a in inner), extents)
            number = len(scope.operands)
            scope.operands.append(Operand(scope.types[value].dtype, "row", product(extents)))
            stages.append(Store(number, inner, place, scope.expression(value, index)))
            back = Read(number, place, scope.types[value].dtype)
        scope.ready[value] = (index, back)

    for node in scope.body:
        out = node.output
        if node in reductions:
            scope.ready[out] = (scope.index_of[out], _fold(scope, node, inner, stages))
            if out in pending:
                stages.append(store(scope, out, scope.index_of[out], ()))
                pending.discard(out)
        elif out in rows:
            keep(out)
    for value in scope.outputs:
        if value in pending:
            stages.append(store(scope, value, scope.index_of[value], inner if full(value) else ()))
    return stages


def _fold(scope: Scope, node: Node, inner: tuple[Axis, ...], stages: list[Stage]) -> Scalar:
    """Append the Reduce stages of one reduction; returns the expression of its result."""
    source = node.inputs[0]
    index = scope.index_of[source]
    dtype = scope.types[source].dtype
    value = widen(scope.expression(source, index))
    name = f"s{sum(isinstance(s, Reduce) for s in stages)}"
    if node.op in _FOLD:
        stages.append(Reduce(name, _FOLD[node.op], inner, value))
        result: Scalar = Folded(name, value.dtype)
        if node.op == "reduce_mean":
            count = Position(Index(product(a.extent for a in inner)))
            result = apply("div", result, apply("cast", count, dtype=value.dtype))
        return narrow(result, dtype)
    best = Folded(name, value.dtype)
    stages.append(Reduce(name, "max" if node.op == "argmax" else "min", inner, value))
    (axis,) = _reduced_axes(scope, node)
    last = node.attr("select_last", False)
    # small positions are exact as f32, which has vectors
    small = value.dtype == f32 and upper(scope.shape(source)[axis], scope.symbols) <= 1 << 24
    kind = f32 if small else i64
    none = const(-1 if last else (1 << 62), kind)
    found = apply("eq", value, best)
    if value.dtype.is_float:
        found = apply("or", found, apply("isnan", value))  # NaN is the best of all and equals nothing
    place = apply("select", found, apply("cast", Position(index[axis]), dtype=kind), none)
    stages.append(Reduce(f"{name}_at", "max" if last else "min", inner, place))
    return apply("cast", Folded(f"{name}_at", kind), dtype=i64)


def _rows_to_keep(scope: Scope, reductions: list[Node], folded: set[str]) -> set[str]:
    """Values of the whole row that two or more stages need: costly ones, and all that are outputs anyway."""
    last_inner = max(folded, default="", key=lambda name: int(name[1:]))
    rank = len(scope.shape(reductions[0].inputs[0]))
    if last_inner != f"i{rank - 1}":
        return set()  # rows that do not lie side by side
    results = {n.output for n in reductions}
    stages = {n.inputs[0] for n in reductions} | {v for v in scope.outputs if v not in results}
    wanted: set[str] = set()
    for node in reversed(scope.body):
        value, index = node.output, scope.index_of.get(node.output)
        if OPS[node.op].category == "view" or index is None or value in results:
            continue
        whole = {name for part in index for name, _ in part.terms} >= folded
        if whole and _uses(scope, value, [*stages, *wanted], results | wanted) >= 2:
            wanted.add(value)
    keep: set[str] = set()
    for node in scope.body:
        if node.output in wanted and (node.output in scope.outputs or _own_cost(scope, node, keep, folded) >= ROW_COST):
            keep.add(node.output)
    return keep


def _uses(scope: Scope, value: str, stages: Sequence[str], known: set[str]) -> int:
    """How many stages compute `value` on their way, where the `known` values are at hand."""
    count = 0
    for root in dict.fromkeys(stages):
        todo, seen = [root], set[str]()
        while todo:
            at = todo.pop()
            if at in seen or at not in scope.producer or (at in known and at != root):
                continue
            seen.add(at)
            todo += scope.producer[at].used
        count += value in seen
    return count


def _own_cost(scope: Scope, node: Node, kept: set[str], folded: set[str]) -> int:
    """Cost of computing an element again from what is stored, reductions' results counting nothing."""
    saved = dict(scope.ready)
    for value in kept:
        scope.ready[value] = (scope.index_of[value], Read(-1, scope.index_of[value][-1], scope.types[value].dtype))
    for other in scope.body:
        if OPS[other.op].category == "reduction" and other.output in scope.index_of:
            scope.ready[other.output] = (scope.index_of[other.output], Folded("", scope.types[other.output].dtype))
    try:
        return cost(scope.expression(node.output, scope.index_of[node.output]), folded)
    except NotLowerable:
        return 0
    finally:
        scope.ready = saved
