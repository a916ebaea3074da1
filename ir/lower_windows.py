"""Folds over windows as loop nests: pooling, cumulative sums, and products and convolutions as plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

from .affine import PerDim
from .dims import Shape, product
from .graph import Node
from .kernel import Axis, Folded, Guarded, Index, Nest, Position, Reduce, Scalar, Stage, map_indices
from .lower_scope import NotLowerable, Scope, conjunction, in_bounds, store
from .scalars import apply, const, narrow, widen
from .types import DType, i64

#: Cumulative ops and what they fold with.
_RUNNING = {"cumsum": "sum", "cumprod": "prod"}


def window_nest(scope: Scope, node: Node) -> Nest:
    out = node.output
    outer, identity = scope.axes_for(scope.shape(out), "i")
    inner: tuple[Axis, ...] = ()
    if node.op in _RUNNING:
        outer, inner, identity = _running(scope, node, outer, identity)
    scope.index_of = {out: identity}
    dtype = scope.types[out].dtype
    stages: list[Stage] = []
    result = narrow(WINDOWS[node.op](scope, node, identity, dtype.wide, stages), dtype)
    scope.ready = {out: (identity, result)}
    scope.spread()
    for value in scope.outputs:
        if value not in scope.index_of:
            raise NotLowerable(f"{value} is not aligned with the window's output")
        stages.append(store(scope, value, scope.index_of[value], inner))
    return Nest(outer, tuple(stages))


def _spatial(node: Node, index: PerDim) -> tuple[slice, int]:
    """Where the spatial dims and the channel dim stand."""
    return (slice(1, -1), len(index) - 1) if node.attr("channels_last", False) else (slice(2, len(index)), 1)


def _taps(
    scope: Scope, node: Node, index: PerDim, kernel: Shape
) -> tuple[tuple[Axis, ...], list[Index], Scalar | None]:
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


def _wide(scope: Scope, value: str, index: PerDim) -> Scalar:
    """The scalar that `value` holds at `index`, as it is computed with."""
    return widen(scope.expression(value, index))


def _guarded(guard: Scalar | None, value: Scalar, otherwise: float) -> Scalar:
    return value if guard is None else Guarded(guard, value, const(otherwise, value))


def _pool(scope: Scope, node: Node, index: PerDim, dtype: DType, stages: list[Stage]) -> Scalar:
    axes, positions, guard = _taps(scope, node, index, node.attr("kernel"))
    value = _wide(scope, node.inputs[0], _at(node, index, positions, index[_spatial(node, index)[1]]))
    if node.op == "max_pool":
        lowest = -math.inf if dtype.is_float else dtype.limits[0]
        stages.append(Reduce("s0", "max", axes, _guarded(guard, value, lowest)))
        return Folded("s0", dtype)
    stages.append(Reduce("s0", "sum", axes, _guarded(guard, value, 0.0)))
    if guard is None or node.attr("count_include_pad", False):
        return apply("div", Folded("s0", dtype), const(float(product(node.attr("kernel"))), dtype))  # type: ignore[arg-type]
    stages.append(Reduce("s1", "sum", axes, Guarded(guard, const(1.0, dtype), const(0.0, dtype))))
    return apply("div", Folded("s0", dtype), Folded("s1", dtype))


def _running(
    scope: Scope, node: Node, outer: tuple[Axis, ...], identity: PerDim
) -> tuple[tuple[Axis, ...], tuple[Axis, ...], PerDim]:
    """The axis along which a cumulative fold runs becomes the inner one, counted from the end where it is reversed."""
    at = node.attr("axis") % len(identity)
    extent = scope.shape(node.output)[at]
    axis = scope.axis("w0", extent)
    place = Index(extent - 1, (("w0", -1),)) if node.attr("reverse", False) else Index.axis("w0")
    return tuple(a for a in outer if a.name != f"i{at}"), (axis,), (*identity[:at], place, *identity[at + 1 :])


def _cumulative(scope: Scope, node: Node, index: PerDim, dtype: DType, stages: list[Stage]) -> Scalar:
    fold, at = _RUNNING[node.op], node.attr("axis") % len(index)
    axis = Axis("w0", scope.shape(node.output)[at])
    if node.attr("exclusive", False):
        before = index[at].shifted(1 if node.attr("reverse", False) else -1)
        value = _wide(scope, node.inputs[0], (*index[:at], before, *index[at + 1 :]))
        value = Guarded(apply("gt", Position(Index.axis("w0")), const(0, i64)), value, const(fold == "prod", value))
    else:
        value = _wide(scope, node.inputs[0], index)
    stages.append(Reduce("s0", fold, (axis,), value, running=True))
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
    value = apply("mul", _wide(scope, a, a_at), _wide(scope, b, b_at))
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
    taps: PerDim = tuple(Index.axis(f"w{k}") if d != 1 else Index() for k, d in enumerate(filters[2:]))
    read = _wide(scope, x, _at(node, index, positions, channel))
    value = apply("mul", read, _wide(scope, w, (out_channel, Index.axis("w9"), *taps)))
    axes = (*window, inner) if filters[1] != 1 else window
    if filters[1] == 1:
        drop = {"w9"}
        value = _without(value, drop)
    if guard is not None:
        value = Guarded(guard, value, const(0.0, dtype))
    stages.append(Reduce("s0", "sum", axes, value))
    result: Scalar = Folded("s0", dtype)
    if len(node.inputs) > 2 and node.inputs[2]:
        result = apply("add", result, _wide(scope, node.inputs[2], (out_channel,)))
    return result


def _without(expression: Scalar, axes: set[str]) -> Scalar:
    """Drop axes of extent 1 from every index."""
    return map_indices(
        expression, lambda index: replace(index, terms=tuple((a, c) for a, c in index.terms if a not in axes))
    )


#: The ops that fold windows.
WINDOWS = {
    **dict.fromkeys(_RUNNING, _cumulative),
    "max_pool": _pool,
    "avg_pool": _pool,
    "matmul": _matmul,
    "conv": _conv,
}
