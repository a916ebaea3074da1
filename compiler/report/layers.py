"""A picture of a directed graph: nodes in layers from top to bottom, edges that pass layers on tracks of their own.

Layers by longest paths, orders within them by barycentres, places by averages of neighbours: the usual steps (Sugiyama, Tagawa
and Toda 1981), with one track for all edges of a value, so that a mask used by every layer is one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: sweeps over the layers, down and up, that order them
SWEEPS = 6


@dataclass(frozen=True)
class Layout:
    """`place` gives (layer, x) of each node, x in units of a node's width from 0; `edges` the points of each edge, as (layer, x),
    from a node to the one that reads it; `layers` and `width` are the size of it all."""

    place: Mapping[str, tuple[int, float]]
    edges: tuple[tuple[str, str, tuple[tuple[int, float], ...]], ...]
    layers: int
    width: float


def lay_out(nodes: Mapping[str, Sequence[str]], track: float = 0.25) -> Layout:
    """`nodes` has what each node reads, in an order in which nodes come behind what they read. `track` is how wide a passing
    edge is, as a share of a node's width."""
    layer: dict[str, int] = {}
    for name, reads in nodes.items():
        layer[name] = 1 + max((layer[other] for other in reads), default=-1)
    last = dict(layer)  # the layer where a node's last reader stands
    for name, reads in nodes.items():
        for other in reads:
            last[other] = max(last[other], layer[name])
    count = 1 + max(layer.values(), default=-1)
    rows: list[list[tuple[str, int]]] = [
        [] for _ in range(count)
    ]  # a node and the layer: its own, or one its track passes
    for name in nodes:
        for at in range(layer[name], max(layer[name] + 1, last[name])):
            rows[at].append((name, at))
    above: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for row in rows:
        for item in row:
            name, at = item
            if at > layer[name]:
                above[item] = [(name, at - 1)]
            else:
                above[item] = [(other, at - 1) for other in dict.fromkeys(nodes[name])]
    below: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for item, near in above.items():
        for upper in near:
            below.setdefault(upper, []).append(item)
    _order(rows, above, below)
    sizes = {item: 1.0 if item[1] == layer[item[0]] else track for row in rows for item in row}
    x = _places(rows, above, below, sizes)
    edges = []
    for name, reads in nodes.items():
        for other in dict.fromkeys(reads):
            points = tuple((at, x[other, at]) for at in range(layer[other], layer[name]))
            edges.append((other, name, (*points, (layer[name], x[name, layer[name]]))))
    width = max((x[item] + sizes[item] / 2 for row in rows for item in row), default=0.0)
    return Layout({name: (at, x[name, at]) for name, at in layer.items()}, tuple(edges), count, width)


_Item = tuple[str, int]
_Near = Mapping[_Item, Sequence[_Item]]


def _order(rows: list[list[_Item]], above: _Near, below: _Near) -> None:
    """Order each row by the mean position of its neighbours in the row before; ties keep their order."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for row in rows if down else reversed(rows):
            position = _positions(rows, row, near)
            own = {item: index for index, item in enumerate(row)}
            row.sort(key=lambda item: (_mean([position[n] for n in near.get(item, ())], own[item]), own[item]))


def _positions(rows: Sequence[Sequence[_Item]], row: Sequence[_Item], near: _Near) -> dict[_Item, float]:
    wanted = {n[1] for item in row for n in near.get(item, ())}
    return {item: float(index) for at in wanted for index, item in enumerate(rows[at])}


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _places(
    rows: Sequence[Sequence[_Item]], above: _Near, below: _Near, sizes: Mapping[_Item, float]
) -> dict[_Item, float]:
    """Centres: each item as close to the mean of its neighbours as the order of its row allows."""
    x: dict[_Item, float] = {}
    for row in rows:
        at = 0.0
        for item in row:
            x[item] = at + sizes[item] / 2
            at += sizes[item]
    for sweep in range(2 * SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([x[n] for n in near.get(item, ())], x[item]) for item in row]
            for item, place in zip(row, _spread(wanted, [sizes[item] for item in row]), strict=True):
                x[item] = place
    left = min((x[item] - sizes[item] / 2 for row in rows for item in row), default=0.0)
    return {item: place - left for item, place in x.items()}


def _spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Centres in the given order, apart by their sizes, with the least sum of squared distances to `wanted` (isotonic regression
    by pooling adjacent violators)."""
    offsets, at = [], 0.0
    for size in sizes:
        offsets.append(at + size / 2)
        at += size
    pools: list[tuple[float, int]] = []  # mean of wanted - offset, members
    for want, offset in zip(wanted, offsets, strict=True):
        mean, members = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, members = (mean * members + other * count) / (members + count), members + count
        pools.append((mean, members))
    starts = [mean for mean, members in pools for _ in range(members)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]
