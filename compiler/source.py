"""What the compiler takes as a model: a file, or something a front end made ready."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..ir.dims import Bounds
from ..ir.graph import Graph
from .frontends.onnx import batch_dims, fit_constants, import_onnx
from .layout import Layout

Constants = Mapping[str, np.ndarray]


class ModelSource(Protocol):
    """A model before its dims have bounds."""

    def fit_constants(self, values: Constants) -> dict[str, np.ndarray]:
        """Values of inputs in their element types. Raises ModelError for what is no input of the model."""
        ...

    def batch_dims(self, constants: Constants, layout: Layout) -> tuple[str, ...]:
        """Names of the dims that only ever stand first in an input of rank 2 or more, constants aside: batches."""
        ...

    def graph(self, dims: Mapping[str, Bounds], constants: Constants, layout: Layout) -> Graph:
        """The graph for dims within these bounds. Raises ModelError with every problem of the model."""
        ...

    def facts(self) -> dict[str, str]:
        """Name and digest, which a plan keeps of the model it was made from."""
        ...


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file. External data is named in the file, not part of its digest."""

    path: Path

    def fit_constants(self, values: Constants) -> dict[str, np.ndarray]:
        return fit_constants(self.path, values)

    def batch_dims(self, constants: Constants, layout: Layout) -> tuple[str, ...]:
        return batch_dims(self.path, constants, layout)

    def graph(self, dims: Mapping[str, Bounds], constants: Constants, layout: Layout) -> Graph:
        return import_onnx(self.path, dims, constants, layout=layout)

    def facts(self) -> dict[str, str]:
        """Name and sha256 of the model file: how `bench` finds it again."""
        name = os.fsencode(self.path.name).decode(errors="replace")  # the same in every locale
        with open(self.path, "rb") as file:
            return {"file": name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def as_source(model: Path | ModelSource) -> ModelSource:
    return OnnxFile(model) if isinstance(model, Path) else model
