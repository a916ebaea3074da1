"""Rules of normalisations and softmax."""

from __future__ import annotations

from ....ir.types import f32
from ..norms import group_norm, per_channel
from ..unsupported import Unsupported
from .registry import Result, Results, rule
from .site import Site


@rule("softmax.int", "log_softmax.int", "_softmax", "_log_softmax", "special_softmax", "special_log_softmax")
def softmax(site: Site) -> Result:
    kind = site.result()
    op = "log_softmax" if "log" in site.name else "softmax"
    x = site.x("self", kind.dtype)
    if not kind.rank:
        return site.reshape(site.emit(op, site.reshape(x, (1,)), axis=0), ())
    return site.emit(op, x, axis=site.axis_at("dim", kind.rank, -1))


@rule("layer_norm", "rms_norm", "native_layer_norm", "_fused_rms_norm")
def layer_norm(site: Site) -> Results:
    """Over the last axes, as many as `normalized_shape` has. Mean and 1 / deviation, where something reads them, apart."""
    kind = site.type("input")
    axes = len(site.dims("normalized_shape"))
    axis, dtype = kind.rank - axes, kind.dtype
    rms = "rms" in site.name
    epsilon = site.get("eps")
    if epsilon is None:  # torch takes the rounding of the element type
        epsilon = 1.1920928955078125e-07 if dtype == f32 else 2.220446049250313e-16
    extra = [site.x("weight") if site.has("weight") else site.scalar(1.0, dtype)]
    if site.has("bias"):
        extra.append(site.x("bias"))
    value = site.emit("rms_norm" if rms else "layer_norm", site.x("input"), *extra, axis=axis, epsilon=float(epsilon))
    if site.name in ("native_layer_norm", "_fused_rms_norm") and (site.used(1) or site.used(2)):
        raise Unsupported("mean and deviation as outputs are not supported")
    return [value] if site.name in ("native_layer_norm", "_fused_rms_norm") else value


@rule("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "cudnn_batch_norm")
def batch_norm(site: Site) -> Results:
    """Inference: with the running mean and variance."""
    if site.flag("training") or site.flag("train"):
        raise Unsupported("computes its mean in training", "call eval() before exporting")
    if not site.has("running_mean") or not site.has("running_var"):
        raise Unsupported("without running mean and variance is not supported")
    kind = site.type("input")
    channels = kind.shape[1]
    filled = {}
    for name, otherwise in (("weight", 1.0), ("bias", 0.0)):
        given = site.x(name) if site.has(name) else site.expand(site.scalar(otherwise, kind.dtype), (channels,))
        filled[name] = given
    value = site.emit(
        "batch_norm",
        site.x("input"),
        filled["weight"],
        filled["bias"],
        site.x("running_mean"),
        site.x("running_var"),
        epsilon=site.number("eps", 1e-5),
    )
    return value if site.name == "batch_norm" else [value]


@rule("group_norm", "instance_norm", "native_group_norm")
def normalised_groups(site: Site) -> Results:
    """Layer norms over groups of channels; an instance norm has a group for each channel."""
    kind = site.type("input")
    if site.name == "instance_norm" and not site.flag("use_input_stats"):
        raise Unsupported("with running statistics is not supported")
    name = "group" if site.name == "native_group_norm" else "num_groups"
    groups = kind.shape[1] if site.name == "instance_norm" else site.whole(name, 1)
    value = group_norm(site, site.x("input"), groups, site.number("eps", 1e-5))
    for op, factor in (("mul", "weight"), ("add", "bias")):
        if site.has(factor):
            value = per_channel(site, op, value, site.x(factor))
    return [value] if site.name == "native_group_norm" else value
