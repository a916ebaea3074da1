"""Rules of normalisations and softmax."""

from __future__ import annotations

from ....ir.dims import exact_div, product
from .. import contents
from ..norms import group_norm, per_channel
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


@rule("Softmax", "LogSoftmax")
def softmax(site: Site) -> Result:
    """Before opset 13 the axes from `axis` on are flattened into one."""
    op = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}[site.op]
    dims, x = site.type().shape, site.x()
    if site.opset >= 13:
        return site.emit(op, x, axis=site.axis(site.get_int("axis", -1), len(dims)))
    axis = site.axis(site.get_int("axis", 1), len(dims))
    if all(d == 1 for d in dims[axis + 1 :]):
        return site.emit(op, x, axis=axis)
    flat = site.reshape(x, (*dims[:axis], product(dims[axis:])))
    return site.reshape(site.emit(op, flat, axis=axis), dims)


@rule("Hardmax")
def hardmax(site: Site) -> Result:
    if site.opset < 13:
        raise Unsupported("is not supported before opset 13")
    x, dims, dtype = site.x(), site.type().shape, site.type().dtype
    axis = site.axis(site.get_int("axis", -1), len(dims))
    first = site.emit("argmax", x, axis=axis, keepdims=True)
    position = contents.along(site.type_of(first).dtype, 0, dims[axis], 0, len(dims) - axis)
    return site.cast(site.emit("eq", first, site.data(position)), dtype)


@rule("LayerNormalization")
def layer_normalization(site: Site) -> list[Result]:
    """Mean and 1 / standard deviation are computed apart where something reads them."""
    rank = site.type().rank
    axis, epsilon = site.axis(site.get_int("axis", -1), rank), site.get_float("epsilon", 1e-5)
    results: list[Result] = [site.emit("layer_norm", *site.xs(), axis=axis, epsilon=epsilon)]
    if site.used(1) or site.used(2):
        axes, x = tuple(range(axis, rank)), site.x()
        mean = site.emit("reduce_mean", x, axes=axes, keepdims=True)
        centred = site.emit("sub", x, mean)
        variance = site.emit("reduce_mean", site.emit("mul", centred, centred), axes=axes, keepdims=True)
        shifted = site.emit("add", variance, site.scalar(epsilon, site.type().dtype))
        results += [mean, site.emit("rsqrt", shifted)]
    return results


@rule("RMSNormalization")
@rule("SimplifiedLayerNormalization")
@rule("SimplifiedLayerNormalization", domain="com.microsoft")
def rms_normalization(site: Site) -> list[Result]:
    """With one over the root of the mean square where something reads it."""
    rank = site.type().rank
    axis, epsilon = site.axis(site.get_int("axis", -1), rank), site.get_float("epsilon", 1e-5)
    results: list[Result] = [site.emit("rms_norm", site.x(0), site.x(1), axis=axis, epsilon=epsilon)]
    if site.used(1):
        x, axes = site.x(), tuple(range(axis, rank))
        square = site.emit("reduce_mean", site.emit("mul", x, x), axes=axes, keepdims=True)
        results.append(site.emit("rsqrt", site.emit("add", square, site.scalar(epsilon, site.type().dtype))))
    return results


@rule("BatchNormalization")
def batch_normalization(site: Site) -> Result | list[Result]:
    """In training, said by an attribute or before opset 14 by more results, the batch's own mean and variance are used."""
    if site.type().rank < 2:
        raise Unsupported(f"needs rank 2 or more, got {site.type()}")
    if site.opset < 9 and not site.get_int("spatial", 1):
        raise Unsupported("spatial = 0 is not supported")
    epsilon, momentum = site.get_float("epsilon", 1e-5), site.get_float("momentum", 0.9)
    training = bool(site.get_int("training_mode")) if site.opset >= 14 else site.used(1) or site.used(2)
    if not training:
        return site.emit("batch_norm", *(site.x(i) for i in range(5)), epsilon=epsilon)
    return _training(site, epsilon, momentum)


def _training(site: Site, epsilon: float, momentum: float) -> list[Result]:
    """The result, the running mean and variance; before opset 14 also the batch's own."""
    x, dtype, channels = site.x(0), site.type().dtype, site.type().shape[1]
    axes = tuple(a for a in range(site.type().rank) if a != 1)
    mean = site.emit("reduce_mean", x, axes=axes, keepdims=True)
    centred = site.emit("sub", x, mean)
    variance = site.emit("reduce_mean", site.emit("mul", centred, centred), axes=axes, keepdims=True)
    own = [site.reshape(value, (channels,)) for value in (mean, variance)]
    results: list[Result] = [site.emit("batch_norm", x, site.x(1), site.x(2), *own, epsilon=epsilon)]
    for index, value in enumerate(own, 3):
        # in this order the sum is what the standard writes: the old value's share and the new one's
        old = site.emit("mul", site.x(index), site.scalar(momentum, dtype))
        results.append(site.emit("add", old, site.emit("mul", value, site.scalar(1 - momentum, dtype))))
    return results if site.opset >= 14 else [*results, *own]


@rule("InstanceNormalization")
def instance_normalization(site: Site) -> Result:
    if site.type().rank < 2:
        raise Unsupported(f"needs rank 2 or more, got {site.type()}")
    value = group_norm(site, site.x(), site.type().shape[1], site.get_float("epsilon", 1e-5))
    return per_channel(site, "add", per_channel(site, "mul", value, site.x(1)), site.x(2))


@rule("GroupNormalization")
def group_normalization(site: Site) -> Result:
    """Scale and bias are per group before opset 21, per channel since."""
    dims, groups = site.type().shape, site.get_int("num_groups", 1)
    value = group_norm(site, site.x(), groups, site.get_float("epsilon", 1e-5))
    inside = exact_div(dims[1], groups) or 1
    for op, index in (("mul", 1), ("add", 2)):
        factor = site.x(index)
        if site.opset < 21 and site.type(index).shape == (groups,) and inside != 1:
            factor = site.repeat(factor, 0, inside)
        value = per_channel(site, op, value, factor)
    return value


@rule("LRN")
def local_response(site: Site) -> Result:
    """x / (bias + alpha / size * sum of squares over neighbouring channels) ** beta."""
    x, dims, dtype, size = site.x(), site.type().shape, site.type().dtype, site.get_int("size")
    if len(dims) < 3 or size < 1:
        raise Unsupported(f"size {size} does not fit {site.type()}")
    flat = site.reshape(site.emit("mul", x, x), (dims[0], 1, dims[1], product(dims[2:])))
    before = (size - 1) // 2
    mean = site.emit(
        "avg_pool",
        flat,
        kernel=(size, 1),
        strides=(1, 1),
        pads=(before, 0, size - 1 - before, 0),
        dilations=(1, 1),
        count_include_pad=True,
    )
    scaled = site.emit("mul", site.reshape(mean, dims), site.scalar(site.get_float("alpha", 1e-4), dtype))
    base = site.emit("add", scaled, site.scalar(site.get_float("bias", 1.0), dtype))
    return site.emit("div", x, site.emit("pow", base, site.scalar(site.get_float("beta", 0.75), dtype)))
