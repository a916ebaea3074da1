"""Modules exported, imported and evaluated by the interpreter, beside torch itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from stratac.compiler.frontends.torch import decomposed, export_module, import_exported
from stratac.ir.dims import Bounds
from stratac.ir.graph import Graph
from stratac.ir.interp import run
from stratac.ir.verify import verify_graph

warnings.filterwarnings("ignore", module="torch")


class Calls(torch.nn.Module):
    """Many functions of the same tensors in one program: their results by name."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, **tensors: torch.Tensor) -> dict[str, Any]:
        return {name: function(**tensors) for name, function in self.functions.items()}


class Pair(Calls):
    """The same for two tensors: torch names axes only of parameters that have names."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:  # type: ignore[override]
        return super().forward(x=x, y=y)


def imported(
    module: torch.nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    dims: Mapping[str, Bounds] | None = None,
) -> Graph:
    program, names = export_module(module, args, kwargs, dynamic_shapes)
    graph = import_exported(decomposed(program), dims, names=names)
    verify_graph(graph)
    return graph


def evaluated(graph: Graph, tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    wanted = {port.name for port in graph.inputs}
    with np.errstate(all="ignore"):
        return run(graph, {name: tensor.numpy() for name, tensor in tensors.items() if name in wanted})


def compare(found: Mapping[str, np.ndarray], expected: Mapping[str, Any], tolerance: float = 1e-5) -> None:
    """Every tensor of a nested result, by the name its output has."""
    flat: dict[str, torch.Tensor] = {}
    for name, value in expected.items():
        parts = value if isinstance(value, (tuple, list)) else None
        for index, part in enumerate(parts or ()):
            flat[f"{name}_{index}"] = part
        if parts is None:
            flat[name] = value
    assert found.keys() == flat.keys()
    wrong = []
    for name, tensor in flat.items():
        have, want = found[name], tensor.detach().numpy()
        if have.dtype != want.dtype or have.shape != want.shape:
            wrong.append(f"{name}: {have.dtype}{list(have.shape)}, torch has {want.dtype}{list(want.shape)}")
        elif not np.allclose(have, want, rtol=tolerance, atol=tolerance, equal_nan=True):
            wrong.append(f"{name}: {have.reshape(-1)[:6]}, torch has {want.reshape(-1)[:6]}")
    assert not wrong, "\n".join(wrong)


def check(
    functions: Mapping[str, Callable[..., Any]], tensors: Mapping[str, torch.Tensor], dynamic: Any = None
) -> None:
    """The functions of these tensors give what torch gives; `dynamic` names axes of the inputs x and y."""
    module = Pair(functions) if dynamic else Calls(functions)
    dims = {name: Bounds(1, 2, 64) for axes in (dynamic or {}).values() for name in axes.values()}
    graph = imported(module, (), tensors, dynamic, dims)
    with torch.no_grad():
        compare(evaluated(graph, tensors), module(**tensors))
