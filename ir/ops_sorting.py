"""Rows of ops that put elements in order."""

from __future__ import annotations

from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, fail, given, own_axis
from .types import TensorType, i64


def topk(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    axis, k = own_axis(node, node.attr("axis"), x), node.attr("k")
    extent = x.shape[axis]
    if isinstance(k, int) and isinstance(extent, int) and not 0 <= k <= extent:
        raise fail(node, f"takes {k} of {extent} elements")
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [TensorType(x.dtype, shape), TensorType(i64, shape)]


ROWS = (
    Op(
        "topk",
        "routine",
        (1, 1),
        topk,
        {
            "axis": AttrSpec("int"),
            "k": AttrSpec("dim"),
            "largest": AttrSpec("bool", True),
            "sorted": AttrSpec("bool", True),
        },
        8,
        "the k greatest (least) elements along an axis and where they are, of equal ones the first; NaN is the greatest",
    ),
)
