"""Sliding windows whose number is rounded up."""

from __future__ import annotations

from ...ir.dims import Dim
from .draft import Draft
from .unsupported import Unsupported

Ints = tuple[int, ...]


def beyond(extent: Dim, before: int, after: int, reach: int, stride: int) -> int:
    """Extra padding at the end of an axis so that the rounded-down number of windows is the rounded-up one.

    A window that would start in the padding at the end does not count.
    """
    if stride == 1:
        return 0
    if not isinstance(extent, int):
        raise Unsupported(f"ceil_mode with stride {stride} depends on the extent {extent}", "fix it with --dim NAME=N")
    count = -(-(extent + before + after - reach) // stride) + 1
    if (count - 1) * stride >= extent + before:
        count -= 1
    return max(0, (count - 1) * stride + reach - (extent + before + after))


def extended(pads: Ints, more: Ints) -> Ints:
    """Pads (all begins, then all ends) with what `beyond` gives for each axis."""
    n = len(more)
    return (*pads[:n], *(p + b for p, b in zip(pads[n:], more, strict=True)))


def mean_of_windows(draft: Draft, x: str, window: dict[str, Ints], more: Ints, include: bool) -> str:
    """avg_pool of a window (kernel, strides, pads, dilations) whose ends go on by `more`; `include`: the pads count."""
    pads, n = window["pads"], len(more)
    if include and any(more):
        # the pads count, what lies beyond them does not: make the pads data
        x = draft.emit("pad", x, pads=(0, 0, *pads[:n], 0, 0, *pads[n:]))
        pads, include = (0,) * (2 * n), False
    return draft.emit("avg_pool", x, **{**window, "pads": extended(pads, more)}, count_include_pad=include)
