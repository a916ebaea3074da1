"""Meanings of the ops on images and boxes. Coordinates are computed in the type of the boxes: where an element ends decides."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .registry import Array, meaning, rounded, wide

#: positions further out than this are all alike
_FAR = 1e9


def _reflect(at: Array, low: float, high: float) -> Array:
    """Positions outside of low..high thrown back at its ends until they are inside."""
    span = high - low
    if span <= 0:
        return np.full_like(at, low)
    beyond = np.where(at < low, low - at, at - high)
    times = np.floor(beyond / span)
    rest = beyond - times * span
    from_low = (at < low) == (times % 2 == 0)
    return np.where((at < low) | (at > high), np.where(from_low, low + rest, high - rest), at)


def _taps(mode: str, part: Array) -> list[Array]:
    """Weights of the neighbours of a position that lies `part` behind the one at its left."""
    if mode == "linear":
        return [1 - part, part]
    a = -0.75
    far = [((a * (t - 5) * t + 8 * a) * t - 4 * a) for t in (part + 1, 2 - part)]
    near = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (part, 1 - part)]
    return [far[0], near[0], near[1], far[1]]


@meaning("sample")
def sample(x: Array, where: Array, *, mode: str, padding: str, align_corners: bool) -> Array:
    """`zeros` beyond the ends; or the nearest element (`border`); or the image `reflected` at the centres of its outer elements
    with `align_corners`, else at their edges. NaN lies far outside. Cubic weights: Keys, 1981, a = -0.75."""
    sizes, n = x.shape[2:], x.ndim - 2
    axes: list[list[tuple[Array, Array, Array]]] = []  # of each axis the taps: index, weight, whether inside
    for k, size in enumerate(sizes):
        low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
        at = np.clip(np.nan_to_num(where[..., n - 1 - k], nan=-_FAR), -_FAR, _FAR)
        at = np.rint(at) if mode == "nearest" else at
        outside = (at < low) | (at > high)
        if padding == "border":
            at = np.where(outside, np.clip(at, 0, size - 1), at).astype(at.dtype)
        elif padding == "reflection":
            at = _reflect(wide(at), low, high).astype(at.dtype)
        base = np.trunc(at) if mode == "nearest" else np.floor(at)
        part = wide(at) - base
        weights = [np.ones_like(base)] if mode == "nearest" else _taps(mode, part)
        first = -1 if mode == "cubic" else 0
        taps = []
        for number, weight in enumerate(weights, first):
            index = base + number
            inside = (index >= 0) & (index < size)
            if padding == "reflection":
                index = np.trunc(_reflect(wide(index), low, high))
            taps.append((np.clip(index, 0, max(size - 1, 0)).astype(np.int64), weight, inside))
        axes.append(taps)
    images = np.arange(x.shape[0]).reshape(-1, *(1,) * (where.ndim - 2))
    total: Any = np.zeros((x.shape[0], *where.shape[1:-1], x.shape[1]))
    if 0 in sizes:
        return rounded(np.moveaxis(total, -1, 1), x)
    for chosen in itertools.product(*axes):
        weight, inside = np.ones(where.shape[:-1]), np.ones(where.shape[:-1], bool)
        for _, own, within in chosen:
            weight, inside = weight * own, inside & within
        place: Any = (images, slice(None), *(index for index, _, _ in chosen))
        read = wide(x)[place]
        if padding == "zeros":
            read = np.where(inside[..., None], read, 0)
        total = total + weight[..., None] * read
    return rounded(np.moveaxis(total, -1, 1), x)


def _bilinear(at: Any, size: int) -> tuple[int, int, Any]:
    """The two neighbours of a position and how far behind the first it lies, kept inside."""
    at = max(at, at.dtype.type(0))
    low = int(at)
    return (size - 1, size - 1, at.dtype.type(0)) if low >= size - 1 else (low, low + 1, at - low)


@meaning("roi_align")
def roi_align(
    x: Array,
    boxes: Array,
    images: Array,
    *,
    height: int,
    width: int,
    scale: float,
    samples: int,
    half_pixel: bool,
    mode: str,
) -> Array:
    """He et al., Mask R-CNN, 2017. With `samples` 0 as many as the part has rows (columns). Of `max` the terms of the four
    neighbours are compared, not their sums, as the standard's reference does. A box without end gives 0."""
    number = boxes.dtype.type
    result = np.zeros((len(boxes), x.shape[1], height, width), x.dtype)
    for r, image in enumerate(images):
        left, top, right, bottom = (v * number(scale) - number(0.5 if half_pixel else 0) for v in boxes[r])
        sides = (bottom - top, right - left)
        if not all(abs(side) <= _FAR for side in sides):
            continue
        if not half_pixel:
            sides = tuple(max(side, number(1)) for side in sides)
        parts = [side / number(count) for side, count in zip(sides, (height, width), strict=True)]
        grid = [samples if samples > 0 else int(np.ceil(part)) for part in parts]
        for i, j in itertools.product(range(height), range(width)):
            terms = []
            for a, b in itertools.product(range(grid[0]), range(grid[1])):
                y = top + number(i) * parts[0] + number(a + 0.5) * parts[0] / number(grid[0])
                z = left + number(j) * parts[1] + number(b + 0.5) * parts[1] / number(grid[1])
                if y < -1 or y > x.shape[2] or z < -1 or z > x.shape[3]:
                    terms.append(np.zeros((4, x.shape[1]), x.dtype))
                    continue
                (y0, y1, dy), (z0, z1, dz) = _bilinear(y, x.shape[2]), _bilinear(z, x.shape[3])
                own = x[image]
                four = (
                    ((1 - dy) * (1 - dz), y0, z0),
                    ((1 - dy) * dz, y0, z1),
                    (dy * (1 - dz), y1, z0),
                    (dy * dz, y1, z1),
                )
                terms.append(np.stack([weight * own[:, p, q] for weight, p, q in four]))
            if not terms:
                continue
            if mode == "avg":
                result[r, :, i, j] = sum(wide(t).sum(0) for t in terms) / max(grid[0] * grid[1], 1)
            else:
                result[r, :, i, j] = np.max(np.concatenate(terms), axis=0)
    return result


@meaning("roi_pool")
def roi_pool(x: Array, boxes: Array, *, height: int, width: int, scale: float) -> Array:
    """Girshick, Fast R-CNN, 2015. A part without elements gives 0."""
    number = boxes.dtype.type
    result = np.zeros((len(boxes), x.shape[1], height, width), x.dtype)
    for r, box in enumerate(boxes):
        left, top, right, bottom = (int(np.floor(v * number(scale) + number(0.5))) for v in box[1:])
        parts = [
            number(max(size, 1)) / number(n) for size, n in ((bottom - top + 1, height), (right - left + 1, width))
        ]
        for i, j in itertools.product(range(height), range(width)):
            ends = []
            for k, part, start, size in ((i, parts[0], top, x.shape[2]), (j, parts[1], left, x.shape[3])):
                first, last = int(np.floor(number(k) * part)), int(np.ceil(number(k + 1) * part))
                ends.append(slice(*(min(max(e + start, 0), size) for e in (first, last))))
            inside = x[int(box[0]), :, ends[0], ends[1]].reshape(x.shape[1], -1)
            if inside.shape[1]:
                result[r, :, i, j] = inside.max(1)
    return result


@meaning("max_pool_at")
def max_pool_at(
    x: Array,
    *,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    channels_last: bool,
    column_major: bool,
) -> tuple[Array, Array]:
    """A window without elements gives the least value, at -1. `column_major` counts the first spatial axis fastest."""
    if channels_last:
        raise NotImplementedError("channels come first")
    n, sizes = len(kernel), x.shape[2:]
    out = [
        (size + pads[k] + pads[k + n] - dilations[k] * (kernel[k] - 1) - 1) // strides[k] + 1
        for k, size in enumerate(sizes)
    ]
    least: Any = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    values = np.full((*x.shape[:2], *out), least, x.dtype)
    places = np.full(values.shape, -1, np.int64)
    order = "F" if column_major else "C"
    numbers = np.arange(int(np.prod(sizes))).reshape(sizes, order=order)  # type: ignore[call-overload]
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2]) * numbers.size
    for at in np.ndindex(*out):
        for tap in np.ndindex(*kernel):
            here = tuple(at[k] * strides[k] - pads[k] + tap[k] * dilations[k] for k in range(n))
            if any(not 0 <= h < size for h, size in zip(here, sizes, strict=True)):
                continue
            there, best = (slice(None), slice(None), *here), (slice(None), slice(None), *at)
            value = x[there]
            empty = places[best] < 0
            better = empty | (value > values[best]) | ((value != value) & (values[best] == values[best]))
            values[best] = np.where(better, value, values[best])
            places[best] = np.where(better, planes + numbers[here], places[best])
    return values, places


@meaning("col2im")
def col2im(
    x: Array,
    *,
    image: tuple[int, ...],
    block: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
) -> Array:
    n, size = len(image), int(np.prod(block))
    out = [
        (extent + pads[k] + pads[k + n] - dilations[k] * (block[k] - 1) - 1) // strides[k] + 1
        for k, extent in enumerate(image)
    ]
    columns = wide(x).reshape(x.shape[0], x.shape[1] // size, *block, *out)
    total = np.zeros((*columns.shape[:2], *image), columns.dtype)
    for tap in np.ndindex(*block):
        for at in np.ndindex(*out):
            here = tuple(at[k] * strides[k] - pads[k] + tap[k] * dilations[k] for k in range(n))
            if all(0 <= h < extent for h, extent in zip(here, image, strict=True)):
                total[(slice(None), slice(None), *here)] += columns[(slice(None), slice(None), *tap, *at)]
    return rounded(total, x)


def _overlap(a: Array, b: Array, center: bool, threshold: Any) -> bool:
    """Whether the intersection of two boxes is more than a part of their union."""
    ends = []
    for box in (a, b):
        if center:
            half = box[2:] / 2
            ends.append((box[:2] - half, box[:2] + half))
        else:
            ends.append((np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])))
    low, high = np.maximum(ends[0][0], ends[1][0]), np.minimum(ends[0][1], ends[1][1])
    if (high <= low).any():
        return False
    common = (high - low)[0] * (high - low)[1]
    areas = [(last - first)[0] * (last - first)[1] for first, last in ends]
    union = areas[0] + areas[1] - common
    return bool(common > 0 and min(areas) > 0 and union > 0 and common / union > threshold)


@meaning("non_max_suppression")
def non_max_suppression(
    boxes: Array,
    scores: Array,
    most: Array | None = None,
    overlap: Array | None = None,
    least: Array | None = None,
    *,
    center: bool,
    room: int,
) -> Array:
    """Boxes are two opposite corners (y, x), or the centre (x, y) and the sizes if `center`. Of equal scores the first is better.
    Without `most` nothing is selected; overlap is 0 by default, and there is no least score."""
    limit = int(most.reshape(-1)[0]) if most is not None else 0
    threshold = overlap.reshape(-1)[0] if overlap is not None else boxes.dtype.type(0)
    found = np.full((*scores.shape[:2], room), -1, np.int64)
    for image, label in itertools.product(*map(range, scores.shape[:2])):
        own = scores[image, label]
        candidates: Any = range(len(own)) if least is None else np.flatnonzero(own > least.reshape(-1)[0])
        kept: list[int] = []
        for box in sorted(candidates, key=lambda k: (-own[k], k)):
            if len(kept) >= min(limit, room):
                break
            if not any(_overlap(boxes[image, box], boxes[image, k], center, threshold) for k in kept):
                kept.append(int(box))
        found[image, label, : len(kept)] = kept
    return found
