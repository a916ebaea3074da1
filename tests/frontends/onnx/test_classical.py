"""Operators of ai.onnx.ml against the reference of the onnx package and onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_opsetid, make_tensor, np_dtype_to_tensor_dtype
from onnx.reference import ReferenceEvaluator
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.errors import ModelError
from stratac.tests.frontends.onnx.build import N, array, check, make, save, value

NAN = float("nan")


def model_of(
    op: str, *inputs: np.ndarray, outputs: int = 1, version: int = 3, constants: Any = (), **attributes: Any
) -> Any:
    names = [*(f"x{i}" for i in range(len(inputs))), *(c.name for c in constants)]
    made = ["y", "z"][:outputs]
    node = N(op, names, made, domain="ai.onnx.ml", **attributes)
    ports = [value(n, np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in zip(names, inputs, strict=False)]
    return make([node], ports, made, constants, 18, domains=[make_opsetid("ai.onnx.ml", version)])


def one(folder: Path, op: str, *inputs: np.ndarray, expected: Any = None, **more: Any) -> None:
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    check(folder, model_of(op, *inputs, **more), feeds, expected=expected)


X = np.array([[1.0, -2.0, 3.5], [0.0, 0.0, 0.0], [4.0, 0.25, -1.0], [-3.0, 2.0, 2.0]], "f4")


def test_features(tmp_path: Path) -> None:
    one(tmp_path, "Binarizer", X, threshold=0.5)
    one(tmp_path, "Scaler", X, offset=[1.0, 2.0, 3.0], scale=[0.5, 1.0, 2.0])
    one(tmp_path, "Scaler", X.astype("i8"), offset=[1.0], scale=[0.5])
    for norm in ("MAX", "L1", "L2"):
        model, rows = model_of("Normalizer", X, norm=norm), {"x0": X}
        check(tmp_path, model, rows, expected=ReferenceEvaluator(model).run(None, rows))
    holes = X.copy()
    holes[1, 2] = holes[0, 0] = NAN
    one(tmp_path, "Imputer", holes, imputed_value_floats=[7.0], replaced_value_float=NAN)
    one(tmp_path, "Imputer", X, imputed_value_floats=[7.0, 8.0, 9.0], replaced_value_float=0.0)
    one(tmp_path, "Imputer", X.astype("i8"), imputed_value_int64s=[7, 8, 9], replaced_value_int64=0)
    one(tmp_path, "ArrayFeatureExtractor", X, constants=[array("i", [[2, 0]], np.int64)])
    one(tmp_path, "ArrayFeatureExtractor", X[0], constants=[array("i", [1], np.int64)])
    one(tmp_path, "OneHotEncoder", np.array([[3, 1], [9, 2]]), cats_int64s=[1, 2, 3])
    one(tmp_path, "FeatureVectorizer", X, X[:, :2], inputdimensions=[3, 2])


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_linear_models(tmp_path: Path, post: str) -> None:
    weights, offsets = [0.3, -0.2, 0.5, 0.1, 0.7, -0.6, -0.4, 0.2, 0.1], [0.1, -0.1, 0.3]
    one(tmp_path, "LinearRegressor", X, coefficients=weights, intercepts=offsets, targets=3)
    options = {"post_transform": post, "outputs": 2, "version": 1}
    one(
        tmp_path, "LinearClassifier", X, coefficients=weights, intercepts=offsets, classlabels_ints=[5, 7, 9], **options
    )


def test_scores_after_probit(tmp_path: Path) -> None:
    """Of scores between 0 and 1."""
    weights, offsets = [0.01 * v for v in range(9)], [0.5, 0.4, 0.6]
    one(tmp_path, "LinearRegressor", X, coefficients=weights, intercepts=offsets, targets=3, post_transform="PROBIT")


def forest(seed: int, targets: int, what: str, modes: list[str], positive: bool = False) -> dict[str, Any]:
    """Three trees of up to four levels over three features, their leaves with one or all targets."""
    rng = np.random.default_rng(seed)
    nodes: dict[str, list[Any]] = {
        n: [] for n in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {n: [] for n in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(3):
        waiting, count = [(0, 0)], 1
        while waiting:
            number, level = waiting.pop(0)
            leaf = level == 3 or (level and rng.random() < 0.3)
            row = (tree, number, 0, 0.0, "LEAF", 0, 0)
            if leaf:
                for target in range(targets):
                    entry = (tree, number, target, float(rng.random() if positive else rng.normal()))
                    for name, v in zip(leaves, entry, strict=True):
                        leaves[name].append(v)
            else:
                row = (
                    tree,
                    number,
                    int(rng.integers(3)),
                    float(rng.integers(-2, 3)),
                    str(rng.choice(modes)),
                    count,
                    count + 1,
                )
                waiting += [(count, level + 1), (count + 1, level + 1)]
                count += 2
            for name, v in zip(nodes, row, strict=True):
                nodes[name].append(v)
    found = {f"nodes_{n}": v for n, v in nodes.items()}
    return found | {f"{what}_{n}": v for n, v in leaves.items()}


ROWS = np.random.default_rng(0).integers(-3, 4, (40, 3)).astype("f4")


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"])
def test_regression(tmp_path: Path, mode: str, aggregate: str) -> None:
    trees = forest(1, 2, "target", [mode])
    one(
        tmp_path,
        "TreeEnsembleRegressor",
        ROWS,
        n_targets=2,
        aggregate_function=aggregate,
        base_values=[0.5, -1.0],
        **trees,
    )


def test_missing_features(tmp_path: Path) -> None:
    holes = ROWS.copy()
    holes[::3, 1] = holes[1::4, 0] = NAN
    trees = forest(2, 1, "target", ["BRANCH_LEQ", "BRANCH_LEQ"])
    tracks = [i % 2 for i in range(len(trees["nodes_modes"]))]
    one(tmp_path, "TreeEnsembleRegressor", holes, n_targets=1, nodes_missing_value_tracks_true=tracks, **trees)


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_classification(tmp_path: Path, post: str) -> None:
    trees = forest(3, 3, "class", ["BRANCH_LEQ"])
    one(tmp_path, "TreeEnsembleClassifier", ROWS, outputs=2, classlabels_int64s=[4, 6, 8], post_transform=post, **trees)


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC"])
def test_two_classes_with_one_score(tmp_path: Path, post: str) -> None:
    trees = forest(4, 1, "class", ["BRANCH_LEQ"], positive=post == "NONE")
    if post == "NONE":
        trees["class_weights"] = [w / 3 for w in trees["class_weights"]]
    model = model_of("TreeEnsembleClassifier", ROWS, outputs=2, classlabels_int64s=[0, 1], post_transform=post, **trees)
    check(tmp_path, model, {"x0": ROWS}, expected=ReferenceEvaluator(model).run(None, {"x0": ROWS}))


def test_sets_and_leaves_without_trees(tmp_path: Path) -> None:
    """The operator of version 5: memberships, and a tree that is a leaf."""
    attributes = {
        "n_targets": 2,
        "aggregate_function": 1,
        "membership_values": make_tensor("m", 1, (5,), [1.0, 2.0, NAN, -3.0, NAN]),
        "nodes_featureids": [0, 1, 2, 0],
        "nodes_modes": make_tensor("o", 2, (4,), [6, 6, 0, 0]),
        "nodes_splits": make_tensor("s", 1, (4,), [0.0, 0.0, 0.5, 0.0]),
        "nodes_truenodeids": [0, 1, 2, 1],
        "nodes_trueleafs": [1, 1, 1, 1],
        "nodes_falsenodeids": [1, 2, 3, 1],
        "nodes_falseleafs": [0, 0, 1, 1],
        "leaf_targetids": [0, 1, 0, 1],
        "leaf_weights": make_tensor("w", 1, (4,), [1.0, 10.0, 100.0, -5.0]),
        "tree_roots": [0, 3],
    }
    model = model_of("TreeEnsemble", ROWS, version=5, **attributes)
    want = np.zeros((len(ROWS), 2), "f4")
    want[:, 1] += 10
    for row, total in zip(ROWS, want, strict=True):
        leaf = 0 if row[0] in (1, 2) else 1 if row[1] == -3 else 2 if row[2] <= 0.5 else 3
        total[[0, 1, 0, 1][leaf]] += [1, 10, 100, -5][leaf]
    check(tmp_path, model, {"x0": ROWS}, expected=[want])


def test_damaged_trees(tmp_path: Path) -> None:
    trees = forest(1, 1, "target", ["BRANCH_LEQ"])
    inner = trees["nodes_modes"].index("BRANCH_LEQ", 1)
    for wrong, what in (
        ({"nodes_truenodeids": [9, *trees["nodes_truenodeids"][1:]]}, "branch|roots"),
        (
            {
                "nodes_truenodeids": [
                    t if i != inner else trees["nodes_nodeids"][inner] for i, t in enumerate(trees["nodes_truenodeids"])
                ]
            },
            "back|roots",
        ),
        ({"nodes_featureids": [7, *trees["nodes_featureids"][1:]]}, "feature"),
        ({"nodes_values": trees["nodes_values"][1:]}, "different lengths"),
        ({"target_ids": [5] * len(trees["target_ids"])}, "target"),
    ):
        with pytest.raises(ModelError, match=what):
            import_onnx(save(tmp_path, model_of("TreeEnsembleRegressor", ROWS, n_targets=1, **{**trees, **wrong})), {})
