"""Rules of ai.onnx.ml: support vector machines."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ....ir.types import DType, f32
from ..unsupported import Unsupported
from .lists import needed, numbers
from .registry import Result, rule
from .scores import Classes, classes, feature_matrix, transformed, wide
from .site import Site
from .structured import Value

_DOMAIN = "ai.onnx.ml"
#: Probabilities keep away from 0 and 1 by so much before those of pairs of classes are joined.
_MARGIN = 1e-7


def _list(site: Site, name: str, dtype: DType) -> np.ndarray:
    """A list of numbers that may be left out."""
    found = numbers(site, name)
    return np.zeros(0, dtype.np) if found is None else found.astype(dtype.np)


def _similarities(site: Site, vectors: np.ndarray, dtype: DType) -> str:
    """The kernel function of each row of the input and each of `vectors` [count, features], [rows, count]."""
    kind, x = site.get_str("kernel_type", "LINEAR"), feature_matrix(site, dtype)
    parameters = _list(site, "kernel_params", dtype)
    if len(parameters) not in (0, 3) or kind not in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        raise Unsupported(f"kernel {kind!r} with {len(parameters)} parameters")
    gamma, offset, degree = (float(p) for p in parameters) if len(parameters) else (0.0, 0.0, 0.0)
    have = site.type_of(x).shape
    if have[1] != vectors.shape[1]:
        raise Unsupported(f"{have[1]} features where vectors have {vectors.shape[1]}")
    if kind == "RBF":
        apart = site.emit("sub", site.reshape(x, (have[0], 1, have[1])), site.constant(vectors))
        squares = site.emit("reduce_sum", site.emit("mul", apart, apart), axes=(2,), keepdims=False)
        return site.emit("exp", site.emit("mul", squares, site.scalar(-gamma, dtype)))
    value = site.emit("matmul", x, site.constant(np.ascontiguousarray(vectors.T)))
    if kind == "LINEAR":
        return value
    value = site.emit("mul", value, site.scalar(gamma, dtype))
    value = site.emit("add", value, site.scalar(offset, dtype))
    if kind == "SIGMOID":
        return site.emit("tanh", value)
    if degree in (1.0, 2.0, 3.0):
        return site.chain("mul", [value] * int(degree))
    return site.emit("pow", value, site.scalar(degree, dtype))


def _support(site: Site, count: int, dtype: DType) -> np.ndarray:
    """The support vectors as rows."""
    flat = _list(site, "support_vectors", dtype)
    if count < 1 or not len(flat) or len(flat) % count:
        raise Unsupported(f"{len(flat)} numbers for {count} support vectors")
    return flat.reshape(count, -1)


@rule("SVMRegressor", domain=_DOMAIN)
def svm_regressor(site: Site) -> Result:
    """A weighted sum of similarities with the support vectors, or without any a linear function; for one class its sign."""
    dtype, count = wide(site.type().dtype), site.get_int("n_supports")
    weights, rho = needed(site, "coefficients").astype(dtype.np), _list(site, "rho", dtype)
    if site.get_str("post_transform", "NONE") != "NONE":
        raise Unsupported(f"post_transform {site.get_str('post_transform')!r} of one number is not supported")
    if len(rho) < 1 or (count and len(weights) != count):
        raise Unsupported(f"{len(weights)} coefficients and {len(rho)} rho for {count} support vectors")
    if count:
        similar = _similarities(site, _support(site, count, dtype), dtype)
        value = site.emit("matmul", similar, site.constant(weights.reshape(-1, 1)))
    else:
        for name in ("kernel_type", "kernel_params", "support_vectors"):
            site.attribute(name)
        x = feature_matrix(site, dtype)
        if site.type_of(x).shape[1] != len(weights):
            raise Unsupported(f"{len(weights)} coefficients for features {site.type()}")
        value = site.emit("matmul", x, site.constant(weights.reshape(-1, 1)))
    value = site.emit("add", value, site.scalar(float(rho[0]), dtype))
    if site.get_int("one_class"):
        one = site.scalar(1.0, dtype)
        positive = site.emit("gt", value, site.scalar(0.0, dtype))
        value = site.emit("where", positive, one, site.scalar(-1.0, dtype))
    return site.cast(value, f32)


@rule("SVMClassifier", domain=_DOMAIN)
def svm_classifier(site: Site) -> list[Value]:
    """Labels and scores. With support vectors each pair of classes has a score and votes for one of them; without any, each class
    has a linear score. Where there are parameters of probabilities, those of pairs are joined to one for each class."""
    dtype, labels = wide(site.type().dtype), classes(site, "classlabels_ints")
    sizes = needed(site, "vectors_per_class") if site.has_attribute("vectors_per_class") else np.zeros(0, np.int64)
    if labels.count < 2:
        raise Unsupported(f"{labels.count} classes are not supported")
    if not len(sizes) or not sizes.any():
        return _linear(site, labels, dtype)
    if len(sizes) != labels.count or (sizes < 0).any():
        raise Unsupported(f"{len(sizes)} numbers of vectors for {labels.count} classes")
    scores = _pairs(site, sizes, dtype)
    votes = site.emit("gt", scores, site.scalar(0.0, dtype))
    pairs = list(combinations(range(labels.count), 2))
    chosen = [np.zeros((len(pairs), labels.count), dtype.np) for _ in range(2)]
    for index, pair in enumerate(pairs):
        for table, member in zip(chosen, pair, strict=True):
            table[index, member] = 1
    # a vote for the first of a pair moves one from the second to the first
    moved = site.emit("matmul", site.cast(votes, dtype), site.constant(chosen[0] - chosen[1]))
    label = labels.best(site, site.emit("add", moved, site.constant(chosen[1].sum(0))))
    slopes, shifts = (_list(site, name, dtype) for name in ("prob_a", "prob_b"))
    if len(slopes) or len(shifts):
        scores = _probabilities(site, scores, slopes, shifts, labels.count, dtype)
    elif len(pairs) == 1:
        scores = site.emit("concat", site.emit("neg", scores), scores, axis=1)
    return [label, site.cast(transformed(site, scores), f32)]


def _pairs(site: Site, sizes: np.ndarray, dtype: DType) -> str:
    """The score of each pair of classes, [rows, pairs]: above 0 for the first. Each vector has a weight for each other class."""
    count, total = len(sizes), int(sizes.sum())
    weights, rho = needed(site, "coefficients").astype(dtype.np), _list(site, "rho", dtype)
    number = count * (count - 1) // 2
    if len(weights) != (count - 1) * total or len(rho) != number:
        raise Unsupported(f"{len(weights)} coefficients and {len(rho)} rho for {total} vectors of {count} classes")
    pairs = list(combinations(range(count), 2))
    weights = weights.reshape(count - 1, total)
    ends = np.cumsum(sizes)
    table = np.zeros((total, len(pairs)), dtype.np)
    for index, (first, second) in enumerate(pairs):
        for one, row in ((first, second - 1), (second, first)):
            where = slice(ends[one] - sizes[one], ends[one])
            table[where, index] = weights[row, where]
    similar = _similarities(site, _support(site, total, dtype), dtype)
    return site.emit("add", site.emit("matmul", similar, site.constant(table)), site.constant(rho))


def _probabilities(site: Site, scores: str, slopes: np.ndarray, shifts: np.ndarray, count: int, dtype: DType) -> str:
    """Of each class, [rows, count], from those that sigmoids of the scores give for the first of each pair."""
    pairs = count * (count - 1) // 2
    if len(slopes) != pairs or len(shifts) != pairs:
        raise Unsupported(f"{len(slopes)} prob_a and {len(shifts)} prob_b for {pairs} pairs of classes")
    value = site.emit("add", site.emit("mul", scores, site.constant(slopes)), site.constant(shifts))
    first = site.emit("clip", site.emit("sigmoid", site.emit("neg", value)), min=_MARGIN, max=1 - _MARGIN)
    return site.emit("pairwise_probabilities", first, classes=count)


def _linear(site: Site, labels: Classes, dtype: DType) -> list[Value]:
    """Scores of classes as linear functions with one constant in common."""
    weights, rho = needed(site, "coefficients").astype(dtype.np), _list(site, "rho", dtype)
    if len(weights) % labels.count or len(rho) < 1:
        raise Unsupported(f"{len(weights)} coefficients and {len(rho)} rho for {labels.count} classes")
    for name in ("kernel_type", "kernel_params", "support_vectors", "prob_a", "prob_b"):
        site.attribute(name)
    table, x = np.ascontiguousarray(weights.reshape(labels.count, -1).T), feature_matrix(site, dtype)
    if site.type_of(x).shape[1] != table.shape[0]:
        raise Unsupported(f"{table.shape[0]} coefficients of a class for features {site.type()}")
    scores = site.emit("add", site.emit("matmul", x, site.constant(table)), site.scalar(float(rho[0]), dtype))
    return [labels.best(site, scores), site.cast(transformed(site, scores), f32)]
