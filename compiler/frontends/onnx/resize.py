"""Resizing of images, one axis after the other: repeated elements, or a weighted sum of gathered ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ....ir.dims import Dim, Expr, exact_div, floordiv, product
from ....ir.types import f32
from .draft import Draft
from .registry import Result, rule
from .scalars import Scalar
from .site import Site
from .tensors import Unsupported

#: nearest_mode -> what it makes of a coordinate
_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
_COORDINATES = (
    *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"),
    "tf_crop_and_resize",
)
#: Beyond so many taps the weighted sum along an axis is a matrix product.
_MANY_TAPS = 8


@dataclass(frozen=True)
class Target:
    """What becomes of an axis: its new extent, the scale, and the part of it that is looked at, 0 to 1 being all."""

    size: Dim
    scale: Scalar
    start: float = 0.0
    end: float = 1.0


def _sizes(site: Site) -> dict[int, Target]:
    """Of each axis that changes."""
    dims, rank = site.type().shape, site.type().rank
    at = 1 if site.op == "Upsample" or site.opset < 11 else 2
    axes = [site.axis(a, rank) for a in site.get_ints("axes") or range(rank)]
    if site.op == "Upsample" and site.opset < 9:
        attribute = site.attribute("scales")
        scales: list[Scalar] = [float(v) for v in attribute.floats] if attribute is not None else []
    else:
        empty = not site.has(at) or site.type(at).shape == (0,)
        scales = [] if empty else site.contents(at, "scales").list() or []
    found: dict[int, Target] = {}
    if scales:
        if len(scales) != len(axes):
            raise Unsupported(f"{len(scales)} scales for {len(axes)} axes")
        for axis, scale in zip(axes, scales, strict=True):
            if isinstance(scale, Expr) or scale <= 0:
                raise Unsupported(f"a scale of {scale}")
            if scale != 1:
                found[axis] = Target(_scaled(dims[axis], float(scale)), scale)
    elif not site.has(at + 1):
        raise Unsupported("gives neither scales nor sizes")
    else:
        found = _from_sizes(site, axes, site.dims(at + 1, "sizes"))
    return found


def _from_sizes(site: Site, axes: list[int], sizes: list[Dim]) -> dict[int, Target]:
    dims, policy = site.type().shape, site.get_str("keep_aspect_ratio_policy", "stretch")
    if len(sizes) != len(axes):
        raise Unsupported(f"{len(sizes)} sizes for {len(axes)} axes")
    if policy != "stretch":
        if policy not in ("not_larger", "not_smaller"):
            raise Unsupported(f"keep_aspect_ratio_policy {policy!r} is not known")
        pairs = [(size, dims[axis]) for axis, size in zip(axes, sizes, strict=True)]
        ratios = [size / have for size, have in pairs if isinstance(size, int) and isinstance(have, int) and have]
        if len(ratios) != len(axes):
            raise Unsupported(f"keep_aspect_ratio_policy {policy!r} needs extents that are known", "use --dim NAME=N")
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        return {axis: Target(math.floor(scale * int(str(dims[axis])) + 0.5), scale) for axis in axes if scale != 1}
    found: dict[int, Target] = {}
    for axis, size in zip(axes, sizes, strict=True):
        have = dims[axis]
        if size == have:
            continue
        ratio = exact_div(size, have)
        if isinstance(ratio, int):
            found[axis] = Target(size, ratio)
        elif not isinstance(size, int) or not isinstance(have, int) or not have:
            raise Unsupported(f"resizing the extent {have} to {size}", "fix it with --dim NAME=N")
        else:
            found[axis] = Target(size, size / have)
    return found


def _cropped(site: Site, found: dict[int, Target]) -> dict[int, Target]:
    """The parts that `roi` chooses: all starts, then all ends, of each axis or of `axes`."""
    dims, rank = site.type().shape, site.type().rank
    axes = [site.axis(a, rank) for a in site.get_ints("axes") or range(rank)]
    parts = site.contents(1, "the region of interest").list() or []
    if len(parts) != 2 * len(axes):
        raise Unsupported(f"a region of interest of {len(parts)} numbers for {len(axes)} axes")
    region = [float(v) for v in parts if not isinstance(v, Expr)]
    for position, axis in enumerate(axes):
        start, end = region[position], region[position + len(axes)]
        if axis in found or (start, end) != (0.0, 1.0):
            target = found.get(axis, Target(dims[axis], 1))
            found[axis] = replace(target, start=start, end=end)
    return found


def _scaled(extent: Dim, scale: float) -> Dim:
    if isinstance(extent, int):
        return math.floor(extent * scale)
    if scale.is_integer():
        return extent * int(scale)
    if (1 / scale).is_integer():
        return floordiv(extent, int(1 / scale))
    raise Unsupported(f"a scale of {scale} for the extent {extent}", "fix it with --dim NAME=N")


@rule("Resize", "Upsample")
def resize(site: Site) -> Result:
    mode = site.get_str("mode", "nearest")
    mode = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    old = site.op == "Upsample" or site.opset < 11
    how = site.get_str("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    nearest = site.get_str("nearest_mode", "floor" if old else "round_prefer_floor")
    if mode not in ("nearest", "linear", "cubic") or how not in _COORDINATES or nearest not in _NEAREST:
        raise Unsupported(f"mode {mode!r} with {how!r} coordinates is not supported")
    cubic, exclude = site.get_float("cubic_coeff_a", -0.75), bool(site.get_int("exclude_outside"))
    smooth, outside = bool(site.get_int("antialias")), site.get_float("extrapolation_value")
    targets, dtype = _sizes(site), site.type().dtype
    if how == "tf_crop_and_resize":
        targets = _cropped(site, targets)
    whole = mode != "nearest" and not dtype.is_float
    value = site.cast(site.x(0), f32) if whole and targets else site.x(0)
    for axis, target in targets.items():
        extent, size, scale = site.type_of(value).shape[axis], target.size, target.scale
        if mode == "nearest" and _repeats(how, nearest, scale):
            value = repeated(site, value, axis, int(float(str(scale))))
            continue
        if not isinstance(extent, int) or not isinstance(size, int) or isinstance(scale, Expr):
            raise Unsupported(f"resizing the extent {extent} to {size} in mode {mode!r}", "fix it with --dim NAME=N")
        where = coordinates(how, extent, size, float(scale), (target.start, target.end))
        if mode == "nearest":
            index = np.clip(_NEAREST[nearest](where), 0, extent - 1).astype(np.int64)
            value = site.emit("gather", value, site.constant(index), axis=axis)
        elif smooth:
            value = weighted(site, value, axis, *smooth_taps(mode, where, extent, float(scale), cubic, exclude))
        else:
            value = weighted(site, value, axis, *taps(mode, where, extent, cubic, exclude))
        if how == "tf_crop_and_resize":
            value = _extrapolated(site, value, axis, (where < 0) | (where > extent - 1), outside)
    if not whole or not targets:
        return value
    least, most = dtype.limits
    return site.cast(site.emit("clip", site.emit("round", value), min=float(least), max=float(most)), dtype)


def _extrapolated(site: Site, value: str, axis: int, beyond: np.ndarray, outside: float) -> str:
    """A given value at the positions that lie outside of the input."""
    if not beyond.any():
        return value
    type = site.type_of(value)
    mask = site.constant(beyond.reshape(-1, *(1,) * (type.rank - axis - 1)))
    return site.emit("where", mask, site.scalar(outside, type.dtype), value)


def _repeats(how: str, nearest: str, scale: Scalar) -> bool:
    """Whether each element is simply repeated."""
    if isinstance(scale, Expr) or not float(scale).is_integer():
        return False
    if how == "asymmetric":
        return nearest == "floor"
    return how in ("half_pixel", "pytorch_half_pixel") and nearest in ("round_prefer_floor", "round_prefer_ceil")


def repeated(draft: Draft, value: str, axis: int, times: int) -> str:
    """Each element of an axis `times` times."""
    shape = draft.type_of(value).shape
    before, extent, after = shape[:axis], shape[axis], shape[axis + 1 :]
    value = draft.reshape(value, (*before, extent, 1, *after))
    value = draft.expand(value, (*before, extent, times, *after))
    return draft.reshape(value, (*before, extent * times, *after))


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
        factor = draft.emitter.constant(how_much.reshape(-1, *(1,) * (type.rank - axis - 1)), type.dtype)
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
    value = draft.emit("matmul", draft.emitter.constant(matrix, type.dtype), flat)
    return draft.reshape(value, (*before, index.shape[1], *after))
