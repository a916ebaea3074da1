"""The facts every report shows, as plain data: report.json of a plan."""

from __future__ import annotations

from typing import Any

from ...ir.candidate import Priced
from ...ir.graph import Graph
from ...ir.machine import Machine
from ...ir.placed import Placed
from ...ir.plan import Plan


def _priced(priced: Priced | None) -> dict[str, Any] | None:
    if priced is None:
        return None
    return {"name": priced.candidate.name, "seconds": priced.seconds, "bound": priced.bound}


def build_report(plan: Plan, placed: Placed, machine: Machine) -> dict[str, Any]:
    """Signature, memory, notes, and per cluster: ops, choice, runner-up, predicted time, flops and bytes."""
    rows = []
    by_output = {node.outputs[0]: node for node in placed.graph.nodes}
    for output, choice in placed.choices.items():
        node = by_output[output]
        work = choice.chosen.candidate.work
        rows.append(
            {
                "cluster": output,
                "source": str(node.source),
                "ops": [n.op for n in node.body],
                "nodes": [n.source.node for n in node.body if n.source.node],
                "outputs": [f"{v}: {placed.graph.types[v]}" for v in node.outputs],
                "chosen": _priced(choice.chosen),
                "runner_up": _priced(choice.runner_up),
                "why": choice.why,
                "flops": work.flops,
                "bytes": work.bytes,
                "workspace": work.workspace,
            }
        )
    return {
        "name": plan.name,
        "target": plan.target,
        "threads": plan.threads,
        "memory": {
            "weights": plan.weights_bytes,
            "arenas": {a.name: a.bytes for a in plan.arenas},
            "peak": plan.peak_bytes(),
        },
        "predicted_seconds": plan.seconds,
        "instructions": sum(len(queue.calls) for queue in plan.queues),
        "kernels": len(plan.kernels),
        "notes": dict(plan.notes),
        "machine": machine.name,
        "input_ranges": input_ranges(placed.graph),
        "clusters": rows,
    }


def input_ranges(graph: Graph) -> dict[str, int]:
    """For each integer input the exclusive upper bound of its values where it is only looked up in tables of known size."""
    found: dict[str, int] = {}
    names = {port.value: port.name for port in graph.inputs}
    for node in graph.walk():
        if node.op == "gather" and node.inputs[1] in names:
            data = graph.types[node.inputs[0]]
            extent = data.shape[node.attr("axis") % data.rank]
            if isinstance(extent, int):
                name = names[node.inputs[1]]
                found[name] = min(extent, found.get(name, extent))
    return found
