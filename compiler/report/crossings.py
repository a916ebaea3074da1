"""The boundary bill: every crossing between tiers in one run, its bytes, its seconds, and how much of them calls wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...ir.dims import typical
from ...ir.graph import Node
from ...ir.machine import Machine
from ...ir.placed import Placed
from ...ir.plan import Plan
from ...passes.place.cost import lookup_seconds, transfer_seconds
from ...passes.schedule.simulate import Span, Timeline


def crossings(
    plan: Plan, placed: Placed, machine: Machine, nodes: Sequence[Node], timeline: Timeline
) -> list[dict[str, Any]]:
    """Reads in their order, then lookups by kernels, then transfers. `nodes` are the clusters in the order of the calls.

    For each, `seconds` = `hidden` + `exposed`; the exposed seconds of all reads are what calls wait.
    """
    return [
        *_reads(plan, placed, nodes, timeline),
        *_lookups(plan, placed, machine, nodes),
        *_transfers(placed, machine),
    ]


def link_bytes(bill: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Totals of each way between two tiers."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in bill:
        way = (row["from"], row["to"])
        total = found.setdefault(
            way,
            {"from": way[0], "to": way[1], "crossings": 0, "bytes": 0, "seconds": 0.0, "hidden": 0.0, "exposed": 0.0},
        )
        total["crossings"] += 1
        for key in ("bytes", "seconds", "hidden", "exposed"):
            total[key] += row[key]
    return list(found.values())


def _reads(plan: Plan, placed: Placed, nodes: Sequence[Node], timeline: Timeline) -> list[dict[str, Any]]:
    spans = [span for span in timeline.spans if span.queue == "io"]
    waits = waiting(timeline)
    names = {entry.offset: entry.name for entry in plan.weights}
    arenas = plan.arenas
    rows = []
    for number, (read, span) in enumerate(zip(plan.reads, spans, strict=True)):
        buffer = plan.buffers[read.buffer]
        exposed = min(_overlap(span, waits), read.seconds)
        key = names.get(read.offset, "")
        rows.append(
            {
                "kind": "read",
                "number": number,
                "label": read.label,
                "weight": key,
                "from": placed.homes[key].tier if key in placed.homes else "disk",
                "to": arenas[buffer.arena].tier,
                "cluster": nodes[buffer.first].outputs[0],
                "call": buffer.first,
                "after": read.after,
                "bytes": read.bytes,
                "seconds": read.seconds,
                "hidden": read.seconds - exposed,
                "exposed": exposed,
                "start": span.start,
                "end": span.end,
            }
        )
    return rows


def waiting(timeline: Timeline) -> list[tuple[float, float]]:
    """When calls wait for reads. The reads of a run cannot be under way while calls of another wait: reads complete in order, and
    a call waits for those of its own run."""
    return [(s.start - s.waited, s.start) for s in timeline.spans if s.queue == "cpu" and s.waited > 0]


def _overlap(span: Span, waits: Iterable[tuple[float, float]]) -> float:
    return sum((max(0.0, min(span.end, end) - max(span.start, start)) for start, end in waits), 0.0)


def _lookups(plan: Plan, placed: Placed, machine: Machine, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Rows that kernels read by themselves: their thread waits for each, so all of it is exposed."""
    labels = {entry.name: entry.label for entry in plan.weights}
    rows = []
    for number, node in enumerate(nodes):
        candidate = placed.choices[node.outputs[0]].chosen.candidate
        if not candidate.direct:
            continue
        terms = dict(candidate.work.terms)
        seconds = lookup_seconds(candidate, machine, plan.threads)
        key = candidate.direct[0]
        home = placed.homes.get(key)
        rows.append(
            {
                "kind": "lookup",
                "number": None,
                "label": labels.get(key, key),
                "weight": key,
                "from": home.tier if home else "disk",
                "to": machine.device(candidate.device).memory,
                "cluster": node.outputs[0],
                "call": number,
                "bytes": int(terms.get("rows_read", 0.0) * terms.get("row_bytes", 0.0)),
                "seconds": seconds,
                "hidden": 0.0,
                "exposed": seconds,
                "start": None,
                "end": None,
            }
        )
    return rows


def _transfers(placed: Placed, machine: Machine) -> list[dict[str, Any]]:
    """Values copied from tier to tier. No queue runs them beside calls yet, so all of their time is exposed."""
    graph = placed.graph
    producers = graph.producers()
    rows = []
    for transfer in placed.transfers:
        nbytes = typical(graph.types[transfer.value].nbytes, graph.symbols)
        seconds = transfer_seconds(machine, transfer.source, transfer.target, nbytes)
        maker = producers.get(transfer.value)
        rows.append(
            {
                "kind": "transfer",
                "number": None,
                "label": transfer.value,
                "weight": "",
                "from": transfer.source,
                "to": transfer.target,
                "cluster": maker.outputs[0] if maker else "",
                "call": None,
                "bytes": nbytes,
                "seconds": seconds,
                "hidden": 0.0,
                "exposed": seconds,
                "start": None,
                "end": None,
            }
        )
    return rows
