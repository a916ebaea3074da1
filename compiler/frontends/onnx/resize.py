"""Resizing of images, one axis after the other: repeated elements, or a weighted sum of gathered ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ....ir.dims import Dim, Expr, exact_div, floordiv
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
_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")


def _sizes(site: Site) -> dict[int, tuple[Dim, Scalar]]:
    """(new extent, scale) of each axis that changes."""
    dims, rank = site.type().shape, site.type().rank
    at = 1 if site.op == "Upsample" or site.opset < 11 else 2
    axes = [site.axis(a, rank) for a in site.get_ints("axes") or range(rank)]
    found: dict[int, tuple[Dim, Scalar]] = {}
    if site.op == "Upsample" and site.opset < 9:
        attribute = site.attribute("scales")
        scales: list[Scalar] = [float(v) for v in attribute.floats] if attribute is not None else []
    else:
        empty = not site.has(at) or site.type(at).shape == (0,)
        scales = [] if empty else site.contents(at, "scales").list() or []
    if scales:
        if len(scales) != len(axes):
            raise Unsupported(f"{len(scales)} scales for {len(axes)} axes")
        for axis, scale in zip(axes, scales, strict=True):
            if isinstance(scale, Expr) or scale <= 0:
                raise Unsupported(f"a scale of {scale}")
            if scale != 1:
                found[axis] = (_scaled(dims[axis], float(scale)), scale)
        return found
    if not site.has(at + 1):
        raise Unsupported("gives neither scales nor sizes")
    sizes = site.dims(at + 1, "sizes")
    if site.get_str("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("keep_aspect_ratio_policy other than 'stretch' is not supported")
    if len(sizes) != len(axes):
        raise Unsupported(f"{len(sizes)} sizes for {len(axes)} axes")
    for axis, size in zip(axes, sizes, strict=True):
        have = dims[axis]
        if size == have:
            continue
        ratio = exact_div(size, have)
        if not isinstance(ratio, int):
            if not isinstance(size, int) or not isinstance(have, int) or not have:
                raise Unsupported(f"resizing the extent {have} to {size}", "fix it with --dim NAME=N")
            found[axis] = (size, size / have)
        else:
            found[axis] = (size, ratio)
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
    old = site.op == "Upsample" or site.opset < 11
    how = site.get_str("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    nearest = site.get_str("nearest_mode", "floor" if old else "round_prefer_floor")
    if mode not in ("nearest", "linear", "cubic") or how not in _COORDINATES or nearest not in _NEAREST:
        raise Unsupported(f"mode {mode!r} with {how!r} coordinates is not supported")
    cubic, exclude = site.get_float("cubic_coeff_a", -0.75), bool(site.get_int("exclude_outside"))
    site.get_float("extrapolation_value")  # of tf_crop_and_resize only
    sizes = _sizes(site)
    if mode != "nearest" and not site.type().dtype.is_float:
        raise Unsupported(f"mode {mode!r} of {site.type().dtype} is not supported")
    value = site.x(0)
    for axis, (size, scale) in sizes.items():
        extent = site.type_of(value).shape[axis]
        if mode == "nearest" and _repeats(how, nearest, scale):
            value = repeated(site, value, axis, int(float(str(scale))))
            continue
        if not isinstance(extent, int) or not isinstance(size, int) or isinstance(scale, Expr):
            raise Unsupported(f"resizing the extent {extent} to {size} in mode {mode!r}", "fix it with --dim NAME=N")
        where = coordinates(how, extent, size, float(scale))
        if mode == "nearest":
            index = np.clip(_NEAREST[nearest](where), 0, extent - 1).astype(np.int64)
            value = site.emit("gather", value, site.constant(index), axis=axis)
        else:
            value = weighted(site, value, axis, *taps(mode, where, extent, cubic, exclude))
    return value


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


def coordinates(how: str, extent: int, size: int, scale: float) -> np.ndarray:
    """Where each output position lies in the input."""
    out = np.arange(size, dtype=np.float64)
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


def weighted(draft: Draft, value: str, axis: int, index: np.ndarray, weight: np.ndarray) -> str:
    """The sum over taps of gathered elements times their weights; `index` and `weight` as `taps` gives them."""
    type = draft.type_of(value)
    parts = []
    for which, how_much in zip(index, weight, strict=True):
        factor = draft.constant(how_much.astype(type.dtype.np).reshape(-1, *(1,) * (type.rank - axis - 1)))
        parts.append(draft.emit("mul", draft.emit("gather", value, draft.constant(which), axis=axis), factor))
    return draft.chain("add", parts)
