"""Transposed convolution: a convolution of the input spread out with zeros, or one product per kernel position."""

from __future__ import annotations

import math

import numpy as np

from .draft import Draft

Ints = tuple[int, ...]


def transposed_conv(
    draft: Draft, x: str, w: str, strides: Ints, dilations: Ints, pads: Ints, extra: Ints, groups: int
) -> str:
    """x [batch, in, ...], w [in, out / groups, *kernel] of constant extents; `pads` are cut off the full output, `extra` rows
    are added at its ends."""
    inside, outside, *rest = (int(str(d)) for d in draft.type_of(w).shape)
    kernel, n = tuple(rest), len(rest)
    grouped = draft.reshape(w, (groups, inside // groups, outside, *kernel))
    if kernel == strides and dilations == (1,) * n and extra == (0,) * n and not any(pads):
        return _without_overlap(draft, x, grouped, kernel, groups)
    return _spread_out(draft, x, grouped, kernel, strides, dilations, pads, extra, groups)


def _without_overlap(draft: Draft, x: str, grouped: str, kernel: Ints, groups: int) -> str:
    """Each input position makes its own block of outputs: a convolution of kernel 1, then depth to space."""
    n = len(kernel)
    _, inside, outside, *_ = draft.type_of(grouped).shape
    weight = draft.transpose(grouped, (0, 2, *range(3, 3 + n), 1))
    rows = groups * math.prod(kernel) * outside
    ones, zeros = (1,) * n, (0,) * (2 * n)
    weight = draft.reshape(weight, (rows, inside, *ones))
    value = draft.emit("conv", x, weight, strides=ones, pads=zeros, dilations=ones, groups=groups)
    batch, _, *extents = draft.type_of(value).shape
    value = draft.reshape(value, (batch, groups * outside, *kernel, *extents))
    order = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]
    value = draft.transpose(value, (0, 1, *order))
    return draft.reshape(value, (batch, groups * outside, *(e * k for e, k in zip(extents, kernel, strict=True))))


def _spread_out(
    draft: Draft,
    x: str,
    grouped: str,
    kernel: Ints,
    strides: Ints,
    dilations: Ints,
    pads: Ints,
    extra: Ints,
    groups: int,
) -> str:
    n = len(kernel)
    _, inside, outside, *_ = draft.type_of(grouped).shape
    weight = draft.transpose(grouped, (0, 2, 1, *range(3, 3 + n)))
    weight = draft.reshape(weight, (groups * outside, inside, *kernel))
    for axis, size in enumerate(kernel, 2):
        if size > 1:
            weight = draft.emit("gather", weight, draft.constant(np.arange(size - 1, -1, -1)), axis=axis)
    value = x
    for axis, stride in enumerate(strides, 2):
        value = _insert_zeros(draft, value, axis, stride)
    positive = []
    for i in range(n):
        reach = dilations[i] * (kernel[i] - 1)
        before, after = reach - pads[i], reach - pads[i + n] + extra[i]
        extent = draft.type_of(value).shape[i + 2]
        if before < 0 or after < 0:
            value = draft.slice(value, i + 2, max(0, -before), extent + min(0, before) + min(0, after))
        positive.append((max(0, before), max(0, after)))
    around = (*(p[0] for p in positive), *(p[1] for p in positive))
    return draft.emit("conv", value, weight, strides=(1,) * n, pads=around, dilations=dilations, groups=groups)


def _insert_zeros(draft: Draft, value: str, axis: int, stride: int) -> str:
    """stride - 1 zeros between neighbours along an axis."""
    if stride == 1:
        return value
    shape = draft.type_of(value).shape
    before, extent, after = shape[:axis], shape[axis], shape[axis + 1 :]
    value = draft.reshape(value, (*before, extent, 1, *after))
    pads = [0] * (2 * len(shape) + 2)
    pads[len(shape) + 1 + axis + 1] = stride - 1
    value = draft.reshape(draft.emit("pad", value, pads=tuple(pads)), (*before, extent * stride, *after))
    return draft.slice(value, axis, 0, extent * stride - (stride - 1))
