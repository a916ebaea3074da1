"""Rules of operators that fold axes."""

from __future__ import annotations

import math

from ....ir.dims import Dim, product
from ....ir.types import bool_, i64
from .. import contents
from .registry import Result, Results, rule
from .site import Site


def _folded(site: Site, op: str, value: str, axes: tuple[int, ...]) -> str:
    """Without axes of rank 0 there is nothing to fold."""
    if not axes:
        return value
    return site.emit(op, value, axes=axes, keepdims=site.flag("keepdim"))


@rule("sum", "sum.dim_IntList", "mean", "mean.dim", "prod", "prod.dim_int", "amax", "amin", "max", "min")
def fold(site: Site) -> Result:
    kind = site.type("self")
    op = {"amax": "max", "amin": "min"}.get(site.name, site.name)
    axes = site.axes_at("dim", kind.rank) if "dim" in site.arguments else tuple(range(kind.rank))
    if kind.dtype == bool_ and op in ("max", "min"):
        return site.cast(_folded(site, f"reduce_{op}", site.x("self", i64), axes), bool_)
    return _folded(site, f"reduce_{op}", site.x("self", site.result().dtype), axes)


@rule("any", "any.dim", "any.dims", "all", "all.dim", "all.dims")
def truth(site: Site) -> Result:
    kind = site.type("self")
    axes = site.axes_at("dim", kind.rank) if "dim" in site.arguments else tuple(range(kind.rank))
    known = site.known("self", bool_)
    if known is not None and known.uniform is not None and not any(d == 0 for d in kind.shape):
        return contents.full(bool_, site.result().shape, known.uniform)
    value = site.cast(site.x("self", bool_), i64)
    found = _folded(site, "reduce_max" if site.name == "any" else "reduce_min", value, axes)
    return site.emit("gt", found, site.scalar(0, i64))  # of nothing: the least number, or the greatest


@rule("argmax", "argmin")
def arg_reduce(site: Site) -> Result:
    """Without an axis, of the flattened tensor."""
    kind, x = site.type("self"), site.x("self")
    if not site.has("dim"):
        flat = site.reshape(x, (product(kind.shape),))
        found = site.emit(site.name, flat, axis=0, keepdims=False)
        return site.reshape(found, site.result().shape)
    if not kind.rank:
        return contents.scalar(i64, 0)
    return site.emit(site.name, x, axis=site.axis_at("dim", kind.rank), keepdims=site.flag("keepdim"))


@rule("max.dim", "min.dim")
def extreme(site: Site) -> list[Result]:
    kind, x = site.type("self"), site.x("self")
    if not kind.rank:
        return [x, contents.scalar(i64, 0)]
    axis, keep = site.axis_at("dim", kind.rank), site.flag("keepdim")
    values = site.emit(f"reduce_{site.name}", x, axes=(axis,), keepdims=keep)
    return [values, site.emit(f"arg{site.name}", x, axis=axis, keepdims=keep)]


@rule("var.correction", "std.correction", "var.dim", "std.dim", "var_mean.correction", "std_mean.correction")
@rule("var", "std")
def variance(site: Site) -> Results:
    """Squared distances from the mean over n - correction."""
    kind, x = site.type("self"), site.x("self")
    axes = site.axes_at("dim", kind.rank) if "dim" in site.arguments else tuple(range(kind.rank))
    correction = site.get("correction")
    if "unbiased" in site.arguments:
        correction = 1 if site.flag("unbiased") else 0
    correction = 1 if correction is None else correction
    mean = site.emit("reduce_mean", x, axes=axes, keepdims=True)
    centred = site.emit("sub", x, mean)
    squared = site.emit("mul", centred, centred)
    count = product(kind.shape[a] for a in axes)
    if correction == 0:
        value = _folded(site, "reduce_mean", squared, axes)
    else:
        total = _folded(site, "reduce_sum", squared, axes)
        free: Dim = count - int(correction)
        if isinstance(free, int):
            divisor = site.scalar(float(max(free, 0)), kind.dtype)
        else:
            divisor = site.value_of(free, kind.dtype)
        value = site.emit("div", total, divisor)
    if site.name.startswith("std"):
        value = site.emit("sqrt", value)
    if not site.name.endswith("_mean"):
        return value
    kept = mean if site.flag("keepdim") else site.reshape(mean, site.result(1).shape)
    return [value, kept]


@rule("logsumexp")
def logsumexp(site: Site) -> Result:
    """log(sum(exp(x - max))) + max, an infinite max counting as 0."""
    kind, dtype = site.type("self"), site.result().dtype
    x, axes = site.x("self", dtype), site.axes_at("dim", kind.rank)
    greatest = site.emit("reduce_max", x, axes=axes, keepdims=True)
    zero = site.scalar(0.0, dtype)
    finite = site.emit("where", site.emit("isinf", greatest), zero, greatest)
    total = site.emit("reduce_sum", site.emit("exp", site.emit("sub", x, finite)), axes=axes, keepdims=True)
    value = site.emit("add", site.emit("log", total), finite)
    return site.reshape(value, site.result().shape)


@rule("linalg_vector_norm", "norm.ScalarOpt_dim", "norm.Scalar")
def vector_norm(site: Site) -> Result:
    kind, dtype = site.type("self"), site.result().dtype
    order = site.get("ord", site.get("p", 2))
    order = 2.0 if order is None else float(order)
    axes = site.axes_at("dim", kind.rank) if "dim" in site.arguments else tuple(range(kind.rank))
    x = site.x("self", dtype)
    if order == 2.0:
        return site.emit("sqrt", _folded(site, "reduce_sum", site.emit("mul", x, x), axes))
    size = site.emit("abs", x)
    if order == 1.0:
        return _folded(site, "reduce_sum", size, axes)
    if math.isinf(order):
        return _folded(site, "reduce_max" if order > 0 else "reduce_min", size, axes)
    if order == 0.0:
        return _folded(site, "reduce_sum", site.cast(site.emit("ne", x, site.scalar(0, dtype)), dtype), axes)
    total = _folded(site, "reduce_sum", site.emit("pow", size, site.scalar(order, dtype)), axes)
    return site.emit("pow", total, site.scalar(1 / order, dtype))


@rule("cumsum")
def cumsum(site: Site) -> Result:
    kind = site.result()
    if not kind.rank:
        return site.x("self", kind.dtype)
    axis = site.axis_at("dim", kind.rank)
    known = site.known("self", kind.dtype)
    folded = contents.running_sum(known, axis) if known is not None else None
    return folded or site.emit("cumsum", site.x("self", kind.dtype), axis=axis)
