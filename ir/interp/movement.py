"""Meanings of the views, the ops that copy elements and the sources."""

from __future__ import annotations

import numpy as np

from ..narrow import narrowed
from ..types import DType, i64
from .registry import Array, meaning


@meaning("reshape", moves=True)
def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    return x.reshape(shape)


@meaning("transpose", moves=True)
def transpose(x: Array, *, perm: tuple[int, ...]) -> Array:
    return x.transpose(perm)


@meaning("expand", moves=True)
def expand(x: Array, *, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, shape))


@meaning("slice", moves=True)
def slice_(x: Array, *, axis: int, start: int, extent: int, step: int) -> Array:
    end = start + step * (extent - 1)
    if extent and not (min(start, end) >= 0 and max(start, end) < x.shape[axis]):
        raise IndexError(f"elements {start} to {end} of an axis of extent {x.shape[axis]}")
    if step > 0:  # a view: a slice of a large weight is no copy
        return x[(slice(None),) * (axis % x.ndim) + (slice(start, start + step * extent, step),)]
    return np.take(x, start + step * np.arange(extent), axis)


@meaning("concat", moves=True)
def concat(*parts: Array, axis: int) -> Array:
    return np.concatenate(parts, axis)


@meaning("pad", typed=True)
def pad(x: Array, *, pads: tuple[int, ...], value: float, mode: str, types: tuple[DType, ...]) -> Array:
    widths = list(zip(pads[: x.ndim], pads[x.ndim :], strict=True))
    if mode == "constant":
        return np.pad(x, widths, mode="constant", constant_values=filled((), value, types[0]))
    return np.pad(x, widths, mode="edge" if mode == "edge" else "reflect")


@meaning("gather", moves=True)
def gather(x: Array, indices: Array, *, axis: int) -> Array:
    """others out of range are an error"""
    extent = x.shape[axis]
    if indices.size and not (-extent <= indices.min() and indices.max() < extent):
        raise IndexError(f"indices from {indices.min()} to {indices.max()} into an axis of extent {extent}")
    return np.take(x, indices.astype(np.int64), axis)


@meaning("nonzero")
def nonzero(x: Array) -> Array:
    return np.flatnonzero(x).astype(np.int64)


@meaning("iota", moves=True)
def iota(*, extent: int, dtype: DType | None) -> Array:
    return narrowed(np.arange(extent).astype((dtype or i64).wide.np), dtype or i64)


@meaning("dim", moves=True)
def dim(*, value: int, dtype: DType | None) -> Array:
    return filled((), value, dtype or i64)


@meaning("fill", moves=True)
def fill(*, value: float, shape: tuple[int, ...], dtype: DType) -> Array:
    return filled(shape, value, dtype)


def filled(shape: tuple[int, ...], value: float, dtype: DType) -> Array:
    """Every element is `value`."""
    if dtype.is_narrow:
        return np.full(shape, narrowed(np.asarray(value if dtype.is_float else int(value)), dtype))
    return np.full(shape, value, dtype=dtype.np)
