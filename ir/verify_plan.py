"""The verifier of plans. It shares nothing with the planner: lifetimes, overlaps and barriers are derived from the calls.

A plan does not say what a call writes. Every value is computed once, so the first call that mentions a buffer, an output or the
next value of a state is the one that writes it, and the later ones read. Given the placed graph the plan was made from,
`verify_plan` holds each call against its cluster instead. A call may write over a state that it reads itself; whether its kernel
can is for the verifier of placed graphs to judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from .dims import symbols_of, upper
from .errors import VerifyError
from .graph import Node
from .ops import dims_set
from .placed import DENSE, Placed, home_key
from .plan import ALIGNMENT, READ_ALIGNMENT, Arg, Buffer, Call, Plan
from .text import RESERVED
from .types import TensorType
from .verify_loops import check_loops, lives_until
from .verify_reads import check_reads, is_mapped, is_resident, stored_args
from .verify_regions import asked_at, check_guards, check_regions


@dataclass(frozen=True)
class Space:
    """What calls may do with the arguments of a space; what is `shared` between threads needs barriers."""

    written: bool
    shared: bool
    holds: str


#: The legality table of arguments.
SPACES = {
    "input": Space(False, True, "the caller's memory, never written"),
    "output": Space(True, True, "the caller's memory, written by one call, then read"),
    "buffer": Space(
        True, True, "bytes of a scratch arena while live, written by the first call, then read; or of the ring"
    ),
    "weight": Space(False, True, "bytes of the resident part of weights.bin, never written"),
    "file": Space(False, True, "a weight that stays in storage, whose rows the kernel reads by itself"),
    "dim": Space(True, False, "the value of a symbol, set by one call of one part, with a barrier before it is used"),
    "workspace": Space(True, False, "bytes of a workspace arena, so many for each thread, dead after the call"),
    "carry": Space(
        True,
        True,
        "bytes of a buffer for the next trip: written by one call of a loop, after all that read the buffer, then read",
    ),
    "state": Space(False, True, "bytes of the state arena as the run before left them, never written"),
    "next": Space(
        True, True, "the same bytes for the next run: written by one call, after all that read the state, then read"
    ),
}
#: The legality table of arenas: whether buffers may lie in them.
ARENAS = {"scratch": True, "workspace": False, "weights": False, "ring": True, "state": False, "mapped": False}


def verify_plan(plan: Plan, placed: Placed | None = None) -> None:
    """Raise VerifyError for the first rule that `plan` breaks; with `placed`, also where it is not a plan of `placed`."""
    _Verifier(plan, placed).check()


@dataclass(frozen=True)
class _Touch:
    """A byte range that a call reads or writes, within one space or arena."""

    place: str
    start: int
    end: int
    writes: bool
    name: str


class _Verifier:
    """One walk over one plan."""

    def __init__(self, plan: Plan, placed: Placed | None) -> None:
        self.plan, self.placed = plan, placed
        self.calls = [call for queue in plan.queues for call in queue.calls]
        self.rings = {number for number, arena in enumerate(plan.arenas) if arena.kind == "ring"}
        self.asked = asked_at(plan)  # for each call the conditions of the regions it lies in
        self.mentions: dict[
            Arg, list[int]
        ] = {}  # the calls that mention an argument, or have it for a condition, in order
        for number, call in enumerate(self.calls):
            held = [Arg("buffer", arg.index) for arg in call.args if arg.space == "carry"]
            for arg in dict.fromkeys((*call.args, *held, *self.asked[number])):
                self.mentions.setdefault(arg, []).append(number)

    def fail(self, what: str, op: str = "", hint: str = "") -> NoReturn:
        raise VerifyError(what, op=op, level="plan", hint=hint)

    def check(self) -> None:
        self.check_head()
        self.check_weights()
        self.check_states()
        for number, buffer in enumerate(self.plan.buffers):
            self.check_buffer(number, buffer)
        names = [buffer.name for buffer in self.plan.buffers]
        if len(set(names)) < len(names):
            self.fail(f"two buffers are called %{next(name for name in names if names.count(name) > 1)}")
        for number, call in enumerate(self.calls):
            self.check_call(number, call)
        check_regions(self.plan, self.fail)
        check_loops(self.plan, self.fail)
        if unused := sorted(set(range(len(self.plan.kernels))) - {call.kernel for call in self.calls}):
            self.fail(f"kernel {unused[0]} ({self.plan.kernels[unused[0]]}) is never called")
        for number, buffer in enumerate(self.plan.buffers):
            self.check_lifetime(number, buffer)
        self.check_overlaps()
        check_reads(self.plan, self.fail)
        self.check_weight_order()
        self.check_updates()
        self.check_runtime_dims()
        for number, port in enumerate(self.plan.outputs):
            if Arg("output", number) not in self.mentions:
                self.fail(f"output {port.name!r} is never written")
        written = self.written() if self.placed is None else _Clusters(self.plan, self.placed, self.calls).written()
        self.check_barriers(written)
        if self.placed is not None:
            check_guards(self.plan, self.placed, self.fail)

    # -- what is declared ------------------------------------------------------------------------------------------

    def check_head(self) -> None:
        plan = self.plan
        if plan.threads < 1:
            self.fail(f"the plan is for {plan.threads} threads", hint="at least one")
        for name in plan.symbols:
            if not name.isidentifier() or name in RESERVED:
                self.fail(f"a dim may not be called {name!r}")
        for kind, ports in (("input", plan.inputs), ("output", plan.outputs)):
            names = [port.name for port in ports]
            for port in ports:
                self.check_type(port.type, f"{kind} {port.name!r}")
                if not port.name or names.count(port.name) > 1:
                    self.fail(f"the {kind} name {port.name!r} is empty or given twice")
        for arena in plan.arenas:
            if arena.kind not in ARENAS:
                self.fail(
                    f"arena {arena.name!r} has the unknown kind {arena.kind!r}", hint=f"known: {', '.join(ARENAS)}"
                )
            if arena.bytes < 0:
                self.fail(f"arena {arena.name!r} has {arena.bytes} bytes")
        held = [arena.bytes for arena in plan.arenas if arena.kind == "weights"]
        read = plan.resident_bytes - plan.mapped_bytes
        if held != [read] or plan.arenas[0].kind != "weights":
            what = f"arenas of {held} bytes hold the {read} bytes of weights that are read at open"
            self.fail(what, hint="one does, the first")
        mapped = [arena.bytes for arena in plan.arenas if arena.kind == "mapped"]
        if mapped and (len(mapped) > 1 or not mapped[0] or plan.weights_bytes > plan.resident_bytes):
            what = (
                f"arenas of {mapped} bytes are mapped, and {plan.weights_bytes - plan.resident_bytes} stay in storage"
            )
            self.fail(what, hint="one maps, and only where all weights are in memory")
        if sum(bool(queue.calls) for queue in plan.queues) > 1:
            self.fail("several queues have calls", hint="nothing orders them: plans have no waits yet")

    def check_type(self, kind: TensorType, where: str) -> None:
        for extent in kind.shape:
            if unknown := sorted(symbols_of(extent) - self.plan.symbols.keys()):
                self.fail(f"{where} uses the symbol {unknown[0]!r}, which is not declared")

    def check_weights(self) -> None:
        top, names = 0, set()
        for number, entry in enumerate(self.plan.weights):
            where = f"weight {number} ({entry.name})"
            if entry.name in names:
                self.fail(f"{where} is given twice")
            names.add(entry.name)
            if entry.offset % ALIGNMENT:
                self.fail(f"{where} starts at {entry.offset}", hint=f"weights start at multiples of {ALIGNMENT}")
            if entry.offset < top or entry.bytes < 0:
                self.fail(f"{where} at {entry.offset} + {entry.bytes} overlaps the one before, which ends at {top}")
            top = entry.offset + entry.bytes
        if top > self.plan.weights_bytes:
            self.fail(f"weights end at {top}, but weights_bytes is {self.plan.weights_bytes}")
        self.check_parts()

    def check_parts(self) -> None:
        """weights.bin is a part that is read, one that is mapped, and a streamed one, whose weights are whole blocks."""
        plan, top, read = self.plan, self.plan.resident_bytes, self.plan.resident_bytes - self.plan.mapped_bytes
        stored = [n for n in range(len(plan.weights)) if not is_resident(plan, n)]
        if not 0 <= top <= plan.weights_bytes or (stored and top % READ_ALIGNMENT):
            self.fail(f"{top} of {plan.weights_bytes} bytes are resident")
        for number, entry in enumerate(plan.weights):
            where = f"weight {number} ({entry.name})"
            if number not in stored:
                if entry.offset + entry.bytes > plan.resident_bytes:
                    self.fail(f"{where} is resident, but ends after {plan.resident_bytes}")
                if entry.offset < read < entry.offset + entry.bytes:
                    self.fail(f"{where} is neither read nor mapped", hint=f"{read} bytes are read")
                continue
            if entry.offset % READ_ALIGNMENT or entry.offset < top:
                self.fail(f"{where} starts at {entry.offset}", hint=f"blocks of {READ_ALIGNMENT}, behind {top}")
            top = entry.offset + -(-entry.bytes // READ_ALIGNMENT) * READ_ALIGNMENT
        if stored and top > plan.weights_bytes:
            self.fail(f"weights end at {top}, but weights_bytes is {plan.weights_bytes}")

    def check_states(self) -> None:
        """States lie side by side in one arena of their own, and each starts from zeros or a resident weight of its size."""
        plan, top = self.plan, 0
        room = [arena.bytes for arena in plan.arenas if arena.kind == "state"]
        if len(room) != bool(plan.states):
            self.fail(
                f"the plan has {len(room)} arenas of states and {len(plan.states)} states",
                hint="one where there are any",
            )
        names = [entry.name for entry in plan.states]
        for number, entry in enumerate(plan.states):
            where = f"state {number} ({entry.name})"
            if not entry.name or names.count(entry.name) > 1:
                self.fail(f"the name {entry.name!r} of a state is empty or given twice")
            if entry.type.nbytes != entry.bytes:
                self.fail(f"{where} has {entry.bytes} bytes, but {entry.type} needs {entry.type.nbytes}")
            if entry.offset % ALIGNMENT or entry.offset < top or entry.offset + entry.bytes > room[0]:
                what = f"{where} at {entry.offset} + {entry.bytes} overlaps the one before, is not aligned or leaves its arena"
                self.fail(what, hint=f"multiples of {ALIGNMENT} from {top} to {room[0]}")
            top = entry.offset + entry.bytes
            if entry.initial is not None:
                if not 0 <= entry.initial < len(plan.weights):
                    self.fail(f"{where} starts from weight {entry.initial}, but there are {len(plan.weights)}")
                weight = plan.weights[entry.initial]
                if not is_resident(plan, entry.initial) or (weight.bytes, weight.format) != (entry.bytes, DENSE):
                    what = f"{where} starts from {weight.bytes} bytes of {weight.format}"
                    self.fail(what, hint=f"{entry.bytes} resident bytes, {DENSE}")

    def check_updates(self) -> None:
        """No call reads a state after the call that writes over it."""
        for number, entry in enumerate(self.plan.states):
            written = self.mentions.get(Arg("next", number), [])
            read = self.mentions.get(Arg("state", number), [])
            if written and read and read[-1] > written[0]:
                what = f"reads the state {entry.name!r}, which call {written[0]} has written over"
                self.fail(what, self.place(read[-1]), "after it there is `next` only")

    def check_buffer(self, number: int, buffer: Buffer) -> None:
        where = f"buffer {number} (%{buffer.name})"
        if not 0 <= buffer.arena < len(self.plan.arenas):
            self.fail(f"{where} lies in arena {buffer.arena}, which does not exist")
        arena = self.plan.arenas[buffer.arena]
        if not ARENAS[arena.kind]:
            self.fail(
                f"{where} lies in arena {arena.name!r} of kind {arena.kind}",
                hint="buffers need a scratch arena or the ring",
            )
        if buffer.offset % ALIGNMENT:
            self.fail(f"{where} starts at {buffer.offset}", hint=f"buffers start at multiples of {ALIGNMENT}")
        if buffer.offset < 0 or buffer.bytes < 0 or buffer.offset + buffer.bytes > arena.bytes:
            self.fail(f"{where} at {buffer.offset} + {buffer.bytes} leaves its arena of {arena.bytes} bytes")
        self.check_type(buffer.type, where)
        if (need := upper(buffer.type.nbytes, self.plan.symbols)) > buffer.bytes:
            self.fail(f"{where} has {buffer.bytes} bytes, but {buffer.type} needs up to {need}")

    def check_call(self, number: int, call: Call) -> None:
        where = self.place(number)
        if not 0 <= call.kernel < len(self.plan.kernels):
            self.fail(f"calls kernel {call.kernel}, but there are {len(self.plan.kernels)}", where)
        counts = {
            "input": len(self.plan.inputs),
            "output": len(self.plan.outputs),
            "buffer": len(self.plan.buffers),
            "weight": len(self.plan.weights),
            "file": len(self.plan.weights),
            "dim": len(self.plan.symbols),
            "workspace": sum(arena.kind == "workspace" for arena in self.plan.arenas),
            "state": len(self.plan.states),
            "next": len(self.plan.states),
            "carry": len(self.plan.buffers),
        }
        for arg in call.args:
            if arg.space not in SPACES:
                self.fail(f"has an argument in {arg.space!r}", where, f"spaces are {', '.join(SPACES)}")
            if not 0 <= arg.index < counts[arg.space]:
                self.fail(f"has the argument {arg.space} {arg.index}, but there are {counts[arg.space]}", where)
            if arg.space in ("weight", "file") and (arg.space == "weight") != is_resident(self.plan, arg.index):
                said = "stays in storage" if arg.space == "weight" else "is resident"
                self.fail(f"has the argument {arg.space} {arg.index}, but that weight {said}", where)
        if call.parts < 0:
            self.fail(f"has {call.parts} parts", where, "0 means all threads")
        if not all(math.isfinite(x) and x >= 0 for x in (call.seconds, call.flops, call.bytes)):
            self.fail("predicts a number that is negative or not finite", where)

    def place(self, number: int) -> str:
        return f"call {number} ({self.calls[number].label})"

    # -- what follows from the calls -------------------------------------------------------------------------------

    def check_lifetime(self, number: int, buffer: Buffer) -> None:
        where = f"buffer {number} (%{buffer.name})"
        uses = self.mentions.get(Arg("buffer", number))
        if uses is None:
            self.fail(f"{where} is never used")
        last = lives_until(self.plan, uses)
        if (uses[0], last) != (buffer.first, buffer.last):
            said = f"says live {buffer.first}:{buffer.last}"
            self.fail(f"{where} {said}, but calls {uses[0]}:{last} use it")

    def check_overlaps(self) -> None:
        """Any two buffers that share bytes of an arena must not be live at the same call."""
        rows = sorted(self.plan.buffers, key=lambda b: (b.arena, b.offset))
        for position, low in enumerate(rows):
            for high in rows[position + 1 :]:
                if high.arena != low.arena or high.offset >= low.offset + low.bytes:
                    break
                if high.bytes and low.first <= high.last and high.first <= low.last:
                    moment = max(low.first, high.first)
                    self.fail(f"%{low.name} and %{high.name} share bytes while both live", self.place(moment))

    def check_weight_order(self) -> None:
        """Each part of weights.bin is in order of first use."""
        first = {entry.initial: -1 for entry in self.plan.states if entry.initial is not None}  # at open
        for arg, weight in stored_args(self.plan).items():
            if uses := self.mentions.get(arg):
                first[weight] = min(uses[0], first.get(weight, uses[0]))
        last: dict[tuple[bool, bool], int] = {}
        for number, entry in enumerate(self.plan.weights):
            part = is_resident(self.plan, number), is_mapped(self.plan, number)
            if number not in first:
                self.fail(f"weight {number} ({entry.name}) is never used")
            use = first[number]
            if use < last.get(part, -1):
                self.fail(f"weight {number} ({entry.name}) is used before the one in front of it", self.place(use))
            last[part] = use

    def check_runtime_dims(self) -> None:
        """One call sets a run-time dim, with one part and a barrier behind it; whoever has that dim comes later."""
        for number, name in enumerate(self.plan.symbols):
            uses = self.mentions.get(Arg("dim", number), [])
            if not uses:
                continue
            setter = uses[0]
            if len(uses) > 1:
                self.fail(f"sets the dim {name} after call {setter} has set it", self.place(uses[1]))
            if self.calls[setter].parts != 1:
                self.fail(f"sets the dim {name} with {self.calls[setter].parts} parts", self.place(setter), "with one")
            for port in self.plan.inputs:
                if any(name in symbols_of(extent) for extent in port.type.shape):
                    self.fail(f"{port.name!r} has an extent of {name}, which is set during the run", self.place(setter))
            if len(self.calls) > setter + 1 and not self.calls[setter + 1].barrier:
                self.fail(f"follows the call that sets the dim {name}", self.place(setter + 1), "it needs a barrier")
            for at, call in enumerate(self.calls[:setter]):
                held = [self.plan.buffers[a.index].type for a in call.args if a.space == "buffer"]
                held += [self.plan.outputs[a.index].type for a in call.args if a.space == "output"]
                if any(name in symbols_of(extent) for kind in held for extent in kind.shape):
                    self.fail(f"uses the dim {name}, which call {setter} sets", self.place(at))

    def written(self) -> list[set[Arg]]:
        """What each call writes: the buffers and outputs that it is the first to mention."""
        found: list[set[Arg]] = [set() for _ in self.calls]
        for arg, uses in self.mentions.items():
            if SPACES[arg.space].written and not self.in_ring(arg):
                found[uses[0]].add(arg)
        return found

    def in_ring(self, arg: Arg) -> bool:
        return arg.space == "buffer" and self.plan.buffers[arg.index].arena in self.rings

    def touches(self, number: int, written: set[Arg]) -> Iterator[_Touch]:
        for arg in (*self.calls[number].args, *self.asked[number]):
            if not SPACES[arg.space].shared or self.in_ring(arg):
                continue
            if arg.space in ("buffer", "carry"):
                b = self.plan.buffers[arg.index]
                yield _Touch(f"arena {b.arena}", b.offset, b.offset + b.bytes, arg in written, f"%{b.name}")
            elif arg.space in ("state", "next"):
                name = self.plan.states[arg.index].name
                yield _Touch(f"state {arg.index}", 0, 1, arg in written, f"the state {name!r}")
            else:
                yield _Touch(f"{arg.space} {arg.index}", 0, 1, arg in written, f"{arg.space} {arg.index}")

    def check_barriers(self, written: Sequence[set[Arg]]) -> None:
        """Two calls without a barrier between them run at once: neither may write what the other touches."""
        since: list[tuple[int, _Touch]] = []
        for number, call in enumerate(self.calls):
            if call.barrier:
                since = []
            mine = list(self.touches(number, written[number]))
            for other, before in since:
                for touch in mine:
                    same = before.place == touch.place and before.start < touch.end and touch.start < before.end
                    if same and (before.writes or touch.writes):
                        verb = "writes" if touch.writes else "reads"
                        what = f"{verb} {touch.name} while call {other} may still use {before.name}"
                        self.fail(what, self.place(number), "it needs a barrier")
            since += [(number, touch) for touch in mine]


class _Clusters:
    """Holds every call against the cluster that it runs."""

    def __init__(self, plan: Plan, placed: Placed, calls: Sequence[Call]) -> None:
        self.plan, self.placed, self.calls = plan, placed, calls
        self.producers = placed.graph.producers()
        self.stored = stored_args(plan)
        self.carried = {one.value: one.update for loop in placed.graph.loops for one in loop.carried}

    def fail(self, what: str, number: int, hint: str = "") -> NoReturn:
        raise VerifyError(what, op=f"call {number} ({self.calls[number].label})", level="plan", hint=hint)

    def value(self, arg: Arg) -> str:
        """The value that an argument holds; for a weight the key of its home."""
        match arg.space:
            case "input":
                return self.placed.graph.inputs[arg.index].value
            case "output":
                return self.placed.graph.outputs[arg.index].value
            case "state":
                return self.placed.graph.states[arg.index].value
            case "next":
                return self.placed.graph.states[arg.index].update
            case "carry":
                return self.carried[self.plan.buffers[arg.index].name]
            case "buffer" if arg not in self.stored:
                return self.plan.buffers[arg.index].name
        return self.plan.weights[self.stored[arg]].name

    def written(self) -> list[set[Arg]]:
        """What each call writes, once every call is known to run one cluster on that cluster's values."""
        self.check_states()
        self.check_loops()
        ready = set(self.placed.graph.input_values)
        run: dict[str, int] = {}
        found: list[set[Arg]] = []
        for number, call in enumerate(self.calls):
            args = [arg for arg in call.args if SPACES[arg.space].shared]
            node = self.producers.get(self.value(args[-1])) if args else None
            if node is None:
                self.fail("its last argument is no result of a cluster", number)
            if node.outputs[0] in run:
                self.fail(f"runs %{node.outputs[0]} again, after call {run[node.outputs[0]]}", number)
            run[node.outputs[0]] = number
            self.check_args(number, node, args)
            names = list(self.plan.symbols)
            set_here = tuple(names[arg.index] for arg in call.args if arg.space == "dim")
            if set_here != dims_set(node):
                self.fail(
                    f"sets the dims {', '.join(set_here) or 'none'}", number, f"{dims_set(node)} are its cluster's"
                )
            for value in node.used:
                if value not in self.placed.graph.weights and value not in ready:
                    self.fail(f"reads %{value} before it is written", number)
            ready.update(node.outputs)
            found.append(set(args[len(node.used) :]))
        for node in self.placed.graph.nodes:
            if node.outputs[0] not in run:
                raise VerifyError("is never run", op=f"cluster %{node.outputs[0]}", level="plan", source=node.source)
        return found

    def check_states(self) -> None:
        """The plan's states are the graph's, and start from their weights."""
        graph, weights = self.placed.graph, self.plan.weights
        wanted = [(state.name, graph.types[state.value], state.initial) for state in graph.states]
        starts = ["" if s.initial is None else weights[s.initial].name for s in self.plan.states]
        got = [(s.name, s.type, start) for s, start in zip(self.plan.states, starts, strict=True)]
        if got != wanted:
            raise VerifyError(f"the plan has the states {got}, expected {wanted}", level="plan")

    def check_loops(self) -> None:
        """The plan's loops are the graph's."""
        graph, names = self.placed.graph, list(self.plan.symbols)
        wanted = [(loop.trip, *span, loop.condition) for loop, span in zip(graph.loops, graph.spans(), strict=True)]
        got = [
            (names[loop.trip], loop.first, loop.last, self.value(loop.condition) if loop.condition else "")
            for loop in self.plan.loops
        ]
        if got != wanted:
            raise VerifyError(f"the plan has the loops {got}, expected {wanted}", level="plan")

    def check_args(self, number: int, node: Node, args: Sequence[Arg]) -> None:
        candidate = self.placed.choices[node.outputs[0]].chosen.candidate
        formats = dict(candidate.formats)
        weights = self.placed.graph.weights
        wanted = [home_key(v, formats.get(v, DENSE)) if v in weights else v for v in (*node.used, *node.outputs)]
        if (got := [self.value(arg) for arg in args]) != wanted:
            self.fail(f"has the arguments {', '.join(got)}, expected {', '.join(wanted)}", number)
        for arg, value in zip(args, (*node.used, *node.outputs), strict=True):
            if (arg in self.stored) != (value in weights) or (arg.space == "file") != (value in candidate.direct):
                self.fail(f"reads %{value} as {arg.space} {arg.index}", number)
            kind = self.placed.graph.types[value]
            held = arg.space in ("buffer", "carry") and arg not in self.stored
            if held and self.plan.buffers[arg.index].type != kind:
                self.fail(f"buffer {arg.index} has type {self.plan.buffers[arg.index].type}, expected {kind}", number)
            if arg in self.stored:
                entry = self.plan.weights[self.stored[arg]]
                home = self.placed.homes[entry.name]
                if (home.nbytes, home.format) != (entry.bytes, entry.format):
                    what = f"weight {self.stored[arg]} has {entry.bytes} bytes of {entry.format}"
                    self.fail(what, number, f"its home has {home.nbytes} of {home.format}")
                if home.mapped != is_mapped(self.plan, self.stored[arg]):
                    self.fail(
                        f"weight {self.stored[arg]} is {'read' if home.mapped else 'mapped'}", number, "unlike its home"
                    )
