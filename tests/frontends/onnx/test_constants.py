"""Inputs whose values are given when compiling, and what a problem says of the inputs that would have to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from stratac.compiler.frontends.onnx import batch_dims, fit_constants, import_onnx
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, Problem
from stratac.ir.interp import run
from stratac.tests.frontends.onnx.build import BOOL, FLOAT, INT64, N, make, save, value

X = value("x", FLOAT, [4, 6])


def reshaped() -> onnx.ModelProto:
    """y = x in the shape that comes as an input."""
    return make([N("Reshape", ["x", "shape"], ["y"])], [X, value("shape", INT64, [2])])


def problem(path: Path, **options: object) -> Problem:
    with pytest.raises(ModelError) as found:
        import_onnx(path, **options)
    (only,) = found.value.problems
    return only


def test_a_constant_leaves_the_signature(tmp_path: Path) -> None:
    path = save(tmp_path, reshaped())
    graph = import_onnx(path, {}, {"shape": np.array([8, 3])})
    assert [port.name for port in graph.inputs] == ["x"]
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert np.array_equal(run(graph, {"x": x})["y"], x.reshape(8, 3))


def test_a_problem_names_the_inputs_a_value_depends_on(tmp_path: Path) -> None:
    found = problem(save(tmp_path, reshaped()))
    assert found.needs == ("shape",)
    assert "here it depends on the input 'shape'" in found.what
    assert found.hint == "give its value when compiling: --constant shape=VALUE"


def test_needs_are_followed_back_through_nodes(tmp_path: Path) -> None:
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Mul", ["a", "s"], ["m"]),
        N("If", ["flag"], ["r"], then_branch=branch("m"), else_branch=branch("b")),
    ]
    model = make([*nodes, N("Reshape", ["x", "r"], ["y"])], [X, *sizes("a", "b"), value("flag", BOOL, [])])
    found = problem(save(tmp_path, model))
    assert found.needs == ("flag",)
    whole = {"flag": np.array(True)}
    found = problem(tmp_path / "model.onnx", constants=whole)
    assert found.needs == ("a", "b")  # not x, of which only the shape is read
    graph = import_onnx(tmp_path / "model.onnx", {}, {**whole, "a": np.array([1, 1])})
    assert [port.name for port in graph.inputs] == ["x", "b"]


def branch(name: str) -> onnx.GraphProto:
    node = N("Identity", [name], [f"{name}_out"])
    return onnx.helper.make_graph([node], name, [], [onnx.helper.make_empty_tensor_value_info(f"{name}_out")])


def sizes(*names: str) -> list[onnx.ValueInfoProto]:
    return [value(name, INT64, [2]) for name in names]


def test_constants_are_evaluated_where_rules_do_not_fold(tmp_path: Path) -> None:
    """A shape that comes out of a matrix product of a constant."""
    nodes = [N("MatMul", ["a", "b"], ["s"]), N("Reshape", ["x", "s"], ["y"])]
    model = make(nodes, [X, value("a", INT64, [2, 2]), value("b", INT64, [2])])
    path = save(tmp_path, model)
    assert problem(path).needs == ("a", "b")
    given = {"a": np.array([[1, 1], [0, 1]]), "b": np.array([9, 3])}
    assert problem(path, constants={"a": given["a"]}).needs == ("b",)
    graph = import_onnx(path, {}, {**given, "b": np.array([5, 3])})
    assert graph.types[graph.outputs[0].value].shape == (8, 3)


def test_shapes_of_constants_settle_dims(tmp_path: Path) -> None:
    """A dim of the constant is that number in other inputs, too, and asks for no bounds."""
    ports = [value("x", FLOAT, ["n", 3]), value("k", INT64, ["n"])]
    model = make([N("Gather", ["x", "k"], ["y"])], ports)
    path = save(tmp_path, model)
    assert batch_dims(path) == ("n",)
    given = {"k": np.array([1, 0])}
    assert batch_dims(path, given) == ()
    assert import_onnx(path, {}, given).types["in0"].shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("one", 3, np.array([3], np.int64)),
        ("one", [3], np.array([3], np.int64)),
        ("none", [3.0], np.array(3, np.int64)),
        ("floats", [1, 2], np.array([1, 2], np.float32)),
        ("floats", [0.1, 2], np.array([0.1, 2], np.float32)),
        ("flag", 1, np.array(True)),
        ("any", [[1]], np.array([[1]], np.int64)),
    ],
)
def test_values_take_the_inputs_type(tmp_path: Path, name: str, given: object, wanted: np.ndarray) -> None:
    found = fit_constants(save(tmp_path, typed()), {name: np.asarray(given)})[name]
    assert found.dtype == wanted.dtype and found.shape == wanted.shape and np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("one", 1.5, "[1.5] does not fit int64"),
        ("one", [1, 2], "its shape is [2], the input has [1]"),
        ("floats", [1.0], "its shape is [1], the input has [2]"),
        ("flag", 2, "[2] does not fit bool"),
        ("one", "three", "does not fit int64"),
        ("floatz", 1, "the model has no input 'floatz' to make a constant"),
        ("z", 1, "no input 'z'"),
    ],
)
def test_values_that_do_not_fit(tmp_path: Path, name: str, given: object, text: str) -> None:
    with pytest.raises(ModelError) as found:
        import_onnx(save(tmp_path, typed()), {}, {name: np.asarray(given)})
    assert text in str(found.value)


def typed() -> onnx.ModelProto:
    ports = [value("one", INT64, [1]), value("none", INT64, []), value("floats", FLOAT, [2])]
    ports += [value("flag", BOOL, []), value("any", INT64), value("x", FLOAT, ["n"])]
    return make([N("Identity", ["x"], ["y"])], ports)


def test_a_shape_of_two_sizes_is_refused(tmp_path: Path) -> None:
    ports = [value("a", INT64, ["n"]), value("b", INT64, ["n"])]
    path = save(tmp_path, make([N("Add", ["a", "b"], ["y"])], ports))
    with pytest.raises(ModelError, match="its shape is \\[3\\], the input has \\[n\\]"):
        import_onnx(path, {"n": Bounds(1, 2, 3)}, {"a": np.zeros(2, np.int64), "b": np.zeros(3, np.int64)})
