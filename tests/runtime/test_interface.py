"""What callers see of a compiled plan whose values are more than arrays of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import stratac
from onnx import TensorProto, helper
from stratac.ir.errors import PlanError, StratacError
from stratac.runtime.manifest import canonical, manifest_digest

N = helper.make_node


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`t` is the sequence `s` with `x` behind it, `none` an optional without a value, `y` twice `x`."""
    folder = tmp_path_factory.mktemp("interface")
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    inputs = [
        helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
        helper.make_value_info("o", kind),
    ]
    nodes = [N("SequenceInsert", ["s", "x"], ["t"]), N("Identity", ["o"], ["none"]), N("Add", ["x", "x"], ["y"])]
    outputs = [helper.make_empty_tensor_value_info(n) for n in ("t", "none", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    sequences = {"s": [("n",), (3,)], "o": None}
    return stratac.compile(folder / "model.onnx", dims={"n": "1:4"}, sequences=sequences)


def test_lists_and_none(plan: Path) -> None:
    x, s = np.array([1, 2], np.float32), [np.zeros(4, np.float32), np.ones(3, np.float32)]
    with stratac.load(plan) as session:
        assert session.interface is not None
        t, none, y = session.run(None, {"s": s, "x": x, "o": None})
        assert none is None
        for got, want in zip([*t, y], [*s, x, 2 * x], strict=True):
            np.testing.assert_array_equal(got, want)
        ports = {"s[0]": s[0], "s[1]": s[1], "x": x}
        (last, whole) = session.run(["t[2]", "t"], ports)
        np.testing.assert_array_equal(last, x)
        assert len(whole) == 3


def test_values_of_another_form(plan: Path) -> None:
    x, s = np.array([1, 2], np.float32), [np.zeros(4, np.float32), np.ones(3, np.float32)]
    with stratac.load(plan) as session:
        for wrong, what in (
            ({"s": s[:1], "x": x}, "compiled for 2 elements and got 1"),
            ({"s": x[0], "x": x}, "give a list"),
            ({"s": s, "x": x, "o": x}, "compiled without a value"),
            ({"s": [*s[:1], x], "x": x}, r"s\[1\]"),
            ({"x": x}, r"got no 's\[0\]'"),
        ):
            with pytest.raises(StratacError, match=what):
                session.run(None, wrong)


def test_a_malformed_interface_is_refused(plan: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy.plan"
    shutil.copytree(plan, copy)
    fields = json.loads((copy / "manifest.json").read_text())
    for wrong in ({"inputs": []}, {"inputs": [{"name": "s", "kind": "map"}], "outputs": []}, 3):
        fields["interface"] = wrong
        fields["digest"] = manifest_digest(fields)
        (copy / "manifest.json").write_bytes(canonical(fields))
        with pytest.raises(PlanError, match="interface is malformed"):
            stratac.load(copy)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`y` joins `x` to each string of the sequence `s`; `n` counts the words of `x`."""
    folder = tmp_path_factory.mktemp("texts")
    made, kind = helper.make_empty_tensor_value_info, TensorProto.STRING
    inputs = [helper.make_tensor_sequence_value_info("s", kind, [2]), helper.make_tensor_value_info("x", kind, ["n"])]
    body = helper.make_graph([N("StringConcat", ["a", "x"], ["b"])], "body", [made("a")], [made("b")])
    nodes = [N("SequenceMap", ["s"], ["y"], body=body), N("StringSplit", ["x"], ["w", "n"], delimiter="")]
    graph = helper.make_graph(nodes, "g", inputs, [made(n) for n in ("y", "w", "n")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return stratac.compile(folder / "model.onnx", dims={"n": 2}, sequences={"s": 2}, string_bytes=12)


def test_strings(texts: Path) -> None:
    with stratac.load(texts) as session:
        x = np.array(["é b  c", ""], object)
        y, words, count = session.run(None, {"s": [["1", "2"], ["日本", ""]], "x": x})
        assert [one.tolist() for one in y] == [["1é b  c", "2"], ["日本é b  c", ""]]
        assert words.tolist() == [["é", "b", "c"], ["", "", ""]] and count.tolist() == [3, 0]
        with pytest.raises(StratacError, match="--string-bytes 13"):
            session.run(None, {"s": [x, x], "x": ["a" * 13, ""]})


def test_strings_on_the_command_line(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stratac.compiler.cli import main

    np.savez(tmp_path / "in.npz", **{"s[0]": ["1", "2"], "s[1]": ["3", "4"], "x": ["a b", "é"]})  # type: ignore[arg-type]
    outputs = tmp_path / "out.npz"
    assert main(["run", str(texts), "-i", str(tmp_path / "in.npz"), "-o", str(outputs)]) == 0
    with np.load(outputs) as found:
        assert found["y[1]"].tolist() == ["3a b", "4é"] and found["n"].tolist() == [2, 1]
    assert main(["verify", str(texts), "--against", str(texts.parent / "model.onnx")]) == 0
    assert "the interpreter" in capsys.readouterr().out


def test_maps(tmp_path: Path) -> None:
    """A row of scores becomes a map from the labels."""
    nodes = [N("ZipMap", ["x"], ["m"], domain="ai.onnx.ml", classlabels_strings=["a", "é"])]
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "g", [port], [helper.make_empty_tensor_value_info("m")])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with stratac.load(stratac.compile(tmp_path / "model.onnx", dims={"n": "0:4"})) as session:
        for rows in ([], [[1.0, 2.0], [3.0, 0.5]]):
            x = np.array(rows, np.float32).reshape(-1, 2)
            assert session.run(None, {"x": x}) == [[{"a": a, "é": b} for a, b in rows]]
