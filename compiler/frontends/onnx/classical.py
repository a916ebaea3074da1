"""Rules of ai.onnx.ml: preparation of features, and linear models."""

from __future__ import annotations

import numpy as np

from ....ir.types import DType, f32, f64
from ..unsupported import Unsupported
from .lists import needed, numbers, words
from .registry import Result, rule
from .scores import classes, feature_matrix, transformed, wide
from .site import Site
from .structured import Maps, Value

_DOMAIN = "ai.onnx.ml"


# -- features


@rule("Binarizer", domain=_DOMAIN)
def binarizer(site: Site) -> Result:
    """1 above the threshold, else 0."""
    dtype = site.type().dtype
    real = dtype if dtype.is_float else f64
    above = site.emit("gt", site.cast(site.x(), real), site.scalar(site.get_float("threshold"), real))
    return site.cast(above, dtype)


@rule("Scaler", domain=_DOMAIN)
def scaler(site: Site) -> Result:
    """(x - offset) * scale, in f32."""
    value = site.cast(site.x(), f32)
    for op, name in (("sub", "offset"), ("mul", "scale")):
        found = numbers(site, name)
        if found is not None and len(found):
            value = site.emit(op, value, site.constant(found if len(found) > 1 else found[0]))
    return value


@rule("Normalizer", domain=_DOMAIN)
def normalizer(site: Site) -> Result:
    """Rows divided by their greatest magnitude, their sum of magnitudes or their length."""
    norm, x = site.get_str("norm", "MAX"), site.cast(site.x(), f32)
    axis = site.type().rank - 1
    if norm not in ("MAX", "L1", "L2") or axis < 0:
        raise Unsupported(f"norm {norm!r} of {site.type()} is not supported")
    size = site.emit("mul", x, x) if norm == "L2" else site.emit("abs", x)
    total = site.emit("reduce_max" if norm == "MAX" else "reduce_sum", size, axes=(axis,), keepdims=True)
    if norm == "L2":
        total = site.emit("sqrt", total)
    return site.emit("div", x, site.emit("max", total, site.scalar(1e-30, f32)))


@rule("Imputer", domain=_DOMAIN)
def imputer(site: Site) -> Result:
    """One value, or one for each feature, in place of those that are missing."""
    x, dtype = site.x(), site.type().dtype
    values = needed(site, "imputed_value_floats" if dtype.is_float else "imputed_value_int64s").astype(dtype.np)
    if not len(values):
        raise Unsupported("has no imputed values")
    other = "replaced_value_int64" if dtype.is_float else "replaced_value_float"
    site.attribute(other), site.attribute("imputed_value_int64s" if dtype.is_float else "imputed_value_floats")
    if dtype.is_float:
        missing = site.get_float("replaced_value_float")
        here = site.emit("isnan", x) if np.isnan(missing) else site.emit("eq", x, site.scalar(missing, dtype))
    else:
        here = site.emit("eq", x, site.scalar(site.get_int("replaced_value_int64"), dtype))
    return site.emit("where", here, site.constant(values if len(values) > 1 else values[0]), x)


@rule("ArrayFeatureExtractor", domain=_DOMAIN)
def array_feature_extractor(site: Site) -> Result:
    """Elements of the last axis; a row is a matrix of one."""
    x, shape = site.x(), site.type().shape
    index = site.reshape(site.x(1), (site.type(1).elements,))
    if len(shape) == 1:
        x = site.reshape(x, (1, *shape))
    return site.emit("gather", x, index, axis=max(len(shape) - 1, 1))


@rule("OneHotEncoder", domain=_DOMAIN)
def one_hot_encoder(site: Site) -> Result:
    """A new last axis with 1 where the element is that category; what is none of them gives zeros."""
    categories = numbers(site, "cats_int64s")
    if categories is None or not len(categories):
        raise Unsupported("only categories that are numbers are supported")
    if not site.get_int("zeros", 1):
        raise Unsupported("zeros = 0 is not supported", "a plan cannot fail for what its inputs hold")
    x, shape, dtype = site.x(), site.type().shape, site.type().dtype
    same = site.emit("eq", site.reshape(x, (*shape, 1)), site.constant(categories.astype(dtype.np)))
    return site.cast(same, f32)


@rule("FeatureVectorizer", domain=_DOMAIN)
def feature_vectorizer(site: Site) -> Result:
    """Inputs side by side in f32, each cut or padded with zeros to its number of features."""
    sizes, parts = needed(site, "inputdimensions"), []
    if len(sizes) != site.count:
        raise Unsupported(f"inputdimensions names {len(sizes)} of {site.count} inputs")
    for index, size in enumerate(int(s) for s in sizes):
        x, type = site.cast(site.x(index), f32), site.type(index)
        x = site.reshape(x, (*type.shape, 1)) if type.rank == 1 else x
        have = site.type_of(x).shape
        if len(have) != 2 or not isinstance(have[1], int):
            raise Unsupported(f"takes [rows, features], got {type}")
        if size > have[1]:
            x = site.emit("pad", x, pads=(0, 0, 0, size - have[1]))
        parts.append(site.slice(x, 1, 0, size) if size < have[1] else x)
    return site.emit("concat", *parts, axis=1)


# -- models


def _linear(site: Site, outputs: int, dtype: DType) -> str:
    """x @ coefficients' + intercepts."""
    weights = needed(site, "coefficients").astype(dtype.np)
    if outputs < 1 or len(weights) % outputs:
        raise Unsupported(f"{len(weights)} coefficients for {outputs} outputs")
    value = site.emit(
        "matmul", feature_matrix(site, dtype), site.constant(np.ascontiguousarray(weights.reshape(outputs, -1).T))
    )
    offsets = numbers(site, "intercepts")
    return (
        site.emit("add", value, site.constant(offsets.astype(dtype.np)))
        if offsets is not None and len(offsets)
        else value
    )


@rule("LinearRegressor", domain=_DOMAIN)
def linear_regressor(site: Site) -> Result:
    return transformed(site, _linear(site, site.get_int("targets", 1), wide(site.type().dtype)))


@rule("LinearClassifier", domain=_DOMAIN)
def linear_classifier(site: Site) -> list[Value]:
    """Labels and scores; of two classes with one score the other is its negative."""
    dtype, labels = wide(site.type().dtype), classes(site, "classlabels_ints")
    site.attribute("multi_class")
    features = site.shape(0, 1, 2)[-1]
    if not isinstance(features, int) or not features:
        raise Unsupported(f"takes [rows, features], got {site.type()}")
    scores = _linear(site, len(needed(site, "coefficients")) // features, dtype)
    if site.type_of(scores).shape[1] == 1:
        if labels.count != 2:
            raise Unsupported(f"one score for {labels.count} classes is not supported")
        scores = site.emit("concat", site.emit("neg", scores), scores, axis=1)
    scores = transformed(site, scores)
    return [labels.best(site, scores), site.cast(scores, f32)]


@rule("ZipMap", domain=_DOMAIN)
def zip_map(site: Site) -> Value:
    """Rows of scores as maps from the labels."""
    given = [name for name in ("classlabels_int64s", "classlabels_strings") if site.has_attribute(name)]
    whole = numbers(site, "classlabels_int64s")
    keys: tuple[int | str, ...] = (*words(site, "classlabels_strings"), *([] if whole is None else whole.tolist()))
    scores = feature_matrix(site, site.type().dtype)
    if len(given) != 1 or not keys or site.type_of(scores).shape[1] != len(keys) or len(set(keys)) != len(keys):
        raise Unsupported(f"{len(keys)} labels for scores {site.type()}")
    return Maps(scores, keys)
