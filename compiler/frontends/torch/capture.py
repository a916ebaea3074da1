"""A graph that dynamo captured, as an exported program: parameters become part of it, sizes follow from the tensors they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export.graph_signature import OutputKind

from ....ir.errors import ModelError
from .export import decomposed, export_module, input_names


@dataclass(frozen=True)
class Capture:
    """`inputs` are the positions of the graph's inputs that the plan asks for; `axes` says which of their axes vary: (position
    among them, axis, name of the dim). `buffers` gives by the names of states the positions of tensors that the graph changes;
    `changed` says which of the plan's inputs it changes, by their position among them."""

    program: Any
    names: dict[tuple[str, int], str]
    inputs: tuple[int, ...]
    axes: tuple[tuple[int, int, str], ...]
    buffers: dict[str, int]
    changed: tuple[int, ...]

    def outputs(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """What the graph gives, the plan's outputs put between what is None or a number. Changed inputs stand behind all others."""
        rest = iter(tensors)
        return tuple(
            getattr(spec.arg, "value", None) if type(spec.arg).__name__ == "ConstantArgument" else next(rest)
            for spec in self.program.graph_signature.output_specs
            if spec.kind == OutputKind.USER_OUTPUT
        )


class _Bound(torch.nn.Module):  # type: ignore[misc]
    """The captured graph with its parameters given; sizes are read off the tensors."""

    def __init__(self, graph: Any, inputs: Sequence[int], sizes: dict[int, tuple[int, int]], fixed: dict[int, Any]):
        super().__init__()
        self.graph, self.inputs, self.sizes, self.fixed = graph, tuple(inputs), sizes, tuple(fixed)
        for position, tensor in fixed.items():
            self.register_buffer(f"fixed_{position}", tensor.detach())

    def forward(self, inputs: Sequence[Any]) -> Any:
        given: dict[int, Any] = dict(zip(self.inputs, inputs, strict=True))
        given |= {position: getattr(self, f"fixed_{position}") for position in self.fixed}
        given |= {position: given[of].shape[axis] for position, (of, axis) in self.sizes.items()}
        return self.graph(*(given[position] for position in range(len(given))))


def captured(graph: Any, example_inputs: Sequence[Any]) -> Capture:
    """The program of a graph module from dynamo. Raises ModelError for inputs that are numbers but no sizes."""
    places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    fixed: dict[int, Any] = {}
    inputs: list[int] = []
    wanted: dict[int, str] = {}
    for position, example in enumerate(example_inputs):
        if not isinstance(example, torch.Tensor):
            wanted[position] = str(places[position].meta.get("example_value", example))
        elif isinstance(example, torch.nn.Parameter) or hasattr(example, "_dynamo_static_input_type"):
            fixed[position] = example
        else:
            inputs.append(position)
    shapes: list[dict[int, str]] = []
    sizes: dict[int, tuple[int, int]] = {}
    for position in inputs:
        found = {}
        example = places[position].meta.get("example_value")
        for axis, size in enumerate(example.shape if isinstance(example, torch.Tensor) else ()):
            if isinstance(size, torch.SymInt):
                found[axis] = str(size) if str(size).isidentifier() else f"size_{position}_{axis}"
                sizes |= {at: (position, axis) for at, name in wanted.items() if name == str(size)}
        shapes.append(found)
    missing = wanted.keys() - sizes.keys()
    if missing:
        name = places[min(missing)].name
        hint = "make it a tensor, or torch._dynamo.mark_static"
        raise ModelError(f"the graph's input {name!r} is a number and no size of a tensor", hint=hint)
    module = _Bound(graph, inputs, sizes, fixed)
    tensors = [example_inputs[position] for position in inputs]
    dynamic = {"inputs": [dict(found) for found in shapes]} if any(shapes) else None
    program, names = export_module(module, ([t.detach() for t in tensors],), None, dynamic)
    axes = tuple((k, axis, name) for k, found in enumerate(shapes) for axis, name in found.items())
    program = decomposed(program)  # until then nothing says what it changes
    order = {name: k for k, name in enumerate(input_names(program))}
    specs = program.graph_signature.output_specs
    changed = tuple(order[str(s.target)] for s in specs if s.kind == OutputKind.USER_INPUT_MUTATION)
    kept = [str(spec.target) for spec in specs if spec.kind == OutputKind.BUFFER_MUTATION]
    buffers = {name: int(name.removeprefix("fixed_")) for name in kept}
    return Capture(program, names, tuple(inputs), axes, buffers, changed)
