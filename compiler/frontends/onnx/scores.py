"""What models of ai.onnx.ml share: features as a matrix, scores after a transform, and the labels of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....ir.types import DType, f32, f64
from ..unsupported import Unsupported
from .lists import numbers, words
from .site import Site
from .strings import slots_of, strings_of
from .structured import Value

#: The constants of an approximate inverse of the error function (Winitzki), as the standard's reference has them.
_PROBIT = (2 / (3.14159 * 0.147), 1 / 0.147)
#: Scores of a smaller magnitude count as zero for SOFTMAX_ZERO.
_ZERO = 1e-7


def wide(dtype: DType) -> DType:
    """What features of a type are computed in."""
    return f64 if dtype == f64 else f32


def feature_matrix(site: Site, dtype: DType) -> str:
    """The features as [rows, features]."""
    x, type = site.cast(site.x(), dtype), site.type()
    if type.rank == 1:
        return site.reshape(x, (1, *type.shape))
    if type.rank != 2:
        raise Unsupported(f"takes [rows, features], got {type}")
    return x


def transformed(site: Site, scores: str) -> str:
    """Scores [rows, n] after `post_transform`."""
    name = site.get_str("post_transform", "NONE")
    match name:
        case "NONE":
            return scores
        case "LOGISTIC":
            return site.emit("sigmoid", scores)
        case "SOFTMAX":
            return site.emit("softmax", scores, axis=1)
        case "SOFTMAX_ZERO":
            return _softmax_zero(site, scores)
        case "PROBIT":
            return _probit(site, scores)
    raise Unsupported(f"post_transform {name!r} is not supported")


def _softmax_zero(site: Site, scores: str) -> str:
    """A softmax that scores of zero have no part in."""
    dtype = site.type_of(scores).dtype
    greatest = site.emit("reduce_max", scores, axes=(1,), keepdims=True)
    power = site.emit("exp", site.emit("sub", scores, greatest))
    small = site.emit("le", site.emit("abs", scores), site.scalar(_ZERO, dtype))
    counted = site.emit("where", small, site.scalar(0.0, dtype), power)
    total = site.emit("reduce_sum", counted, axes=(1,), keepdims=True)
    rest = site.emit("mul", scores, site.emit("exp", site.emit("neg", greatest)))
    return site.emit("div", site.emit("where", small, rest, power), total)


def _probit(site: Site, scores: str) -> str:
    """The inverse of the normal distribution function: sqrt(2) * erfinv(2 x - 1), in double, since most of it cancels."""
    dtype, have = f64, site.type_of(scores).dtype
    scores = site.cast(scores, dtype)
    one, two = site.scalar(1.0, dtype), site.scalar(2.0, dtype)
    x = site.emit("sub", site.emit("mul", two, scores), one)
    log = site.emit("log", site.emit("mul", site.emit("sub", one, x), site.emit("add", one, x)))
    half = site.emit("add", site.scalar(_PROBIT[0], dtype), site.emit("mul", site.scalar(0.5, dtype), log))
    inner = site.emit("sub", site.emit("mul", half, half), site.emit("mul", site.scalar(_PROBIT[1], dtype), log))
    size = site.emit("sqrt", site.emit("sub", site.emit("sqrt", inner), half))
    value = site.emit("mul", site.emit("mul", site.emit("sign", x), size), site.scalar(2**0.5, dtype))
    return site.cast(value, have)


@dataclass(frozen=True)
class Classes:
    """The labels of a classifier: whole numbers, strings, or else the numbers of the classes."""

    whole: np.ndarray | None
    named: list[str]

    @property
    def count(self) -> int:
        return max(len(self.named), 0 if self.whole is None else len(self.whole))

    def best(self, site: Site, scores: str) -> Value:
        """The labels of the greatest scores of each row."""
        return self.at(site, site.emit("argmax", scores, axis=1, keepdims=False))

    def at(self, site: Site, positions: str) -> Value:
        """The labels of classes by their number."""
        if self.named:
            slots = slots_of([name.encode() for name in self.named], (len(self.named),))
            return strings_of(site, site.emit("gather", site.constant(slots), positions, axis=0))
        return positions if self.whole is None else site.emit("gather", site.constant(self.whole), positions, axis=0)


def classes(site: Site, whole: str) -> Classes:
    """The labels of a node; `whole` is the attribute of those that are numbers."""
    return Classes(numbers(site, whole), words(site, "classlabels_strings"))
