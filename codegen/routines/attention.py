"""Routines of recurrences that take the place of attention."""

from __future__ import annotations

from ...ir.dims import Dim, product
from ...ir.kernel import Routine
from .registry import NEEDS, Needs, Size


def _sizes(kernel: Routine) -> tuple[Dim, Dim, Dim, Dim, Dim]:
    """Sequences, steps, key heads, and the extents of a state."""
    q, _, v = kernel.inputs[:3]
    assert q is not None and v is not None
    return q.shape[0], q.shape[1], v.shape[2], q.shape[3], v.shape[3]


def _work(kernel: Routine, size: Size) -> int:
    """The state is read and written once or twice a step, and read by each query; a vector takes several elements at once."""
    batch, steps, groups, depth, width = _sizes(kernel)
    q = kernel.inputs[0]
    assert q is not None
    queries = size(product((*q.shape[:3],)))
    passes = 2 + 2 * (kernel.inputs[3:4] != (None,)) + (kernel.inputs[4:5] != (None,))
    owners = size(product((batch, steps, groups)))
    return (owners * passes + queries) * size(product((depth, width))) // 4


def _owners(kernel: Routine, size: Size) -> int:
    batch, _, groups, _, _ = _sizes(kernel)
    return size(product((batch, groups)))


def _scratch(kernel: Routine, size: Size) -> int:
    """A state and two rows of it, in the widest type there is."""
    *_, depth, width = _sizes(kernel)
    return 8 * (size(product((depth, width))) + 2 * size(width))


NEEDS["linear_attention"] = Needs(_work, _owners, _scratch)
