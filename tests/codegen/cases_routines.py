"""Directed cases of routines."""

from __future__ import annotations

import itertools

import numpy as np
from stratac.ir.types import f32

from .cases import M, N, Net, case

_KINDS = ("float32", "float64", "int64", "int8", "uint16")


@case(*itertools.product(_KINDS, (True, False)))
def topk(net: Net, dtype: str, largest: bool) -> tuple[str, ...]:
    """Few different values, so that equal ones meet."""
    x = net.input((3, N, M), dtype, 0, 3)
    first = net.many("topk", x, outputs=2, axis=-1, k=1, largest=largest)
    whole = net.many("topk", x, outputs=2, axis=1, k=N, largest=largest)
    return *first, *whole


@case(True, False)
def topk_of_special_values(net: Net, largest: bool) -> tuple[str, ...]:
    values = np.array([[0.0, np.nan, -np.inf, 3.0, np.nan, -0.0, np.inf, 3.0]], np.float32)
    return net.many("topk", net.input(values), outputs=2, axis=-1, k=7, largest=largest)


@case()
def topk_behind_views(net: Net) -> str:
    """A transposed input becomes a copy, a slice along the first axis a place in the middle; one result is not used."""
    x = net.input((M, 5), "float32")
    turned = net.many("topk", net.transpose(x, perm=(1, 0)), outputs=2, axis=0, k=2)[1]
    part = net.many("topk", net.slice(net.input((7, 4)), axis=0, start=2, extent=5), outputs=2, axis=0, k=3)[0]
    return net.add(net.reduce_sum(net.cast(turned, to=f32), axes=(0, 1), keepdims=False), part)


def _whole(net: Net, low: int, high: int, shape: tuple[int, ...], dtype: str = "int64") -> str:
    return net.input(shape, dtype, low, high)


@case(*itertools.product(("none", "add", "mul", "min", "max"), ("float32", "int32", "uint8", "float64")))
def scatter(net: Net, reduction: str, dtype: str) -> tuple[str, ...]:
    """Rows that meet, rows counted from the end; wide and narrow ones, and more than one part's share."""
    wide = net.scatter(
        net.input((6, 700), dtype, 0, 3),
        net.array([-1, 2, 2, -6, 5], "int64"),
        net.input((5, 700), dtype, 0, 3),
        reduction=reduction,
    )
    x, rows = net.input((700, N), dtype, 0, 3), _whole(net, -700, 699, (90,), "int32")
    narrow = net.scatter(x, rows, net.input((90, N), dtype, 0, 3), reduction=reduction)
    single = net.scatter(
        net.input((5000,), dtype, 0, 3), _whole(net, 0, 40, (200,)), net.input((200,), dtype, 0, 3), reduction=reduction
    )
    return wide, narrow, single


@case()
def scatter_of_special_values(net: Net) -> tuple[str, ...]:
    x = net.input(np.array([1.0, np.nan, 2.0, -np.inf, 0.0], np.float32))
    updates = net.input(np.array([np.nan, 3.0, np.inf, np.nan, -1.0], np.float32))
    rows = net.array([0, 1, 3, 2, 2], "int64")
    return tuple(net.scatter(x, rows, updates, reduction=r) for r in ("none", "add", "max", "min"))


@case()
def scatter_of_bools_and_nothing(net: Net) -> tuple[str, ...]:
    x, rows, updates = net.input((9,), "bool"), _whole(net, -9, 8, (7,)), net.input((7,), "bool")
    found = [net.scatter(x, rows, updates, reduction=r) for r in ("none", "add", "mul", "min", "max")]
    nothing = net.scatter(net.input((4, 3)), net.array(np.zeros(0), "int64"), net.input((0, 3)))
    return *found, nothing, net.scatter(net.input((4, 0)), net.array([1], "int64"), net.input((1, 0)))


@case(*itertools.product(("none", "add", "mul", "min", "max"), ("float32", "int64", "uint8")))
def scatter_elements(net: Net, reduction: str, dtype: str) -> tuple[str, ...]:
    """Along each axis; indices as long as the data and shorter, and of a dim that may be 0."""
    found = []
    for axis, (shape, short) in itertools.product((0, 1, -1), (((5, 4, 30), (5, 4, 30)), ((5, 4, 30), (3, 2, 11)))):
        extent = shape[axis]
        x, at = net.input(shape, dtype, 0, 3), _whole(net, -extent, extent - 1, short, "int32")
        found.append(net.scatter_elements(x, at, net.input(short, dtype, 0, 3), axis=axis, reduction=reduction))
    x, at = net.input((6, N), dtype, 0, 3), net.input((4, N), "int64", -6, 5)
    return *found, net.scatter_elements(x, at, net.input((4, N), dtype, 0, 3), axis=0, reduction=reduction)
