"""Batch norms and per-channel factors folded into the convolution before them, as ops on its weights: `fold_constants` makes these
Derived weights. A batch norm elsewhere becomes a product and a sum, pooling over everything a reduction."""

from __future__ import annotations

from ...ir.graph import Node
from .match import is_constant, uses
from .rebuild import Rebuild


def _convolution(work: Rebuild, value: str) -> tuple[Node, str] | None:
    """A channels-first convolution of constant weights that nothing else reads, and its bias ([channels], or empty)."""
    if uses(work, value) > 1:
        return None
    node, bias = work.producer(value), ""
    if node is not None and node.op == "add":
        for product, shift in (node.inputs, node.inputs[::-1]):
            inner = work.producer(product, "conv")
            if inner is not None and len(inner.inputs) == 2 and uses(work, product) <= 1:
                vector = _per_channel(work, shift, product, node)
                if vector is not None:
                    node, bias = inner, vector
                    break
    if node is None or node.op != "conv" or node.attr("channels_last", False):
        return None
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = node.inputs[2]
    return (node, bias) if all(is_constant(work, v) for v in (node.inputs[1], bias) if v) else None


def _per_channel(work: Rebuild, value: str, x: str, like: Node) -> str | None:
    """A constant that varies along axis 1 of x only, as a vector of all channels."""
    shape, target = work.shape(value), work.shape(x)
    channels = target[1] if len(target) > 1 else 0
    if len(shape) > len(target) or not isinstance(channels, int) or not is_constant(work, value):
        return None
    wide = (1,) * (len(target) - len(shape)) + shape
    if wide[1] not in (1, channels) or any(d != 1 for axis, d in enumerate(wide) if axis != 1):
        return None
    number = work.scalar(value)
    if number is not None:
        return work.emit("fill", like=like, value=number, shape=(channels,), dtype=work.type(value).dtype)
    vector = work.emit("reshape", value, like=like, shape=(wide[1],))
    return work.emit("expand", vector, like=like, shape=(channels,))


def _folded(work: Rebuild, conv: Node, bias: str, factor: str, shift: str, like: Node) -> str:
    """conv(x) * factor + shift, both [channels]; the bias of the convolution is multiplied too."""
    filters = conv.inputs[1]
    if factor:
        column = work.emit(
            "reshape", factor, like=like, shape=(work.shape(factor)[0], *(1,) * (len(work.shape(filters)) - 1))
        )
        filters = work.emit("mul", filters, column, like=like)
        bias = bias and work.emit("mul", bias, factor, like=like)
    if shift:
        bias = work.emit("add", bias, shift, like=like) if bias else shift
    inputs = (conv.inputs[0], filters, bias) if bias else (conv.inputs[0], filters)
    return work.emit("conv", *inputs, like=conv, **dict(conv.attrs))


def batch_norm(work: Rebuild, node: Node) -> str | None:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias: into the convolution, else x * factor + shift."""
    x, scale, bias, mean, variance = node.inputs
    epsilon = work.emit("fill", like=node, value=node.attr("epsilon"), shape=(), dtype=work.type(variance).dtype)
    root = work.emit("sqrt", work.emit("add", variance, epsilon, like=node), like=node)
    factor = work.emit("div", scale, root, like=node)
    shift = work.emit("sub", bias, work.emit("mul", mean, factor, like=node), like=node)
    found = _convolution(work, x) if is_constant(work, factor) and is_constant(work, shift) else None
    if found is not None:
        return _folded(work, *found, factor, shift, node)
    column = (work.shape(x)[1], *(1,) * (work.type(x).rank - 2))
    factor, shift = (work.emit("reshape", v, like=node, shape=column) for v in (factor, shift))
    return work.emit("add", work.emit("mul", x, factor, like=node), shift, like=node)


def channel_factor(work: Rebuild, node: Node) -> str | None:
    """conv(x) times, or divided by, a constant per channel."""
    for value, constant in (node.inputs, node.inputs[::-1]) if node.op == "mul" else (node.inputs,):
        if not is_constant(work, constant):
            continue
        found = _convolution(work, value)
        vector = found and _per_channel(work, constant, value, node)
        if found is None or not vector:
            continue
        if node.op == "div":
            vector = work.emit("reciprocal", vector, like=node)
        return _folded(work, *found, vector, "", node)
    return None


def channel_shift(work: Rebuild, node: Node) -> str | None:
    """conv(x) + bias plus a constant per channel. The first one is the bias, and stays as it is."""
    for value, constant in (node.inputs, node.inputs[::-1]):
        if not is_constant(work, constant):
            continue
        found = _convolution(work, value)
        vector = _per_channel(work, constant, value, node) if found is not None and found[1] else None
        if found is not None and vector:
            return _folded(work, *found, "", vector, node)
    return None


def whole_window(work: Rebuild, node: Node) -> str | None:
    """Pooling with one window that covers all of the input is a reduction: global pooling, as some exporters write it."""
    last = node.attr("channels_last", False)
    axes = tuple(range(1, work.type(node.inputs[0]).rank - 1) if last else range(2, work.type(node.inputs[0]).rank))
    source, result = work.shape(node.inputs[0]), work.old.types[node.output].shape
    pads, padded = node.attr("pads"), any(node.attr("pads"))
    if any(d != 1 for d in node.attr("dilations")) or (padded and node.attr("count_include_pad", False)):
        return None
    for axis, size, before in zip(axes, node.attr("kernel"), pads, strict=False):
        extent = source[axis]
        if result[axis] != 1 or not isinstance(extent, int) or size - before < extent:
            return None
    kind = "reduce_mean" if node.op == "avg_pool" else "reduce_max"
    return work.emit(kind, node.inputs[0], like=node, axes=axes, keepdims=True)
