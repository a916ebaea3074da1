"""`torch.compile(module, backend="stratac")`: each graph that dynamo captures becomes a plan, run on the tensors' own memory.

Nothing falls back: an operator without a rule is an error that names it. A plan is for the element types and sizes it was first
called with; where dynamo says that a size varies, for a range, and a larger size makes a plan for a larger range. Parameters and
buffers are taken as they are when the graph is compiled: after changing them, call `torch._dynamo.reset()`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..ir.dims import Bounds
from ..ir.errors import StratacError
from ..runtime.session import load
from .driver import compile_model
from .frontends.torch import ExportedModel
from .frontends.torch.capture import Capture, captured
from .frontends.torch.weights import Weights
from .options import CompileOptions, default_cache, environment_cc

#: A plan for a size that varies goes up to this many times the size it is made for.
_GROWTH = 4


def torch_backend(
    graph: Any, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None
) -> Callable[..., tuple[Any, ...]]:
    """The backend: a function that runs a plan of the graph on tensors on the CPU, without gradients.

    `options` are fields of `CompileOptions`, such as {"threads": 2}. Where the graph cannot be compiled, the first call raises
    StratacError.
    """
    if any(isinstance(value, torch.Tensor) and value.device.type != "cpu" for value in example_inputs):
        raise StratacError("the stratac backend takes tensors on the CPU", hint="move the module with module.cpu()")
    needed = any(isinstance(value, torch.Tensor) and value.requires_grad for value in example_inputs)
    if torch.is_grad_enabled() and needed:
        hint = "call the module under torch.no_grad() or torch.inference_mode()"
        raise StratacError("the stratac backend computes no gradients", hint=hint)
    chosen = replace(CompileOptions(cc=environment_cc(), cache=default_cache()), **(options or {}))
    return _Plans(graph, chosen)


class _Plans:
    """A captured graph and the plan of the range of sizes met so far. The plan's folder goes with it.

    The first plan is made by the first call: while dynamo itself is at work, exporting would disturb what it guards.
    """

    def __init__(self, graph: Any, options: CompileOptions) -> None:
        self.graph, self.options = graph, options
        self.capture: Capture | None = None
        self.limits: dict[str, int] = {}

    def _compile(self, capture: Capture, sizes: Mapping[str, int]) -> None:
        """A plan for sizes up to a few times these, and for all that were met before."""
        self.limits = {name: max(self.limits.get(name, 0), _GROWTH * size) for name, size in sizes.items()}
        ranges = {name: Bounds(0, max(1, sizes[name]), max(1, most)) for name, most in self.limits.items()}
        self.folder = tempfile.TemporaryDirectory(prefix="stratac-")
        path = Path(self.folder.name)
        model = ExportedModel(capture.program, "graph", capture.names, folder=path, ready=True)
        options = replace(self.options, dims={**ranges, **self.options.dims})
        self.session = load(compile_model(model, path / "graph.plan", options).folder, verify=False, profile=False)
        (path / Weights.NAME).unlink(missing_ok=True)  # the plan has them now
        self.names = [port.name for port in self.session.get_inputs()]

    def __call__(self, *values: Any) -> tuple[Any, ...]:
        first = self.capture is None
        capture = self.capture = self.capture or captured(self.graph, values)
        tensors = [values[position] for position in capture.inputs]
        sizes = {name: int(tensors[k].shape[axis]) for k, axis, name in capture.axes}
        if first or any(size > self.limits[name] for name, size in sizes.items()):
            self._compile(capture, sizes)
        arrays = {f"inputs_{k}": _array(tensor) for k, tensor in enumerate(tensors)}
        # what the graph changes is torch's own: the plan's state is brought in step with it before and after
        self.session.set_state({name: _array(values[position]) for name, position in capture.buffers.items()})
        found = self.session.run(None, {name: arrays[name] for name in self.names})
        outputs = [_tensor(array, port) for array, port in zip(found, self.session.get_outputs(), strict=True)]
        state = self.session.state()
        with torch.no_grad():
            for port in self.session.get_states():
                values[capture.buffers[port.name]].copy_(_tensor(state[port.name], port))
            behind = outputs[len(outputs) - len(capture.changed) :]
            for position, tensor in zip(capture.changed, behind, strict=True):
                tensors[position].copy_(tensor)
        return capture.outputs(outputs)


def _array(tensor: Any) -> np.ndarray:
    """The memory of a tensor; of bfloat16, which numpy lacks, as its bits."""
    tensor = tensor.detach()
    found: np.ndarray = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return found.view(np.uint16) if tensor.dtype == torch.bfloat16 else found


def _tensor(array: np.ndarray, port: Any) -> Any:
    """A tensor in the memory of an output."""
    if port.dtype.name == "bf16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
