"""What routines need beyond their operands, by op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir.dims import Dim
from ...ir.kernel import Routine

#: A dim as a number: at its greatest where memory is asked for, at its typical value where work is counted.
Size = Callable[[Dim], int]


def nothing(_: Routine, __: Size) -> int:
    """A routine without scratch."""
    return 0


def one_part(_: Routine, __: Size) -> int:
    """A routine that one thread does."""
    return 1


@dataclass(frozen=True)
class Needs:
    """`scratch` is the bytes that one thread needs. `work` counts scalar steps (a load and two operations each), `units` the
    equal pieces into which threads can share it."""

    work: Callable[[Routine, Size], int]
    units: Callable[[Routine, Size], int]
    scratch: Callable[[Routine, Size], int] = nothing


#: By op. A routine without a row has no kernel.
NEEDS: dict[str, Needs] = {}
