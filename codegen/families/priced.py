"""Candidates that are only priced: a roofline for clusters of devices and element types that no code is generated for yet.

They let one plan for a machine, or a model, that cannot be compiled for today: `executable` is False, and placement keeps them out
of plans that run. Bytes are those a good kernel moves: attention never writes its scores, a lookup reads its rows alone, a cache
is appended to in place, and of a mixture of experts only the expected number of different experts is read.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...ir.candidate import Candidate, Work
from ...ir.dims import typical
from ...ir.graph import Graph, Node
from ...ir.machine import Device, Machine
from ...ir.ops import OPS, flops
from ...ir.types import COMPUTABLE, DType

_HEAVY = ("matmul", "conv", "attention", "moe")


def needs_pricing(cluster: Node, graph: Graph) -> bool:
    """Whether no kernel can be made of a cluster, whatever the device: element types or ops without code."""
    if any(node.op == "moe" for node in cluster.body):
        return True
    values = (*cluster.used, *cluster.outputs, *(v for node in cluster.body for v in node.outputs))
    return any(graph.types[v].dtype not in COMPUTABLE for v in values)


def priced_candidates(cluster: Node, graph: Graph, machine: Machine, devices: Iterable[Device]) -> list[Candidate]:
    """One roofline candidate for each device."""
    return [_candidate(cluster, graph, machine, device) for device in devices]


def _candidate(cluster: Node, graph: Graph, machine: Machine, device: Device) -> Candidate:
    root = next((node for node in cluster.body if node.op in _HEAVY), None)
    kind = "loops" if root is None else "matmul" if root.op == "moe" else root.op
    family = f"gpu_{kind}" if device.kind == "gpu" else kind
    mode = _mode(root, graph, device)
    work = Work(float(typical(flops(cluster, graph.types), graph.symbols)), moved_bytes(cluster, graph), 0)
    return Candidate(device.name, family, mode, work, executable=False)


def _mode(root: Node | None, graph: Graph, device: Device) -> str:
    """The numeric mode of a product: the element type's if the device has it, on a GPU tf32 for f32."""
    if root is None:
        return "f32"
    dtype: DType = graph.types[root.outputs[0]].dtype
    if device.kind == "gpu" and dtype.name == "f32" and "tf32" in device.modes:
        return "tf32"
    return dtype.name


def expected_experts(experts: int, top_k: int, tokens: int) -> float:
    """How many different experts so many tokens use, if each picks `top_k` of them evenly: E * (1 - (1 - k / E) ^ tokens)."""
    return experts * (1.0 - (1.0 - top_k / experts) ** tokens)


def moved_bytes(cluster: Node, graph: Graph) -> float:
    """Bytes that come from or go to memory at least once, at the typical sizes."""
    symbols = graph.symbols
    counted = {v: float(typical(graph.types[v].nbytes, symbols)) for v in (*cluster.used, *cluster.outputs)}
    for node in cluster.body:
        match node.op:
            case "gather" if node.inputs[0] in counted:  # the rows read are as many as those written
                rows = float(typical(graph.types[node.output].nbytes, symbols))
                counted[node.inputs[0]] = min(counted[node.inputs[0]], rows)
            case "moe":
                tokens = typical(graph.types[node.inputs[0]].shape[0], symbols)
                for value in node.inputs[2:]:
                    experts = graph.types[value].shape[0]
                    assert isinstance(experts, int)
                    if value in counted:
                        counted[value] *= expected_experts(experts, node.attr("top_k"), tokens) / experts
            case "concat" if appended(node, graph) in counted:
                old = counted.pop(appended(node, graph))
                counted[node.output] = max(counted.get(node.output, old) - old, 0.0)
    return sum(counted.values())


def appended(node: Node, graph: Graph) -> str:
    """The input of the model that a concat grows into an output of the model, or the empty string."""
    grown = node.op == "concat" and node.inputs[0] in graph.input_values and node.output in graph.output_values
    return node.inputs[0] if grown else ""


def active_flops(graph: Graph) -> float:
    """Arithmetic of one run at the typical sizes."""
    return float(sum(typical(flops(node, graph.types), graph.symbols) for node in graph.nodes if node.op in OPS or node.op == "cluster"))
