"""A model made ready for estimates: imported without its weights, simplified and fused once for all targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...codegen.families.priced import needs_pricing
from ...ir.dims import Bounds, typical
from ...ir.graph import Graph
from ...ir.ops import flops
from ...ir.traffic import appended
from ...passes.base import Pass, run_passes
from ...passes.graph.fuse_estimated import fuse_estimated
from ...passes.pipelines import MODEL_PASSES
from ..frontends.onnx import batch_dims, import_onnx
from ..layout import Layout

_FUSE = Pass("fuse", fuse_estimated, "graph", "clusters", "as one kernel each would have it")


@dataclass(frozen=True)
class EstimatedModel:
    """`graph` is ready to be fused, `clusters` the same fused; `assumed` are the dims taken as 1 since nobody bounded them.

    `runnable`: every cluster has kernels on a CPU today, so that the model can be compiled for one.
    """

    graph: Graph
    clusters: Graph
    assumed: tuple[str, ...]
    runnable: bool

    @property
    def flops(self) -> float:
        """Arithmetic of one run at the typical dims; of a mixture of experts only the active ones."""
        return float(sum(typical(flops(node, self.clusters.types), self.graph.symbols) for node in self.clusters.nodes))

    @property
    def weight_bytes(self) -> int:
        """Of all weights the clusters read, each once, as the model has them."""
        used = {v for node in self.clusters.nodes for v in node.used if v in self.graph.weights}
        return sum(typical(self.clusters.types[v].nbytes, {}) for v in used)

    @property
    def parameters(self) -> int:
        used = {v for node in self.clusters.nodes for v in node.used if v in self.graph.weights}
        return sum(typical(self.clusters.types[v].elements, {}) for v in used)

    @property
    def tokens(self) -> int:
        """Elements of the first integer input of two or more dims: tokens of a run; 0 where there is none."""
        for port in self.graph.inputs:
            kind = self.graph.types[port.value]
            if kind.dtype.is_integer and kind.rank >= 2:
                return typical(kind.elements, self.graph.symbols)
        return 0

    @property
    def batch(self) -> int:
        """The typical extent of the first dim of the inputs: what microbatches divide."""
        first = [self.graph.types[p.value].shape[0] for p in self.graph.inputs if self.graph.types[p.value].rank > 1]
        return typical(first[0], self.graph.symbols) if first and all(d == first[0] for d in first) else 1

    @property
    def state_bytes(self) -> int:
        """Bytes of caches that a run appends to, at the greatest dims."""
        bounds = {name: Bounds(b.max, b.max, b.max) for name, b in self.graph.symbols.items()}
        found = (n.output for node in self.clusters.nodes for n in node.body if appended(n, self.clusters))
        return sum(typical(self.clusters.types[value].nbytes, bounds) for value in found)


def read_model(path: Path, dims: Mapping[str, Bounds], layout: Layout | None = None) -> EstimatedModel:
    """Raises ModelError for what cannot be imported; weights may be absent."""
    assumed = tuple(name for name in batch_dims(path, layout=layout) if name not in dims)
    graph = import_onnx(path, {**dims, **dict.fromkeys(assumed, Bounds(1, 1, 1))}, estimate=True, layout=layout)
    graph = run_passes(graph, MODEL_PASSES)
    clusters = run_passes(graph, (_FUSE,))
    runnable = not any(needs_pricing(node, clusters) for node in clusters.nodes)
    return EstimatedModel(graph, clusters, assumed, runnable)
