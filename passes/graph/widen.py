"""Products, convolutions and attention of narrow floats compute in f32: their operands are widened in front of them and their
result is rounded behind. What is left are casts, which fuse with whatever stands there, and weights that are widened as they are
packed."""

from __future__ import annotations

from ...ir.graph import Graph, Node
from ...ir.ops import OPS
from .rebuild import Rebuild, rebuild


def _widen(work: Rebuild, node: Node) -> str | None:
    narrow = work.old.types[node.output].dtype
    if not (narrow.is_float and narrow.is_narrow):
        return None
    wide = []
    for value in node.inputs:
        dtype = work.type(value).dtype if value else narrow.wide
        wide.append(work.emit("cast", value, like=node, to=dtype.wide) if dtype.wide != dtype else value)
    result = work.emit(node.op, *wide, like=node, **dict(node.attrs))
    return work.emit("cast", result, like=node, to=narrow)


def widen(graph: Graph) -> Graph:
    """No contraction has narrow floats as its result."""
    return rebuild(graph, {op.name: (_widen,) for op in OPS.values() if op.category == "contraction"})
