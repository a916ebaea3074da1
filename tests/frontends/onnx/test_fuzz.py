"""Damaged models: a few hundred of those that `tests/fuzz_models.py` makes for minutes, and what it has found.

A traceback fails; a refusal for a reason that no rule foresaw does not, but the long run counts it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.interp import run

from ...damaged_models import corpus, mutate
from ...fuzz_models import Subject, attempt


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    found = Subject(str(tmp_path_factory.mktemp("fuzz")))
    yield found
    found.close()


def test_damaged_models_are_compiled_or_refused(subject: Subject) -> None:
    rng, models = random.Random(20), corpus()
    for number in range(400):
        data = mutate(rng, rng.choice(models), rng.choice(models))
        outcome = subject(data)
        assert outcome.startswith(("plan", "refused", "slip")), f"model {number}: {outcome}"


def _model(
    node: onnx.NodeProto,
    opset: int | None,
    *inputs: onnx.ValueInfoProto,
    constants: Mapping[str, Any] | None = None,
    kind: int = TensorProto.FLOAT,
    domain: str = "",
) -> bytes:
    """One node; `constants` are numbers and lists, of 32-bit floats or 64-bit integers."""
    output = helper.make_tensor_value_info("y", kind, None)
    arrays = {name: np.asarray(value) for name, value in (constants or {}).items()}
    held = [
        numpy_helper.from_array(x.astype(np.float32) if x.dtype.kind == "f" else x.astype(np.int64), name)
        for name, x in arrays.items()
    ]
    model = helper.make_model(helper.make_graph([node], "g", list(inputs), [output], held))
    del model.opset_import[:]
    if opset is not None:
        model.opset_import.add(version=opset)
    if domain:
        model.opset_import.add(version=5, domain=domain)
    return bytes(model.SerializeToString())


def _floats(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _resize(
    scales: list[float],
    sizes: list[int] | None = None,
    shape: tuple[int, int] = (2, 3),
    region: list[float] | None = None,
    **attributes: Any,
) -> bytes:
    """Of a matrix."""
    constants = {"s": np.array(scales, np.float32), "t": sizes, "r": region}
    given = {name: value for name, value in constants.items() if value is not None and len(value)}
    node = helper.make_node("Resize", ["x", *(name if name in given else "" for name in "rst")], ["y"], **attributes)
    return _model(node, 19, _floats("x", *shape), constants=given)


def _rotary(x: tuple[int, ...], caches: tuple[int, ...], ids: tuple[int, ...] | None, **attributes: Any) -> bytes:
    inputs = [_floats("x", *x), _floats("c", *caches), _floats("s", *caches)]
    if ids is not None:
        inputs.append(helper.make_tensor_value_info("i", TensorProto.INT64, ids))
    return _model(helper.make_node("RotaryEmbedding", [i.name for i in inputs], ["y"], **attributes), 23, *inputs)


def _body() -> onnx.GraphProto:
    node = helper.make_node("Identity", ["a"], ["b"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "ab"]
    return helper.make_graph([node], "body", value[:1], value[1:])


_LISTS = ("nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids", "leaf_targetids", "tree_roots")
_TREE = {
    **{name: [0] for name in _LISTS},
    **{name: [1] for name in ("nodes_trueleafs", "nodes_falseleafs")},
    "nodes_splits": numpy_helper.from_array(np.zeros(1, np.float32)),
    "nodes_modes": numpy_helper.from_array(np.zeros(1, np.uint8)),
    "leaf_weights": numpy_helper.from_array(np.ones(1, np.float32)),
}
FOUND = {
    "no opset": _model(helper.make_node("SequenceMap", ["x"], ["y"], body=_body()), None, _floats("x", 2)),
    "opset 0": _model(helper.make_node("Mul", ["x"], ["y"]), 0, _floats("x", 2)),
    "opset beyond 32 bits": _model(helper.make_node("Mul", ["x"], ["y"]), 1 << 40, _floats("x", 2)),
    "a function of what is not defined": _model(helper.make_node("SequenceMap", ["x"], ["y"], body=_body()), 18),
    "types of what is not defined": _model(helper.make_node("RegexFullMatch", ["x"], ["y"], pattern="a"), 20),
    "a function of integers": _model(
        helper.make_node("Swish", ["x"], ["y"]), 24, helper.make_tensor_value_info("x", TensorProto.UINT8, [3])
    ),
    "a bias that is a scalar": _model(
        helper.make_node("Conv", ["x", "w", "b"], ["y"]), 18, _floats("x", 1, 2, 5), _floats("w", 2, 2, 3), _floats("b")
    ),
    "no channels": _model(
        helper.make_node("Conv", ["x", "w"], ["y"], group=0), 18, _floats("x", 1, 0, 5), _floats("w", 1, 1, 3)
    ),
    "an input without a type": _model(
        helper.make_node("EyeLike", ["x"], ["y"], k=1), 22, onnx.ValueInfoProto(name="x")
    ),
    "a sequence without end": _model(
        helper.make_node("SplitToSequence", ["x"], ["y"], axis=1, keepdims=0), 24, _floats("x", 3, (1 << 31) - 1)
    ),
    "an axis of a scalar": _model(helper.make_node("Split", ["x"], ["y"], axis=0), 13, _floats("x")),
    "gather from a scalar": _model(
        helper.make_node("Gather", ["x", "i"], ["y"]),
        13,
        _floats("x"),
        helper.make_tensor_value_info("i", TensorProto.INT64, [2]),
    ),
    "groups of nothing": _model(
        helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=0),
        21,
        *(_floats("x", 1, 4, 3), _floats("s", 4), _floats("b", 4)),
    ),
    "groups of a row": _model(
        helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2),
        21,
        *(_floats("x", 4), _floats("s", 4), _floats("b", 4)),
    ),
    "a scale that is no number": _resize([1.0, float("nan")]),
    "a scale without end": _resize([1.0, float("inf")]),
    "a scale beyond all extents": _resize([1.0, 3e38]),
    "a size below zero": _resize([], [2, -3]),
    "a size of nothing": _resize([], [2, 5], shape=(2, 0)),
    "a region that is no number": _resize(
        [], [2, 5], region=[0.0, 0.0, 1.0, float("nan")], coordinate_transformation_mode="tf_crop_and_resize"
    ),
    "caches without an axis": _rotary((1, 2, 3, 4), (5,), (1, 3)),
    "caches with too many axes": _rotary((1, 2, 3, 4), (5, 2, 2), (1, 3)),
    "caches for no sequence": _rotary((1, 2, 3, 4), (3, 2), None),
    "half a pair": _rotary((1, 2, 3, 4), (5, 2), (1, 3), rotary_embedding_dim=3),
    "parts below zero": _model(
        helper.make_node("SplitToSequence", ["x", "s"], ["y"]), 24, _floats("x", 3), constants={"s": [5, -2]}
    ),
    "parts of a constant beyond it": _model(
        helper.make_node("SplitToSequence", ["x", "s"], ["y"]), 24, constants={"x": [1, 2, 3], "s": [4]}
    ),
    "an element beyond 64 bits": _model(
        helper.make_node("GatherElements", ["x", "i"], ["y"], axis=0),
        13,
        _floats("x", 4, 3),
        constants={"i": [[-(1 << 63), 0, 1]]},
    ),
    "a tree without an input": _model(
        helper.make_node("TreeEnsemble", [""], ["y"], domain="ai.onnx.ml", **_TREE), 18, domain="ai.onnx.ml"
    ),
    "an operator of a later opset": _model(
        helper.make_node("CausalConvWithState", ["x", "w"], ["y"]), 13, _floats("x", 1, 2, 5), _floats("w", 2, 1, 3)
    ),
    "a row of taps": _model(
        helper.make_node("CausalConvWithState", ["x", "w"], ["y"]), 27, _floats("x", 1, 2, 5), _floats("w", 2, 3)
    ),
    "a recurrence by a bias": _model(
        helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=3),
        22,
        *(_floats("x", 1, 3, 3), _floats("w", 1, 9, 3), _floats("r", 1, 18)),
    ),
    "a cache without heads": _model(
        helper.make_node("Attention", ["q", "q", "q", "", "p", "p"], ["y"]),
        24,
        *(_floats("q", 1, 2, 3, 4), _floats("p", 3, 4)),
    ),
    "a window that is one number": _model(
        helper.make_node("STFT", ["x", "step", "window"], ["y"]),
        17,
        _floats("x", 1, 64, 1),
        _floats("window"),
        constants={"step": 4},
    ),
    "a norm of order 0": _model(
        helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[2, 2], p=0), 22, _floats("x", 1, 3, 5, 5)
    ),
    "a row of channels": _model(
        helper.make_node("InstanceNormalization", ["x", "s", "s"], ["y"]), 22, _floats("x", 3), _floats("s", 3)
    ),
    "more elements than numbers": _model(
        helper.make_node("GatherElements", ["x", "i"], ["y"], axis=0),
        22,
        _floats("x", 3, 5, (1 << 63) - 1),
        helper.make_tensor_value_info("i", TensorProto.INT64, [3, 1, 6]),
    ),
    "more elements than numbers on the way": _model(
        helper.make_node("Expand", ["x", "s"], ["y"]), 22, _floats("x", 1), constants={"s": [1 << 40, 1 << 40]}
    ),
    "a range without end": _model(
        helper.make_node("Range", ["a", "b", "c"], ["y"]), 11, constants={"a": 0.0, "b": float("inf"), "c": 1.0}
    ),
    "a range beyond memory": _model(
        helper.make_node("Range", ["a", "b", "c"], ["y"]), 11, constants={"a": 0, "b": 1 << 62, "c": 1}
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str, tmp_path: Path) -> None:
    assert attempt(FOUND[name], tmp_path / "model.onnx") == "refused"


def test_arithmetic_that_wraps_around_is_done_when_the_plan_runs(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    model = _model(node, 14, constants={"a": [1 << 62, 1], "b": [1 << 62, 1]}, kind=TensorProto.INT64)
    (tmp_path / "model.onnx").write_bytes(model)
    graph = import_onnx(tmp_path / "model.onnx", {})
    np.testing.assert_array_equal(run(graph, {})["y"], [-(1 << 63), 2])


def test_what_the_package_does_not_survive(tmp_path: Path) -> None:
    """Shapes are inferred where a node follows one that could not be imported: in a process that may die."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b", "c"], axis=1, num_outputs=1),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [_floats("x", 2, 8)], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert attempt(model.SerializeToString(), tmp_path / "model.onnx") == "refused"


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT64])
def test_long_ranges_are_not_written_down(kind: int, tmp_path: Path) -> None:
    number = float if kind == TensorProto.FLOAT else int
    constants = {"a": number(5), "b": number(600_000), "c": number(2)}
    (tmp_path / "model.onnx").write_bytes(
        _model(helper.make_node("Range", ["a", "b", "c"], ["y"]), 11, constants=constants, kind=kind)
    )
    graph = import_onnx(tmp_path / "model.onnx", {})
    assert sum(w.type.elements for w in graph.weights.values()) < 10
    want = np.arange(5, 600_000, 2).astype(helper.tensor_dtype_to_np_dtype(kind))
    np.testing.assert_array_equal(run(graph, {})["y"], want)


def test_a_filter_over_everything_for_no_element(tmp_path: Path) -> None:
    assert attempt(_resize([1.0, 1e-45], mode="linear", antialias=1), tmp_path / "model.onnx") == "plan"
