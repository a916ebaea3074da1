"""The dynamic dims of a model's inputs, before anything is imported."""

from __future__ import annotations

from pathlib import Path

from .protobuf import read_model
from .signature import read_inputs


def batch_dims(path: Path) -> tuple[str, ...]:
    """Names of the dims that only ever stand first in an input of rank 2 or more: batches. Raises ModelError."""
    inputs = read_inputs(read_model(path).graph)
    first = {i.dims[0] for i in inputs if len(i.dims) > 1 and isinstance(i.dims[0], str)}
    later = {d for i in inputs for d in i.dims[1:]}
    return tuple(sorted(str(d) for d in first - later))
