"""Index maps: for each dim of a tensor an affine `Index` over loop axes, carried through view operators in both directions.

`None` means that no affine map exists (a reshape that would need division), so the data must be moved first.
"""

from __future__ import annotations

from collections.abc import Mapping

from .dims import Bounds, Dim, Shape, exact_div, lower, product, upper
from .graph import Node
from .kernel import Index

PerDim = tuple[Index, ...]
Extents = Mapping[str, Dim]  # of loop axes


def dense_strides(shape: Shape) -> Shape:
    """Row-major strides, in elements."""
    strides: list[Dim] = []
    step: Dim = 1
    for extent in reversed(shape):
        strides.append(step)
        step = step * extent
    return tuple(reversed(strides))


def linear(index: PerDim, shape: Shape) -> Index:
    """The position in a dense row-major buffer."""
    total = Index()
    for part, stride, extent in zip(index, dense_strides(shape), shape, strict=True):
        if extent != 1:
            total = total + part.scaled(stride)
    return total


def _never_negative(dim: Dim, symbols: Mapping[str, Bounds]) -> bool:
    return lower(dim, symbols) >= 0


def _split(position: Index, dims: Shape, extents: Extents, symbols: Mapping[str, Bounds]) -> PerDim | None:
    """Digits of a group-local position in the mixed radix of `dims`, when every term belongs to one digit without carry."""
    if len(dims) == 1:
        return (position,)
    if 0 in dims:
        return tuple(Index() for _ in dims)  # there are no elements
    if position.gathers:
        return None
    strides = dense_strides(dims)
    digits = [Index() for _ in dims]
    reach: list[Dim] = [0] * len(dims)  # greatest value of each digit
    base = position.base
    for axis, coefficient in position.terms:
        span = extents[axis] - 1
        if upper(coefficient, symbols) < 0:
            # counted down: what the axis takes away at most comes out of the base first
            base = base + coefficient * span
        elif not _never_negative(coefficient, symbols):
            return None
        for k, stride in enumerate(strides):
            factor = exact_div(coefficient, stride)
            if factor is None:
                continue
            size = -factor if upper(factor, symbols) < 0 else factor
            if _never_negative(dims[k] - 1 - reach[k] - size * span, symbols):
                digits[k] = digits[k] + Index.axis(axis, factor)
                if size != factor:
                    digits[k] = digits[k].shifted(size * span)
                reach[k] = reach[k] + size * span
                break
        else:
            return None
    rest = base
    for k, stride in enumerate(strides):
        if isinstance(rest, int) and isinstance(stride, int):
            digit: Dim = rest // stride
        else:
            exact = exact_div(rest, stride)
            digit = exact if exact is not None else 0
        if digit != 0:
            if not (_never_negative(digit, symbols) and _never_negative(dims[k] - 1 - reach[k] - digit, symbols)):
                return None
            digits[k] = digits[k].shifted(digit)
            rest = rest - digit * stride
    return tuple(digits) if rest == 0 else None


def regroup(
    index: PerDim, source: Shape, target: Shape, extents: Extents, symbols: Mapping[str, Bounds]
) -> PerDim | None:
    """The index under another shape with the same row-major order."""
    if source == target:
        return index
    left = [i for i, d in enumerate(source) if d != 1]
    right = [i for i, d in enumerate(target) if d != 1]
    result = [Index()] * len(target)
    i = j = 0
    while i < len(left) and j < len(right):
        first, second = [left[i]], [right[j]]
        i, j = i + 1, j + 1
        a: Dim = source[first[0]]
        b: Dim = target[second[0]]
        while a != b:
            if exact_div(b, a) is not None and i < len(left):
                grow_left = True
            elif exact_div(a, b) is not None and j < len(right):
                grow_left = False
            elif i < len(left) and j < len(right):
                grow_left = not (isinstance(a, int) and isinstance(b, int) and a > b)
            else:
                return None
            if grow_left:
                first.append(left[i])
                a, i = a * source[left[i]], i + 1
            else:
                second.append(right[j])
                b, j = b * target[right[j]], j + 1
        position = linear(tuple(index[k] for k in first), tuple(source[k] for k in first))
        digits = _split(position, tuple(target[k] for k in second), extents, symbols)
        if digits is None:
            return None
        for k, digit in zip(second, digits, strict=True):
            result[k] = digit
    return tuple(result) if i == len(left) and j == len(right) else None


def broadcast(index: PerDim, shape: Shape) -> PerDim:
    """The index of an operand of `shape` that is broadcast to the index's (longer or equal) rank."""
    missing = len(index) - len(shape)
    return tuple(Index() if extent == 1 else index[missing + k] for k, extent in enumerate(shape))


def backward(
    node: Node, index: PerDim, source: Shape, target: Shape, extents: Extents, symbols: Mapping[str, Bounds]
) -> PerDim | None:
    """Where a view node's output element at `index` (of shape `target`) comes from in its input (of shape `source`)."""
    match node.op:
        case "transpose":
            found = [Index()] * len(source)
            for position, axis in enumerate(node.attr("perm")):
                found[axis] = index[position]
            return tuple(found)
        case "expand":
            return broadcast(index, source)
        case "slice":
            axis = node.attr("axis") % len(source)
            moved = index[axis].scaled(node.attr("step", 1)).shifted(node.attr("start"))
            return (*index[:axis], moved, *index[axis + 1 :])
        case "reshape":
            return regroup(index, target, source, extents, symbols)
    return None


def forward(
    node: Node, index: PerDim, source: Shape, target: Shape, extents: Extents, symbols: Mapping[str, Bounds]
) -> PerDim | None:
    """Where a view node puts its input element at `index`; None for views that do not keep every element once."""
    match node.op:
        case "transpose":
            return tuple(index[axis] for axis in node.attr("perm"))
        case "expand" if product(source) == product(target):
            return (Index(),) * (len(target) - len(source)) + index
        case "reshape":
            return regroup(index, source, target, extents, symbols)
    return None
