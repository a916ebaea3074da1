"""Where a cluster's bytes come from: which of them are touched, and which cache still holds them.

Walking the clusters in order, a value is found in the smallest cache that holds everything touched since its last use (its
reuse distance); a run's inputs and weights were last touched one whole run ago. Values nobody reads again do not count:
their memory is given to the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..ir.dims import Bounds, Dim, typical
from ..ir.dims import product as dim_product
from ..ir.graph import Graph, Node
from ..ir.kernel import Kernel, Loops, Read, Routine, Scalar, Stage, Store, walk
from ..ir.machine import Device

Symbols = Mapping[str, Bounds]
Lower = Callable[[Node], Kernel | None]

_PAGE = 4096  # bytes that a process gets of a mapped file at least


def touched(cluster: Node, kernel: Kernel | None, graph: Graph) -> dict[str, float]:
    """Bytes of each used value and output that are read or written: an embedding looks up few rows of its table."""
    symbols = graph.symbols
    values = (*cluster.used, *cluster.outputs)
    sizes = {v: float(max(typical(graph.types[v].nbytes, symbols), 0)) for v in values}
    if isinstance(kernel, Loops):
        for position, value in enumerate(cluster.used):
            elements = _looked_up(kernel, position, symbols)
            if elements is not None:
                sizes[value] = min(sizes[value], elements * graph.types[value].dtype.bytes)
    if (pair := updated(cluster, kernel, graph)) is not None:
        sizes[pair[0]] = sizes[pair[1]] = put(cluster, pair[0], graph)
    return sizes


def updated(cluster: Node, kernel: Kernel | None, graph: Graph) -> tuple[str, str] | None:
    """What a routine updates where it lies, before and after: all it touches of it is what it puts there."""
    found = (pair for pair in graph.rewritten() if pair[1] in cluster.outputs and pair[0] in cluster.used)
    return next(found, None) if isinstance(kernel, Routine) else None


def put(cluster: Node, target: str, graph: Graph) -> float:
    """Bytes of the updates of what is updated: no more than the largest other operand."""
    sizes = [typical(graph.types[v].nbytes, graph.symbols) for v in cluster.used if v != target]
    return float(max(sizes, default=0))


def _looked_up(kernel: Loops, operand: int, symbols: Symbols) -> float | None:
    """Elements that a kernel reads of an operand whose every read depends on computed positions or few axes; None: all."""
    count = 0.0
    for nest in kernel.nests:
        for stage in nest.stages:
            for read in walk(stage.value):
                if isinstance(read, Read) and read.operand == operand:
                    used = {name for name, _ in read.index.terms}
                    used |= {
                        n
                        for e, _ in read.index.gathers
                        for p in walk(e)
                        if isinstance(p, Read)
                        for n, _ in p.index.terms
                    }
                    axes = [a for a in (*nest.outer, *stage.axes) if a.name in used]
                    count += max(typical(dim_product(a.extent for a in axes), symbols), 0)
    return count or None


def pages_looked_up(kernel: Loops, operand: int, element_bytes: int, symbols: Symbols) -> float | None:
    """Bytes of the pages that a run touches of an operand, at the typical sizes, if other operands name the rows that are read of
    it; None where its elements are read, all or some, at places known ahead."""
    rows: dict[tuple[tuple[Scalar, Dim], ...], float] = {}
    for nest in kernel.nests:
        for stage in nest.stages:
            for read in _reads(stage, operand):
                named = {part for number, _ in read.index.gathers for part in walk(number) if isinstance(part, Read)}
                if not named:
                    return None
                naming = {axis for part in named for axis, _ in part.index.terms}
                inside = {axis for axis, _ in read.index.terms}
                axes = (*nest.outer, *stage.axes)
                count = typical(dim_product(a.extent for a in axes if a.name in naming), symbols)
                length = typical(dim_product(a.extent for a in axes if a.name in inside - naming), symbols)
                touched = max(count, 0) * (max(length, 1) * element_bytes + _PAGE)
                rows[read.index.gathers] = max(rows.get(read.index.gathers, 0.0), float(touched))
    return sum(rows.values()) if rows else None


def _reads(stage: Stage, operand: int) -> Iterator[Read]:
    """Every read of an operand by a stage, those that say where it stores included."""
    stored = stage.index.gathers if isinstance(stage, Store) else ()
    for expression in (stage.value, *(number for number, _ in stored)):
        for part in walk(expression):
            if isinstance(part, Read) and part.operand == operand:
                yield part


class Distances:
    """Reuse distances of a graph's values, in bytes, by cluster and value."""

    def __init__(self, graph: Graph, lower: Lower) -> None:
        self.touched = {node.outputs[0]: touched(node, lower(node), graph) for node in graph.nodes}
        last = {value: i for i, node in enumerate(graph.nodes) for value in node.used}
        kept = {*graph.output_values}
        recent: dict[str, float] = {}  # in order of last use, the latest at the end
        self.found: dict[str, dict[str, float]] = {}
        for i, node in enumerate(graph.nodes):
            sizes = self.touched[node.outputs[0]]
            own = sum(sizes.values())
            distances: dict[str, float] = {}
            for value in node.used:
                distances[value] = _since(recent, value) + sizes[value] if value in recent else float("inf")
            for value in (
                node.outputs
            ):  # new bytes mostly lie where dead ones just were; a run's outputs have a place of their own
                distances[value] = float("inf") if value in kept else own
            for value in (*node.used, *node.outputs):
                recent.pop(value, None)
                recent[value] = sizes[value]
            for value in node.used:
                if last[value] == i and value not in graph.weights and value not in kept:
                    recent.pop(value, None)
            self.found[node.outputs[0]] = distances
        self.whole = sum(recent.values())  # a run's weights, inputs and outputs

    def of(self, cluster: Node) -> dict[str, tuple[float, float]]:
        """(bytes, reuse distance) of each value of a cluster."""
        distances = self.found[cluster.outputs[0]]
        sizes = self.touched[cluster.outputs[0]]
        return {v: (sizes[v], min(d, self.whole)) for v, d in distances.items()}


def _since(recent: dict[str, float], value: str) -> float:
    """Bytes touched after the last use of `value`."""
    total = 0.0
    for name in reversed(recent):
        if name == value:
            break
        total += recent[name]
    return total


def level(distance: float, device: Device) -> str:
    """The memory in which bytes are found again after so many others: l1, l2, .. or ram."""
    for cache in sorted(device.caches, key=lambda c: c.bytes):
        if distance <= cache.bytes:
            return f"l{cache.level}"
    return "ram"
