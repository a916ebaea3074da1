"""The dynamic dims of a model's inputs, before anything is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...layout import Layout
from .constants import with_constants
from .protobuf import read_model
from .signature import read_inputs


def batch_dims(
    path: Path, constants: Mapping[str, np.ndarray] | None = None, layout: Layout | None = None
) -> tuple[str, ...]:
    """Names of the dims that only ever stand first in an input of rank 2 or more, those given as constants aside: batches.
    Raises ModelError."""
    inputs, _ = read_inputs(with_constants(read_model(path), constants or {}, path.name).graph, layout=layout)
    first = {i.dims[0] for i in inputs if len(i.dims) > 1 and isinstance(i.dims[0], str)}
    later = {d for i in inputs for d in i.dims[1:]}
    return tuple(sorted(str(d) for d in first - later))
