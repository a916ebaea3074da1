"""Names of symbolic dims, as a graph may have them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .scalars import AXIS


def identifier(name: str, taken: Iterable[str] = ()) -> str:
    """`name` as a Python identifier that is not in `taken`."""
    clean = re.sub(r"\W", "_", name, flags=re.ASCII) or "dim"
    if clean[0].isdigit() or clean.startswith(AXIS):
        clean = "d" + clean
    result, number = clean, 2
    while result in set(taken):
        result, number = f"{clean}_{number}", number + 1
    return result
