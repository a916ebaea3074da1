"""Softmax and the normalisations from the reductions they are made of.

A norm grows as the walk goes on: its core is found first, with a scale of ones; a product with it then becomes the scale, a sum
the bias. So every exporter's order of operands is covered by three small rules.
"""

from __future__ import annotations

from ...ir.dims import Shape, product
from ...ir.graph import Node
from .match import Match, Pattern, any_number, broadcasts_to, either, every, first, number, op, reduced, uses, var
from .rebuild import Rebuild

_X = var("x")
_MAX = reduced("reduce_max", _X, "axes")
_SHIFTED = op("sub", _X, _MAX)


def _quotient(top: Pattern, bottom: Pattern) -> Pattern:
    return either(
        op("div", top, bottom), op("mul", top, op("reciprocal", bottom)), op("mul", top, op("div", number(1), bottom))
    )


def _softmax_of(exponential: Pattern) -> Pattern:
    return _quotient(exponential, reduced("reduce_sum", exponential, "axes"))


def _log_sum(part: Pattern) -> Pattern:
    return op("log", reduced("reduce_sum", op("exp", part), "axes"))


_SOFTMAX = either(_softmax_of(op("exp", _SHIFTED)), _softmax_of(op("exp", _X)))
_LOG_SOFTMAX = either(
    op("sub", _SHIFTED, _log_sum(_SHIFTED)),
    op("sub", _X, op("add", _log_sum(_SHIFTED), _MAX)),
    op("sub", _X, _log_sum(_X)),
)


def _one_axis(work: Rebuild, found: Match | None, target: str, like: Node) -> str | None:
    if found is None or len(found.axes("axes")) != 1:
        return None
    return work.emit(target, found.value("x"), like=like, axis=found.axes("axes")[0])


def softmax(work: Rebuild, node: Node) -> str | None:
    """exp(x - max(x)) / sum(exp(x - max(x))) along one axis, also without the maximum."""
    return _one_axis(work, first(work, node, _SOFTMAX), "softmax", node)


def log_softmax(work: Rebuild, node: Node) -> str | None:
    """x - max(x) - log(sum(exp(x - max(x)))), in other orders, or log(softmax(x))."""
    if node.op == "log":
        inner = work.producer(node.inputs[0], "softmax")
        if inner is None:
            return None
        return work.emit("log_softmax", inner.inputs[0], like=node, axis=inner.attr("axis"))
    return _one_axis(work, first(work, node, _LOG_SOFTMAX), "log_softmax", node)


# -- layer norm and RMS norm ---------------------------------------------------------------------------------------


def _square(part: Pattern) -> Pattern:
    return either(op("mul", part, part), op("pow", part, number(2)))


def _mean(part: Pattern, count: str) -> Pattern:
    """A mean, or a sum over a count to be checked."""
    total = reduced("reduce_sum", part, "axes")
    return either(reduced("reduce_mean", part, "axes"), op("div", total, any_number(count)))


def _over_root(top: Pattern, part: Pattern) -> Pattern:
    """top / sqrt(mean(part^2) + epsilon)."""
    under = op("add", _mean(_square(part), "count"), any_number("epsilon"))
    inverse = either(op("rsqrt", under), op("pow", under, number(-0.5)))
    return either(op("mul", top, inverse), _quotient(top, either(op("sqrt", under), op("pow", under, number(0.5)))))


_CENTRED = op("sub", _X, _mean(_X, "count"))
_LAYER_NORM = _over_root(_CENTRED, _CENTRED)
_RMS_NORM = _over_root(_X, _X)
#: TensorFlow: x * inverse + (bias - mean * inverse), where inverse holds the scale.
_INVERSE = op("mul", op("rsqrt", op("add", _mean(_square(_CENTRED), "count"), any_number("epsilon"))), var("scale"))
_FACTORED = op("add", op("mul", _X, _INVERSE), op("sub", var("bias"), op("mul", _mean(_X, "count"), _INVERSE)))


def _trailing(work: Rebuild, found: Match) -> int | None:
    """The first of the axes, if these are the last ones of x and a count is theirs."""
    shape, axes = work.shape(found.value("x")), found.axes("axes")
    if not axes or axes != tuple(range(axes[0], len(shape))):
        return None
    if "count" in found.bound and product(shape[axes[0] :]) != found.number("count"):
        return None
    return axes[0]


def norm(work: Rebuild, node: Node) -> str | None:
    """The core of a layer norm or an RMS norm, with a scale of ones."""
    for target, pattern in (("layer_norm", _LAYER_NORM), ("rms_norm", _RMS_NORM)):
        for found in every(work, node, pattern):
            axis, x = _trailing(work, found), found.value("x")
            if axis is None or not work.type(x).dtype.is_float:
                continue
            ones = work.emit("fill", like=node, value=1.0, shape=(), dtype=work.type(x).dtype)
            return work.emit(target, x, ones, like=node, axis=axis, epsilon=found.number("epsilon"))
    return None


def factored_layer_norm(work: Rebuild, node: Node) -> str | None:
    """x * inverse + (bias - mean * inverse)."""
    for found in every(work, node, _FACTORED):
        axis, parts = _trailing(work, found), [found.value(name) for name in ("x", "scale", "bias")]
        if axis is None or not all(broadcasts_to(work.shape(v), work.shape(parts[0])[axis:]) for v in parts[1:]):
            continue
        return work.emit("layer_norm", *parts, like=node, axis=axis, epsilon=found.number("epsilon"))
    return None


def _normalised_axes(work: Rebuild, core: Node) -> Shape:
    shape = work.shape(core.inputs[0])
    return shape[core.attr("axis") % len(shape) :]


def _uncast(work: Rebuild, value: str) -> tuple[str, Node | None]:
    """The norm below `value` and the x to normalise: what is widened before and narrowed after stays as it was."""
    core = work.producer(value)
    if core is None or core.op != "cast" or uses(work, value) > 1:
        return (core.inputs[0] if core is not None and core.inputs else "", core)
    inner = work.producer(core.inputs[0])
    widened = (
        work.producer(inner.inputs[0], "cast") if inner is not None and inner.op in ("rms_norm", "layer_norm") else None
    )
    if inner is None or widened is None or work.type(widened.inputs[0]) != work.type(value):
        return "", None
    narrow, wide = work.type(value).dtype, work.type(inner.output).dtype
    return (widened.inputs[0], inner) if narrow.is_float and narrow.bits < wide.bits else ("", None)


def scale(work: Rebuild, node: Node) -> str | None:
    """A norm of scale one times something that varies along the normalised axes only."""
    for value, factor in (node.inputs, node.inputs[::-1]):
        x, core = _uncast(work, value)
        if core is None or core.op not in ("layer_norm", "rms_norm") or len(core.inputs) > 2:
            continue
        if work.scalar(core.inputs[1]) != 1.0 or uses(work, value) > 1:
            continue
        if broadcasts_to(work.shape(factor), _normalised_axes(work, core)):
            return work.emit(core.op, x, factor, like=node, **dict(core.attrs))
    return None


def bias(work: Rebuild, node: Node) -> str | None:
    """A layer norm without bias plus something that varies along the normalised axes only."""
    for value, shift in (node.inputs, node.inputs[::-1]):
        core = work.producer(value, "layer_norm")
        if core is None or len(core.inputs) > 2 or uses(work, value) > 1:
            continue
        if broadcasts_to(work.shape(shift), _normalised_axes(work, core)):
            return work.emit("layer_norm", *core.inputs, shift, like=node, **dict(core.attrs))
    return None
