"""Sequences and optionals: lists of values while importing, ports in a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.compiler.layout import Layout, layout_from_facts, make_layout, parse_sequences
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, StratacError
from stratac.ir.interface import Form, Interface, encode, interface_from_data, interface_to_data

from .build import FLOAT, INT64, N, array, make, rand, save, value
from .structured import check


def sequence(name: str, shape: list[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, FLOAT, shape)


def optional(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, shape))
    return helper.make_value_info(name, kind)


def test_elements_of_different_shapes(tmp_path: Path) -> None:
    """Positions count from both ends; inserting and erasing move what follows."""
    nodes = [
        N("SequenceInsert", ["s", "x", "one"], ["a"]),
        N("SequenceErase", ["a", "last"], ["b"]),
        N("SequenceErase", ["b"], ["c"]),
        N("SequenceAt", ["b", "last"], ["d"]),
        N("SequenceInsert", ["c", "d"], ["e"]),
        N("SequenceLength", ["e"], ["n"]),
    ]
    model = make(
        nodes,
        [sequence("s", None), value("x", FLOAT, [2])],
        ["a", "b", "c", "d", "e", "n"],
        [array("one", 1, np.int64), array("last", -1, np.int64)],
    )
    feeds = {"s": [rand(3), rand(1, 2, seed=1), rand(seed=2).reshape(())], "x": rand(2, seed=3)}
    graph = check(
        tmp_path,
        model,
        feeds,
        {"s": [(3,), (1, 2), ()]},
        expected=[
            [feeds["s"][0], feeds["x"], *feeds["s"][1:]],
            [feeds["s"][0], feeds["x"], feeds["s"][1]],
            [feeds["s"][0], feeds["x"]],
            feeds["s"][1],
            [feeds["s"][0], feeds["x"], feeds["s"][1]],
            np.array(3, np.int64),
        ],
    )
    assert [p.name for p in graph.inputs] == ["s[0]", "s[1]", "s[2]", "x"]


def test_empty_sequences(tmp_path: Path) -> None:
    nodes = [
        N("SequenceLength", ["s"], ["n"]),
        N("SequenceInsert", ["s", "x"], ["t"]),
        N("SequenceErase", ["t", "zero"], ["u"]),
    ]
    model = make(nodes, [sequence("s", [2]), value("x", FLOAT, [2])], ["n", "t", "u"], [array("zero", 0, np.int64)])
    x = rand(2)
    check(tmp_path, model, {"s": [], "x": x}, {"s": 0}, expected=[np.array(0, np.int64), [x], []])


def test_positions_that_depend_on_the_data(tmp_path: Path) -> None:
    model = make(
        [N("SequenceConstruct", ["a", "b", "a"], ["s"]), N("SequenceAt", ["s", "p"], ["y"])],
        [value("a", FLOAT, [2]), value("b", FLOAT, [2]), value("p", INT64, [])],
    )
    a, b = rand(2), rand(2, seed=1)
    for position, want in ((0, a), (1, b), (-2, b)):
        check(tmp_path, model, {"a": a, "b": b, "p": np.array(position)}, expected=[want])


@pytest.mark.parametrize("split", [None, 2, [1, 0, 4]])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_tensors_taken_apart(tmp_path: Path, split: Any, axis: int, keepdims: int) -> None:
    constants = [] if split is None else [array("sizes", split, np.int64)]
    node = N("SplitToSequence", ["x", "sizes"][: 1 + len(constants)], ["s"], axis=axis, keepdims=keepdims)
    check(tmp_path, make([node], [value("x", FLOAT, [5, 5])], ["s"], constants), {"x": rand(5, 5)})


@pytest.mark.parametrize(("new", "axis"), [(0, 0), (0, -1), (1, 0), (1, 1), (1, -1)])
def test_tensors_joined(tmp_path: Path, new: int, axis: int) -> None:
    nodes = [
        N("SequenceConstruct", ["a", "b", "a"], ["s"]),
        N("ConcatFromSequence", ["s"], ["y"], axis=axis, new_axis=new),
    ]
    check(
        tmp_path,
        make(nodes, [value("a", FLOAT, [2, 3]), value("b", FLOAT, [2, 3])]),
        {"a": rand(2, 3), "b": rand(2, 3, seed=1)},
    )


def test_dims_of_elements(tmp_path: Path) -> None:
    """One name stands for the extent of every element; given shapes name their own."""
    nodes = [N("ConcatFromSequence", ["s"], ["y"], axis=0)]
    model = make(nodes, [sequence("s", ["n"])])
    check(tmp_path, model, {"s": [rand(3), rand(3)]}, {"s": 2}, dims={"n": Bounds(1, 2, 5)})
    check(tmp_path, model, {"s": [rand(3), rand(2)]}, {"s": [("a",), (2,)]}, dims={"a": Bounds(1, 2, 5)})


@pytest.mark.parametrize("present", [True, False])
def test_optionals(tmp_path: Path, present: bool) -> None:
    body = helper.make_graph
    made = helper.make_empty_tensor_value_info
    then = body([N("OptionalGetElement", ["o"], ["v"])], "then", [], [made("v")])
    otherwise = body([N("Neg", ["x"], ["v"])], "else", [], [made("v")])
    nodes = [
        N("OptionalHasElement", ["o"], ["has"]),
        N("If", ["has"], ["y"], then_branch=then, else_branch=otherwise),
        N("Identity", ["o"], ["same"]),
    ]
    model = make(nodes, [optional("o", [2]), value("x", FLOAT, [2])], ["y", "same", "has"])
    x, o = rand(2), rand(2, seed=1) if present else None
    check(
        tmp_path,
        model,
        {"o": o, "x": x},
        {} if present else {"o": None},
        expected=[o if present else -x, o, np.array(present)],
    )


def test_what_is_said_of_sequences_must_fit(tmp_path: Path) -> None:
    path = save(tmp_path, make([N("SequenceLength", ["s"], ["y"])], [sequence("s", None)]))
    with pytest.raises(ModelError, match="its length must be known"):
        import_onnx(path)
    with pytest.raises(ModelError, match="gives the shape of each element"):
        import_onnx(path, layout=make_layout({"s": 1}, 64))
    with pytest.raises(ModelError, match="no sequence or optional 't'"):
        import_onnx(path, layout=make_layout({"s": 0, "t": 1}, 64))
    path = save(tmp_path, make([N("Abs", ["s"], ["y"])], [sequence("s", [1])]))
    with pytest.raises(ModelError, match="'s' is a sequence"):
        import_onnx(path, layout=make_layout({"s": 1}, 64))


def test_lengths_on_the_command_line() -> None:
    texts = ["a=3", "b=[2,3],[n]", "c=none", "d=[]"]
    layout = make_layout(parse_sequences(texts), 32)
    assert layout.sequences == {"a": (None,) * 3, "b": ((2, 3), ("n",)), "c": None, "d": ((),)}
    assert layout_from_facts(layout.facts()) == layout
    assert Layout().facts() == {}
    for wrong in ("a", "a=", "=3", "a=-1", "a=[2"):
        with pytest.raises(StratacError, match="is not understood"):
            parse_sequences([wrong])


def test_interfaces_as_data() -> None:
    form = Form("sequence", items=(Form("tensor", "s[0]"), Form("strings", "s[1]", 8), Form("none")))
    interface = Interface((("s", form),), (("y", Form("tensor", "y")),))
    assert interface_from_data(interface_to_data(interface)) == interface
    with pytest.raises(ValueError, match="no form"):
        interface_from_data({"inputs": [{"name": "x", "kind": "map"}], "outputs": []})
    with pytest.raises(StratacError, match="compiled for 3 elements and got 1"):
        encode("s", form, [np.zeros(1)])
    with pytest.raises(StratacError, match="give a list"):
        encode("s", form, 3)
