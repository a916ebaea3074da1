"""Everything wrong with a model in one report, and nothing that only follows from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, Problem
from stratac.tests.frontends.onnx.build import FLOAT, INT64, N, array, make, rand, save, value

B = {"n": Bounds(1, 2, 8)}


def problems(folder: Path, model: object, dims: dict[str, Bounds] | None = B) -> tuple[Problem, ...]:
    with pytest.raises(ModelError) as caught:
        import_onnx(save(folder, model), dims)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_five_problems_in_one_report(tmp_path: Path) -> None:
    nodes = [
        N("Frobnicate", ["x"], ["a"], domain="com.acme", name="first"),  # an operator without a rule
        N("Cast", ["a"], ["b"], to=FLOAT, name="follows"),
        N("Reluu", ["x"], ["c"], name="typo"),  # no operator at all
        N("Cast", ["x"], ["d"], to=TensorProto.COMPLEX64, name="half"),  # an element type
        N("MatMul", ["x", "w"], ["e"], name="shapes"),  # sizes that do not fit
        N("Relu", ["nowhere"], ["f"], name="undefined"),  # a value that nothing defines
        N("Add", ["e", "c"], ["y"], name="also_follows"),
    ]
    domains = [helper.make_opsetid("com.acme", 3)]
    model = make(nodes, [value("x", FLOAT, ("n", 4))], ["y", "b"], [array("w", rand(3, 3))], domains=domains)
    found = problems(tmp_path, model)
    assert [p.source.node for p in found] == ["first", "typo", "shapes", "undefined", ""]
    first, typo, shapes, undefined, half = found
    assert first.op == "com.acme::Frobnicate-3" and "not supported" in first.what
    assert "no operator of the ONNX standard" in typo.what and "Relu" in typo.hint
    assert "inner sizes 4 and 3 differ" in shapes.what and shapes.source.file == "model.onnx"
    assert "'nowhere'" in undefined.what
    assert "c64" in half.what and "'half'" in half.what


def test_problems_beyond_a_failed_node_are_found(tmp_path: Path) -> None:
    nodes = [
        N("Frobnicate", ["x"], ["t"], name="first", domain="com.acme"),
        N("Relu", ["t"], ["r"]),
        N("Frobnicate", ["r"], ["z"], name="second", domain="com.acme"),
        N("MatMul", ["t", "w"], ["y"], name="third"),
    ]
    domains = [helper.make_opsetid("com.acme", 3)]
    inputs, constants = [value("x", FLOAT, ("n", 4))], [array("w", rand(4, 3))]
    model = make(nodes, inputs, ["y", "z"], constants, domains=domains)
    model.graph.value_info.append(value("t", FLOAT, ("n", 4)))
    assert [p.source.node for p in problems(tmp_path, model)] == ["first", "second"]


def test_shapes_that_depend_on_data(tmp_path: Path) -> None:
    nodes = [N("Reshape", ["x", "s"], ["y"], name="dynamic"), N("Relu", ["y"], ["z"])]
    model = make(nodes, [value("x", FLOAT, ("n", 4)), value("s", INT64, (2,))], ["z"])
    (problem,) = problems(tmp_path, model)
    assert "must be known when compiling" in problem.what and problem.source.node == "dynamic"


def test_a_type_that_is_not_computed_in_is_one_problem(tmp_path: Path) -> None:
    constants = [array(f"w{i}", rand(4, 4).astype(np.complex64)) for i in range(5)]
    nodes = [N("MatMul", [f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(5)]
    model = make(nodes, [value("v0", TensorProto.COMPLEX64, ("n", 4))], ["v5"], constants)
    (problem,) = problems(tmp_path, model)
    assert "c64 is not supported" in problem.what


def test_dims_without_bounds_are_listed_together(tmp_path: Path) -> None:
    inputs = [value("x", FLOAT, ("batch", "seq len", 4)), value("m", FLOAT, ("batch", None))]
    model = make([N("Relu", ["x"], ["y"])], inputs)
    found = problems(tmp_path, model, {})
    assert [p.what.split("'")[1] for p in found] == ["batch", "m_1", "seq_len"]
    assert found[0].hint == "--dim batch=MIN:TYPICAL:MAX or --dim batch=N"
    assert "axis 0 of 'x', axis 0 of 'm'" in found[0].what


def test_unknown_dims_get_a_suggestion(tmp_path: Path) -> None:
    model = make([N("Relu", ["x"], ["y"])], [value("x", FLOAT, ("batch", 4))])
    found = problems(tmp_path, model, {"bacth": Bounds(1, 1, 2), "batch": Bounds(1, 1, 2)})
    assert [p.hint for p in found] == ["did you mean 'batch'?"]


def test_an_opset_that_is_not_known(tmp_path: Path) -> None:
    model = make([N("Relu", ["x"], ["y"])], [value("x", FLOAT, ("n", 4))])
    model.opset_import[0].version = 99
    assert "opset 99" in problems(tmp_path, model)[0].what


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (N("Relu", ["x", "x"], ["y"]), "takes 1 to 1 inputs, got 2"),
        (N("Relu", ["x"], ["y"], slope=1.0), "has no attribute 'slope'"),
        (N("Transpose", ["x"], ["y"], perm=1.5), "must be of type ints"),
        (N("Cast", ["x"], ["y"]), "lacks attribute 'to'"),
        (N("Softmax", ["x"], ["y"], axis=7), "axis 7 is out of range"),
        (N("Gather", ["x", "far"], ["y"], axis=1), "out of range"),
    ],
)
def test_malformed_nodes(tmp_path: Path, node: object, message: str) -> None:
    inputs = [value("x", FLOAT, ("n", 4)), value("img", FLOAT, (1, 1, 4, 4))]
    found = problems(tmp_path, make([node], inputs, constants=[array("far", [9], np.int64)]))  # type: ignore[list-item]
    assert len(found) == 1 and message in found[0].what


def test_a_name_defined_twice(tmp_path: Path) -> None:
    nodes = [N("Relu", ["x"], ["y"]), N("Neg", ["x"], ["y"], name="again")]
    (problem,) = problems(tmp_path, make(nodes, [value("x", FLOAT, ("n", 4))]))
    assert problem.source.node == "again" and "second time" in problem.what


def test_an_attribute_the_rule_ignores_is_refused(tmp_path: Path) -> None:
    node = N("FastGelu", ["x"], ["y"], domain="com.microsoft", strange=1)
    model = make([node], [value("x", FLOAT, ("n", 3))], domains=(helper.make_opsetid("com.microsoft", 1),))
    assert "strange" in problems(tmp_path, model)[0].what
