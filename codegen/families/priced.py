"""Candidates that are only priced: a roofline for clusters of devices and element types that no code is generated for yet.

They let one plan for a machine, or a model, that cannot be compiled for today: `executable` is False, and placement keeps them out
of plans that run. Their bytes are those `ir.traffic` counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...ir.candidate import Candidate, Work
from ...ir.dims import typical
from ...ir.graph import Graph, Node
from ...ir.machine import Device
from ...ir.narrow import FORMATS
from ...ir.ops import OPS, flops
from ...ir.traffic import moved
from ...ir.types import i32

_HEAVY = ("matmul", "conv", "attention", "moe")


def needs_pricing(cluster: Node, graph: Graph) -> bool:
    """Whether no kernel can be made of a cluster, whatever the device, or none worth its name: products of narrow floats that
    `passes.graph.widen` has not widened are those of a device that has them."""
    heavy = [node for node in cluster.body if OPS[node.op].category == "contraction"]
    return any(node.op == "moe" or graph.types[node.output].dtype in FORMATS for node in heavy)


def priced_candidates(cluster: Node, graph: Graph, devices: Iterable[Device]) -> list[Candidate]:
    """One roofline candidate for each device."""
    return [_candidate(cluster, graph, device) for device in devices]


def _candidate(cluster: Node, graph: Graph, device: Device) -> Candidate:
    root = next((node for node in cluster.body if node.op in _HEAVY), None)
    kind = "loops" if root is None else "matmul" if root.op == "moe" else root.op
    family = f"gpu_{kind}" if device.kind == "gpu" else kind
    count = float(typical(flops(cluster, graph.types), graph.symbols))
    work = Work(count, sum(moved(cluster, graph).values()), 0)
    return Candidate(device.name, family, _mode(root, graph, device), work, executable=False)


def _mode(root: Node | None, graph: Graph, device: Device) -> str:
    """The numeric mode: of a product its element type, or i8 of whole numbers; on a GPU tf32 for f32; all else is done in f32."""
    if root is None:
        return "f32"
    dtype = graph.types[root.outputs[0]].dtype
    if device.kind == "gpu" and dtype.name == "f32" and "tf32" in device.modes:
        return "tf32"
    return "i8" if dtype == i32 else dtype.name
