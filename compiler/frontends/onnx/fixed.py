"""A copy of a model with its symbolic dims fixed: what other compilers take that know no symbolic dims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx


def fix_dims(model: Path, dims: Mapping[str, int], target: Path) -> None:
    """Write `model` to the one file `target`, its weights included; symbolic dims in `dims` become those sizes.

    Types of intermediate values are left out, as they name the symbols. Raises ValueError beyond 2 GiB.
    """
    proto = onnx.load(model)
    for port in [*proto.graph.input, *proto.graph.output]:
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]
    del proto.graph.value_info[:]
    onnx.save(proto, target)
