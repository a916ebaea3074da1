"""What is asked of placement: threads, budgets, an objective, the user's pins. A frozen value made by the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pin:
    """A user's constraint: clusters or weights whose name or source matches the regular expression go to `where`.

    `where` is a device (`cpu`, `gpu0`), a tier (`ram`, `disk`), or `!` and one of them for what is forbidden.
    """

    pattern: str
    where: str


@dataclass(frozen=True)
class PlaceRequest:
    """`budgets` maps a tier to the bytes the plan may take there, the process floor included for `ram`; a tier that is missing
    has its capacity. `objective` is `latency` (one run at a time), `throughput` (runs back to back) or `memory` (least bytes
    whose latency is at most `slowdown` times the best). `executable` keeps candidates that are only priced out of the plan.
    """

    threads: int
    budgets: Mapping[str, int] = field(default_factory=dict)
    objective: str = "latency"
    pins: tuple[Pin, ...] = ()
    floor: int = 0
    executable: bool = True
    slowdown: float = 1.5
