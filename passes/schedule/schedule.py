"""Placed -> Plan: order, memory, barriers, and every argument resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...ir.errors import VerifyError
from ...ir.graph import Graph, Node
from ...ir.machine import Machine
from ...ir.placed import DENSE, Placed, home_key
from ...ir.plan import ALIGNMENT, Arena, Arg, Buffer, Call, Plan, PlanPort, Queue, WeightEntry
from .liveness import Lifetime, aligned, liveness
from .order import order
from .plan_memory import MemoryPlan, check_memory, plan_memory
from .waits import Touch, barriers

#: below this many predicted seconds on one thread, sharing the work costs more than it saves
WORTH_SHARING_S = 2e-6
ACTIVATIONS = 1  # the arena of activations


def schedule(placed: Placed, machine: Machine, kernels: Mapping[str, str], threads: int) -> Plan:
    """The plan of a placed graph. `kernels` names the C function of each cluster by its first output value."""
    graph = placed.graph
    nodes, order_name = order(graph)
    lifetimes = liveness(nodes, graph)
    memory = plan_memory(lifetimes)
    problems = check_memory(lifetimes, memory)
    if problems:
        raise VerifyError(f"the memory plan is wrong: {problems[0]}", level="plan", pass_name="plan_memory")
    buffers = tuple(_buffer(life, memory, graph) for life in lifetimes)
    weights = _weights(placed, nodes)
    names = tuple(dict.fromkeys(kernels[node.outputs[0]] for node in nodes))
    arguments = _Arguments(graph, placed, buffers, weights)
    calls = [_call(node, placed, names.index(kernels[node.outputs[0]]), arguments, threads) for node in nodes]
    flags = barriers([_touches(call, node, buffers) for call, node in zip(calls, nodes, strict=True)])
    calls = [replace(call, barrier=flag) for call, flag in zip(calls, flags, strict=True)]
    workspace = max((c.chosen.candidate.work.workspace for c in placed.choices.values()), default=0)
    device = machine.device("cpu")
    weights_bytes = weights[-1].offset + aligned(weights[-1].bytes) if weights else 0
    bound = memory.lower_bound
    return Plan(
        name=graph.name,
        target=machine.name,
        features=tuple(sorted(device.features)),
        threads=threads,
        symbols=dict(graph.symbols),
        inputs=tuple(PlanPort(p.name, graph.types[p.value]) for p in graph.inputs),
        outputs=tuple(PlanPort(p.name, graph.types[p.value]) for p in graph.outputs),
        arenas=(
            Arena("weights", "weights", "ram", weights_bytes),
            Arena("activations", "scratch", "ram", memory.bytes),
            Arena("workspace", "workspace", "ram", aligned(workspace)),
        ),
        buffers=buffers,
        weights=weights,
        weights_bytes=weights_bytes,
        resident_bytes=weights_bytes,
        kernels=names,
        queues=(Queue("cpu", tuple(calls)),),
        seconds=sum(call.seconds for call in calls),
        notes={
            "order": order_name,
            "memory": f"{memory.algorithm}: {memory.bytes} bytes, lower bound {bound}"
            + (f", {(memory.bytes / bound - 1) * 100:.2f} % above it" if bound else ""),
        },
    )


def _buffer(life: Lifetime, memory: MemoryPlan, graph: Graph) -> Buffer:
    why = "at a gap" if memory.offsets[life.value] else "at the arena's start"
    return Buffer(
        life.value, ACTIVATIONS, memory.offsets[life.value], life.bytes, life.first, life.last, graph.types[life.value], why
    )


def _weights(placed: Placed, nodes: Sequence[Node]) -> tuple[WeightEntry, ...]:
    """Packed weights in order of first use, each aligned."""
    entries: dict[str, WeightEntry] = {}
    top = 0
    for node in nodes:
        formats = dict(placed.choices[node.outputs[0]].chosen.candidate.formats)
        for value in node.used:
            if value not in placed.graph.weights:
                continue
            format = formats.get(value, DENSE)
            key = home_key(value, format)
            if key not in entries:
                weight = placed.graph.weights[value]
                entries[key] = WeightEntry(key, top, placed.homes[key].nbytes, format, weight.label or value)
                top += aligned(placed.homes[key].nbytes)
    assert top % ALIGNMENT == 0
    return tuple(entries.values())


class _Arguments:
    """Where each value is found at run time."""

    def __init__(self, graph: Graph, placed: Placed, buffers: Sequence[Buffer], weights: Sequence[WeightEntry]) -> None:
        self.graph, self.placed = graph, placed
        self.places: dict[str, Arg] = {b.name: Arg("buffer", i) for i, b in enumerate(buffers)}
        self.places |= {p.value: Arg("input", i) for i, p in enumerate(graph.inputs)}
        self.places |= {p.value: Arg("output", i) for i, p in enumerate(graph.outputs)}
        self.weights = {w.name: Arg("weight", i) for i, w in enumerate(weights)}

    def of(self, value: str, formats: Mapping[str, str]) -> Arg:
        if value in self.graph.weights:
            return self.weights[home_key(value, formats.get(value, DENSE))]
        return self.places[value]


def _call(node: Node, placed: Placed, kernel: int, arguments: _Arguments, threads: int) -> Call:
    choice = placed.choices[node.outputs[0]]
    candidate = choice.chosen.candidate
    formats = dict(candidate.formats)
    args = (Arg("workspace", 0), *(arguments.of(v, formats) for v in (*node.used, *node.outputs)))
    alone = choice.chosen.seconds * threads < WORTH_SHARING_S
    ops = " ".join(dict.fromkeys(n.op for n in node.body if n.op not in ("reshape", "transpose", "fill", "expand")))
    label = f"{candidate.family}: {ops}" + (f" @ {node.source.node}" if node.source.node else "")
    work = candidate.work
    return Call(kernel, args, False, 1 if alone else 0, label, choice.chosen.seconds, work.flops, work.bytes)


def _touches(call: Call, node: Node, buffers: Sequence[Buffer]) -> list[Touch]:
    """The byte ranges of a call; weights and workspaces never conflict."""
    found = []
    for arg, value in zip(call.args[1:], (*node.used, *node.outputs), strict=True):
        if arg.space == "weight":
            continue
        writes = value in node.outputs
        if arg.space == "buffer":
            buffer = buffers[arg.index]
            found.append(Touch(f"arena {buffer.arena}", buffer.offset, buffer.offset + buffer.bytes, writes))
        else:
            found.append(Touch(f"{arg.space} {arg.index}", 0, 1, writes))
    return found
