"""Rotary position embedding: x * cos + rotate_half(x) * sin over the last axis."""

from __future__ import annotations

from ...ir.graph import Node
from .match import broadcasts_to, every, number, op, var
from .rebuild import Rebuild

_SUM = op("add", op("mul", var("x"), var("cos")), op("mul", var("turned"), var("sin")))
_NEGATED = (op("neg", var("x")), op("mul", var("x"), number(-1)))


def _negated(work: Rebuild, value: str) -> Node | None:
    """What makes y in value = -y."""
    node = work.producer(value)
    for pattern in _NEGATED if node is not None else ():
        for found in every(work, node, pattern):  # type: ignore[arg-type]
            return work.producer(found.value("x"))
    return None


def _part(node: Node | None, x: str, rank: int) -> tuple[object, object, int] | None:
    """Start, extent and step of a slice of x along its last axis."""
    if node is None or node.op != "slice" or node.inputs[0] != x or node.attr("axis") % rank != rank - 1:
        return None
    return node.attr("start"), node.attr("extent"), node.attr("step", 1)


def _turns(work: Rebuild, turned: str, x: str) -> bool | None:
    """Whether `turned` is x with its pairs turned: False for halves, True for neighbours (interleaved), None for neither."""
    shape = work.shape(x)
    size, rank = (shape[-1] if shape else 0), len(shape)
    if not isinstance(size, int) or size % 2 or size == 0 or work.shape(turned) != shape:
        return None
    half, node, interleaved = size // 2, work.producer(turned), False
    if node is not None and node.op == "reshape":
        node, interleaved = work.producer(node.inputs[0], "concat"), True
    if node is None or node.op != "concat" or len(node.inputs) != 2:
        return None
    if node.attr("axis") % len(work.shape(node.inputs[0])) != (rank if interleaved else rank - 1):
        return None
    first, second = (_flat(work, v) if interleaved else v for v in node.inputs)
    parts = _part(_negated(work, first), x, rank), _part(work.producer(second), x, rank)
    wanted = ((1, half, 2), (0, half, 2)) if interleaved else ((half, half, 1), (0, half, 1))
    return interleaved if parts == wanted else None


def _flat(work: Rebuild, value: str) -> str:
    """Below the reshape that adds an axis of 1 at the end."""
    node = work.producer(value, "reshape")
    flat = node is not None and node.attr("shape") == (*work.shape(node.inputs[0]), 1)
    return node.inputs[0] if node is not None and flat else ""


def rotary(work: Rebuild, node: Node) -> str | None:
    """Where cos and sin broadcast to x; the pairs are (i, i + half), or (2 i, 2 i + 1) if interleaved."""
    for found in every(work, node, _SUM):
        x, turned, cos, sin = (found.value(name) for name in ("x", "turned", "cos", "sin"))
        if not work.type(x).dtype.is_float or not all(broadcasts_to(work.shape(v), work.shape(x)) for v in (cos, sin)):
            continue
        interleaved = _turns(work, turned, x)
        if interleaved is not None:
            return work.emit("rotary", x, cos, sin, like=node, interleaved=interleaved)
    return None
