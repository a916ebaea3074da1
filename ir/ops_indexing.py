"""Rows of ops that put elements where indices say, and of those that tell elements apart."""

from __future__ import annotations

from .dims import Dim
from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, axis_of, fail, given
from .types import TensorType, i64

_REDUCTION = AttrSpec("str", "none", ("none", "add", "mul", "min", "max"))


def scatter(node: Node, types: Types) -> list[TensorType]:
    """x [M, ...], rows [U] of whole numbers, updates [U, ...]."""
    x, rows, updates = (given(node, types, i) for i in range(3))
    if x.rank < 1 or rows.rank != 1 or not rows.dtype.is_integer:
        raise fail(node, f"cannot put rows {rows} into {x}")
    if updates != TensorType(x.dtype, (*rows.shape, *x.shape[1:])):
        raise fail(node, f"updates {updates} do not fit {x} and rows {rows}")
    return [x]


def scatter_elements(node: Node, types: Types) -> list[TensorType]:
    """x, indices of its rank that are no longer than it along the other axes, updates of the indices' shape."""
    x, indices, updates = (given(node, types, i) for i in range(3))
    axis = axis_of(node, node.attr("axis"), x.rank)
    if indices.rank != x.rank or not x.rank or not indices.dtype.is_integer:
        raise fail(node, f"indices {indices} do not fit {x}")
    for a, (have, wanted) in enumerate(zip(x.shape, indices.shape, strict=True)):
        if a != axis and isinstance(have, int) and isinstance(wanted, int) and wanted > have:
            raise fail(node, f"indices {indices} are longer than {x} along axis {a}")
    if updates != TensorType(x.dtype, indices.shape):
        raise fail(node, f"updates {updates} do not fit indices {indices} into {x}")
    return [x]


def unique(node: Node, types: Types) -> list[TensorType]:
    """x [N, W]: the different rows, where each is first, which one each row is, and how often each occurs."""
    x = given(node, types, 0)
    if x.rank != 2:
        raise fail(node, f"takes rank 2, got {x}", "reshape first")
    count: Dim = node.attr("count")
    return [
        TensorType(x.dtype, (count, x.shape[1])),
        TensorType(i64, (count,)),
        TensorType(i64, (x.shape[0],)),
        TensorType(i64, (count,)),
    ]


ROWS = (
    Op(
        "scatter",
        "routine",
        (3, 3),
        scatter,
        {"reduction": _REDUCTION},
        1,
        "x with updates put in place of, or combined with, the rows named; one after the other; negative rows count from the end",
        in_place=True,
    ),
    Op(
        "scatter_elements",
        "routine",
        (3, 3),
        scatter_elements,
        {"axis": AttrSpec("int"), "reduction": _REDUCTION},
        1,
        "the same element by element: the position along the axis is the index, along the others the update's own",
        in_place=True,
    ),
    Op(
        "unique",
        "routine",
        (1, 1),
        unique,
        {"sorted": AttrSpec("bool", True), "count": AttrSpec("sets")},
        24,
        "different rows in ascending order, or as they occur first; NaN equals NaN and is the greatest",
    ),
)
