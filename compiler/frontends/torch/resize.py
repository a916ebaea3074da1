"""Rules of resizing, one axis after the other: repeated elements, or a weighted sum of gathered ones."""

from __future__ import annotations

import numpy as np

from ....ir.dims import exact_div
from ..resampling import coordinates, taps, weighted
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


def _scales(site: Site, count: int) -> list[float | None]:
    """The factors that were given, which torch prefers over those that follow from the sizes."""
    given = site.get("scale_factors")
    if given:
        return [float(v) for v in given]
    names = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}[count]
    return [float(v) if (v := site.get(name)) is not None else None for name in names]


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_nearest1d.vec")
@rule("upsample_nearest2d.vec", "upsample_nearest3d.vec", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d")
@rule("_upsample_nearest_exact2d.vec", "_upsample_nearest_exact1d.vec")
@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d.vec")
@rule("upsample_bilinear2d.vec", "upsample_bicubic2d.vec", "upsample_trilinear3d", "upsample_trilinear3d.vec")
def upsample(site: Site) -> Result:
    """The sizes are those torch derived."""
    name = "input" if "input" in site.arguments else "self"
    kind, wanted = site.type(name), site.result().shape
    count, value = kind.rank - 2, site.x(name)
    corners = site.flag("align_corners")
    for position, scale in enumerate(_scales(site, count)):
        axis = position + 2
        extent, size = kind.shape[axis], wanted[axis]
        if extent == size and (scale is None or scale == 1.0):
            continue
        ratio = exact_div(size, extent)
        nearest = "nearest" in site.name
        if nearest and isinstance(ratio, int) and scale in (None, float(ratio)):
            value = site.repeat(value, axis, ratio)
            continue
        if not isinstance(extent, int) or not isinstance(size, int):
            raise Unsupported(f"resizing the extent {extent} to {size}", "fix it with --dim NAME=N")
        factor = size / extent if scale is None else scale
        if nearest:
            shift = 0.5 if "exact" in site.name else 0.0
            where = np.floor((np.arange(size) + shift) / factor)
            chosen = np.clip(where, 0, extent - 1).astype(np.int64)
            value = site.emit("gather", value, site.constant(chosen), axis=axis)
            continue
        if corners:
            where = np.arange(size) * ((extent - 1) / (size - 1) if size > 1 else 0.0)
        else:
            where = coordinates("half_pixel", extent, size, factor)
        cubic = "cubic" in site.name
        if not cubic:
            where = np.maximum(where, 0.0)  # linear interpolation starts at the first element
        value = weighted(site, value, axis, *taps("cubic" if cubic else "linear", where, extent, -0.75, False))
    return value
