"""Inputs tied to outputs: what one run leaves there, the next one finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import stratac
from onnx import TensorProto, helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.compiler.layout import make_layout, parse_states
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, StratacError
from stratac.ir.verify import verify_graph


def decoder(folder: Path, past: object = 4) -> Path:
    """present = past shifted by one position, the new row behind it; scores against all of it."""
    nodes = [
        helper.make_node("Slice", ["past", "one", "end", "axis"], ["kept"]),
        helper.make_node("Concat", ["kept", "x"], ["present"], axis=1),
        helper.make_node("Transpose", ["present"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "columns"], ["scores"]),
        helper.make_node("Concat", ["past", "x"], ["grown"], axis=1),
        helper.make_node("Cast", ["present"], ["halves"], to=TensorProto.FLOAT16),
    ]
    constants = [
        helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("one", 1), ("end", 1 << 30), ("axis", 1))
    ]
    inputs = [
        helper.make_tensor_value_info("past", TensorProto.FLOAT, [1, past, 3]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 3]),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("scores", "present", "grown")]
    outputs.append(helper.make_tensor_value_info("halves", TensorProto.FLOAT16, None))
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, constants)
    path = folder / "decoder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_pair_becomes_state(tmp_path: Path) -> None:
    path = decoder(tmp_path)
    plan = stratac.compile(path, tmp_path / "d.plan", states={"past": "present"})
    with stratac.load(plan) as session:
        assert [port.name for port in session.get_inputs()] == ["x"]
        assert [port.name for port in session.get_outputs()] == ["scores", "grown", "halves"]
        past = np.zeros((1, 4, 3), np.float32)
        for step in range(6):
            x = np.random.default_rng(step).standard_normal((1, 1, 3), np.float32)
            scores, grown, _ = session.run(None, {"x": x})
            np.testing.assert_array_equal(grown, np.concatenate([past, x], 1))
            past = np.concatenate([past[:, 1:], x], 1)
            np.testing.assert_allclose(scores, x @ past.transpose(0, 2, 1), rtol=1e-5)
            np.testing.assert_array_equal(session.state()["past"], past)


def test_a_dim_that_is_fixed(tmp_path: Path) -> None:
    layout = make_layout(None, 64, {"past": "present"})
    graph = import_onnx(decoder(tmp_path, "length"), {"length": Bounds(7, 7, 7)}, layout=layout)
    verify_graph(graph)
    assert [(s.name, str(graph.types[s.value])) for s in graph.states] == [("past", "f32[1, 7, 3]")]


@pytest.mark.parametrize(
    ("states", "past", "errors"),
    [
        (
            {"past": "grown"},
            4,
            ["is f32[1, 4, 3], but the output 'grown' that it would become is f32[1, 5, 3]", "grow"],
        ),
        ({"past": "halves"}, 4, ["would become is f16[1, 4, 3]"]),
        ({"past": "presen"}, 4, ["no output 'presen'", "did you mean 'present'"]),
        ({"pst": "present"}, 4, ["no input 'pst'", "did you mean 'past'"]),
        ({"past": "present"}, "length", ["its extents must be constant", "--dim length=N"]),
    ],
)
def test_pairs_that_are_refused(tmp_path: Path, states: dict[str, str], past: object, errors: list[str]) -> None:
    dims = {"length": Bounds(1, 2, 7)} if past == "length" else None
    with pytest.raises(ModelError) as caught:
        import_onnx(decoder(tmp_path, past), dims, layout=make_layout(None, 64, states))
    assert all(error in str(caught.value) for error in errors)


def test_the_option() -> None:
    assert parse_states(["a=b", " c = d "]) == {"a": "b", "c": "d"}
    for texts in (["a"], ["=b"], ["a="], ["a=b", "a=c"]):
        with pytest.raises(StratacError, match="INPUT=OUTPUT"):
            parse_states(texts)
