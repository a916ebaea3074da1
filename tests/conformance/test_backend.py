"""The backend interface: plans per shapes and values, bounded, cleaned up."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.backend.base import Backend, BackendRep
from stratac.compiler import onnx_backend as backend
from stratac.ir.errors import ModelError, StratacError
from stratac.tests.frontends.onnx.build import FLOAT, INT64, N, make, value


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model)


def reshaped(*dims: int | str) -> onnx.ModelProto:
    return typed(make([N("Reshape", ["x", "shape"], ["y"])], [value("x", FLOAT, dims), value("shape", INT64, [2])]))


def test_the_interface() -> None:
    assert issubclass(backend.StratacBackend, Backend) and issubclass(backend.StratacRep, BackendRep)
    assert backend.supports_device("CPU") and backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA") and not backend.supports_device("TPU")
    with pytest.raises(StratacError, match="device 'CUDA'"):
        backend.prepare(reshaped(4), "CUDA")


def test_a_model_that_says_enough_is_compiled_by_prepare(folders: Path) -> None:
    model = typed(make([N("Relu", ["x"], ["y"])], [value("x", FLOAT, [3])]))
    with backend.prepare(model) as rep:
        assert len(list(folders.glob("stratac-backend-*/plan-*"))) == 1
        found = rep.run([np.array([-1, 0, 2], np.float32)])
    assert found.y is found[0] and found["y"].tolist() == [0, 0, 2]
    assert not list(folders.iterdir())


def test_plans_by_values_and_shapes(folders: Path) -> None:
    rep = backend.prepare(reshaped("n"))
    assert not list(folders.glob("stratac-backend-*/plan-*"))

    def plans() -> int:
        return len(list(folders.glob("stratac-backend-*/plan-*")))

    for size, shape, expected in ((6, [2, 3], 1), (6, [3, 2], 2), (6, [2, 3], 2), (8, [2, -1], 3)):
        x = np.arange(size, dtype=np.float32)
        (y,) = rep.run([x, np.array(shape)])
        assert np.array_equal(y, x.reshape(shape)) and plans() == expected
    (y,) = rep.run({"shape": np.array([2, 3]), "x": np.zeros(6, np.float32)})
    assert y.shape == (2, 3) and plans() == 3
    del rep
    assert not list(folders.iterdir())


def test_the_plan_used_longest_ago_goes_first(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "PLANS", 2)
    x = np.zeros(4, np.float32)
    with backend.prepare(reshaped(4)) as rep:
        for shape in ([1, 4], [4, 1], [1, 4], [2, 2]):
            rep.run([x, np.array(shape)])
        kept = {folder.name for folder in folders.glob("stratac-backend-*/plan-*")}
        assert len(kept) == 2
        rep.run([x, np.array([1, 4])])
        assert {folder.name for folder in folders.glob("stratac-backend-*/plan-*")} == kept


def test_run_node() -> None:
    (y,) = backend.run_node(N("Squeeze", ["x", "axes"], ["y"]), [np.ones((1, 2), np.float32), np.array([0])])
    assert y.tolist() == [1, 1]
    (y,) = backend.run_node(N("Squeeze", ["x"], ["y"], axes=[0]), [np.ones((1, 2), np.float32)], opset_version=11)
    assert y.tolist() == [1, 1]


def test_refusals_leave_nothing(folders: Path) -> None:
    node = make(
        [N("NoSuchOperator", ["x"], ["y"], domain="nowhere")],
        [value("x", FLOAT, [1])],
        domains=[onnx.helper.make_opsetid("nowhere", 1)],
    )
    node.graph.output[0].CopyFrom(value("y", FLOAT, [1]))
    with pytest.raises(ModelError, match="NoSuchOperator"):
        backend.prepare(node)
    assert not list(folders.iterdir())
    two = typed(make([N("Add", ["a", "b"], ["y"])], [value("a", FLOAT, ["n"]), value("b", FLOAT, ["n"])]))
    with backend.prepare(two) as rep:
        with pytest.raises(StratacError, match="dim 'n' is 1 in 'a' and 2 in 'b'"):
            rep.run([np.zeros(1, np.float32), np.zeros(2, np.float32)])
        with pytest.raises(StratacError, match="2 inputs, 1 were given"):
            rep.run([np.zeros(1, np.float32)])
        with pytest.raises(StratacError, match="the inputs a, b, given were a, c"):
            rep.run({"a": np.zeros(1, np.float32), "c": np.zeros(1, np.float32)})
    assert not list(folders.iterdir())
