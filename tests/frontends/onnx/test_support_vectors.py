"""Support vector machines, labels that are strings, and scores as maps, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.errors import ModelError

from .build import INT64, N, make, reference, save, value
from .structured import check

STRING = TensorProto.STRING
ML = [helper.make_opsetid("ai.onnx.ml", 3)]
RNG = np.random.default_rng(3)
X = RNG.standard_normal((9, 4)).astype("f4")
KERNELS = {
    "LINEAR": [0.0, 0.0, 0.0],
    "POLY": [0.3, 0.5, 3.0],
    "RBF": [0.4, 0.0, 0.0],
    "SIGMOID": [0.2, 0.1, 0.0],
}


def model_of(op: str, x: np.ndarray, outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    names = ["y", "z"][:outputs]
    node = N(op, ["x"], names, domain="ai.onnx.ml", **attributes)
    kind = STRING if x.dtype == object else helper.np_dtype_to_tensor_dtype(x.dtype)
    return make([node], [value("x", kind, x.shape)], names, domains=ML)


def one(folder: Path, op: str, x: np.ndarray, expected: Any = None, **more: Any) -> None:
    model = model_of(op, x, **more)
    wanted = reference(model, {"x": x}, 18) if expected is None else expected
    check(folder, model, {"x": x}, expected=wanted)


def numbers(*shape: int) -> list[float]:
    return [float(v) for v in RNG.standard_normal(shape).astype("f4").reshape(-1)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_regression(tmp_path: Path, kernel: str) -> None:
    options: dict[str, Any] = {"kernel_type": kernel, "kernel_params": KERNELS[kernel], "rho": [0.3]}
    options |= {"n_supports": 5, "coefficients": numbers(5), "support_vectors": numbers(5, 4)}
    one(tmp_path, "SVMRegressor", X, **options)
    one(tmp_path, "SVMRegressor", X, one_class=1, **options)


def test_regression_without_vectors(tmp_path: Path) -> None:
    one(tmp_path, "SVMRegressor", X, coefficients=numbers(4), kernel_params=[0.0, 0.0, 0.0], rho=[0.3], n_supports=0)


def machine(classes: int, sizes: list[int], kernel: str = "RBF", strings: bool = False) -> dict[str, Any]:
    total, pairs = sum(sizes), classes * (classes - 1) // 2
    names = ["no", "é", "yes", "b"][:classes]
    labels = {"classlabels_strings": names} if strings else {"classlabels_ints": [7, 3, 9, 4][:classes]}
    return {
        **labels,
        "kernel_type": kernel,
        "kernel_params": KERNELS[kernel],
        "rho": numbers(pairs),
        "vectors_per_class": sizes,
        "coefficients": numbers(classes - 1, total),
        "support_vectors": numbers(total, 4),
        "outputs": 2,
    }


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sizes", [[2, 3], [2, 1, 3], [1, 2, 0, 3]])
def test_classification(tmp_path: Path, sizes: list[int], kernel: str) -> None:
    one(tmp_path, "SVMClassifier", X, **machine(len(sizes), sizes, kernel, strings=kernel == "POLY"))


@pytest.mark.parametrize("sizes", [[2, 3], [2, 1, 3], [1, 2, 2, 3]])
def test_probabilities(tmp_path: Path, sizes: list[int]) -> None:
    pairs = len(sizes) * (len(sizes) - 1) // 2
    slopes, shifts = [-1.5 - 0.1 * k for k in range(pairs)], [0.1 * k for k in range(pairs)]
    one(tmp_path, "SVMClassifier", X, prob_a=slopes, prob_b=shifts, **machine(len(sizes), sizes))


@pytest.mark.parametrize("post", ["LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_scores_after_a_transform(tmp_path: Path, post: str) -> None:
    one(tmp_path, "SVMClassifier", X, post_transform=post, **machine(3, [2, 1, 3]))


def test_linear_scores(tmp_path: Path) -> None:
    options = {"coefficients": numbers(3, 4), "rho": [0.2], "kernel_params": [0.0, 0.0, 0.0], "outputs": 2}
    one(tmp_path, "SVMClassifier", X, classlabels_ints=[4, 8, 1], **options)


@pytest.mark.parametrize("wrong", [{"rho": [0.1]}, {"coefficients": [1.0]}, {"support_vectors": [1.0] * 7}])
def test_machines_that_do_not_fit(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"coefficients|vectors"):
        import_onnx(save(tmp_path, model_of("SVMClassifier", X, **{**machine(3, [2, 1, 3]), **wrong})), {})


# -- labels


def test_labels_that_are_strings(tmp_path: Path) -> None:
    labels = ["a", "é", "a longer one"]
    options = {"coefficients": numbers(3, 4), "intercepts": [0.1, 0.0, -0.1], "outputs": 2}
    one(tmp_path, "LinearClassifier", X, classlabels_strings=labels, **options)


@pytest.mark.parametrize("labels", [{"classlabels_int64s": [3, 1]}, {"classlabels_strings": ["no", "é"]}])
def test_maps(tmp_path: Path, labels: dict[str, Any]) -> None:
    x = RNG.standard_normal((3, 2)).astype("f4")
    model = model_of("ZipMap", x, **labels)
    want = reference(model, {"x": x}, 18)[0]
    assert [sorted(row) for row in want] == [sorted(next(iter(labels.values())))] * 3
    check(tmp_path, model, {"x": x}, expected=[list(want)])


def test_maps_with_keys_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="3 labels for scores"):
        import_onnx(save(tmp_path, model_of("ZipMap", X, classlabels_int64s=[1, 2, 3])), {})


def test_categories(tmp_path: Path) -> None:
    pairs = {"cats_strings": ["b", "é", "a"], "cats_int64s": [5, -1, 3]}
    texts = np.array([["a", "?"], ["é", "b"]], object)
    one(tmp_path, "CategoryMapper", texts, default_int64=9, **pairs)
    one(tmp_path, "CategoryMapper", np.array([3, 5, 0, -1]), default_string="none", **pairs)


def test_one_hot_strings(tmp_path: Path) -> None:
    texts = np.array([["a", "?"], ["é", "b"]], object)
    one(tmp_path, "OneHotEncoder", texts, cats_strings=["b", "é", "a"])


def test_features_that_are_strings(tmp_path: Path) -> None:
    texts = np.array([["a", "bc", "é"], ["", "b", "?"]], object)
    node = N("ArrayFeatureExtractor", ["x", "i"], ["y"], domain="ai.onnx.ml")
    index = helper.make_tensor("i", INT64, [2], [2, 0])
    model = make([node], [value("x", STRING, [2, 3])], ["y"], [index], domains=ML)
    check(tmp_path, model, {"x": texts}, expected=[texts[:, [2, 0]]])


def test_the_reference_agrees(tmp_path: Path) -> None:
    """Where onnxruntime has its own mind of two classes, the standard's reference decides."""
    model = model_of("SVMClassifier", X, post_transform="LOGISTIC", **machine(2, [2, 3]))
    check(tmp_path, model, {"x": X}, expected=ReferenceEvaluator(model).run(None, {"x": X}))
