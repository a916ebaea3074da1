"""Rules of operators that fold axes."""

from __future__ import annotations

from collections.abc import Callable

from ....ir.types import f64, i64, u64
from .. import contents, scalars
from ..known import Known
from ..scalars import Scalar, Undecided
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

_FOLDS: dict[str, Callable[[Site, Scalar, Scalar], Scalar]] = {
    "ReduceSum": lambda s, a, b: scalars.plus(a, b),
    "ReduceProd": lambda s, a, b: scalars.times(a, b),
    "ReduceMax": lambda s, a, b: s.facts.maximum(a, b),  # type: ignore[arg-type]
    "ReduceMin": lambda s, a, b: s.facts.minimum(a, b),  # type: ignore[arg-type]
}
#: (before, fold, after)
_REDUCE = {
    "ReduceSum": ("", "reduce_sum", ""),
    "ReduceMean": ("", "reduce_mean", ""),
    "ReduceMax": ("", "reduce_max", ""),
    "ReduceMin": ("", "reduce_min", ""),
    "ReduceProd": ("", "reduce_prod", ""),
    "ReduceL1": ("abs", "reduce_sum", ""),
    "ReduceL2": ("square", "reduce_sum", "sqrt"),
    "ReduceSumSquare": ("square", "reduce_sum", ""),
    "ReduceLogSum": ("", "reduce_sum", "log"),
}


def _axes(site: Site) -> tuple[int, ...] | None:
    """An attribute before opset 18 (13 for ReduceSum), an input since; None: leave the input as it is."""
    rank = site.type().rank
    if site.opset >= (13 if site.op == "ReduceSum" else 18):
        given = site.numbers(1, "axes") if site.has(1) else None
    else:
        attribute = site.get_ints("axes")
        given = None if attribute is None else list(attribute)
    if not given:
        return None if site.get_int("noop_with_empty_axes") else tuple(range(rank))
    return tuple(sorted({site.axis(a, rank) for a in given}))


@rule(*_REDUCE)
def reduce(site: Site) -> Result:
    axes, keepdims = _axes(site), bool(site.get_int("keepdims", 1))
    before, fold, after = _REDUCE[site.op]
    if axes is not None and site.op in _FOLDS and not site.type().dtype.is_float:
        folded = _folded(site, axes, keepdims)
        if folded is not None:
            return folded
    value, dtype = site.x(), site.type().dtype
    if before == "square":
        value = site.emit("mul", value, value)
    elif before:
        value = site.emit(before, value)
    if after and dtype.is_integer:
        value = site.cast(
            value, u64 if dtype.kind == "uint" else i64
        )  # sums that are rounded in the end do not wrap around
    if axes:
        value = site.emit(fold, value, axes=axes, keepdims=keepdims)
    if not after:
        return value
    return site.cast(site.emit(after, value if dtype.is_float else site.cast(value, f64)), dtype)


def _folded(site: Site, axes: tuple[int, ...], keepdims: bool) -> Known | None:
    known = site.known()
    if known is None or not all(isinstance(known.shape[a], int) for a in axes):
        return None
    try:
        return contents.reduce(known, axes, keepdims, lambda a, b: _FOLDS[site.op](site, a, b))
    except (KeyError, Undecided):  # a position along an axis has no bounds here
        return None


@rule("ReduceLogSumExp")
def reduce_log_sum_exp(site: Site) -> Result:
    """log(sum(exp(x - max))) + max; an infinite maximum is not taken out."""
    axes, keepdims, x = _axes(site), bool(site.get_int("keepdims", 1)), site.x()
    if not axes:
        return x
    dtype = site.type().dtype
    if dtype.is_integer:
        x = site.cast(x, f64)
    zero = site.scalar(0, site.type_of(x).dtype)
    greatest = site.emit("reduce_max", x, axes=axes, keepdims=True)
    greatest = site.emit("where", site.emit("isinf", greatest), zero, greatest)  # inf - inf is not 0
    total = site.emit("reduce_sum", site.emit("exp", site.emit("sub", x, greatest)), axes=axes, keepdims=True)
    value = site.cast(site.emit("add", site.emit("log", total), greatest), dtype)
    if keepdims:
        return value
    return site.reshape(value, [d for a, d in enumerate(site.type_of(value).shape) if a not in axes])


@rule("ArgMax", "ArgMin")
def arg_reduce(site: Site) -> Result:
    axis, keepdims = site.axis(site.get_int("axis"), site.type().rank), bool(site.get_int("keepdims", 1))
    last = bool(site.get_int("select_last_index"))
    return site.emit(site.op.lower(), site.x(), axis=axis, keepdims=keepdims, select_last=last)


@rule("CumSum", "CumProd")
def cumulative(site: Site) -> Result:
    axis = site.axis(site.whole(1, "axis"), site.type().rank)
    exclusive, reverse = bool(site.get_int("exclusive")), bool(site.get_int("reverse"))
    known = site.known() if site.op == "CumSum" and not exclusive and not reverse else None
    folded = contents.running_sum(known, axis) if known is not None else None
    return folded or site.emit(site.op.lower(), site.x(), axis=axis, exclusive=exclusive, reverse=reverse)


@rule("LpNormalization")
def lp_normalization(site: Site) -> Result:
    axis, p, x = site.axis(site.get_int("axis", -1), site.type().rank), site.get_int("p", 2), site.x()
    if p not in (1, 2):
        raise Unsupported(f"p = {p} is not supported")
    size = site.emit("abs", x) if p == 1 else site.emit("mul", x, x)
    total = site.emit("reduce_sum", size, axes=(axis,), keepdims=True)
    norm = total if p == 1 else site.emit("sqrt", total)
    zero = site.scalar(0, site.type().dtype)
    return site.emit("where", site.emit("eq", norm, zero), zero, site.emit("div", x, norm))
