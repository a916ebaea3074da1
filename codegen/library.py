"""All kernel families as one value: what the driver hands to the passes, and what emission looks kernels up in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from ..ir.candidate import EXACT_MODES, MODE_ERRORS, Candidate, Work
from ..ir.dims import typical
from ..ir.errors import StratacError
from ..ir.graph import Graph, Node
from ..ir.kernel import Contraction, Kernel, Loops
from ..ir.lower import lower_cluster
from ..ir.lower_loops import lower_loops
from ..ir.lower_scope import NotLowerable, Scope
from ..ir.machine import Device, Machine
from ..ir.ops import flops
from ..ir.simplify import merge_axes
from ..ir.text_kernel import print_kernel
from . import pack
from .facts import PRODUCT_TILES, TILE_MODES
from .families.attention import AttentionFamily, AttentionPairsFamily, AttentionTilesFamily
from .families.conv import (
    ConvFamily,
    ConvPairsFamily,
    ConvTilesFamily,
    DepthwiseFamily,
    WholeConvFamily,
    WinogradFamily,
)
from .families.loops import emit_loops, past_caches, past_elements, workspace_bytes
from .families.matmul import MatmulFamily, PairsFamily, TilesFamily, WholeFamily
from .families.priced import needs_pricing, priced_candidates
from .families.routine import RoutineFamily
from .families.rows import RowsFamily
from .families.select import SelectFamily
from .family import Emitted, Family, Packing, Plain, Symbols
from .terms import Terms
from .terms_loops import loops_terms
from .traffic import Distances, level, pages_looked_up, put, updated


class LoopsFamily(Plain):
    """Generated loop nests: elementwise code, row reductions, windows, data movement, and any contraction as its reference."""

    name = "loops"

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        return isinstance(kernel, Loops)

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        return ()

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        assert isinstance(kernel, Loops)
        return workspace_bytes(kernel, symbols)

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        assert isinstance(kernel, Loops)
        return loops_terms(kernel, symbols, device.lanes)

    def past(self, kernel: Kernel, symbols: Symbols, device: Device) -> frozenset[int]:
        assert isinstance(kernel, Loops)
        found = past_caches(kernel, symbols, device)
        return frozenset(k for k, elements in found.items() if typical(elements, symbols) >= past_elements(device))

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        assert isinstance(kernel, Loops)
        return emit_loops(kernel, name, symbols, device)


#: One row per family; the order breaks ties.
FAMILIES: tuple[Family, ...] = (
    MatmulFamily(),
    PairsFamily(),
    WholeFamily(),
    *(TilesFamily(mode) for mode in PRODUCT_TILES),
    ConvFamily(),
    ConvPairsFamily(),
    WholeConvFamily(),
    *(ConvTilesFamily(mode) for mode in PRODUCT_TILES),
    WinogradFamily(),
    DepthwiseFamily(),
    AttentionFamily(),
    AttentionPairsFamily(),
    *(AttentionTilesFamily(mode) for mode in TILE_MODES),
    LoopsFamily(),
    SelectFamily(),
    RoutineFamily(),
    RowsFamily(),
)

#: families that are no heavy kernel's
LIGHT = ("loops", "select", "routine", "rows")
#: weights of so many bytes are read sparsely where a run touches at most one part in SPARSE_SHARE of their pages
SPARSE_BYTES, SPARSE_SHARE = 1 << 20, 4


def family(name: str) -> Family:
    return next(f for f in FAMILIES if f.name == name)


class Library:
    """Implements `ir.candidate.KernelLibrary` over FAMILIES. Kernels of clusters are lowered once and kept by identity.

    Only kernels in numeric modes whose error is at most `max_error` are offered; below 0 only those of EXACT_MODES. With `storage`,
    kernels that read weights from storage by themselves are offered too, where a machine has storage; with `reference`, the plain
    loops of what a heavy family runs. Without it no budget changes the order in which sums are taken in a numeric mode.
    """

    def __init__(self, storage: bool = False, reference: bool = False, max_error: float = 0.0) -> None:
        self.storage, self.reference = storage, reference
        self.families = tuple(row for row in FAMILIES if row.mode in EXACT_MODES or MODE_ERRORS[row.mode] <= max_error)
        self._lowered: dict[int, tuple[Node, tuple[Kernel, ...]]] = {}
        self._distances: tuple[Graph, Distances] | None = None
        self._counted: dict[tuple[str, Kernel, frozenset[int], str], Terms] = {}
        self._keys: dict[tuple[Kernel, frozenset[int], str], str] = {}
        self._symbols: Symbols = {}

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
        """Every way to run the cluster: kernels on CPUs; only priced elsewhere, and where no kernel can be made."""
        unmade = needs_pricing(cluster, graph)
        priced = [device for device in machine.devices if device.kind != "cpu" or unmade]
        found = priced_candidates(cluster, graph, priced)
        stored = self.storage and any(tier.kind == "disk" for tier in machine.tiers)
        for device in machine.devices:
            if device in priced:
                continue
            for kernel in self.kernels(cluster, graph):
                for row in self.families:
                    if row.extension and row.extension not in device.extensions:
                        continue
                    if row.accepts(kernel, device) and (stored or not isinstance(row, RowsFamily)):
                        candidate = self._candidate(row, kernel, cluster, graph, device)
                        if candidate is not None:
                            found.append(candidate)
        heavy = {c.device for c in found if c.executable and c.family not in LIGHT}
        return [c for c in found if self.reference or c.family != "loops" or c.device not in heavy]

    def narrow_reads(self, cluster: Node, graph: Graph, machine: Machine) -> frozenset[str]:
        """The values that a kernel offered for the cluster rounds to bf16 as it reads them, and takes as bf16 as well."""
        if needs_pricing(cluster, graph):
            return frozenset()
        kernel = self.kernels(cluster, graph)[0]
        found: set[int] = set()
        for device in machine.devices:
            rows = (r for r in self.families if device.kind == "cpu" and r.extension in ("", *device.extensions))
            found |= {k for row in rows if row.accepts(kernel, device) for k in row.narrow(kernel)}
        return frozenset(cluster.used[k] for k in found)

    def _candidate(self, row: Family, kernel: Kernel, cluster: Node, graph: Graph, device: Device) -> Candidate | None:
        weights = self.weights_of(cluster, graph)
        direct = row.direct(kernel, weights) if isinstance(row, RowsFamily) else ()
        if isinstance(row, RowsFamily) and not direct:
            return None
        packings = row.packings(kernel, weights, device)
        if row.packed_only and not packings:
            return None
        packed = frozenset(p.operand for p in packings)
        formats = tuple((cluster.used[p.operand], p.format) for p in packings)
        terms = Terms()
        counted = self._terms(row, kernel, packed, graph, device)
        share = 1.0
        if (pair := updated(cluster, kernel, graph)) is not None:  # nothing of it is copied
            whole = max(typical(graph.types[pair[0]].nbytes, graph.symbols), 1)
            share = min(2 * put(cluster, pair[0], graph) / whole, 1.0)
        terms.merge(counted.counts, share)
        terms.units = max(int(counted.units * share), 1) if share < 1 else counted.units
        stored = {value: pack.narrowed(format) for value, format in formats}
        moved = {
            value: (nbytes * stored.get(value, 1.0), distance)
            for value, (nbytes, distance) in self.distances(graph).of(cluster).items()
        }
        values = (*cluster.used, *cluster.outputs)
        past = {values[k] for k in row.past(kernel, graph.symbols, device)}
        for value, (nbytes, distance) in moved.items():
            at = level(distance, device)
            # a line that goes past the caches is moved once, as one that is read: it is not brought in before
            written = value in cluster.outputs and not (at == "ram" and value in past)
            terms.add(f"to_{at}" if written else at, nbytes)
        work = Work(
            flops=float(typical(flops(cluster, graph.types), graph.symbols)),
            bytes=sum(nbytes for nbytes, _ in moved.values()),
            workspace=row.workspace(kernel, packed, graph.symbols, device),
            terms=terms.rows(),
        )
        error = MODE_ERRORS[row.mode] * math.sqrt(row.products)
        looked_up = tuple(cluster.used[k] for k in direct)
        key = self._key(kernel, packed, graph, device)
        sparse = () if direct else self._sparse(kernel, cluster, packed, graph)
        return Candidate(device.name, row.name, row.mode, work, formats, error, looked_up, sparse, key=key)

    def _sparse(self, kernel: Kernel, cluster: Node, packed: frozenset[int], graph: Graph) -> tuple[str, ...]:
        """Large weights of which a run reads few pages, those of rows that other operands name."""
        found = []
        for operand in sorted(self.weights_of(cluster, graph) - packed):
            kind = graph.types[cluster.used[operand]]
            whole = typical(kind.nbytes, graph.symbols)
            if isinstance(kernel, Loops) and whole >= SPARSE_BYTES:
                pages = pages_looked_up(kernel, operand, kind.dtype.bytes, graph.symbols)
                if pages is not None and pages * SPARSE_SHARE <= whole:
                    found.append(cluster.used[operand])
        return tuple(found)

    def _key(self, kernel: Kernel, packed: frozenset[int], graph: Graph, device: Device) -> str:
        """Equal for equal kernels at equal typical sizes; made once for each."""
        named = (kernel, packed, device.isa)
        if named not in self._keys:
            sizes = {name: bounds.typical for name, bounds in sorted(graph.symbols.items())}
            text = f"{print_kernel(kernel)}{sorted(packed)} {sizes} {device.isa}"
            self._keys[named] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._keys[named]

    def distances(self, graph: Graph) -> Distances:
        """How long ago each cluster's values were touched; of the last graph asked about."""
        if self._distances is None or self._distances[0] is not graph:
            self._distances = (graph, Distances(graph, lambda node: self._kernel(node, graph)))
        return self._distances[1]

    def _kernel(self, cluster: Node, graph: Graph) -> Kernel | None:
        try:
            return self.kernels(cluster, graph)[0]
        except StratacError:
            return None  # found and told when the cluster itself is asked about

    def _terms(self, row: Family, kernel: Kernel, packed: frozenset[int], graph: Graph, device: Device) -> Terms:
        """Counts of equal kernels are made once."""
        if self._symbols != graph.symbols:
            self._symbols, self._counted, self._keys = graph.symbols, {}, {}
        key = (row.name, kernel, packed, device.isa)
        if key not in self._counted:
            self._counted[key] = row.terms(kernel, packed, graph.symbols, device)
        return self._counted[key]

    def packed_bytes(self, graph: Graph, weight: str, format: str, machine: Machine) -> int:
        kind = graph.weights[weight].type
        dense = kind.nbytes
        assert isinstance(dense, int)
        return pack.packed_bytes(format, dense, kind.dtype.bytes)
