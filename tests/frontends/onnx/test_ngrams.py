"""TfIdfVectorizer against the reference of the onnx package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.errors import ModelError
from stratac.tests.frontends.onnx.build import INT64, N, check, make, save, value

POOL = {"ngram_counts": [0, 4], "ngram_indexes": [0, 1, 2, 3, 4, 5, 6], "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]}


def vectorizer(x: np.ndarray, **attributes: Any) -> Any:
    usual = {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0}
    kind = INT64 if x.dtype == np.int64 else 6
    node = N("TfIdfVectorizer", ["x"], ["y"], **{**usual, **POOL, **attributes})
    return make([node], [value("x", kind, x.shape)], opset=18)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("shortest", "longest", "skips"), [(1, 1, 0), (1, 2, 0), (2, 2, 3), (1, 2, 5), (1, 2, 20)])
def test_counts(tmp_path: Path, mode: str, shortest: int, longest: int, skips: int) -> None:
    rng = np.random.default_rng(skips)
    for shape, kind in (((3, 12), np.int64), ((12,), np.int32), ((2, 1), np.int32)):
        x = rng.integers(1, 9, shape).astype(kind)
        options = {"mode": mode, "min_gram_length": shortest, "max_gram_length": longest, "max_skip_count": skips}
        for more in ({} if mode == "TF" else {"weights": [0.5, 2.0, 3.0, 1.0, 1.5, 0.25, 4.0]},):
            model = vectorizer(x, **options, **more)
            check(tmp_path, model, {"x": x}, expected=ReferenceEvaluator(model).run(None, {"x": x}))


@pytest.mark.parametrize("columns", [[6, 5, 4, 3, 2, 1, 0], [0, 2, 4, 6, 8, 10, 12], [0, 0, 1, 1, 2, 2, 2]])
def test_columns(tmp_path: Path, columns: list[int]) -> None:
    """In another order, with gaps, and several n-grams in one."""
    x = np.array([[5, 6, 7, 8, 6, 7, 2, 3], [2, 2, 3, 3, 4, 4, 5, 5]], np.int64)
    model = vectorizer(x, ngram_indexes=columns)
    check(tmp_path, model, {"x": x}, expected=ReferenceEvaluator(model).run(None, {"x": x}))


def test_wrong_pools(tmp_path: Path) -> None:
    x = np.zeros((1, 4), np.int64)
    for wrong in ({"ngram_counts": [0, 3]}, {"ngram_counts": [0, 40]}, {"ngram_indexes": [0, 1]}, {"mode": "X"}):
        with pytest.raises(ModelError):
            import_onnx(save(tmp_path, vectorizer(x, **wrong)), {})
