"""Products of dequantised tensors as products of the integers themselves: scales, and the bias, come after the sum.

    sum((x - zx) * sx * (w - zw) * sw)  =  sx * sw * sum((x - zx) * (w - zw))

The right side is rounded three times (the sum as a float, sx * sw, their product), the left one with every term. So results are at
least as close to exact as those of f32, which is why a faithful precision allows it; where they are quantised again, an element
that lies within this difference of the middle between two steps may come out one step apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...ir.dims import product
from ...ir.graph import Graph, Node
from ...ir.types import f32, i32
from .match import broadcasts_to, is_constant, uses
from .rebuild import Rebuild, rebuild
from .whole_products import PRODUCTS, Centred, centred, known, whole_product

#: products of u8 and i8 that surely add up within i32
_DEEPEST = (1 << 31) // (255 * 128)


@dataclass(frozen=True)
class _Dequantised:
    """(number - zero) * scale, its axes then permuted (empty: as they are)."""

    elements: Centred
    scale: np.ndarray
    perm: tuple[int, ...] = ()


def _dequantised(work: Rebuild, value: str) -> _Dequantised | None:
    node = work.producer(value)
    if node is not None and node.op == "transpose":
        inner = _dequantised(work, node.inputs[0])
        return None if inner is None or inner.perm else replace(inner, perm=node.attr("perm"))
    if node is None or node.op != "mul" or work.type(value).dtype != f32:
        return None
    for wide, factor in (node.inputs, node.inputs[::-1]):
        elements, scale = centred(work, wide, f32), known(work, factor)
        if elements is not None and scale is not None and work.shape(elements.number) == work.shape(value):
            return _Dequantised(elements, scale)
    return None


def _product(work: Rebuild, node: Node) -> str | None:
    if work.old.types[node.output].dtype != f32 or any(work.type(v).rank not in (2, 3, 4) for v in node.inputs[:2]):
        return None
    left, right = (_dequantised(work, value) for value in node.inputs[:2])
    if left is None or right is None or left.perm or left.scale.size != 1:
        return None
    shape = work.shape(node.inputs[1])
    axis = 0 if node.op == "conv" else len(shape) - 1
    depth = product(shape[1:]) if node.op == "conv" else shape[-2]
    columns = _vector(right, right.scale, axis, len(shape))
    if columns is None or not isinstance(depth, int) or depth > _DEEPEST:
        return None
    filters = right.elements
    if right.perm:
        zero = np.zeros(1) if not filters.zero else known(work, filters.zero)
        zeros = None if zero is None else _vector(right, zero, axis, len(shape))
        if zeros is None:
            return None
        number = work.emit("transpose", filters.number, like=node, perm=right.perm)
        filters = Centred(number, work.builder.constant(zeros.astype(np.float32)))
    # without the bias, which is added to the floats
    sums = whole_product(work, replace(node, inputs=node.inputs[:2]), left.elements, filters)
    if sums is None:
        return None
    factor = (left.scale.reshape(-1).astype(np.float64) * columns).astype(np.float32)
    behind = (1,) * (len(shape) - 2 if node.op == "conv" else 0)
    wide = work.emit("cast", sums, like=node, to=f32)
    value = work.emit("mul", wide, work.builder.constant(factor.reshape(-1, *behind)), like=node)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = work.emit("reshape", node.inputs[2], like=node, shape=(shape[0], *behind))
        value = work.emit("add", value, bias, like=node)
    return value


def _vector(operand: _Dequantised, array: np.ndarray, axis: int, rank: int) -> np.ndarray | None:
    """What broadcasts to an operand, as it is after its permutation, as a vector along one axis; None where others differ."""
    if array.size == 1:
        return array.reshape(1)
    wide = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if operand.perm:
        wide = wide.transpose(operand.perm)
    return wide.reshape(-1) if wide.shape[axis] == wide.size else None


def _requantised(work: Rebuild, node: Node) -> str | None:
    """A product's result divided by the scale it is quantised with: its factor and its bias are, ahead of time."""
    x, divisor = node.inputs
    scale = known(work, divisor)
    if scale is None or scale.size != 1 or not scale.flat[0] > 0 or work.type(x).dtype != f32 or uses(work, x) > 1:
        return None
    bound = work.producer(x)
    if bound is not None and bound.op not in ("relu", "clip"):
        bound = None
    inner = bound.inputs[0] if bound is not None else x
    shift, bias = work.producer(inner, "add"), ""
    factors = work.producer(inner, "mul")
    if shift is not None and uses(work, inner) <= 1:
        for scaled, constant in (shift.inputs, shift.inputs[::-1]):
            if is_constant(work, constant) and broadcasts_to(work.shape(constant), work.shape(scaled)):
                factors, bias = work.producer(scaled, "mul"), constant
    if factors is None or uses(work, factors.output) > 1:
        return None
    sums, factor = factors.inputs
    array = known(work, factor)
    wide = work.producer(sums, "cast")
    if array is None or wide is None or work.type(wide.inputs[0]).dtype != i32:
        return None
    step = np.float64(scale.flat[0])
    value = work.emit("mul", sums, work.builder.constant((array / step).astype(np.float32)), like=node)
    if bias:
        value = work.emit("add", value, work.emit("div", bias, divisor, like=node), like=node)
    if bound is None:
        return value
    if bound.op == "relu":
        return work.emit("relu", value, like=bound)
    low, high = (bound.attr(name, limit) / float(step) for name, limit in (("min", -math.inf), ("max", math.inf)))
    return work.emit("clip", value, like=bound, min=low, max=high)


def dequantised_products(graph: Graph) -> Graph:
    """Products whose operands were dequantised are products of whole numbers."""
    return rebuild(graph, {**dict.fromkeys(PRODUCTS, (_product,)), "div": (_requantised,)})
