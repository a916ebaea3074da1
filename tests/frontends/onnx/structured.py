"""Models whose inputs and outputs are sequences, optionals and strings, and the comparison of their import with a reference."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from stratac.compiler.frontends.onnx import import_onnx
from stratac.compiler.layout import make_layout
from stratac.ir.dims import Bounds
from stratac.ir.graph import Graph
from stratac.ir.interface import decode, encode
from stratac.ir.interp import run

from .build import save, verified


def evaluate(graph: Graph, feeds: Mapping[str, Any]) -> list[Any]:
    """The interpreter's outputs, as callers see them."""
    assert graph.interface is not None
    ports: dict[str, np.ndarray] = {}
    for name, form in graph.interface.inputs:
        ports |= encode(name, form, feeds[name])
    found = run(graph, ports)
    return [decode(form, found) for _, form in graph.interface.outputs]


def same(got: Any, want: Any) -> None:
    """Lists element by element, arrays in type, shape and value."""
    if isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            same(a, b)
    elif isinstance(want, dict):
        assert got == pytest.approx(want)
    elif want is None:
        assert got is None
    else:
        want = np.asarray(want)
        assert got.shape == want.shape
        if want.dtype.kind in "OUT":
            assert got.tolist() == want.tolist()
        else:
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def check(
    folder: Path,
    model: onnx.ModelProto,
    feeds: Mapping[str, Any],
    sequences: Mapping[str, Any] | None = None,
    expected: Sequence[Any] | None = None,
    dims: Mapping[str, Bounds] | None = None,
    string_bytes: int = 64,
    trips: int = 0,
) -> Graph:
    """Import, interpret, compare with `expected` or the reference evaluator; returns the graph."""
    graph = verified(import_onnx(save(folder, model), dims, layout=make_layout(sequences, string_bytes, trips=trips)))
    if expected is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = ReferenceEvaluator(model).run(None, dict(feeds))
    same(evaluate(graph, feeds), list(expected))
    return graph
