"""The facts every report shows, as plain data: report.json of a plan. Equal inputs give equal bytes.

Seconds are predicted at the typical dims and planned threads, bytes are planned at the greatest dims. `docs/reports.md`
describes each key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...ir.candidate import Priced
from ...ir.graph import Graph, Node
from ...ir.machine import Machine
from ...ir.machine_text import profile_text
from ...ir.placed import DENSE, Choice, Home, Placed, home_key
from ...ir.plan import Buffer, Plan, PlanPort, Region, WeightEntry
from ...ir.verify_regions import regions_at
from ...passes.place.cost import lookup_seconds
from ...passes.schedule.order import order
from ...passes.schedule.regions import unlikely
from ...passes.schedule.simulate import Timeline, simulate_plan
from ..artifact import PROCESS_FLOOR
from .crossings import crossings, link_bytes
from .read import REPORT_VERSION
from .roofs import device_roofs
from .tiers import load_facts, tier_rows


def build_report(plan: Plan, placed: Placed, machine: Machine) -> dict[str, Any]:
    """Everything about a plan that people ask: clusters, weights, tiers, queues, crossings and the machine's limits."""
    nodes, _ = order(placed.graph)
    timeline = simulate_plan(plan)
    clusters = _clusters(plan, placed, nodes, timeline)
    bill = crossings(plan, placed, machine, nodes, timeline)
    tiers = tier_rows(plan, placed, machine, PROCESS_FLOOR)
    left_out = {nodes[number].outputs[0] for number in unlikely(plan.calls, plan.regions)}
    start = max(plan.seconds - timeline.seconds, 0.0)  # what a run costs beside its instructions
    return {
        "report_version": REPORT_VERSION,
        "name": plan.name,
        "target": plan.target,
        "threads": plan.threads,
        "memory": {
            "weights": plan.weights_bytes,
            "resident": plan.resident_bytes,
            "arenas": {a.name: a.bytes for a in plan.arenas},
            "peak": plan.peak_bytes(),
        },
        "tiers": tiers,
        "load": load_facts(plan, machine, tiers),
        "predicted_seconds": plan.seconds,
        "first_seconds": timeline.first + start,
        "start_seconds": start,
        "seconds_by": {**_seconds_by(placed, machine, plan.threads, timeline, left_out), "start": start},
        "instructions": sum(len(queue.calls) for queue in plan.queues),
        "kernels": len(plan.kernels),
        "notes": dict(plan.notes),
        "machine": machine.name,
        "profile": profile_text(machine),
        "roofs": device_roofs(placed, machine, plan.threads),
        "solution": _solution(placed),
        "input_ranges": input_ranges(placed.graph),
        "clusters": clusters,
        "weights": _weights(plan, placed),
        "states": _states(plan, placed),
        "queues": _queues(plan, timeline),
        "crossings": bill,
        "links": link_bytes(bill),
    }


def _priced(priced: Priced | None) -> dict[str, Any] | None:
    if priced is None:
        return None
    candidate = priced.candidate
    return {"name": candidate.name, "seconds": priced.seconds, "bound": priced.bound, "error": candidate.error}


def weight_keys(node: Node, placed: Placed) -> list[tuple[str, str]]:
    """The weights a cluster reads, each with the key of its home."""
    formats = dict(placed.choices[node.outputs[0]].chosen.candidate.formats)
    return [(v, home_key(v, formats.get(v, DENSE))) for v in node.used if v in placed.graph.weights]


def _clusters(plan: Plan, placed: Placed, nodes: Sequence[Node], timeline: Timeline) -> list[dict[str, Any]]:
    """One row for each cluster, in the order they run."""
    producers = placed.graph.producers()
    spans = {span.number: span for span in timeline.spans if span.queue == "cpu"}
    buffers = {buffer.name: buffer for buffer in plan.buffers}
    reads: dict[int, list[int]] = {}
    for number, read in enumerate(plan.reads):
        reads.setdefault(plan.buffers[read.buffer].first, []).append(number)
    inside, trips = regions_at(plan), placed.graph.trips()
    rows = []
    for number, node in enumerate(nodes):
        span = spans[number]
        held = [buffers[value] for value in node.outputs if value in buffers]
        rows.append(
            {
                **_decision(placed.choices[node.outputs[0]], trips.get(node.outputs[0], 1)),
                "cluster": node.outputs[0],
                "name": node.source.node or node.outputs[0],
                "source": str(node.source),
                "ops": [n.op for n in node.body],
                "nodes": [n.source.node for n in node.body if n.source.node],
                "outputs": [f"{v}: {placed.graph.types[v]}" for v in node.outputs],
                "weights": [key for _, key in weight_keys(node, placed)],
                "inputs": list(dict.fromkeys(producers[v].outputs[0] for v in node.used if v in producers)),
                "call": number,
                "only_where": [_condition_text(region, plan) for region in inside[number]],
                "start": span.start,
                "end": span.end,
                "waited": span.waited,
                "reads": reads.get(number, []),
                "holds": [{"value": b.name, "bytes": b.bytes, "first": b.first, "last": b.last} for b in held],
            }
        )
    return rows


def _condition_text(region: Region, plan: Plan) -> str:
    """What has to hold for a region to run."""
    found: Mapping[str, Sequence[PlanPort | Buffer]] = {
        "input": plan.inputs,
        "output": plan.outputs,
        "buffer": plan.buffers,
    }
    name = found[region.condition.space][region.condition.index].name
    return f"%{name} is {'true' if region.when else 'false'}"


def _decision(choice: Choice, trips: int) -> dict[str, Any]:
    """What placement chose for a cluster, for all trips of a loop together. `difference`: how many seconds the runner-up would cost
    more; negative where a constraint forbids it."""
    work = choice.chosen.candidate.work
    other = choice.runner_up
    return {
        "device": choice.chosen.candidate.device,
        "chosen": _priced(choice.chosen),
        "runner_up": _priced(other),
        "difference": None if other is None else other.seconds - choice.chosen.seconds,
        "binding": choice.binding,
        "why": choice.why,
        "trips": trips,
        "flops": work.flops * trips,
        "bytes": work.bytes * trips,
        "intensity": work.flops / work.bytes if work.bytes else 0.0,
        "workspace": work.workspace,
    }


def _weights(plan: Plan, placed: Placed) -> list[dict[str, Any]]:
    """Every weight in each of its formats: its home, how it gets to its kernels, and why."""
    users: dict[str, list[str]] = {}
    direct: set[str] = set()
    for node in placed.graph.nodes:
        candidate = placed.choices[node.outputs[0]].chosen.candidate
        for value, key in weight_keys(node, placed):
            users.setdefault(key, []).append(node.outputs[0])
            if value in candidate.direct:
                direct.add(key)
    rows = []
    for entry in plan.weights:
        home = placed.homes[entry.name]
        rows.append(
            {
                "key": entry.name,
                "label": entry.label,
                "tier": home.tier,
                "how": _how(entry, home, plan, direct),
                "format": entry.format,
                "bytes": entry.bytes,
                "why": home.why,
                "users": users.get(entry.name, []),
            }
        )
    return rows


def _how(entry: WeightEntry, home: Home, plan: Plan, direct: Collection[str]) -> str:
    """How a weight gets to its kernels; `direct` are those whose rows kernels read from storage."""
    if entry.offset < plan.resident_bytes:
        return "mapped" if home.mapped else "resident"
    return "looked up" if entry.name in direct else "streamed"


def _states(plan: Plan, placed: Placed) -> list[dict[str, Any]]:
    """What stays between runs: its home, what it starts from, and the cluster that writes it, if any does."""
    writers = {state.name: writer.outputs[0] for state, writer, _ in placed.graph.overwrites()}
    return [
        {
            "name": entry.name,
            "type": str(entry.type),
            "bytes": entry.bytes,
            "tier": placed.states[entry.name].tier,
            "starts": "zeros" if entry.initial is None else plan.weights[entry.initial].name,
            "writer": writers.get(entry.name),
        }
        for entry in plan.states
    ]


def _queues(plan: Plan, timeline: Timeline) -> list[dict[str, Any]]:
    """The spans of each queue; `start` is negative for reads that begin while the run before ends."""
    rows = []
    for queue in plan.queues:
        spans = [span for span in timeline.spans if span.queue == queue.name]
        rows.append(
            {
                "name": queue.name,
                "busy": sum(span.end - span.start for span in spans),
                "waited": sum(span.waited for span in spans),
                "spans": [{"label": s.label, "start": s.start, "end": s.end, "waited": s.waited} for s in spans],
            }
        )
    return rows


def _seconds_by(
    placed: Placed, machine: Machine, threads: int, timeline: Timeline, left_out: Collection[str]
) -> dict[str, float]:
    """Where the time of a run goes: what binds its clusters, and storage, for which calls wait or in which kernels look up."""
    found = {"compute": 0.0, "memory": 0.0, "launch": 0.0, "storage": timeline.stalled}
    for cluster, choice in placed.choices.items():
        if cluster in left_out:
            continue
        candidate = choice.chosen.candidate
        looked = lookup_seconds(candidate, machine, threads) if candidate.direct else 0.0
        found["storage"] += looked
        bound = choice.chosen.bound
        found[bound] = found.get(bound, 0.0) + max(choice.chosen.seconds - looked, 0.0)
    return found


def _solution(placed: Placed) -> dict[str, Any] | None:
    solution = placed.solution
    if solution is None:
        return None
    return {
        "objective": solution.objective,
        "method": solution.method,
        "seconds": solution.seconds,
        "lower_bound": solution.lower_bound,
        "gap": solution.gap,
        "budgets": dict(solution.budgets),
        "used": dict(solution.used),
    }


def input_ranges(graph: Graph) -> Mapping[str, int]:
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
