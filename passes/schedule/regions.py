"""Regions: stretches of calls that a run skips where nobody needs their results (`ir.guards`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.graph import Node
from ...ir.guards import Guard, Guards
from ...ir.plan import Arg, Call, Region


@dataclass(frozen=True)
class Stretch:
    """Calls `first` to `last`, both inclusive, all of which have a guard."""

    first: int
    last: int
    guard: Guard


def conditions(node: Node, guards: Mapping[str, Guards]) -> tuple[str, ...]:
    """The values that say whether a node runs: like its inputs they must be known before, and be there as long as it may ask."""
    return tuple(sorted({guard.condition for guard in guards.get(node.outputs[0], ())}))


def lay_regions(nodes: Sequence[Node], guards: Mapping[str, Guards]) -> tuple[Stretch, ...]:
    """As few stretches as the order of nodes allows, nested, the outer before the inner. What is known first is asked first, since
    other conditions may be computed only where it holds."""
    known = {value: position for position, node in enumerate(nodes) for value in node.outputs}
    own = [guards.get(node.outputs[0], frozenset()) for node in nodes]
    found: list[Stretch] = []

    def lay(first: int, end: int, held: Guards) -> None:
        while first < end:
            wanted = own[first] - held
            if not wanted:
                first += 1
                continue
            guard = min(wanted, key=lambda g: (known.get(g.condition, -1), g))
            last = first
            while last + 1 < end and guard in own[last + 1]:
                last += 1
            found.append(Stretch(first, last, guard))
            lay(first, last + 1, held | {guard})
            first = last + 1

    lay(0, len(nodes), frozenset())
    return tuple(found)


def unlikely(calls: Sequence[Call], regions: Sequence[Region]) -> frozenset[int]:
    """The calls that a prediction leaves out: of what runs where a condition holds and what runs where it does not, the cheaper.
    Without regions for both, what may run is taken to run."""
    sides: dict[Arg, dict[bool, set[int]]] = {}
    for region in regions:
        held = sides.setdefault(region.condition, {True: set(), False: set()})
        held[region.when].update(range(region.first, region.last + 1))
    out: set[int] = set()
    for side in reversed(sides.values()):  # a condition that is asked later may lie in a region of an earlier one
        seconds = {when: sum(calls[number].seconds for number in sorted(side[when] - out)) for when in side}
        out |= side[seconds[True] < seconds[False]]
    return frozenset(out)
