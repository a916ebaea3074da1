"""Local rewrites to one form: identities vanish, views compose, constants become literals, attributes replace small ops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir.graph import Graph, Node
from ...ir.ops import OPS
from ...ir.types import bool_, i8, i32, u8
from .match import broadcasts_to
from .rebuild import Rebuild, Rule, rebuild


def _same_type(work: Rebuild, node: Node) -> str | None:
    """reshape, expand, cast, slice, ... that change nothing."""
    (source,) = node.inputs
    shape = work.shape(source)
    match node.op:
        case "reshape" | "expand":
            same = work.old.types[node.output].shape == shape
        case "transpose":
            same = node.attr("perm") == tuple(range(len(shape)))
        case "cast":
            same = node.attr("to") == work.type(source).dtype
        case "pad":
            same = not any(node.attr("pads"))
        case _:  # slice
            extent = shape[node.attr("axis") % len(shape)]
            same = node.attr("start") == 0 and node.attr("extent") == extent and node.attr("step", 1) == 1
    return source if same else None


def _reshape_of_reshape(work: Rebuild, node: Node) -> str | None:
    inner = work.producer(node.inputs[0], "reshape")
    if inner is None:
        return None
    (source,) = inner.inputs
    if work.shape(source) == node.attr("shape"):
        return source
    return work.emit("reshape", source, like=node, shape=node.attr("shape"))


def _transpose_of_transpose(work: Rebuild, node: Node) -> str | None:
    inner = work.producer(node.inputs[0], "transpose")
    if inner is None:
        return None
    perm = tuple(inner.attr("perm")[p] for p in node.attr("perm"))
    if perm == tuple(range(len(perm))):
        return inner.inputs[0]
    return work.emit("transpose", inner.inputs[0], like=node, perm=perm)


def _transpose_of_ones(work: Rebuild, node: Node) -> str | None:
    """A permutation that only moves extents of 1 is a reshape."""
    shape = work.shape(node.inputs[0])
    moved = [p for p in node.attr("perm") if shape[p] != 1]
    if moved != sorted(moved):
        return None
    return work.emit("reshape", node.inputs[0], like=node, shape=tuple(shape[p] for p in node.attr("perm")))


def _narrow_transpose(work: Rebuild, node: Node) -> str | None:
    """Bytes that become i32 are moved as bytes: the permutation comes in front of the cast, and of a number taken from all."""
    (source,) = node.inputs
    wide = work.producer(source)
    if wide is None or work.type(source).dtype != i32:
        return None
    if wide.op == "cast" and work.type(wide.inputs[0]).dtype in (u8, i8):
        return work.emit(
            "cast", work.emit("transpose", wide.inputs[0], like=node, **dict(node.attrs)), like=wide, to=i32
        )
    if wide.op == "sub" and work.shape(wide.inputs[1]) in ((), (1,)):
        inner = work.producer(wide.inputs[0], "cast")
        if inner is not None and work.type(inner.inputs[0]).dtype in (u8, i8):
            moved = work.emit("transpose", inner.inputs[0], like=node, **dict(node.attrs))
            return work.emit("sub", work.emit("cast", moved, like=inner, to=i32), wide.inputs[1], like=wide)
    return None


def _single_concat(work: Rebuild, node: Node) -> str | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _literal(work: Rebuild, node: Node) -> str | None:
    """One-element constants read by this node become `fill`, so that kernels hold them as literals."""
    if OPS[node.op].category not in ("elementwise", "composite"):
        return None
    changed = list(node.inputs)
    for position, value in enumerate(node.inputs):
        weight = work.builder.weights.get(value)
        if weight is None or weight.type.elements != 1 or work.constant(value) is None:
            continue
        array = work.constant(value)
        assert array is not None
        number = float(array.flat[0])
        if weight.type.dtype == bool_ or weight.type.dtype.is_float or int(number) == int(array.flat[0]):
            changed[position] = work.emit(
                "fill", like=node, value=number, shape=weight.type.shape, dtype=weight.type.dtype
            )
    if tuple(changed) == node.inputs:
        return None
    renamed = replace(node, inputs=tuple(changed), outputs=(work.builder.fresh(),))
    work.keep(renamed)
    return renamed.output


def _pow(work: Rebuild, node: Node) -> str | None:
    x, y = node.inputs
    exponent = work.scalar(y)
    if exponent is None or work.shape(x) != work.old.types[node.output].shape:
        return None
    if exponent == 1:
        return x
    if exponent == 2:
        return work.emit("mul", x, x, like=node)
    if exponent == 3 and not work.type(x).dtype.is_narrow:  # rounded twice
        return work.emit("mul", work.emit("mul", x, x, like=node), x, like=node)
    if exponent == 0.5 and work.type(x).dtype.is_float:
        return work.emit("sqrt", x, like=node)
    return None


def _neutral(work: Rebuild, node: Node) -> str | None:
    """x + 0, x - 0, x * 1, x / 1 with a constant that does not widen x."""
    neutral = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}[node.op]
    for keep, other in ((0, 1), (1, 0)) if node.op in ("add", "mul") else ((0, 1),):
        x, c = node.inputs[keep], node.inputs[other]
        if work.scalar(c) == neutral and (neutral != 0.0 or not np.signbit(work.scalar(c) or 0.0)):
            # -0.0 + 0.0 is 0.0, but nothing downstream of a model may depend on the sign of a zero sum
            if broadcasts_to(work.shape(c), work.shape(x)):
                return x
    return None


def _split_bias(work: Rebuild, node: Node) -> str | None:
    if len(node.inputs) < 3 or not node.inputs[2]:
        return None
    x, w, bias = node.inputs
    rank = work.type(x).rank
    product = work.emit("conv", x, w, like=node, **dict(node.attrs))
    if node.attr("channels_last", False):
        shaped = bias
    else:
        channels = work.shape(bias)[0]
        shaped = work.emit("reshape", bias, like=node, shape=(1, channels, *(1,) * (rank - 2)))
    return work.emit("add", product, shaped, like=node)


def _pad_into_conv(work: Rebuild, node: Node) -> str | None:
    pad = work.producer(node.inputs[0], "pad")
    if pad is None or pad.attr("mode", "constant") != "constant" or pad.attr("value", 0.0) != 0.0:
        return None
    pads, rank = pad.attr("pads"), work.type(node.inputs[0]).rank
    spatial = range(1, rank - 1) if node.attr("channels_last", False) else range(2, rank)
    if any(pads[k] or pads[k + rank] for k in range(rank) if k not in spatial):
        return None
    n = len(spatial)
    total = [*node.attr("pads")]
    for i, k in enumerate(spatial):
        total[i] += pads[k]
        total[i + n] += pads[k + rank]
    attrs = {**dict(node.attrs), "pads": tuple(total)}
    return work.emit("conv", pad.inputs[0], *node.inputs[1:], like=node, **attrs)


def _gather_one(work: Rebuild, node: Node) -> str | None:
    """Indexing by a single constant is a slice."""
    data, indices = node.inputs
    index = work.constant(indices)
    if index is None or index.size != 1:
        return None
    shape = work.shape(data)
    axis, at = node.attr("axis") % len(shape), int(index.flat[0])
    extent = shape[axis]
    start = at if at >= 0 else extent + at
    if isinstance(extent, int) and isinstance(start, int) and not 0 <= start < extent:
        return None
    part = work.emit("slice", data, like=node, axis=axis, start=start, extent=1)
    return work.emit("reshape", part, like=node, shape=(*shape[:axis], *index.shape, *shape[axis + 1 :]))


def _matmul_of_vectors(work: Rebuild, node: Node) -> str | None:
    a, b = node.inputs
    left, right = work.shape(a), work.shape(b)
    if len(left) > 1 and len(right) > 1:
        return None
    if len(left) == 1:
        a = work.emit("reshape", a, like=node, shape=(1, *left))
    if len(right) == 1:
        b = work.emit("reshape", b, like=node, shape=(*right, 1))
    wide = work.emit("matmul", a, b, like=node)
    return work.emit("reshape", wide, like=node, shape=work.old.types[node.output].shape)


def _where_const(work: Rebuild, node: Node) -> str | None:
    """where over a constant condition that is all true or all false."""
    value = work.scalar(node.inputs[0])
    if value is None:
        return None
    chosen = node.inputs[1 if value else 2]
    return chosen if work.type(chosen) == work.old.types[node.output] else None


def _and_true(work: Rebuild, node: Node) -> str | None:
    for keep, other in ((0, 1), (1, 0)):
        x = node.inputs[keep]
        if work.scalar(node.inputs[other]) == 1.0 and work.type(x) == work.old.types[node.output]:
            return x
    return None


_RULES: dict[str, tuple[Rule, ...]] = {
    "reshape": (_same_type, _reshape_of_reshape),
    "expand": (_same_type,),
    "transpose": (_same_type, _transpose_of_transpose, _transpose_of_ones, _narrow_transpose),
    "cast": (_same_type,),
    "slice": (_same_type,),
    "pad": (_same_type,),
    "concat": (_single_concat,),
    "pow": (_pow,),
    "add": (_neutral,),
    "sub": (_neutral,),
    "mul": (_neutral,),
    "div": (_neutral,),
    "and": (_and_true,),
    "where": (_where_const,),
    "conv": (_pad_into_conv, _split_bias),
    "gather": (_gather_one,),
    "matmul": (_matmul_of_vectors,),
    "*": (_literal,),
}


def canonicalize(graph: Graph) -> Graph:
    """Repeat the rules until nothing changes."""
    for _ in range(8):
        after = rebuild(graph, _RULES)
        if after.nodes == graph.nodes:
            return after
        graph = after
    return graph
