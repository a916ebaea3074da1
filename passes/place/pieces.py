"""A graph of clusters as the chain of pieces that splits over hosts reckon with (`hosts`).

How a piece divides over a tensor group follows the values: a product with a weight is cut by columns where its left operand is
whole, and its result is divided; by rows where the operand is divided already, and the partial results are summed over the
members. What is computed element by element, or head by head, from divided values stays divided; a norm or a softmax over them
has to bring them together. Lookups and mixtures of experts divide their tables and sum their results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...ir.candidate import Candidate, KernelLibrary, Priced
from ...ir.dims import typical, upper
from ...ir.errors import StratacError, VerifyError
from ...ir.graph import Graph, Node
from ...ir.machine import Device, Machine
from ...ir.placed import DENSE, home_key
from ...ir.traffic import appended, moved
from .cost import DEFAULT_EFFICIENCY, memory_bandwidth, price
from .hosts import Piece

_FOLDS = frozenset(
    (
        "softmax",
        "log_softmax",
        "rms_norm",
        "layer_norm",
        "reduce_sum",
        "reduce_mean",
        "reduce_max",
        "reduce_min",
        "argmax",
    )
)
#: weights below this many bytes are held by every member, tables that are looked up in below LARGE
SMALL, LARGE = 1 << 20, 256 << 20


@dataclass(frozen=True)
class Chain:
    """Pieces in the order of the clusters, the priced candidate of each, and what one unit holds beside weights and caches.

    `activations` is the greatest sum of live values between clusters at the greatest dims; `members` how many a tensor group may
    have at most, since cached heads are not copied.
    """

    pieces: tuple[Piece, ...]
    priced: tuple[Priced, ...]
    activations: int
    members: int

    def scaled(self, weights: float) -> Chain:
        """With so many times the bytes of weights, to hold and to bring from memory."""
        pieces = (replace(p, weights=int(p.weights * weights), weight_s=p.weight_s * weights) for p in self.pieces)
        return replace(self, pieces=tuple(pieces)) if weights != 1 else self

    @property
    def weights(self) -> int:
        return sum(piece.weights for piece in self.pieces)

    @property
    def state(self) -> int:
        return sum(piece.state for piece in self.pieces)

    @property
    def seconds(self) -> float:
        return sum(piece.seconds for piece in self.pieces)


def make_chain(graph: Graph, library: KernelLibrary, machine: Machine, device: Device, threads: int) -> Chain:
    """The chain as one device runs all of it. Raises VerifyError for a cluster it has no candidate for."""
    if graph.loops:
        raise StratacError(
            "a loop runs on one CPU, and several devices are priced", hint="estimate a machine with CPUs only"
        )
    priced = tuple(_cheapest(node, graph, library, machine, device, threads) for node in graph.nodes)
    sent, activations = _live(graph)
    divided: set[str] = set()
    seen: set[str] = set()
    pieces = []
    for node, choice, across in zip(graph.nodes, priced, sent, strict=True):
        formats = dict(choice.candidate.formats)
        held = 0
        for value in node.used:
            key = home_key(value, formats.get(value, DENSE))
            if value in graph.weights and key not in seen:
                seen.add(key)
                held += library.packed_bytes(graph, value, formats.get(value, DENSE), machine)
        times = _times(node, choice, graph, machine, device, threads)
        whole = sum(_bytes(v, graph) for v in node.used if v in graph.weights)
        read = sum(count for v, count in moved(node, graph).items() if v in graph.weights)
        touched = min(read / whole, 1.0) if whole else 1.0
        split, reduce, gather = _division(node, graph, divided)
        state = sum(upper(graph.types[n.output].nbytes, graph.symbols) for n in node.body if appended(n, graph))
        pieces.append(
            Piece(node.outputs[0], *times, held, state, across, split, reduce, gather, touched),
        )
    return Chain(tuple(pieces), priced, activations, _members(graph))


def _cheapest(
    node: Node, graph: Graph, library: KernelLibrary, machine: Machine, device: Device, threads: int
) -> Priced:
    found = [price(c, machine, threads) for c in library.candidates(node, graph, machine) if c.device == device.name]
    if not found:
        raise VerifyError(f"nothing on {device.name} can run it", op="cluster", level="placed", source=node.source)
    return min(found, key=lambda p: p.seconds)


def _times(
    node: Node, choice: Priced, graph: Graph, machine: Machine, device: Device, threads: int
) -> tuple[float, float, float, float]:
    """(arithmetic, weights from memory, everything else from memory, launch) in seconds, of what was priced."""
    threads = threads if device.kind == "cpu" else 1
    launch = device.launch_s + (device.barrier_s if threads > 1 else 0.0)
    busy = max(choice.seconds - launch, 0.0)
    weights = sum(count for value, count in moved(node, graph).items() if value in graph.weights)
    work = choice.candidate.work
    weight_s = min(weights / memory_bandwidth(machine.tier(device.memory), threads), busy)
    arithmetic = _arithmetic(choice.candidate, machine, device, threads)
    if choice.candidate.executable and machine.kernels.get(choice.candidate.family) and work.terms:
        return busy, weight_s, 0.0, launch
    if arithmetic >= busy * (1 - 1e-9):
        rest = max(work.bytes - weights, 0.0) / memory_bandwidth(machine.tier(device.memory), threads)
        return busy, weight_s, min(rest, busy - weight_s), launch
    return arithmetic, weight_s, busy - weight_s, launch


def _arithmetic(candidate: Candidate, machine: Machine, device: Device, threads: int) -> float:
    share = machine.efficiency.get(candidate.family, DEFAULT_EFFICIENCY)
    return candidate.work.flops / (device.modes.get(candidate.mode, device.peak_flops) * share * threads)


# -- what later clusters need --------------------------------------------------------------------------------------


def _live(graph: Graph) -> tuple[list[float], int]:
    """For each cluster the bytes, at the typical dims, that those behind it need of what it and those before it made; and the
    greatest sum of live bytes at the greatest dims. The caller's inputs and outputs do not count, but where they are made."""
    last: dict[str, int] = {}
    for k, node in enumerate(graph.nodes):
        for value in node.used:
            last[value] = k
    caches = {n.output for node in graph.nodes for n in node.body if appended(n, graph)}
    live, most, peak = 0.0, 0, 0
    sent: list[float] = []
    ending: dict[int, list[str]] = {}
    for k, node in enumerate(graph.nodes):
        for value in node.outputs:
            if value in caches:
                continue
            most += upper(graph.types[value].nbytes, graph.symbols)
            if value in last:
                live += typical(graph.types[value].nbytes, graph.symbols)
            ending.setdefault(last.get(value, len(graph.nodes)), []).append(value)
        peak = max(peak, most)
        for value in ending.pop(k, []):
            most -= upper(graph.types[value].nbytes, graph.symbols)
            live -= typical(graph.types[value].nbytes, graph.symbols)
        sent.append(max(live, 0.0))
    return sent, peak


# -- how a cluster divides over a tensor group ---------------------------------------------------------------------


def _division(node: Node, graph: Graph, divided: set[str]) -> tuple[bool, float, float]:
    """(split, bytes summed over the members, bytes brought together); what comes out divided joins `divided`."""
    ops = {n.op for n in node.body}
    results = sum(_bytes(v, graph) for v in node.outputs)
    apart = [v for v in node.used if v in divided]
    whole = sum(_bytes(v, graph) for v in apart)
    large = [v for v in node.used if v in graph.weights and _bytes(v, graph) >= SMALL]
    producers = {v: n for n in node.body for v in n.outputs}
    product = next((n for n in node.body if n.op in ("matmul", "conv")), None)
    if "moe" in ops:
        return True, results, whole
    if product is not None and large:
        if _reaches(product.inputs[0], producers, divided):
            return True, results, 0.0
        return _divide(node, graph, divided)
    rows = [
        n.output for n in node.body if n.op == "gather" and n.inputs[0] in large and _bytes(n.inputs[0], graph) >= LARGE
    ]
    if rows:
        return True, sum(_bytes(v, graph) for v in rows), whole
    if apart and "attention" not in ops and (ops & _FOLDS) and product is None:
        return False, 0.0, whole
    if apart:
        return _divide(node, graph, divided)
    return False, 0.0, 0.0


def _divide(node: Node, graph: Graph, divided: set[str]) -> tuple[bool, float, float]:
    """The results stay divided, but for outputs of the model, which somebody has to see whole; caches are nobody else's."""
    caches = {n.output for n in node.body if appended(n, graph)}
    seen = [v for v in node.outputs if v in graph.output_values and v not in caches]
    divided.update(v for v in node.outputs if v not in seen)
    return True, 0.0, sum(_bytes(v, graph) for v in seen)


def _bytes(value: str, graph: Graph) -> float:
    """Of a value at the typical dims."""
    return float(typical(graph.types[value].nbytes, graph.symbols))


def _reaches(value: str, producers: Mapping[str, Node], wanted: set[str]) -> bool:
    """Whether a value comes from any of these, through the body."""
    todo, done = [value], set[str]()
    while todo:
        at = todo.pop()
        if at in wanted:
            return True
        if at in producers and at not in done:
            done.add(at)
            todo += producers[at].used
    return False


def _members(graph: Graph) -> int:
    """The greatest power of two that divides the key heads of every attention."""
    counts = [graph.types[n.inputs[1]].shape[1] for n in graph.walk() if n.op == "attention"]
    heads = [c for c in counts if isinstance(c, int)]
    return min((c & -c for c in heads), default=64)
