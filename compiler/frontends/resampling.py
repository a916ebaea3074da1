"""One axis of an image at other positions: weighted sums of its elements."""

from __future__ import annotations

import math

import numpy as np

from ...ir.dims import product
from .draft import Draft

#: Beyond so many taps the weighted sum along an axis is a matrix product.
_MANY_TAPS = 8


def coordinates(how: str, extent: int, size: int, scale: float, part: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Where each output position lies in the input, of which tf_crop_and_resize looks at a part."""
    out = np.arange(size, dtype=np.float64)
    if how == "tf_crop_and_resize":
        start, end = part
        length = scale * extent
        step = (end - start) * (extent - 1)
        return start * (extent - 1) + (out * step / (length - 1) if length != 1 else np.full(size, step / 2))
    if how == "align_corners":
        length = scale * extent  # not rounded, as in the standard's reference
        return out * (extent - 1) / (length - 1) if length != 1 else np.zeros(size)
    if how == "asymmetric":
        return out / scale
    if how == "pytorch_half_pixel" and size == 1:
        return np.zeros(1)
    if how == "half_pixel_symmetric":
        shift = extent / 2 * (1 - size / (scale * extent))
        return np.asarray(shift + (out + 0.5) / scale - 0.5)
    return (out + 0.5) / scale - 0.5


def taps(mode: str, where: np.ndarray, extent: int, a: float, exclude: bool) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights, both [taps, size]."""
    base = np.floor(where)
    part = where - base
    if mode == "linear":
        index = np.stack([base, base + 1])
        weight = np.stack([1 - part, part])
    else:
        index = np.stack([base - 1, base, base + 1, base + 2])
        far = [((a * (t - 5) * t + 8 * a) * t - 4 * a) for t in (part + 1, 2 - part)]
        near = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (part, 1 - part)]
        weight = np.stack([far[0], near[0], near[1], far[1]])
    if exclude:
        weight = np.where((index < 0) | (index >= extent), 0, weight)
        weight = weight / weight.sum(0)
    return np.clip(index, 0, extent - 1).astype(np.int64), weight


def smooth_taps(
    mode: str, where: np.ndarray, extent: int, scale: float, a: float, exclude: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights, both [taps, size], of a filter as wide as the inputs of one output are."""
    scale = min(scale, 1.0)
    first = math.floor((-1 if mode == "linear" else -2) / scale) + 1
    count = 2 - 2 * first
    base = np.ceil(where) - 1  # the neighbour at the left, itself not counted
    index = base + first + np.arange(count)[:, None]
    distance = np.abs(index - where) * scale
    if mode == "linear":
        weight = np.clip(1 - distance, 0, 1)
    else:
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    if exclude:
        weight = np.where((index < 0) | (index >= extent), 0, weight)
    weight = weight / np.where(weight.sum(0) == 0, 1, weight.sum(0))
    return np.clip(index, 0, extent - 1).astype(np.int64), weight


def weighted(draft: Draft, value: str, axis: int, index: np.ndarray, weight: np.ndarray) -> str:
    """The sum over taps of gathered elements times their weights; `index` and `weight` as `taps` gives them."""
    type = draft.type_of(value)
    if len(index) > _MANY_TAPS:
        return _product(draft, value, axis, index, weight)
    parts = []
    for which, how_much in zip(index, weight, strict=True):
        factor = draft.constant(how_much.reshape(-1, *(1,) * (type.rank - axis - 1)), type.dtype)
        parts.append(draft.emit("mul", draft.emit("gather", value, draft.constant(which), axis=axis), factor))
    return draft.chain("add", parts)


def _product(draft: Draft, value: str, axis: int, index: np.ndarray, weight: np.ndarray) -> str:
    """The same as a product with the matrix of all weights."""
    type = draft.type_of(value)
    before, extent, after = type.shape[:axis], type.shape[axis], type.shape[axis + 1 :]
    matrix = np.zeros((index.shape[1], int(str(extent))))
    for which, how_much in zip(index, weight, strict=True):
        matrix[np.arange(len(which)), which] += how_much
    flat = draft.reshape(value, (product(before), extent, product(after)))
    value = draft.emit("matmul", draft.constant(matrix, type.dtype), flat)
    return draft.reshape(value, (*before, index.shape[1], *after))
