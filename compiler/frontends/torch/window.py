"""Rules of sliding windows: pooling."""

from __future__ import annotations

import numpy as np

from ....ir.dims import Dim
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

Ints = tuple[int, ...]


def _pool(site: Site) -> tuple[str, Ints, Ints, Ints, Ints, Ints]:
    """x as a batch, kernel, strides, pads, dilations, and how far ceil_mode lets windows reach beyond the pads at the end."""
    n = int(site.name.removesuffix("_with_indices")[-2])  # max_pool2d
    kind = site.type("self")
    x = site.x("self")
    if kind.rank == n + 1:
        x = site.reshape(x, (1, *kind.shape))
    kernel = site.ints("kernel_size", n)
    strides = site.ints("stride", n) if site.get("stride") else kernel
    pads = site.ints("padding", n)
    dilations = site.ints("dilation", n) if "dilation" in site.arguments else (1,) * n
    beyond = (0,) * n
    if site.flag("ceil_mode"):
        extents = kind.shape[-n:]
        beyond = tuple(_beyond(extents[i], pads[i], dilations[i] * (kernel[i] - 1) + 1, strides[i]) for i in range(n))
    return x, kernel, strides, (*pads, *pads), dilations, beyond


def _beyond(extent: Dim, pad: int, reach: int, stride: int) -> int:
    """Extra padding at the end so that the rounded-down count is torch's rounded-up one; no window starts in it."""
    if stride == 1:
        return 0
    if not isinstance(extent, int):
        raise Unsupported(f"ceil_mode with stride {stride} depends on the extent {extent}", "fix it with --dim NAME=N")
    count = -(-(extent + 2 * pad - reach) // stride) + 1
    if (count - 1) * stride >= extent + pad:
        count -= 1
    return max(0, (count - 1) * stride + reach - (extent + 2 * pad))


def _extended(pads: Ints, beyond: Ints) -> Ints:
    n = len(beyond)
    return (*pads[:n], *(p + b for p, b in zip(pads[n:], beyond, strict=True)))


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")
def max_pool(site: Site) -> list[Result]:
    """The greatest; where it was is not supported."""
    x, kernel, strides, pads, dilations, beyond = _pool(site)
    value = site.emit("max_pool", x, kernel=kernel, strides=strides, pads=_extended(pads, beyond), dilations=dilations)
    value = site.reshape(value, site.result().shape)
    if "with_indices" not in site.name:
        return value  # type: ignore[return-value]
    if site.used(1):
        raise Unsupported("the positions of the greatest are not supported")
    return [value]


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(site: Site) -> Result:
    if site.has("divisor_override"):
        raise Unsupported("divisor_override is not supported")
    x, kernel, strides, pads, dilations, beyond = _pool(site)
    include = site.flag("count_include_pad")
    if include and any(beyond):  # the pads count, what lies beyond them does not: make the pads data
        n = len(beyond)
        x = site.emit("pad", x, pads=(0, 0, *pads[:n], 0, 0, *pads[n:]))
        pads, include = (0,) * (2 * n), False
    value = site.emit(
        "avg_pool",
        x,
        kernel=kernel,
        strides=strides,
        pads=_extended(pads, beyond),
        dilations=dilations,
        count_include_pad=include,
    )
    return site.reshape(value, site.result().shape)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d")
@rule("_adaptive_avg_pool3d")
def adaptive_avg_pool(site: Site) -> Result:
    """Means of nearly equal parts of each axis: of all of it, of equal windows, or weighted sums of its elements."""
    kind, wanted = site.type("self"), site.dims("output_size")
    first = kind.rank - len(wanted)
    x = site.x("self")
    whole = tuple(first + i for i, size in enumerate(wanted) if size == 1)
    if whole:
        x = site.emit("reduce_mean", x, axes=whole, keepdims=True)
    for position, size in enumerate(wanted):
        axis, extent = first + position, kind.shape[first + position]
        if size in (1, extent):
            continue
        if not isinstance(extent, int) or not isinstance(size, int):
            raise Unsupported(f"pools an extent of {extent} to {size}", "fix it with --dim NAME=N")
        x = _averaged(site, x, axis, extent, size)
    return x


def _averaged(site: Site, x: str, axis: int, extent: int, size: int) -> str:
    """Part i is the mean of elements floor(i * extent / size) up to ceil((i + 1) * extent / size)."""
    shape = site.type_of(x).shape
    if extent % size == 0:
        wide = site.reshape(x, (*shape[:axis], size, extent // size, *shape[axis + 1 :]))
        return site.emit("reduce_mean", wide, axes=(axis + 1,), keepdims=False)
    shares = np.zeros((extent, size), site.type_of(x).dtype.np)
    for part in range(size):
        start, end = part * extent // size, -(-(part + 1) * extent // size)
        shares[start:end, part] = 1 / (end - start)
    order = [a for a in range(len(shape)) if a != axis] + [axis]
    product = site.emit("matmul", site.transpose(x, order), site.constant(shares))
    return site.transpose(product, [order.index(a) for a in range(len(shape))])


@rule("adaptive_max_pool1d", "adaptive_max_pool2d")
def adaptive_max_pool(site: Site) -> list[Result]:
    kind, wanted = site.type("self"), site.dims("output_size")
    if site.used(1):
        raise Unsupported("the positions of the greatest are not supported")
    first, x = kind.rank - len(wanted), site.x("self")
    for position, size in enumerate(wanted):
        axis = first + position
        shape = site.type_of(x).shape
        extent = shape[axis]
        if not isinstance(extent, int) or not isinstance(size, int) or extent % size:
            raise Unsupported(f"pools an extent of {extent} to {size}; it must divide", "fix it with --dim NAME=N")
        wide = site.reshape(x, (*shape[:axis], size, extent // size, *shape[axis + 1 :]))
        x = site.emit("reduce_max", wide, axes=(axis + 1,), keepdims=False)
    return [x]
