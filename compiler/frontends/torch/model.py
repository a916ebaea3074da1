"""An exported program as the compiler takes a model: named, with its batches, imported when its dims have bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....ir.dims import Bounds
from ....ir.errors import ModelError, StratacError
from ....ir.graph import Graph
from ...layout import Layout
from .export import decomposed, export_module
from .importer import batch_dims, import_exported, user_inputs
from .weights import Joined, Stored, dtype_of


@dataclass
class ExportedModel:
    """`names` are what the user calls the axes of inputs; see `import_exported` for `stored` and `folder`."""

    program: Any
    name: str
    names: Mapping[tuple[str, int], str] = field(default_factory=dict)
    stored: Mapping[str, Stored | Joined] = field(default_factory=dict)
    folder: Path | None = None
    ready: bool = False

    def fit_constants(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of inputs in their element types. Raises ModelError for what is no input."""
        inputs = user_inputs(self._ready())
        unknown = sorted(values.keys() - inputs.keys())
        if unknown:
            hint = f"its inputs are {', '.join(inputs) or 'none'}"
            raise ModelError(f"{self.name} has no input {unknown[0]!r} to give a constant for", hint=hint)
        return {name: np.asarray(value, dtype_of(inputs[name].dtype).np) for name, value in values.items()}

    def batch_dims(self, constants: Mapping[str, np.ndarray], layout: Layout = Layout()) -> tuple[str, ...]:
        """Names of the dims that only ever stand first in an input, constants aside: batches. A program has no sequences."""
        return batch_dims(self._ready(), self.names, constants)

    def graph(
        self, dims: Mapping[str, Bounds], constants: Mapping[str, np.ndarray], layout: Layout = Layout()
    ) -> Graph:
        return import_exported(
            self._ready(),
            dims,
            name=self.name,
            names=self.names,
            stored=self.stored,
            folder=self.folder,
            constants=constants,
            states=layout.states,
        )

    def facts(self) -> dict[str, str]:
        """Name and sha256 of the program's text: what a plan says it was made from."""
        text = str(self._ready().graph)
        return {"file": self.name, "sha256": hashlib.sha256(text.encode()).hexdigest()}

    def _ready(self) -> Any:
        if not self.ready:
            self.program, self.ready = decomposed(self.program), True
        return self.program


def open_program(
    model: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, dynamic_shapes: Any, folder: Path
) -> ExportedModel:
    """A module, exported here, or a program that is exported already; large parameters are written to `folder`."""
    if isinstance(model, torch.export.ExportedProgram):
        if args or kwargs or dynamic_shapes:
            hint = "leave out args, kwargs and dynamic_shapes, or give the module"
            raise StratacError("an exported program has its inputs already", hint=hint)
        return ExportedModel(model, "program", folder=folder)
    if not isinstance(model, torch.nn.Module):
        hint = "a path, a torch.nn.Module or a torch.export.ExportedProgram is one"
        raise StratacError(f"a {type(model).__name__} is no model", hint=hint)
    program, names = export_module(model, args, kwargs, dynamic_shapes)
    return ExportedModel(program, type(model).__name__, names, folder=folder)
