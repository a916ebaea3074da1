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
