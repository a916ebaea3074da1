"""Meanings of the views, the ops that copy elements and the sources."""

from __future__ import annotations

import numpy as np

from ..types import DType
from .registry import Array, meaning


@meaning("reshape")
def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    return x.reshape(shape)


@meaning("transpose")
def transpose(x: Array, *, perm: tuple[int, ...]) -> Array:
    return x.transpose(perm)


@meaning("expand")
def expand(x: Array, *, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, shape))


@meaning("slice")
def slice_(x: Array, *, axis: int, start: int, extent: int, step: int) -> Array:
    end = start + step * (extent - 1)
    if extent and not (min(start, end) >= 0 and max(start, end) < x.shape[axis]):
        raise IndexError(f"elements {start} to {end} of an axis of extent {x.shape[axis]}")
    if step > 0:  # a view: a slice of a large weight is no copy
        return x[(slice(None),) * (axis % x.ndim) + (slice(start, start + step * extent, step),)]
    return np.take(x, start + step * np.arange(extent), axis)


@meaning("concat")
def concat(*parts: Array, axis: int) -> Array:
    return np.concatenate(parts, axis)


@meaning("pad")
def pad(x: Array, *, pads: tuple[int, ...], value: float, mode: str) -> Array:
    widths = list(zip(pads[: x.ndim], pads[x.ndim :], strict=True))
    if mode == "constant":
        return np.pad(x, widths, mode="constant", constant_values=x.dtype.type(value))
    return np.pad(x, widths, mode="edge" if mode == "edge" else "reflect")


@meaning("gather")
def gather(x: Array, indices: Array, *, axis: int) -> Array:
    """others out of range are an error"""
    extent = x.shape[axis]
    if indices.size and not (-extent <= indices.min() and indices.max() < extent):
        raise IndexError(f"indices from {indices.min()} to {indices.max()} into an axis of extent {extent}")
    return np.take(x, indices.astype(np.int64), axis)


@meaning("nonzero")
def nonzero(x: Array) -> Array:
    return np.flatnonzero(x).astype(np.int64)


@meaning("iota")
def iota(*, extent: int, dtype: DType | None) -> Array:
    return np.arange(extent, dtype=dtype.np if dtype else np.int64)


@meaning("dim")
def dim(*, value: int, dtype: DType | None) -> Array:
    return np.asarray(value, dtype=dtype.np if dtype else np.int64)


@meaning("fill")
def fill(*, value: float, shape: tuple[int, ...], dtype: DType) -> Array:
    return np.full(shape, value, dtype=dtype.np)
