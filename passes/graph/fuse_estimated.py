"""Fusion of graphs that are only reckoned with: 16-bit floats are grouped as f32 would be, and mixtures of experts stay whole.

No kernel computes in f16 or bf16 yet, so legality is asked of the same graph in f32; the clusters keep the graph's own types, and
with them its own byte counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...ir.graph import Attr, Graph, Node
from ...ir.types import DType, TensorType, bf16, f16, f32
from .fuse import fuse

WHOLE = frozenset({"moe"})
NARROW = frozenset({f16, bf16})


def fuse_estimated(graph: Graph) -> Graph:
    """Graph of ops -> graph of clusters. Raises VerifyError for an op no kernel can be made of in f32."""
    if not any(kind.dtype in NARROW for kind in graph.types.values()):
        return fuse(graph, WHOLE)
    types = {value: _wide_type(kind) for value, kind in graph.types.items()}
    nodes = tuple(_wide_node(node) for node in graph.nodes)
    fused = fuse(replace(graph, nodes=nodes, types=types), WHOLE)
    made = {value: node for node in graph.nodes for value in node.outputs}

    def origin(value: str) -> str:
        """The graph's own name of a copy that fusion made."""
        return value if value in graph.types else value.rpartition(".")[0]

    def restored(node: Node) -> Node:
        before = made.get(origin(node.outputs[0]))
        attrs = before.attrs if before is not None and before.op == node.op else node.attrs
        return replace(node, attrs=attrs)

    clusters = tuple(replace(c, body=tuple(restored(node) for node in c.body)) for c in fused.nodes)
    return replace(fused, nodes=clusters, types={v: graph.types[origin(v)] for v in fused.types})


def _wide_type(kind: TensorType) -> TensorType:
    return replace(kind, dtype=f32) if kind.dtype in NARROW else kind


def _wide_node(node: Node) -> Node:
    attrs: Mapping[str, Attr] = dict(node.attrs)
    if not any(isinstance(value, DType) and value in NARROW for value in attrs.values()):
        return node
    wide = tuple((k, f32 if isinstance(v, DType) and v in NARROW else v) for k, v in node.attrs)
    return replace(node, attrs=wide)
