"""The text of a plan: `print_plan` and `parse_plan`. Every list is numbered by position, as the calls' arguments count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .dims import Bounds
from .lexer import Lexer, parse
from .parse import read_symbol, read_type
from .plan import Arena, Arg, Buffer, Call, Loop, Plan, PlanPort, Queue, Read, Region, StateEntry, WeightEntry
from .text import float_text, name_text, string_text, type_text, value_text


def print_plan(plan: Plan) -> str:
    """The text of a plan; ends with a newline."""
    return "\n".join(_plan_lines(plan)) + "\n"


def _plan_lines(plan: Plan) -> Iterator[str]:
    yield f"plan {name_text(plan.name)} {{"
    yield f"  target {string_text(plan.target)}"
    yield f"  features [{', '.join(map(string_text, plan.features))}]"
    yield f"  threads {plan.threads}"
    for name, bounds in plan.symbols.items():
        yield f"  dim {name} = {bounds.min}:{bounds.typical}:{bounds.max}"
    for kind, ports in (("input", plan.inputs), ("output", plan.outputs)):
        for number, port in enumerate(ports):
            yield f"  {kind} {number} {string_text(port.name)} : {type_text(port.type)}"
    for number, arena in enumerate(plan.arenas):
        where = f"{string_text(arena.name)} {string_text(arena.kind)} in {string_text(arena.tier)}"
        yield f"  arena {number} {where} = {arena.bytes}"
    for number, b in enumerate(plan.buffers):
        place = f"arena {b.arena} @ {b.offset} + {b.bytes} live {b.first}:{b.last}"
        why = f" {string_text(b.why)}" if b.why else ""
        yield f"  buffer {number} {value_text(b.name)} : {type_text(b.type)} = {place}{why}"
    for number, w in enumerate(plan.weights):
        label = f" {string_text(w.label)}" if w.label else ""
        place = f"{string_text(w.format)} @ {w.offset} + {w.bytes}"
        yield f"  weight {number} {string_text(w.name)} = {place}{label}"
    for number, s in enumerate(plan.states):
        start = "zeros" if s.initial is None else f"weight {s.initial}"
        yield f"  state {number} {string_text(s.name)} : {type_text(s.type)} = @ {s.offset} + {s.bytes} from {start}"
    yield f"  weights_bytes {plan.weights_bytes} resident {plan.resident_bytes}"
    yield f"  seconds {float_text(plan.seconds)}"
    for number, kernel in enumerate(plan.kernels):
        yield f"  kernel {number} {string_text(kernel)}"
    for queue in plan.queues:
        yield f"  queue {string_text(queue.name)} {{"
        for number, call in enumerate(queue.calls):
            yield f"    {number}: {_call_text(call)}"
        for number, read in enumerate(queue.reads):
            yield f"    {number}: {_read_line(read)}"
        yield "  }"
    for number, region in enumerate(plan.regions):
        condition = f"{region.condition.space} {region.condition.index} is {'true' if region.when else 'false'}"
        yield f"  region {number} calls {region.first}:{region.last} where {condition}"
    for number, loop in enumerate(plan.loops):
        asked = f" while {loop.condition.space} {loop.condition.index}" if loop.condition else ""
        yield f"  loop {number} calls {loop.first}:{loop.last} dim {loop.trip}{asked}"
    for key, value in plan.notes.items():
        yield f"  note {string_text(key)} = {string_text(value)}"
    yield "}"


def _call_text(call: Call) -> str:
    args = ", ".join(f"{arg.space} {arg.index}" for arg in call.args)
    flags = " barrier" if call.barrier else ""
    flags += (f" parts {call.parts}" if call.parts else "") + (f" needs {call.needs}" if call.needs else "")
    cost = f"seconds {float_text(call.seconds)} flops {float_text(call.flops)} bytes {float_text(call.bytes)}"
    return f"kernel {call.kernel} ({args}){flags} {cost} {string_text(call.label)}"


def _read_line(read: Read) -> str:
    span = f"{read.offset} + {read.bytes} to buffer {read.buffer} after {read.after}"
    return f"read {span} seconds {float_text(read.seconds)} {string_text(read.label)}"


@dataclass
class _Parts:
    """A plan under way."""

    symbols: dict[str, Bounds] = field(default_factory=dict)
    inputs: list[PlanPort] = field(default_factory=list)
    outputs: list[PlanPort] = field(default_factory=list)
    arenas: list[Arena] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    weights: list[WeightEntry] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    queues: list[Queue] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    states: list[StateEntry] = field(default_factory=list)


def parse_plan(text: str) -> Plan:
    """A plan from its text. Raises ParseError."""
    return parse(text, read_plan)


def read_plan(lexer: Lexer) -> Plan:
    """`plan @name { .. }`."""
    lexer.expect_word("plan")
    name = lexer.global_name()
    lexer.expect("{")
    lexer.expect_word("target")
    target = lexer.string("the target's name in quotes")
    lexer.expect_word("features")
    features = lexer.list("[", Lexer.string, "]")
    lexer.expect_word("threads")
    threads = lexer.integer()
    parts = _Parts()
    weights_bytes: int | None = None
    resident_bytes = 0
    seconds = 0.0
    while not lexer.accept("}"):
        if lexer.accept_word("weights_bytes"):
            weights_bytes = lexer.integer()
            lexer.expect_word("resident")
            resident_bytes = lexer.integer()
        elif lexer.accept_word("seconds"):
            seconds = lexer.number()
        elif lexer.at("name") and lexer.token.text in _READERS:
            _READERS[lexer.next().text](lexer, parts)
        else:
            lexer.expected(f"{', '.join(_READERS)}, weights_bytes or '}}'")
    if weights_bytes is None:
        lexer.fail("the plan does not say its weights_bytes")
    return Plan(
        name,
        target,
        features,
        threads,
        parts.symbols,
        tuple(parts.inputs),
        tuple(parts.outputs),
        tuple(parts.arenas),
        tuple(parts.buffers),
        tuple(parts.weights),
        weights_bytes,
        resident_bytes,
        tuple(parts.kernels),
        tuple(parts.queues),
        seconds,
        parts.notes,
        tuple(parts.states),
        tuple(parts.regions),
        tuple(parts.loops),
    )


def _read_number(lexer: Lexer, position: int) -> None:
    """The number of a list's next item, which must be its position."""
    at = lexer.token.position
    if (found := lexer.integer("its number")) != position:
        lexer.fail(f"expected number {position}, got {found}", at)


def _read_dim(lexer: Lexer, parts: _Parts) -> None:
    position = lexer.token.position
    name, bounds = read_symbol(lexer)
    if name in parts.symbols:
        lexer.fail(f"dim {name} is declared twice", position)
    parts.symbols[name] = bounds


def _read_port(lexer: Lexer, ports: list[PlanPort]) -> None:
    _read_number(lexer, len(ports))
    name = lexer.string("the port's name in quotes")
    lexer.expect(":")
    ports.append(PlanPort(name, read_type(lexer)))


def _read_arena(lexer: Lexer, parts: _Parts) -> None:
    _read_number(lexer, len(parts.arenas))
    name, kind = lexer.string("the arena's name in quotes"), lexer.string("the arena's kind in quotes")
    lexer.expect_word("in")
    tier = lexer.string("a tier in quotes")
    lexer.expect("=")
    parts.arenas.append(Arena(name, kind, tier, lexer.integer("a number of bytes")))


def _read_extent(lexer: Lexer) -> tuple[int, int]:
    """`@ offset + bytes`."""
    lexer.expect("@")
    offset = lexer.integer("an offset")
    lexer.expect("+")
    return offset, lexer.integer("a number of bytes")


def _read_text(lexer: Lexer) -> str:
    """A string that may be missing."""
    return lexer.string() if lexer.at("string") else ""


def _read_buffer(lexer: Lexer, parts: _Parts) -> None:
    _read_number(lexer, len(parts.buffers))
    name = lexer.value()
    lexer.expect(":")
    kind = read_type(lexer)
    lexer.expect("=")
    lexer.expect_word("arena")
    arena = lexer.integer("an arena's number")
    offset, nbytes = _read_extent(lexer)
    lexer.expect_word("live")
    first = lexer.integer("an instruction's number")
    lexer.expect(":")
    last = lexer.integer("an instruction's number")
    parts.buffers.append(Buffer(name, arena, offset, nbytes, first, last, kind, _read_text(lexer)))


def _read_weight(lexer: Lexer, parts: _Parts) -> None:
    _read_number(lexer, len(parts.weights))
    name = lexer.string("the weight's name in quotes")
    lexer.expect("=")
    format = lexer.string("a packing format in quotes")
    offset, nbytes = _read_extent(lexer)
    parts.weights.append(WeightEntry(name, offset, nbytes, format, _read_text(lexer)))


def _read_state(lexer: Lexer, parts: _Parts) -> None:
    _read_number(lexer, len(parts.states))
    name = lexer.string("the state's name in quotes")
    lexer.expect(":")
    kind = read_type(lexer)
    lexer.expect("=")
    offset, nbytes = _read_extent(lexer)
    lexer.expect_word("from")
    initial = None
    if not lexer.accept_word("zeros"):
        lexer.expect_word("weight")
        initial = lexer.integer("a weight's number")
    parts.states.append(StateEntry(name, kind, offset, nbytes, initial))


def _read_kernel(lexer: Lexer, parts: _Parts) -> None:
    _read_number(lexer, len(parts.kernels))
    parts.kernels.append(lexer.string("the kernel's name in quotes"))


def _read_queue(lexer: Lexer, parts: _Parts) -> None:
    name = lexer.string("the queue's name in quotes")
    lexer.expect("{")
    calls: list[Call] = []
    reads: list[Read] = []
    while not lexer.accept("}"):
        if not lexer.at("int"):
            lexer.expected("a call such as 0: kernel 0 (..), a read, or '}'")
        position = lexer.token.position
        number = lexer.integer("its number")
        lexer.expect(":")
        known: list[Call] | list[Read] = reads if lexer.at_word("read") else calls
        if number != len(known):
            lexer.fail(f"expected number {len(known)}, got {number}", position)
        if known is reads:
            reads.append(_read_read(lexer))
        else:
            calls.append(_read_call(lexer))
    parts.queues.append(Queue(name, tuple(calls), tuple(reads)))


def _read_arg(lexer: Lexer) -> Arg:
    space = lexer.name("input, output, buffer, weight, workspace, file, dim, state, next or carry")
    return Arg(space, lexer.integer("a number"))


def _read_call(lexer: Lexer) -> Call:
    lexer.expect_word("kernel")
    kernel = lexer.integer("a kernel's number")
    args = lexer.list("(", _read_arg, ")")
    barrier = lexer.accept_word("barrier")
    parts = lexer.integer() if lexer.accept_word("parts") else 0
    needs = lexer.integer() if lexer.accept_word("needs") else 0
    lexer.expect_word("seconds")
    seconds = lexer.number()
    lexer.expect_word("flops")
    flops = lexer.number()
    lexer.expect_word("bytes")
    nbytes = lexer.number()
    return Call(kernel, args, barrier, parts, lexer.string("the call's label in quotes"), seconds, flops, nbytes, needs)


def _read_read(lexer: Lexer) -> Read:
    """`read offset + bytes to buffer n after k seconds s "label"`."""
    lexer.expect_word("read")
    offset = lexer.integer("an offset")
    lexer.expect("+")
    nbytes = lexer.integer("a number of bytes")
    lexer.expect_word("to")
    lexer.expect_word("buffer")
    buffer = lexer.integer("a buffer's number")
    lexer.expect_word("after")
    after = lexer.integer("a number of calls")
    lexer.expect_word("seconds")
    seconds = lexer.number()
    return Read(offset, nbytes, buffer, after, lexer.string("the read's label in quotes"), seconds)


def _read_stretch(lexer: Lexer) -> tuple[int, int]:
    lexer.expect_word("calls")
    first = lexer.integer("a call's number")
    lexer.expect(":")
    return first, lexer.integer("a call's number")


def _read_region(lexer: Lexer, parts: _Parts) -> None:
    """`region n calls first:last where buffer b is true`."""
    _read_number(lexer, len(parts.regions))
    first, last = _read_stretch(lexer)
    lexer.expect_word("where")
    condition = _read_arg(lexer)
    lexer.expect_word("is")
    when = lexer.accept_word("true")
    if not when:
        lexer.expect_word("false")
    parts.regions.append(Region(first, last, condition, when))


def _read_loop(lexer: Lexer, parts: _Parts) -> None:
    """`loop n calls first:last dim d while buffer b`."""
    _read_number(lexer, len(parts.loops))
    first, last = _read_stretch(lexer)
    lexer.expect_word("dim")
    trip = lexer.integer("a dim's number")
    condition = _read_arg(lexer) if lexer.accept_word("while") else None
    parts.loops.append(Loop(first, last, trip, condition))


def _read_note(lexer: Lexer, parts: _Parts) -> None:
    position, key = lexer.token.position, lexer.string("a note's name in quotes")
    if key in parts.notes:
        lexer.fail(f"note {key!r} is given twice", position)
    lexer.expect("=")
    parts.notes[key] = lexer.string("a note in quotes")


_READERS = {
    "dim": _read_dim,
    "input": lambda lexer, parts: _read_port(lexer, parts.inputs),
    "output": lambda lexer, parts: _read_port(lexer, parts.outputs),
    "arena": _read_arena,
    "buffer": _read_buffer,
    "weight": _read_weight,
    "state": _read_state,
    "kernel": _read_kernel,
    "queue": _read_queue,
    "region": _read_region,
    "loop": _read_loop,
    "note": _read_note,
}
