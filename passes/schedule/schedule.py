"""Placed -> Plan: order, memory, the weights' places in storage and in the ring, barriers, and every argument resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.errors import StratacError
from ...ir.graph import Graph, Node, State
from ...ir.machine import Machine
from ...ir.ops import dims_set
from ...ir.placed import DENSE, Home, Placed, home_key
from ...ir.plan import (
    ALIGNMENT,
    Arena,
    Arg,
    Buffer,
    Call,
    Loop,
    Plan,
    PlanPort,
    Queue,
    Read,
    Region,
    StateEntry,
    WeightEntry,
)
from ...ir.types import TensorType, u8
from ..place.cost import read_seconds, reading_cores, worth_sharing
from .ledger import StateLayout, lay_states, plan_activations, resident_bytes, workspace_bytes
from .liveness import Lifetime, aligned
from .plan_memory import MemoryPlan
from .regions import conditions, lay_regions, unlikely
from .simulate import Timeline, simulate_plan
from .stream_weights import lay_ring, padded
from .waits import Touch, barriers

ACTIVATIONS = 1  # the arena of activations
RING = 3  # the arena of streamed weights


def schedule(placed: Placed, machine: Machine, kernels: Mapping[str, str], threads: int) -> Plan:
    """The plan of a placed graph. `kernels` names the C function of each cluster by its first output value.

    Raises StratacError for a placed graph that is only an estimate, since some of its clusters have no kernel.
    """
    graph = placed.graph
    _refuse_estimates(placed)
    activations = plan_activations(graph)
    nodes, memory = activations.nodes, activations.memory
    buffers = [_buffer(life, memory, graph) for life in activations.lifetimes]
    file = _lay_file(placed, nodes, machine)
    stream = _stream(placed, nodes, machine, threads, file, len(buffers))
    buffers += stream.buffers
    names = tuple(dict.fromkeys(kernels[node.outputs[0]] for node in nodes))
    arguments = _Arguments(graph, placed, buffers, file.entries, stream)
    trips = graph.trips()
    calls = [
        _call(
            number,
            node,
            placed,
            names.index(kernels[node.outputs[0]]),
            arguments,
            machine,
            trips.get(node.outputs[0], 1),
        )
        for number, node in enumerate(nodes)
    ]
    regions = tuple(
        Region(stretch.first, stretch.last, arguments.places[stretch.guard.condition], stretch.guard.when)
        for stretch in lay_regions(nodes, activations.guards)
    )
    asked = [[arguments.places[value] for value in conditions(node, activations.guards)] for node in nodes]
    flags = barriers(
        [_touches(call, node, args, buffers) for call, node, args in zip(calls, nodes, asked, strict=True)]
    )
    # what a call finds out about sizes is known to all behind a barrier
    sets = [False, *(bool(dims_set(node)) for node in nodes)]
    loops = _lay_loops(graph, arguments)
    begins = {region.first for region in regions if region.first}  # where threads agree on what they skip
    # and on whether there is another trip; what lives as long as the loop ends with it
    begins |= {at for loop in loops for at in (loop.first, loop.last + 1)}
    flags = [flag or behind or number in begins for number, (flag, behind) in enumerate(zip(flags, sets, strict=False))]
    calls = [
        replace(
            call, barrier=flag, needs=stream.needs.get(number, 0), seconds=call.seconds + stream.delays.get(number, 0.0)
        )
        for number, (call, flag) in enumerate(zip(calls, flags, strict=True))
    ]
    workspace = workspace_bytes(c.chosen.candidate.work.workspace for c in placed.choices.values())
    arenas = [
        Arena("weights", "weights", "ram", file.resident - file.mapped),
        Arena("activations", "scratch", "ram", memory.bytes),
        Arena("workspace", "workspace", "ram", workspace),
    ]
    queues = [Queue("cpu", tuple(calls))]
    if stream.reads:
        arenas.append(Arena("ring", "ring", "ram", placed.ring_bytes))
        queues.append(Queue("io", (), stream.reads))
    if file.mapped:
        arenas.append(Arena("mapped", "mapped", "ram", file.mapped))
    states = lay_states(graph)
    if graph.states:
        arenas.append(Arena("states", "state", "ram", states.bytes))
    bound = memory.lower_bound
    plan = Plan(
        name=graph.name,
        target=machine.name,
        features=tuple(
            sorted(machine.device("cpu").features(c.chosen.candidate.mode for c in placed.choices.values()))
        ),
        threads=threads,
        symbols=dict(graph.symbols),
        inputs=tuple(PlanPort(p.name, graph.types[p.value]) for p in graph.inputs),
        outputs=tuple(PlanPort(p.name, graph.types[p.value]) for p in graph.outputs),
        arenas=tuple(arenas),
        buffers=tuple(buffers),
        weights=file.entries,
        weights_bytes=file.bytes,
        resident_bytes=file.resident,
        kernels=names,
        queues=tuple(queues),
        states=tuple(_state_entry(state, graph, states, file.entries) for state in graph.states),
        seconds=_seconds(calls, regions) + machine.device("cpu").run_s,
        notes={
            "order": activations.order_name,
            "memory": f"{memory.algorithm}: {memory.bytes} bytes, lower bound {bound}"
            + (f", {(memory.bytes / bound - 1) * 100:.2f} % above it" if bound else ""),
            **_region_note(regions, calls),
            **_loop_note(graph),
        },
        regions=regions,
        loops=loops,
    )
    if not stream.reads:
        return plan
    timeline = simulate_plan(plan)
    seconds = timeline.seconds + machine.device("cpu").run_s
    return replace(plan, seconds=seconds, notes={**plan.notes, "stream": _stream_note(plan, timeline)})


def _state_entry(state: State, graph: Graph, layout: StateLayout, weights: Sequence[WeightEntry]) -> StateEntry:
    initial = next((n for n, entry in enumerate(weights) if entry.name == state.initial), None)
    size = layout.sizes[state.name]
    return StateEntry(state.name, graph.types[state.value], layout.offsets[state.name], size, initial)


def _seconds(calls: Sequence[Call], regions: Sequence[Region]) -> float:
    out = unlikely(calls, regions)
    return sum(call.seconds for number, call in enumerate(calls) if number not in out)


def _region_note(regions: Sequence[Region], calls: Sequence[Call]) -> dict[str, str]:
    if not regions:
        return {}
    inside = {number for region in regions for number in range(region.first, region.last + 1)}
    text = f"{len(inside)} of {len(calls)} calls run only under conditions that a run finds; of two sides the dearer is predicted"
    return {"regions": text}


def _lay_loops(graph: Graph, arguments: _Arguments) -> tuple[Loop, ...]:
    """The graph's loops over calls, which stand in the order of its nodes."""
    symbols = list(graph.symbols)
    return tuple(
        Loop(first, last, symbols.index(loop.trip), arguments.places[loop.condition] if loop.condition else None)
        for loop, (first, last) in zip(graph.loops, graph.spans(), strict=True)
    )


def _loop_note(graph: Graph) -> dict[str, str]:
    """What became of loops, one after the other."""
    texts = [*graph.notes, *(loop.why for loop in graph.loops if loop.why)]
    return {"loops": "; ".join(dict.fromkeys(texts))} if texts else {}


def _refuse_estimates(placed: Placed) -> None:
    for choice in placed.choices.values():
        if not choice.chosen.candidate.executable:
            raise StratacError(
                f"%{choice.cluster} is placed on {choice.chosen.candidate.device}, which is only estimated",
                level="placed",
                hint="no code is generated for that device; see `stratac estimate`",
            )
    if placed.transfers:
        raise StratacError("a plan has one memory, but values are copied between tiers", level="placed")


def _stream_note(plan: Plan, timeline: Timeline) -> str:
    moved = sum(read.bytes for read in plan.reads)
    calls = {span.number: span for span in timeline.spans if span.queue == "cpu"}
    users = [plan.buffers[read.buffer].first for read in plan.reads]
    ends = [span.end for span in timeline.spans if span.queue == "io"]
    ahead = [calls[user].start - end for user, end in zip(users, ends, strict=True)]
    return (
        f"{len(plan.reads)} reads of {moved} bytes through a ring of {plan.arenas[RING].bytes}, ready "
        f"{1e3 * sum(ahead) / len(ahead):.3f} ms before their call; calls wait {1e3 * timeline.stalled:.3f} of "
        f"{1e3 * timeline.seconds:.3f} ms; the first run takes {1e3 * timeline.first:.3f} ms"
    )


def _buffer(life: Lifetime, memory: MemoryPlan, graph: Graph) -> Buffer:
    why = "at a gap" if memory.offsets[life.value] else "at the arena's start"
    return Buffer(
        life.value,
        ACTIVATIONS,
        memory.offsets[life.value],
        life.bytes,
        life.first,
        life.last,
        graph.types[life.value],
        why,
    )


@dataclass(frozen=True)
class _File:
    """weights.bin: what states start from in whole blocks, then the weights that are read at open, then the mapped ones, which
    are the last `mapped` of the `resident` bytes, then those that stay in storage; each part in order of first use."""

    entries: tuple[WeightEntry, ...]
    resident: int
    mapped: int
    bytes: int
    stored: frozenset[str]  # keys of the homes that stay in storage


def _weight_keys(node: Node, placed: Placed) -> list[tuple[str, str]]:
    """The weights a cluster reads, each with the key of its home."""
    formats = dict(placed.choices[node.outputs[0]].chosen.candidate.formats)
    return [(v, home_key(v, formats.get(v, DENSE))) for v in node.used if v in placed.graph.weights]


def _lay_file(placed: Placed, nodes: Sequence[Node], machine: Machine) -> _File:
    keys = dict.fromkeys(key for node in nodes for _, key in _weight_keys(node, placed))
    stored = {key: machine.tier(placed.homes[key].tier).kind == "disk" for key in keys}
    inside = sorted((placed.homes[key] for key in keys if not stored[key]), key=lambda home: home.mapped)
    first = [placed.homes[home_key(state.initial, DENSE)] for state in placed.graph.states if state.initial]
    entries, top = [], 0
    for home in first:
        entries.append(_entry(home, placed, top))
        top += aligned(home.nbytes)
    top = initial = lay_states(placed.graph).initial
    for home in inside:
        entries.append(_entry(home, placed, top))
        top += aligned(home.nbytes)
    assert top % ALIGNMENT == 0
    top = resident = initial + resident_bytes((home.nbytes for home in inside), len(inside) < len(keys))
    for key in keys:
        if stored[key]:
            entries.append(_entry(placed.homes[key], placed, top))
            top += padded(placed.homes[key].nbytes)
    mapped = sum(aligned(home.nbytes) for home in inside if home.mapped)
    return _File(tuple(entries), resident, mapped, top, frozenset(key for key in keys if stored[key]))


def _entry(home: Home, placed: Placed, offset: int) -> WeightEntry:
    weight = placed.graph.weights[home.weight]
    return WeightEntry(
        home_key(home.weight, home.format), offset, home.nbytes, home.format, weight.label or home.weight
    )


@dataclass(frozen=True)
class _Stream:
    """Reads with their buffers in the ring; `places` finds the buffer of a weight for a call, `needs` counts reads, `delays` are
    the seconds by which reading for a call takes it longer."""

    reads: tuple[Read, ...]
    buffers: tuple[Buffer, ...]
    places: Mapping[tuple[int, str], Arg]
    needs: Mapping[int, int]
    delays: Mapping[int, float]


def _stream(placed: Placed, nodes: Sequence[Node], machine: Machine, threads: int, file: _File, first: int) -> _Stream:
    """One read for each use of a weight that is streamed, in order of use; `first` is the number of the first ring buffer."""
    entries = {entry.name: entry for entry in file.entries}
    uses = [
        (call, entries[key])
        for call, node in enumerate(nodes)
        for value, key in _weight_keys(node, placed)
        if key in file.stored and value not in placed.choices[node.outputs[0]].chosen.candidate.direct
    ]
    users = [call for call, _ in uses]
    sizes = [padded(entry.bytes) for _, entry in uses]
    layout = lay_ring(users, sizes, len(nodes), placed.ring_bytes)
    if layout is None:
        raise StratacError(
            f"a ring of {placed.ring_bytes} bytes is too small for what one cluster streams", level="placed"
        )
    reads, buffers = [], []
    places: dict[tuple[int, str], Arg] = {}
    needs: dict[int, int] = {}
    delays: dict[int, float] = {}
    for number, ((call, entry), size) in enumerate(zip(uses, sizes, strict=True)):
        offset, after = layout.offsets[number], layout.after[number]
        name, kind = f"{entry.name} for {call}", TensorType(u8, (size,))
        buffers.append(Buffer(name, RING, offset, size, call, call, kind, f"read after {after}"))
        tier = placed.homes[entry.name].tier
        seconds = read_seconds(machine, tier, size)
        delays[call] = delays.get(call, 0.0) + reading_cores(machine, tier, size, threads)
        reads.append(Read(entry.offset, size, first + number, after, entry.label, seconds))
        places[call, entry.name] = Arg("buffer", first + number)
        needs[call] = number + 1
    return _Stream(tuple(reads), tuple(buffers), places, needs, delays)


class _Arguments:
    """Where each value is found at run time."""

    def __init__(
        self, graph: Graph, placed: Placed, buffers: Iterable[Buffer], weights: Iterable[WeightEntry], stream: _Stream
    ) -> None:
        self.graph, self.placed, self.stream = graph, placed, stream
        self.places: dict[str, Arg] = {
            b.name: Arg("buffer", i) for i, b in enumerate(buffers) if b.arena == ACTIVATIONS
        }
        self.places |= {p.value: Arg("input", i) for i, p in enumerate(graph.inputs)}
        self.places |= {p.value: Arg("output", i) for i, p in enumerate(graph.outputs)}
        self.places |= {s.update: Arg("next", i) for i, s in enumerate(graph.states)}
        self.places |= {s.value: Arg("state", i) for i, s in enumerate(graph.states)}
        carried = [one for loop in graph.loops for one in loop.carried]
        self.places |= {one.update: Arg("carry", self.places[one.value].index) for one in carried}
        self.weights = {w.name: i for i, w in enumerate(weights)}

    def of(self, value: str, call: int, formats: Mapping[str, str], direct: Sequence[str]) -> Arg:
        if value not in self.graph.weights:
            return self.places[value]
        key = home_key(value, formats.get(value, DENSE))
        streamed = self.stream.places.get((call, key))
        return streamed or Arg("file" if value in direct else "weight", self.weights[key])


def _call(
    number: int, node: Node, placed: Placed, kernel: int, arguments: _Arguments, machine: Machine, trips: int
) -> Call:
    choice = placed.choices[node.outputs[0]]
    candidate = choice.chosen.candidate
    formats = dict(candidate.formats)
    values = (arguments.of(v, number, formats, candidate.direct) for v in (*node.used, *node.outputs))
    symbols = list(placed.graph.symbols)
    dims = [Arg("dim", symbols.index(name)) for name in dims_set(node)]
    args = (Arg("workspace", 0), *values, *dims)
    ops = " ".join(dict.fromkeys(n.op for n in node.body if n.op not in ("reshape", "transpose", "fill", "expand")))
    label = f"{candidate.family}: {ops}" + (f" @ {node.source.node}" if node.source.node else "")
    work = candidate.work
    parts = 0 if worth_sharing(candidate, machine) and not dims else 1
    return Call(kernel, args, False, parts, label, choice.chosen.seconds, work.flops * trips, work.bytes * trips)


def _touches(call: Call, node: Node, asked: Sequence[Arg], buffers: Sequence[Buffer]) -> list[Touch]:
    """The byte ranges of a call, and of the conditions under which it runs; weights, wherever they are, and workspaces never
    conflict. Whoever uses a dim that a call sets depends on a value of that call too (`ir.verify`)."""
    found = []
    values = (*node.used, *node.outputs)
    reads = [(arg, False) for arg in asked]
    own = [(arg, value in node.outputs) for arg, value in zip(call.args[1 : 1 + len(values)], values, strict=True)]
    for arg, writes in (*own, *reads):
        if arg.space in ("weight", "file"):
            continue
        if arg.space in ("buffer", "carry"):
            buffer = buffers[arg.index]
            if buffer.arena == RING:
                continue
            found.append(Touch(f"arena {buffer.arena}", buffer.offset, buffer.offset + buffer.bytes, writes))
        elif arg.space in ("state", "next"):
            found.append(Touch(f"state {arg.index}", 0, 1, writes))
        else:
            found.append(Touch(f"{arg.space} {arg.index}", 0, 1, writes))
    return found
