"""Bodies without a heavy root as loop nests: elementwise code, row-wise reductions (softmax, norms), windows, and contractions
as plain loops (the reference every device can run)."""

from __future__ import annotations

import math
from dataclasses import replace

from .affine import PerDim, linear, regroup
from .dims import Dim, Shape, product
from .graph import Node
from .kernel import (
    Axis,
    Folded,
    Guarded,
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
    map_indices,
    walk,
)
from .lower_scope import NotLowerable, Scope, conjunction, in_bounds
from .ops import OPS
from .scalars import apply, const, cost
from .types import DType, i64

#: an expression at least this costly is kept in a row rather than computed again in a second pass
ROW_COST = 3
_FOLD = {"reduce_sum": "sum", "reduce_mean": "sum", "reduce_max": "max", "reduce_min": "min", "reduce_prod": "prod"}
_WINDOWED = ("max_pool", "avg_pool", "cumsum", "matmul", "conv")


def lower_loops(scope: Scope) -> Loops:
    """Raises NotLowerable."""
    windows = [n for n in scope.body if n.op in _WINDOWED]
    reductions = [n for n in scope.body if OPS[n.op].category == "reduction" and n.op not in _WINDOWED]
    if len(windows) > 1 or (windows and reductions):
        raise NotLowerable("two folds over different windows")
    if any(n.op == "attention" for n in scope.body):
        raise NotLowerable("attention as loops needs its decomposition")
    nests: tuple[Nest, ...]
    if windows:
        nests = (_window_nest(scope, windows[0]),)
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
                    stores.append(_store(scope, output, scope.index_of[output], ()))
                    done.append(output)
        except NotLowerable as failure:
            reason = str(failure)
            continue
        return Nest(axes, tuple(stores)), done
    raise NotLowerable(reason or f"no loop order fits {value}")


def _store(scope: Scope, value: str, index: PerDim, axes: tuple[Axis, ...]) -> Store:
    return Store(scope.operand[value], axes, scope.address(value, index), scope.expression(value, index))


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
            stages.append(_store(scope, value, index, inner))
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
                stages.append(_store(scope, out, scope.index_of[out], ()))
                pending.discard(out)
        elif out in rows:
            keep(out)
    for value in scope.outputs:
        if value in pending:
            stages.append(_store(scope, value, scope.index_of[value], inner if full(value) else ()))
    return stages


def _fold(scope: Scope, node: Node, inner: tuple[Axis, ...], stages: list[Stage]) -> Scalar:
    """Append the Reduce stages of one reduction; returns the expression of its result."""
    source = node.inputs[0]
    index = scope.index_of[source]
    value = scope.expression(source, index)
    name = f"s{sum(isinstance(s, Reduce) for s in stages)}"
    if node.op in _FOLD:
        stages.append(Reduce(name, _FOLD[node.op], inner, value))
        result: Scalar = Folded(name, value.dtype)
        if node.op == "reduce_mean":
            count = Position(Index(product(a.extent for a in inner)))
            result = apply("div", result, apply("cast", count, dtype=value.dtype))
        return result
    best = Folded(name, value.dtype)
    stages.append(Reduce(name, "max" if node.op == "argmax" else "min", inner, value))
    (axis,) = _reduced_axes(scope, node)
    last = node.attr("select_last", False)
    none = const(-1 if last else (1 << 62), i64)
    found = apply("eq", value, best)
    if value.dtype.is_float:
        found = apply("or", found, apply("isnan", value))  # NaN is the best of all and equals nothing
    place = apply("select", found, Position(index[axis]), none)
    stages.append(Reduce(f"{name}_at", "max" if last else "min", inner, place))
    return Folded(f"{name}_at", i64)


def _rows_to_keep(scope: Scope, reductions: list[Node], folded: set[str]) -> set[str]:
    """Values of the whole row that two or more stages need: costly ones, and all that are outputs anyway."""
    results = {n.output for n in reductions}
    uses: dict[str, int] = {}
    roots = [n.inputs[0] for n in reductions] + [v for v in scope.outputs if v not in results]
    for root in roots:
        seen: set[str] = set()
        todo = [root]
        while todo:
            value = todo.pop()
            if value in seen or value in results or value not in scope.producer:
                continue
            seen.add(value)
            todo += scope.producer[value].used
        for value in seen:
            uses[value] = uses.get(value, 0) + 1
    last_inner = max(folded, default="", key=lambda name: int(name[1:]))
    rank = len(scope.shape(reductions[0].inputs[0]))
    contiguous = bool(last_inner) and last_inner == f"i{rank - 1}"
    keep: set[str] = set()
    for node in scope.body:
        value = node.output
        index = scope.index_of.get(value)
        if OPS[node.op].category == "view" or index is None or uses.get(value, 0) < 2:
            continue
        if {name for part in index for name, _ in part.terms} >= folded and contiguous:
            if value in scope.outputs or _own_cost(scope, node, keep) >= ROW_COST:
                keep.add(value)
    return keep


def _own_cost(scope: Scope, node: Node, kept: set[str]) -> int:
    """Cost of computing a value again from what is stored, reductions' results counting nothing."""
    saved = dict(scope.ready)
    for value in kept:
        scope.ready[value] = (scope.index_of[value], Read(-1, Index(), scope.types[value].dtype))
    for other in scope.body:
        if OPS[other.op].category == "reduction" and other.output in scope.index_of:
            scope.ready[other.output] = (scope.index_of[other.output], Folded("", scope.types[other.output].dtype))
    try:
        expression = scope.expression(node.output, scope.index_of[node.output])
    except NotLowerable:
        return 0
    finally:
        scope.ready = saved
    return cost(expression) - sum(isinstance(e, Folded) for e in walk(expression))


# -- windows -------------------------------------------------------------------------------------------------------


def _window_nest(scope: Scope, node: Node) -> Nest:
    out = node.output
    outer, identity = scope.axes_for(scope.shape(out), "i")
    scope.index_of = {out: identity}
    dtype = scope.types[out].dtype
    stages: list[Stage] = []
    result = _WINDOWS[node.op](scope, node, identity, dtype, stages)
    scope.ready = {out: (identity, result)}
    scope.spread()
    for value in scope.outputs:
        if value not in scope.index_of:
            raise NotLowerable(f"{value} is not aligned with the window's output")
        stages.append(_store(scope, value, scope.index_of[value], ()))
    return Nest(outer, tuple(stages))


def _spatial(node: Node, index: PerDim) -> tuple[slice, int]:
    """Where the spatial dims and the channel dim stand."""
    return (slice(1, -1), len(index) - 1) if node.attr("channels_last", False) else (slice(2, len(index)), 1)


def _taps(scope: Scope, node: Node, index: PerDim, kernel: Shape) -> tuple[tuple[Axis, ...], list[Index], Scalar | None]:
    """Window axes, the spatial input positions, and the guard that keeps them inside the input."""
    spatial, _ = _spatial(node, index)
    n = len(kernel)
    strides, pads, dilations = node.attr("strides"), node.attr("pads"), node.attr("dilations")
    sizes = scope.shape(node.inputs[0])[spatial]
    axes: list[Axis] = []
    positions: list[Index] = []
    guard: Scalar | None = None
    for k in range(n):
        position = index[spatial][k].scaled(strides[k]).shifted(-pads[k])
        if kernel[k] != 1:
            axis = scope.axis(f"w{k}", kernel[k])
            axes.append(axis)
            position = position + Index.axis(axis.name, dilations[k])
        positions.append(position)
        guard = conjunction(guard, in_bounds(position, sizes[k], pads[k], pads[k + n]))
    return tuple(axes), positions, guard


def _at(node: Node, index: PerDim, positions: list[Index], channel: Index) -> PerDim:
    return (index[0], *positions, channel) if node.attr("channels_last", False) else (index[0], channel, *positions)


def _guarded(guard: Scalar | None, value: Scalar, otherwise: float) -> Scalar:
    return value if guard is None else Guarded(guard, value, const(otherwise, value))


def _pool(scope: Scope, node: Node, index: PerDim, dtype: DType, stages: list[Stage]) -> Scalar:
    axes, positions, guard = _taps(scope, node, index, node.attr("kernel"))
    value = scope.expression(node.inputs[0], _at(node, index, positions, index[_spatial(node, index)[1]]))
    if node.op == "max_pool":
        lowest = -math.inf if dtype.is_float else dtype.limits[0]
        stages.append(Reduce("s0", "max", axes, _guarded(guard, value, lowest)))
        return Folded("s0", dtype)
    stages.append(Reduce("s0", "sum", axes, _guarded(guard, value, 0.0)))
    if guard is None or node.attr("count_include_pad", False):
        return apply("div", Folded("s0", dtype), const(float(product(node.attr("kernel"))), dtype))  # type: ignore[arg-type]
    stages.append(Reduce("s1", "sum", axes, Guarded(guard, const(1.0, dtype), const(0.0, dtype))))
    return apply("div", Folded("s0", dtype), Folded("s1", dtype))


def _cumsum(scope: Scope, node: Node, index: PerDim, dtype: DType, stages: list[Stage]) -> Scalar:
    at = node.attr("axis") % len(index)
    axis = scope.axis("w0", scope.shape(node.output)[at])
    source = (*index[:at], Index.axis("w0"), *index[at + 1 :])
    relation = ("gt" if node.attr("exclusive", False) else "ge") if node.attr("reverse", False) else (
        "lt" if node.attr("exclusive", False) else "le"
    )
    seen = apply(relation, Position(Index.axis("w0")), Position(index[at]))
    value = scope.expression(node.inputs[0], source)
    stages.append(Reduce("s0", "sum", (axis,), Guarded(seen, value, const(0, value))))
    return Folded("s0", dtype)


def _matmul(scope: Scope, node: Node, index: PerDim, dtype: DType, stages: list[Stage]) -> Scalar:
    a, b = node.inputs
    left, right = scope.shape(a), scope.shape(b)
    axis = scope.axis("w0", left[-1])
    step = Index.axis("w0")
    batch = max(len(left), len(right), 2) - 2
    rest = list(index[batch:])
    row = rest.pop(0) if len(left) > 1 else None
    column = rest.pop(0) if len(right) > 1 else None

    def batched(shape: Shape) -> PerDim:
        lead = shape[:-2]
        part = index[batch - len(lead) : batch]
        return tuple(Index() if d == 1 else i for d, i in zip(lead, part, strict=True))

    a_at = (*batched(left), *((row,) if row is not None else ()), step)
    b_at = (*batched(right), step, *((column,) if column is not None else ()))
    value = apply("mul", scope.expression(a, a_at), scope.expression(b, b_at))
    stages.append(Reduce("s0", "sum", (axis,), value))
    return Folded("s0", dtype)


def _conv(scope: Scope, node: Node, index: PerDim, dtype: DType, stages: list[Stage]) -> Scalar:
    x, w = node.inputs[:2]
    filters = scope.shape(w)
    window, positions, guard = _taps(scope, node, index, filters[2:])
    groups = node.attr("groups", 1)
    out_channel = index[_spatial(node, index)[1]]
    inner = scope.axis("w9", filters[1])
    channel = Index.axis("w9")
    if groups > 1:
        per_group = filters[0] // groups
        if per_group == 1:
            channel = channel + out_channel.scaled(filters[1])
        else:
            group = apply("div", Position(out_channel), Position(Index(per_group)))
            channel = channel + Index(gathers=((group, filters[1]),))
    taps: PerDim = tuple(
        Index.axis(f"w{k}") if d != 1 else Index() for k, d in enumerate(filters[2:])
    )
    read = scope.expression(x, _at(node, index, positions, channel))
    value = apply("mul", read, scope.expression(w, (out_channel, Index.axis("w9"), *taps)))
    axes = (*window, inner) if filters[1] != 1 else window
    if filters[1] == 1:
        drop = {"w9"}
        value = _without(value, drop)
    if guard is not None:
        value = Guarded(guard, value, const(0.0, dtype))
    stages.append(Reduce("s0", "sum", axes, value))
    result: Scalar = Folded("s0", dtype)
    if len(node.inputs) > 2 and node.inputs[2]:
        result = apply("add", result, scope.expression(node.inputs[2], (out_channel,)))
    return result


def _without(expression: Scalar, axes: set[str]) -> Scalar:
    """Drop axes of extent 1 from every index."""
    return map_indices(
        expression, lambda index: replace(index, terms=tuple((a, c) for a, c in index.terms if a not in axes))
    )


_WINDOWS = {"max_pool": _pool, "avg_pool": _pool, "cumsum": _cumsum, "matmul": _matmul, "conv": _conv}
