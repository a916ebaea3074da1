"""Rules of sums of products: matrix products and convolutions."""

from __future__ import annotations

from ....ir.dims import Dim, product
from ....ir.types import DType
from ..transposed import transposed_conv
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

Ints = tuple[int, ...]


@rule("linear")
def linear(site: Site) -> Result:
    """x @ weight^T + bias."""
    value = site.emit("matmul", site.x("input"), site.transpose(site.x("weight"), (1, 0)))
    return site.emit("add", value, site.x("bias")) if site.has("bias") else value


@rule("mm", "bmm", "mv", "dot", "matmul")
def matmul(site: Site) -> Result:
    dtype = site.result().dtype
    other = {"mm": "mat2", "bmm": "mat2", "mv": "vec", "dot": "tensor"}.get(site.name, "other")
    return site.emit("matmul", site.x("self", dtype), site.x(other, dtype))


@rule("addmm", "baddbmm", "addbmm", "addmv")
def add_product(site: Site) -> Result:
    """beta * self + alpha * product; addbmm sums the products of the batch."""
    dtype = site.result().dtype
    a, b = {
        "addmm": ("mat1", "mat2"),
        "baddbmm": ("batch1", "batch2"),
        "addbmm": ("batch1", "batch2"),
        "addmv": ("mat", "vec"),
    }[site.name]
    value = site.emit("matmul", site.x(a), site.x(b))
    if site.name == "addbmm":
        value = site.emit("reduce_sum", value, axes=(0,), keepdims=False)
    value = _scaled(site, value, site.get("alpha", 1), dtype)
    beta = site.get("beta", 1)
    if beta == 0:
        return value
    return site.emit("add", value, _scaled(site, site.x("self"), beta, dtype))


def _scaled(site: Site, value: str, factor: object, dtype: DType) -> str:
    return value if factor == 1 else site.emit("mul", value, site.value_of(factor, dtype))


# -- convolution


@rule("conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv(site: Site) -> Result:
    """Without a batch axis it is a batch of one."""
    n = int(site.name[4])
    kind, filters = site.type("input"), site.type("weight")
    strides, dilations = site.ints("stride", n), site.ints("dilation", n)
    kernel = _constant(filters.shape[2:])
    given = site.get("padding")
    if given == "same":
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        pads = (*(t // 2 for t in totals), *(t - t // 2 for t in totals))
    else:
        pads = (0,) * (2 * n) if given == "valid" else site.ints("padding", n) * 2
    x = site.x("input")
    alone = kind.rank == n + 1
    if alone:
        x = site.reshape(x, (1, *kind.shape))
    bias = (site.x("bias"),) if site.has("bias") else ()
    groups = site.whole("groups", 1)
    value = site.emit(
        "conv", x, site.x("weight"), *bias, strides=strides, pads=pads, dilations=dilations, groups=groups
    )
    return site.reshape(value, site.type_of(value).shape[1:]) if alone else value


@rule("convolution")
def convolution(site: Site) -> Result:
    if site.flag("transposed"):
        return _transposed(site)
    n = site.type("weight").rank - 2
    bias = (site.x("bias"),) if site.has("bias") else ()
    return site.emit(
        "conv",
        site.x("input"),
        site.x("weight"),
        *bias,
        strides=site.ints("stride", n),
        pads=site.ints("padding", n) * 2,
        dilations=site.ints("dilation", n),
        groups=site.whole("groups", 1),
    )


@rule("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(site: Site) -> Result:
    return _transposed(site)


def _transposed(site: Site) -> Result:
    kind, filters = site.type("input"), site.type("weight")
    n = filters.rank - 2
    _constant(filters.shape)
    x = site.x("input")
    alone = kind.rank == n + 1
    if alone:
        x = site.reshape(x, (1, *kind.shape))
    value = transposed_conv(
        site,
        x,
        site.x("weight"),
        site.ints("stride", n),
        site.ints("dilation", n),
        site.ints("padding", n) * 2,
        site.ints("output_padding", n),
        site.whole("groups", 1),
    )
    if site.has("bias"):
        bias = site.reshape(site.x("bias"), (*site.type("bias").shape, *(1,) * n))
        value = site.emit("add", value, bias)
    return site.reshape(value, site.type_of(value).shape[1:]) if alone else value


def _constant(shape: tuple[Dim, ...]) -> Ints:
    sizes = tuple(d for d in shape if isinstance(d, int))
    if len(sizes) != len(shape):
        raise Unsupported(f"the filter's extents {shape} must be constant")
    return sizes


@rule("_weight_norm")
def weight_norm(site: Site) -> Result:
    """g * v / norm of v over all axes but `dim`."""
    v, g, kind = site.x("v"), site.x("g"), site.type("v")
    axis = site.axis_at("dim", kind.rank)
    axes = tuple(a for a in range(kind.rank) if a != axis)
    total = site.emit("reduce_sum", site.emit("mul", v, v), axes=axes, keepdims=True)
    shape: tuple[Dim, ...] = tuple(d if a == axis else 1 for a, d in enumerate(kind.shape))
    g = site.reshape(g, shape) if product(site.type("g").shape) == product(shape) else g
    return site.emit("mul", v, site.emit("div", g, site.emit("sqrt", total)))
