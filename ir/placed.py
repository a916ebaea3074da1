"""Level two, *where*: clusters with their chosen candidates, a home tier for every weight, explicit transfers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .candidate import Priced
from .graph import Graph

DENSE = "dense"  # the packing format of bytes as the graph has them: row-major


def home_key(weight: str, format: str) -> str:
    """What a weight's home in a format is called, here and in the plan."""
    return weight if format == DENSE else f"{weight} as {format}"


@dataclass(frozen=True)
class Choice:
    """What placement decided for one cluster, and why: the chosen candidate, the runner-up and the reason."""

    cluster: str  # the cluster's first output value
    chosen: Priced
    runner_up: Priced | None
    why: str


@dataclass(frozen=True)
class Home:
    """Where a weight's bytes live while the plan runs, and in which packing format."""

    weight: str
    tier: str
    format: str
    nbytes: int


@dataclass(frozen=True)
class Transfer:
    """A value copied from one tier to another. None exist while there is one device and one tier."""

    value: str
    source: str
    target: str


@dataclass(frozen=True)
class Placed:
    """A graph of clusters with every decision of placement. `machine` names the profile the costs came from.

    `choices` has a cluster's choice under its first output; `homes` a weight's home in a format under their `home_key`.
    """

    graph: Graph
    machine: str
    choices: Mapping[str, Choice]
    homes: Mapping[str, Home]
    transfers: tuple[Transfer, ...] = ()
