"""All kernel families as one value: what the driver hands to the passes, and what emission looks kernels up in."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.candidate import Candidate, Work
from ..ir.dims import typical
from ..ir.graph import Graph, Node
from ..ir.kernel import Contraction, Kernel, Loops
from ..ir.lower import lower_cluster
from ..ir.lower_loops import lower_loops
from ..ir.lower_scope import NotLowerable, Scope
from ..ir.machine import Device, Machine
from ..ir.ops import flops
from ..ir.simplify import merge_axes
from . import pack
from .families.attention import AttentionFamily
from .families.conv import ConvFamily, DepthwiseFamily
from .families.loops import emit_loops, workspace_bytes
from .families.matmul import MatmulFamily
from .family import Emitted, Family, Packing, Symbols


class LoopsFamily:
    """Generated loop nests: elementwise code, row reductions, windows, data movement, and any contraction as its reference."""

    name = "loops"

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        return isinstance(kernel, Loops)

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        return ()

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        assert isinstance(kernel, Loops)
        return workspace_bytes(kernel, symbols)

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        assert isinstance(kernel, Loops)
        return emit_loops(kernel, name, symbols)


#: One row per family; the order breaks ties.
FAMILIES: tuple[Family, ...] = (MatmulFamily(), ConvFamily(), DepthwiseFamily(), AttentionFamily(), LoopsFamily())


def family(name: str) -> Family:
    return next(f for f in FAMILIES if f.name == name)


class Library:
    """Implements `ir.candidate.KernelLibrary` over FAMILIES. Kernels of clusters are lowered once and kept by identity."""

    def __init__(self) -> None:
        self._lowered: dict[int, tuple[Node, tuple[Kernel, ...]]] = {}

    def kernels(self, cluster: Node, graph: Graph) -> tuple[Kernel, ...]:
        """The cluster's kernel, and its plain-loop form where the kernel is a contraction."""
        known = self._lowered.get(id(cluster))
        if known is not None and known[0] is cluster:
            return known[1]
        kernel = lower_cluster(cluster, graph.types, graph.symbols)
        found = [kernel]
        if isinstance(kernel, Contraction):
            try:
                scope = Scope(cluster.body, cluster.used, cluster.outputs, graph.types, graph.symbols)
                found.append(merge_axes(lower_loops(scope)))
            except NotLowerable:
                pass  # the heavy family is the only way
        self._lowered[id(cluster)] = (cluster, tuple(found))
        return tuple(found)

    def kernel_for(self, cluster: Node, graph: Graph, family_name: str, device: Device) -> Kernel:
        """The lowering that the named family runs."""
        return next(k for k in self.kernels(cluster, graph) if family(family_name).accepts(k, device))

    def weights_of(self, cluster: Node, graph: Graph) -> frozenset[int]:
        return frozenset(k for k, v in enumerate(cluster.used) if v in graph.weights)

    def candidates(self, cluster: Node, graph: Graph, machine: Machine) -> Sequence[Candidate]:
        """Every way to run the cluster on the machine's CPU devices."""
        found = []
        for device in machine.devices:
            if device.kind != "cpu":
                continue
            for kernel in self.kernels(cluster, graph):
                for row in FAMILIES:
                    if row.accepts(kernel, device):
                        candidate = self._candidate(row, kernel, cluster, graph, device)
                        if candidate is not None:
                            found.append(candidate)
        return found

    def _candidate(self, row: Family, kernel: Kernel, cluster: Node, graph: Graph, device: Device) -> Candidate | None:
        weights = self.weights_of(cluster, graph)
        packings = row.packings(kernel, weights, device)
        if row.name in ("conv", "depthwise") and not packings:
            return None
        packed = frozenset(p.operand for p in packings)
        formats = tuple((cluster.used[p.operand], p.format) for p in packings)
        moved = sum(typical(graph.types[v].nbytes, graph.symbols) for v in (*cluster.used, *cluster.outputs))
        work = Work(
            flops=float(typical(flops(cluster, graph.types), graph.symbols)),
            bytes=float(moved),
            workspace=row.workspace(kernel, packed, graph.symbols, device),
        )
        return Candidate(device.name, row.name, "f32", work, formats)

    def packed_bytes(self, graph: Graph, weight: str, format: str, machine: Machine) -> int:
        kind = graph.weights[weight].type
        dense = kind.nbytes
        assert isinstance(dense, int)
        return pack.packed_bytes(format, dense, kind.dtype.bytes)
