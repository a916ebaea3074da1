"""The row of ensembles of decision trees."""

from __future__ import annotations

from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, fail, given
from .types import TensorType, f32, f64, i32

#: Comparisons of a feature with a node's split, by number; the same again where a missing feature (NaN) passes too.
MODES = ("leq", "lt", "gte", "gt", "eq", "neq")


def trees(node: Node, types: Types) -> list[TensorType]:
    """x [N, F]; of nodes: features, modes, references if true and if false i32 [M]; roots i32 [T]; of leaves: starts i32 [L + 1],
    targets i32 [W]; splits [M] and weights [W] of x's type. A reference is a node, or the bitwise inverse of a leaf, and
    leads to no node twice."""
    x = given(node, types, 0)
    if x.dtype not in (f32, f64) or x.rank != 2:
        raise fail(node, f"takes floats [rows, features], got {x}")
    for index in range(1, 10):
        have = given(node, types, index)
        if have.rank != 1 or have.dtype != (i32 if index < 8 else x.dtype):
            raise fail(node, f"input {index} must be a row of {i32 if index < 8 else x.dtype}, got {have}")
    return [TensorType(x.dtype, (x.shape[0], node.attr("targets")))]


ROWS = (
    Op(
        "trees",
        "routine",
        (10, 10),
        trees,
        {"targets": AttrSpec("int"), "aggregate": AttrSpec("str", "sum", ("sum", "average", "min", "max"))},
        64,
        "for each row the leaves that decision trees lead to, their weights combined for each target",
    ),
)
