"""Level two, *where*: clusters with their chosen candidates, a home tier for every weight and state, explicit transfers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .candidate import Priced
from .graph import Graph

DENSE = "dense"  # the packing format of bytes as the graph has them: row-major


def home_key(weight: str, format: str) -> str:
    """What a weight's home in a format is called, here and in the plan."""
    return weight if format == DENSE else f"{weight} as {format}"


@dataclass(frozen=True)
class Choice:
    """What placement decided for one cluster, and why: the chosen candidate, the runner-up and the reason.

    `binding` names the constraint that keeps the plan from something faster for this cluster (`budget ram`, `pin`,
    `bandwidth disk`), or is empty.
    """

    cluster: str  # the cluster's first output value
    chosen: Priced
    runner_up: Priced | None
    why: str
    binding: str = ""


@dataclass(frozen=True)
class Home:
    """Where a weight's bytes live while the plan runs, and in which packing format.

    In the tier of a device's memory they stay there. With `mapped` they are pages of weights.bin, of which those that lookups
    touched are in memory: every candidate chosen that reads the weight names it in `sparse`. In a tier of kind `disk` they are
    streamed through the ring for each use, or read row by row by a kernel whose candidate names the weight in `direct`.
    """

    weight: str
    tier: str
    format: str
    nbytes: int
    why: str = ""
    mapped: bool = False


@dataclass(frozen=True)
class StateHome:
    """The memory tier that keeps a state while the plan is open. What it starts from, if no zeros, has a home like any weight, in
    memory too: `st_reset` copies it from there."""

    state: str
    tier: str
    nbytes: int


@dataclass(frozen=True)
class Transfer:
    """A value copied from one tier to another. None exist while there is one device and one tier."""

    value: str
    source: str
    target: str


@dataclass(frozen=True)
class Solution:
    """How good the decisions are: `seconds` is the simulated latency at the typical dims, `lower_bound` what no placement under
    these budgets can beat. `budgets` and `used` give bytes for each tier, the process floor included in `ram`.
    """

    objective: str  # latency, throughput or memory
    method: str
    seconds: float
    lower_bound: float
    budgets: Mapping[str, int]
    used: Mapping[str, int]

    @property
    def gap(self) -> float:
        """How far above the lower bound, as a share of it."""
        return self.seconds / self.lower_bound - 1 if self.lower_bound > 0 else 0.0


@dataclass(frozen=True)
class Placed:
    """A graph of clusters with every decision of placement. `machine` names the profile the costs came from.

    `choices` has a cluster's choice under its first output; `homes` a weight's home in a format under their `home_key`; `states` a
    state's home under its name.
    """

    graph: Graph
    machine: str
    choices: Mapping[str, Choice]
    homes: Mapping[str, Home]
    transfers: tuple[Transfer, ...] = ()
    ring_bytes: int = 0  # memory through which weights at home in storage are streamed
    solution: Solution | None = None
    states: Mapping[str, StateHome] = field(default_factory=dict)
