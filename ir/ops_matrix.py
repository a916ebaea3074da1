"""Rows of ops on matrices that are no products."""

from __future__ import annotations

from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, fail, given
from .types import TensorType, f32, f64


def det(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    if x.rank < 2 or x.shape[-1] != x.shape[-2] or not x.dtype.is_float:
        raise fail(node, f"takes square matrices of floats, got {x}")
    return [TensorType(x.dtype, x.shape[:-2])]


def pairwise_probabilities(node: Node, types: Types) -> list[TensorType]:
    x, classes = given(node, types, 0), node.attr("classes")
    pairs = classes * (classes - 1) // 2
    if x.dtype not in (f32, f64) or x.rank != 2 or classes < 2 or x.shape[1] != pairs:
        raise fail(node, f"takes floats [rows, {pairs}] for {classes} classes, got {x}")
    return [TensorType(x.dtype, (x.shape[0], classes))]


ROWS = (
    Op("det", "routine", (1, 1), det, {}, 16, "the determinant of each matrix"),
    Op(
        *("pairwise_probabilities", "routine", (1, 1), pairwise_probabilities, {"classes": AttrSpec("int")}, 256),
        "the probabilities of classes that fit those of the first of each pair best, in each row (Wu, Lin and Weng 2004), "
        "iterated until nothing is off by more than 0.005 / classes, at most 100 times",
    ),
)
