"""Damaged models: a few hundred of those that `tests/fuzz_models.py` makes for minutes, and what it has found.

A traceback fails; a refusal for a reason that no rule foresaw does not, but the long run counts it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from ...fuzz_models import Subject, attempt, corpus, mutate


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


def _model(node: onnx.NodeProto, opset: int | None, *inputs: onnx.ValueInfoProto) -> bytes:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", list(inputs), [output]))
    del model.opset_import[:]
    if opset is not None:
        model.opset_import.add(version=opset)
    return bytes(model.SerializeToString())


def _floats(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _body() -> onnx.GraphProto:
    node = helper.make_node("Identity", ["a"], ["b"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "ab"]
    return helper.make_graph([node], "body", value[:1], value[1:])


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
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str, tmp_path: Path) -> None:
    assert attempt(FOUND[name], tmp_path / "model.onnx") == "refused"
