"""Rules of fused operators of the com.microsoft domain: activations, products and convolutions."""

from __future__ import annotations

from ....ir.dims import exact_div
from ..unsupported import Unsupported
from .contraction import affine, convolved
from .registry import RULES, Result, rule
from .site import Site

#: The opset of the standard that made pads an input.
_PADS_AS_INPUTS = 11


def activated(site: Site, value: str, name: str, numbers: tuple[float, ...]) -> str:
    """An activation by its ONNX name, '' for none; `numbers` are what it takes, as far as they are given."""
    dtype = site.type_of(value).dtype
    if name and not dtype.is_float:
        raise Unsupported(f"activation {name!r} of whole numbers, {site.type_of(value)}")
    defaults = {"LeakyRelu": (0.01,), "Elu": (1.0,), "HardSigmoid": (0.2, 0.5), "Clip": (), "QuickGelu": (1.702,)}
    given = (*numbers, *defaults.get(name, ())[len(numbers) :])
    match name:
        case "":
            return value
        case "Relu" | "Tanh" | "Sigmoid" | "Softplus":
            return site.emit(name.lower(), value)
        case "Gelu":
            return site.emit("gelu", value, approximate="none")
        case "LeakyRelu":
            return site.emit("leaky_relu", value, alpha=given[0])
        case "Elu":
            return site.emit("elu", value, alpha=given[0])
        case "HardSigmoid":
            return site.emit("hard_sigmoid", value, alpha=given[0], beta=given[1])
        case "HardSwish":
            return site.emit("hard_swish", value)
        case "Clip" if len(given) == 2:
            return site.emit("clip", value, min=given[0], max=given[1])
        case "QuickGelu":
            scaled = site.emit("mul", value, site.scalar(given[0], dtype))
            return site.emit("mul", value, site.emit("sigmoid", scaled))
    raise Unsupported(f"activation {name!r} with {list(numbers)} is not supported")


def _floats(site: Site, *names: str) -> tuple[float, ...]:
    return tuple(site.get_float(name) for name in names if site.has_attribute(name))


@rule("BiasGelu", domain="com.microsoft")
def bias_gelu(site: Site) -> Result:
    return site.emit("gelu", site.emit("add", site.x(0), site.x(1)), approximate="none")


@rule("BiasSplitGelu", domain="com.microsoft")
def bias_split_gelu(site: Site) -> Result:
    """The first half of x + bias times the gelu of the second."""
    value = site.emit("add", site.x(0), site.x(1))
    axis, half = site.type(0).rank - 1, exact_div(site.shape_from(0, 1)[-1], 2)
    if half is None:
        raise Unsupported(f"{site.type(0)} does not split in two")
    left, right = (site.slice(value, axis, at, half) for at in (0, half))
    return site.emit("mul", left, site.emit("gelu", right, approximate="none"))


@rule("BiasAdd", domain="com.microsoft")
def bias_add(site: Site) -> Result:
    return site.emit("add", site.emit("add", site.x(0), site.x(1)), site.x(2))


@rule("BiasDropout", domain="com.microsoft")
def bias_dropout(site: Site) -> Result:
    """Inference: x + bias + residual."""
    if site.has(4) and site.whole(4, "training_mode"):
        raise Unsupported("training_mode is not supported", "export the model in evaluation mode")
    value = site.emit("add", site.x(0), site.x(1))
    return site.emit("add", value, site.x(2)) if site.has(2) else value


@rule("BiasSoftmax", domain="com.microsoft")
def bias_softmax(site: Site) -> Result:
    """softmax(data + bias) over all axes from `axis` on; the bias lacks axes in front of that or just behind the first."""
    dims, rank = site.type(0).shape, site.type(0).rank
    axis = site.axis(site.get_int("axis", 1), rank)
    bias = site.x(1)
    if not site.get_int("is_inner_broadcast", 1):
        have = site.type(1).shape
        bias = site.reshape(bias, (*have[: rank - axis], *have[-(rank - axis) :]) if len(have) == rank else have)
    value = site.emit("add", site.x(0), bias)
    if axis == rank - 1:
        return site.emit("softmax", value, axis=axis)
    width = dims[axis]
    for extent in dims[axis + 1 :]:
        width = width * extent
    flat = site.reshape(value, (*dims[:axis], width))
    return site.reshape(site.emit("softmax", flat, axis=axis), dims)


def _turned(site: Site, index: int, swap: bool, batch: bool) -> str:
    """An operand [.., rows, columns]; with `batch` its rows come in front of the batch axes, with `swap` columns before rows."""
    value, rank = site.x(index), site.type(index).rank
    if rank < 2:
        return value
    order = list(range(rank))
    if batch:
        order = [*order[1:-1], 0, order[-1]]
    if swap:
        order = [*order[:-2], order[-1], order[-2]]
    return site.transpose(value, order)


@rule("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain="com.microsoft")
def fused_matmul(site: Site) -> Result:
    """alpha * a' @ b', activated."""
    a = _turned(site, 0, bool(site.get_int("transA")), bool(site.get_int("transBatchA")))
    b = _turned(site, 1, bool(site.get_int("transB")), bool(site.get_int("transBatchB")))
    value, alpha = site.emit("matmul", a, b), site.get_float("alpha", 1.0)
    if alpha != 1.0:
        value = site.emit("mul", value, site.scalar(alpha, site.type().dtype))
    numbers = _floats(site, "activation_alpha", "activation_beta", "activation_gamma")
    site.attribute("activation_axis")  # of a softmax, which is refused
    return activated(site, value, site.get_str("activation"), numbers)


@rule("FusedGemm", domain="com.microsoft")
def fused_gemm(site: Site) -> Result:
    value = affine(site)
    numbers = _floats(site, "activation_alpha", "activation_beta", "activation_gamma")
    return activated(site, value, site.get_str("activation"), numbers)


@rule("FusedConv", domain="com.microsoft")
def fused_conv(site: Site) -> Result:
    """A convolution of x by a filter, with a bias, then something of the result's shape added, then activated."""
    value = convolved(site)
    if site.has(3):
        value = site.emit("add", value, site.x(3))
    numbers = site.get_floats("activation_params") or ()
    return activated(site, value, site.get_str("activation"), numbers)


@rule("ExpandDims", domain="com.microsoft")
def expand_dims(site: Site) -> Result:
    """A new axis of extent 1 at a place that must be known."""
    axis = site.axis(site.whole(1, "axis"), site.type().rank + 1)
    shape = site.type().shape
    return site.reshape(site.x(), (*shape[:axis], 1, *shape[axis:]))


@rule("CDist", domain="com.microsoft")
def distances(site: Site) -> Result:
    """Between rows of a [m, width] and rows of b [n, width], [m, n]: the square of the distance, or itself."""
    metric, (rows, width), (others, same) = site.get_str("metric", "sqeuclidean"), site.shape(0, 2), site.shape(1, 2)
    if metric not in ("sqeuclidean", "euclidean") or width != same:
        raise Unsupported(f"metric {metric!r} of {site.type(0)} and {site.type(1)}")
    a, b = site.reshape(site.x(0), (rows, 1, width)), site.reshape(site.x(1), (1, others, width))
    apart = site.emit("sub", a, b)
    value = site.emit("reduce_sum", site.emit("mul", apart, apart), axes=(2,), keepdims=False)
    return site.emit("sqrt", value) if metric == "euclidean" else value


@rule("Pad", domain="com.microsoft")
def pad(site: Site) -> Result:
    """As the standard had it when limits became inputs."""
    found = RULES["", "Pad"](site.like(site.node, _PADS_AS_INPUTS))
    assert isinstance(found, str)
    return found
