"""Recurrent layers: csrc/kernels/recurrent.c."""

from __future__ import annotations

from ...ir.dims import product
from ...ir.kernel import Routine
from ...ir.ops_recurrent import PANEL
from .registry import NEEDS, Needs, Size

#: Rows of a batch that share what is loaded of the matrices, at most (ROWS of recurrent.c).
_ROWS = 4
#: Multiply-adds in the time of a scalar step.
_LANES = 16


def _facts(kernel: Routine, size: Size) -> tuple[int, int, int, int, int]:
    """Steps, batch, directions, gates, hidden units."""
    x, r = kernel.inputs[:2]
    assert x is not None and r is not None
    steps, batch = map(size, x.shape[:2])
    directions, gates, _, hidden, _ = map(size, r.shape)
    return steps, batch, directions, gates, hidden


def _work(kernel: Routine, size: Size) -> int:
    steps, batch, directions, gates, hidden = _facts(kernel, size)
    padded = -(-hidden // PANEL) * PANEL
    return steps * batch * directions * gates * padded * (hidden // _LANES + 4)


def _units(kernel: Routine, size: Size) -> int:
    _, batch, directions, _, _ = _facts(kernel, size)
    return directions * -(-batch // _ROWS)


def _scratch(kernel: Routine, size: Size) -> int:
    """Gates, states, and what a product or an activation takes, of all rows."""
    _, batch, _, gates, hidden = _facts(kernel, size)
    assert kernel.inputs[0] is not None
    each = kernel.operands[kernel.inputs[0].operand].dtype.bytes
    return product((batch, gates + 3, -(-hidden // PANEL) * PANEL, each))  # type: ignore[return-value]


NEEDS["recurrent"] = Needs(_work, _units, _scratch)
