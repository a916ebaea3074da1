"""`stratac.estimate`: the estimate as a Python function."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...ir.dims import Bounds
from ..options import CompileOptions, parse_dim, parse_size
from .run import estimate_model


def estimate(
    model: str | os.PathLike[str],
    *,
    target: str = "native",
    dims: Mapping[str, Bounds | int | str] | None = None,
    threads: int = 0,
    budgets: Mapping[str, int | str] | None = None,
    hosts: int = 0,
) -> dict[str, Any]:
    """What an ONNX model would need and take on a machine: plain data, the fields of `stratac estimate --json`.

    Neither the machine nor the weights need to be there: external data may be missing, nothing is compiled and no weight is read.
    The arguments are those of `compile`; `hosts` is the greatest number of equal hosts to split the model over (0: what the
    profile's network has). `seconds` is of one run at the typical dims; `fits` says whether one host has the memory. Raises
    StratacError.
    """
    bounds = {}
    for name, value in (dims or {}).items():
        bounds[name] = value if isinstance(value, Bounds) else parse_dim(f"{name}={value}")[1]
    options = CompileOptions(
        target=target,
        dims=bounds,
        threads=threads,
        budgets={tier: parse_size(str(size)) for tier, size in (budgets or {}).items()},
    )
    return estimate_model(Path(model), options, [target], hosts)[0]
