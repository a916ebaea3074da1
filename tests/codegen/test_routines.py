"""The rows of routines, what they need and their templates are the same ops."""

from __future__ import annotations

from pathlib import Path

from stratac.codegen import routines
from stratac.ir.ops import OPS


def test_every_routine_has_a_kernel() -> None:
    rows = {op.name for op in OPS.values() if op.category == "routine"}
    templates = {path.name.removesuffix(".c.j2") for path in Path(routines.__file__).parent.glob("*.c.j2")}
    assert set(routines.NEEDS) == rows == templates
