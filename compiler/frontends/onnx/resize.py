"""Rules of resizing, one axis after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ....ir.dims import Dim, Expr, exact_div, floordiv
from ....ir.types import f32
from ..resampling import coordinates, smooth_taps, taps, weighted
from ..scalars import Scalar
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

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
#: Extents from here on are a mistake.
_TOO_LARGE = 1 << 31
#: And from here on, where it is written down which elements each one comes from: their number, and that of weights of a filter.
_WRITTEN, _WEIGHTS = 1 << 24, 1 << 28


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
            if isinstance(scale, Expr) or not 0 < scale < math.inf:
                raise Unsupported(f"a scale of {scale}")
            if scale != 1:
                found[axis] = Target(_scaled(dims[axis], float(scale)), scale)
    elif not site.has(at + 1):
        raise Unsupported("gives neither scales nor sizes")
    else:
        found = _from_sizes(site, axes, site.dims(at + 1, "sizes"))
    for axis, target in found.items():
        least, most = site.facts.range(target.size)
        if least < 0 or most >= _TOO_LARGE or (most and dims[axis] == 0):
            raise Unsupported(f"resizes the extent {dims[axis]} to {target.size}")
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
    region = [float(v) for v in parts if not isinstance(v, Expr) and math.isfinite(v)]
    if len(region) != 2 * len(axes):
        what = f"a region of interest of {len(region)} finite numbers"
        raise Unsupported(f"{what} for {len(axes)} axes")
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
        if size == 0:
            value = site.slice(value, axis, 0, 0)
            continue
        if mode == "nearest" and _repeats(how, nearest, scale):
            value = site.repeat(value, axis, int(float(str(scale))))
            continue
        if not isinstance(extent, int) or not isinstance(size, int) or isinstance(scale, Expr):
            raise Unsupported(f"resizing the extent {extent} to {size} in mode {mode!r}", "fix it with --dim NAME=N")
        if size > _WRITTEN or (smooth and extent * size > _WEIGHTS):
            raise Unsupported(f"resizing the extent {extent} to {size} in mode {mode!r}")
        where = coordinates(how, extent, size, float(scale), (target.start, target.end))
        if not np.isfinite(where).all():
            raise Unsupported(f"a region of interest from {target.start} to {target.end}")
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
