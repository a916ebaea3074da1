"""Rules of sliding windows: pooling."""

from __future__ import annotations

import numpy as np

from ..unsupported import Unsupported
from ..windows import Ints, beyond, extended, mean_of_windows
from .registry import Result, Results, rule
from .site import Site


def _pool(site: Site) -> tuple[str, dict[str, Ints], Ints]:
    """x as a batch; kernel, strides, pads and dilations; how far ceil_mode lets windows reach beyond the pads at the end."""
    n = int(site.name.removesuffix("_with_indices")[-2])  # max_pool2d
    kind = site.type("self")
    x = site.x("self")
    if kind.rank == n + 1:
        x = site.reshape(x, (1, *kind.shape))
    kernel = site.ints("kernel_size", n)
    strides = site.ints("stride", n) if site.get("stride") else kernel
    pads = site.ints("padding", n)
    dilations = site.ints("dilation", n) if "dilation" in site.arguments else (1,) * n
    more = (0,) * n
    if site.flag("ceil_mode"):
        reaches = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        more = tuple(beyond(kind.shape[i - n], pads[i], pads[i], reaches[i], strides[i]) for i in range(n))
    return x, {"kernel": kernel, "strides": strides, "pads": (*pads, *pads), "dilations": dilations}, more


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")
def max_pool(site: Site) -> Results:
    """The greatest; where it was is not supported."""
    x, window, more = _pool(site)
    value = site.emit("max_pool", x, **{**window, "pads": extended(window["pads"], more)})
    value = site.reshape(value, site.result().shape)
    if "with_indices" not in site.name:
        return value
    if site.used(1):
        raise Unsupported("the positions of the greatest are not supported")
    return [value]


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(site: Site) -> Result:
    if site.has("divisor_override"):
        raise Unsupported("divisor_override is not supported")
    x, window, more = _pool(site)
    value = mean_of_windows(site, x, window, more, site.flag("count_include_pad"))
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
