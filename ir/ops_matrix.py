"""Rows of ops on matrices that are no products."""

from __future__ import annotations

from .graph import Node
from .op import Op
from .rules import Types, fail, given
from .types import TensorType


def det(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    if x.rank < 2 or x.shape[-1] != x.shape[-2] or not x.dtype.is_float:
        raise fail(node, f"takes square matrices of floats, got {x}")
    return [TensorType(x.dtype, x.shape[:-2])]


ROWS = (Op("det", "routine", (1, 1), det, {}, 16, "the determinant of each matrix"),)
