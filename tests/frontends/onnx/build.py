"""Small ONNX models, and the comparison of their import with a reference."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.dims import Bounds
from stratac.ir.graph import Graph
from stratac.ir.interp import run
from stratac.ir.ops import infer

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
N = helper.make_node
#: What runs an opset: onnxruntime up to here, the reference of the onnx package beyond.
_RUNTIME = 21


def value(name: str, kind: int, shape: Sequence[int | str | None] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def array(name: str, data: Any, dtype: Any = None) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(data, dtype), name)


def make(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str] = ("y",),
    constants: Sequence[onnx.TensorProto] = (),
    opset: int = 18,
    **more: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_empty_tensor_value_info(o) for o in outputs], constants)
    ids = [helper.make_opsetid("", opset), *more.pop("domains", ())]
    return helper.make_model(graph, opset_imports=ids, ir_version=8 if opset <= _RUNTIME else 10, **more)


def save(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def verified(graph: Graph) -> Graph:
    """Types derived again from the op rows are those the graph holds, and values are defined before they are read."""
    types = {p.value: graph.types[p.value] for p in graph.inputs} | {w.name: w.type for w in graph.weights.values()}
    for node in graph.nodes:
        assert all(v in types for v in node.used), node
        types.update(zip(node.outputs, infer(node, types, graph.symbols), strict=True))
    assert all(types[v] == graph.types[v] for v in types)
    assert all(p.value in types for p in graph.outputs)
    return graph


def reference(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], opset: int) -> list[np.ndarray]:
    if opset <= _RUNTIME:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        return list(onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, dict(feeds)))
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(ReferenceEvaluator(model).run(None, dict(feeds)))


def check(
    folder: Path,
    model: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    dims: Mapping[str, Bounds] | None = None,
    expected: Sequence[np.ndarray] | None = None,
) -> Graph:
    """Import, interpret, compare; returns the graph."""
    graph = verified(import_onnx(save(folder, model), dims))
    got = run(graph, dict(feeds))
    if expected is None:
        expected = reference(model, feeds, model.opset_import[0].version)
    for output, want in zip(model.graph.output, expected, strict=True):
        have = got[output.name]
        assert have.shape == np.shape(want)
        assert have.dtype == np.asarray(want).dtype
        np.testing.assert_allclose(have, want, rtol=2e-4, atol=2e-5)
    return graph


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]
