"""Rules of operators on images and boxes."""

from __future__ import annotations

import numpy as np

from ....ir.dims import Dim, Expr, exact_div, product
from ....ir.types import DType, i64
from .. import contents
from ..unsupported import Unsupported
from .registry import Result, rule
from .selecting import chosen
from .site import Site

_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@rule("GridSample")
@rule("GridSample", domain="com.microsoft")
def grid_sample(site: Site) -> Result:
    """Positions from -1 to 1 become positions of elements."""
    x, grid = site.type(0), site.type(1)
    mode, padding = site.get_str("mode", "linear"), site.get_str("padding_mode", "zeros")
    mode, corners = _MODES.get(mode, mode), bool(site.get_int("align_corners"))
    if mode not in ("nearest", "linear", "cubic") or padding not in ("zeros", "border", "reflection"):
        raise Unsupported(f"mode {mode!r} with padding {padding!r} is not known")
    sizes = [d - 1 if corners else d for d in reversed(x.shape[2:])]
    lengths = site.data(contents.vector(grid.dtype, sizes))
    one, half = site.scalar(1.0, grid.dtype), site.scalar(0.5, grid.dtype)
    where = site.emit("add", site.x(1), one)
    if corners:
        where = site.emit("mul", site.emit("mul", where, half), lengths)
    else:
        where = site.emit("mul", site.emit("sub", site.emit("mul", where, lengths), one), half)
    return site.emit("sample", site.x(0), where, mode=mode, padding=padding, align_corners=corners)


@rule("DeformConv")
def deform_conv(site: Site) -> Result:
    """A convolution whose taps are read at positions of their own: the columns of a matrix, then a product."""
    x, w, offset = site.type(0), site.type(1), site.type(2)
    fixed = (*x.shape[1:], *w.shape, *offset.shape[1:])
    if any(one.rank != 4 for one in (x, w, offset)) or not all(isinstance(d, int) for d in fixed):
        raise Unsupported(f"a filter {w} for an input {x}", "fix its extents with --dim NAME=N")
    batch, channels, out, kernel = x.shape[0], x.shape[1], w.shape[0], w.shape[2:]
    extents = offset.shape[2:]
    strides, dilations = site.get_ints("strides") or (1, 1), site.get_ints("dilations") or (1, 1)
    pads, groups, places = site.get_ints("pads") or (0,) * 4, site.get_int("group", 1), site.get_int("offset_group", 1)
    inside, taps = exact_div(channels, places), product(kernel)
    if (len(strides), len(dilations), len(pads)) != (2, 2, 4) or groups < 1:
        raise Unsupported(f"strides {strides}, dilations {dilations} and pads {pads} of {groups} groups")
    if (site.get_ints("kernel_shape") or kernel) != kernel or offset.shape[1] != places * taps * 2:
        raise Unsupported(f"offsets {offset} do not fit the filter {w} in {places} groups")
    if inside is None or w.shape[1] * groups != channels:
        raise Unsupported(f"{groups} groups of a filter {w}, {places} of offsets, for {channels} channels")
    moved = site.reshape(site.x(2), (batch * places, taps, 2, *extents))
    parts = []
    for k in (1, 0):
        here = site.reshape(site.slice(moved, 2, k, 1), (batch * places, taps, *extents))
        own = _starts(kernel, extents, k, strides, pads, dilations)
        parts.append(site.emit("add", here, site.constant(own, offset.dtype)))
    where = [site.reshape(part, (*site.type_of(part).shape, 1)) for part in parts]
    image = site.reshape(site.x(0), (batch * places, inside, *x.shape[2:]))
    value = site.emit("sample", image, site.emit("concat", *where, axis=4), align_corners=True)
    if site.has(4):
        mask = site.reshape(site.x(4), (batch * places, 1, taps, *extents))
        value = site.emit("mul", value, mask)
    columns = site.reshape(value, (batch, groups, w.shape[1] * taps, product(extents)))
    per_group = exact_div(out, groups) or 0
    value = site.emit("matmul", site.reshape(site.x(1), (groups, per_group, w.shape[1] * taps)), columns)
    value = site.reshape(value, (batch, out, *extents))
    return site.emit("add", value, site.reshape(site.x(3), (out, 1, 1))) if site.has(3) else value


def _starts(
    kernel: tuple[Dim, ...],
    extents: tuple[Dim, ...],
    axis: int,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
) -> np.ndarray:
    """Where the taps lie along an axis without offsets: [taps, rows, columns], extents 1 where they do not matter."""
    tap = np.indices([int(str(k)) for k in kernel])[axis].reshape(-1, 1, 1) * dilations[axis]
    out = np.arange(int(str(extents[axis]))) * strides[axis] - pads[axis]
    return np.asarray(tap + out.reshape((1, -1, 1) if axis == 0 else (1, 1, -1)))


@rule("RoiAlign")
def roi_align(site: Site) -> Result:
    mode, how = site.get_str("mode", "avg"), "output_half_pixel"
    if site.opset >= 16:
        how = site.get_str("coordinate_transformation_mode", "half_pixel")
    if mode.lower() not in ("avg", "max") or how not in ("half_pixel", "output_half_pixel"):
        raise Unsupported(f"mode {mode!r} with {how!r} coordinates is not known")
    return site.emit(
        "roi_align",
        *(site.x(i) for i in range(3)),
        height=site.get_int("output_height", 1),
        width=site.get_int("output_width", 1),
        samples=site.get_int("sampling_ratio"),
        scale=site.get_float("spatial_scale", 1.0),
        half_pixel=how == "half_pixel",
        mode=mode.lower(),
    )


@rule("MaxRoiPool")
def max_roi_pool(site: Site) -> Result:
    size = site.get_ints("pooled_shape") or ()
    if len(size) != 2:
        raise Unsupported(f"pooled_shape {list(size)} is not supported")
    scale = site.get_float("spatial_scale", 1.0)
    return site.emit("roi_pool", site.x(0), site.x(1), height=size[0], width=size[1], scale=scale)


@rule("Col2Im")
def col2im(site: Site) -> Result:
    image, block = site.numbers(1, "the image's shape"), site.numbers(2, "the block's shape")
    n = len(image)
    return site.emit(
        "col2im",
        site.x(0),
        image=tuple(image),
        block=tuple(block),
        strides=site.get_ints("strides") or (1,) * n,
        pads=site.get_ints("pads") or (0,) * (2 * n),
        dilations=site.get_ints("dilations") or (1,) * n,
    )


@rule("NonMaxSuppression")
def non_max_suppression(site: Site) -> Result:
    """Rows of image, class and box. The most boxes of a class bound the result where they are known; without a number there are
    none."""
    boxes, scores = site.type(0), site.type(1)
    if boxes.rank != 3 or scores.rank != 3:
        raise Unsupported(f"needs rank 3, got {boxes} and {scores}")
    known = site.known(2) if site.has(2) else contents.scalar(i64, 0)
    limit = known.scalar() if known is not None else None
    each: Dim = scores.shape[2]
    if limit is not None and not isinstance(limit, Expr):
        each = site.facts.minimum(each, max(int(limit), 0))
    extra = [site.x(2) if site.has(2) else site.scalar(0, i64)]
    for index in (3, 4):
        extra.append(_threshold(site, index, boxes.dtype))
    while not extra[-1]:
        extra.pop()
    center, (images, classes, _) = bool(site.get_int("center_point_box")), scores.shape
    taken = site.emit("non_max_suppression", site.x(0), site.x(1), *extra, center=center, room=each)
    taken = site.reshape(taken, (images * classes * each,))
    places, count = chosen(site, site.emit("ge", taken, site.scalar(0, i64)), "boxes")
    plane = site.emit("div", places, _whole(site, site.facts.maximum(each, 1)))
    number = _whole(site, site.facts.maximum(classes, 1))
    columns = (
        site.emit("div", plane, number),
        site.emit("mod", plane, number),
        site.emit("gather", taken, places, axis=0),
    )
    return site.emit("concat", *(site.reshape(column, (count, 1)) for column in columns), axis=1)


def _whole(site: Site, value: Dim) -> str:
    return site.data(contents.scalar(i64, value))


def _threshold(site: Site, index: int, dtype: DType) -> str:
    return site.cast(site.x(index), dtype) if site.has(index) else ""


@rule("Det")
def det(site: Site) -> Result:
    return site.emit("det", site.x())
