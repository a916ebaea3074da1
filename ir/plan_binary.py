"""The plan's binary form, `plan.bin`: little-endian records in sections, found by number, covered by one digest.

The layouts below are the only declaration: Python packs by them, and `c_header()` prints `csrc/include/plan_format.h`
from them (a test compares). The file is a header, a section table and the sections in the order of `SECTIONS`, each at
a multiple of eight bytes. A string is an offset into the section of zero-terminated strings; offset 0 is empty.

A symbol's `setter` is one more than the number of the call that sets it during the run, or 0 where it follows from the inputs;
where it counts the trips of a loop, one more than the number of that loop behind all calls.
A state's `initial` is one more than the number of the weight it starts from, or 0 where it starts as zeros.
A region record is a region or a loop (`REGION_KINDS`), all in one order by their calls. Its `arg` counts among all arguments; what
regions and loops have stands behind those of the calls. For a region it is the condition, for a loop the dim that counts trips,
behind which a loop with a condition has that.
A dim is a postfix program over `DIM_OPS`. A polynomial is written term by term (coefficient, then each factor followed
by `mul`, terms joined by `add`), so decoding rebuilds the same expression and evaluating needs only a small stack.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .dims import Bounds, Dim, Expr, Monomial
from .dims import Call as DimCall
from .errors import PlanError
from .plan import (
    ALIGNMENT,
    FORMAT_VERSION,
    READ_ALIGNMENT,
    REQUEST_BYTES,
    REQUEST_DEPTH,
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
    shape_text,
)
from .plan_digest import digest64
from .types import BY_ONNX, DTYPES, TensorType

MAGIC = int.from_bytes(b"STRATAC\n", "little")

_CODES = {"u32": "I", "i32": "i", "u64": "Q", "i64": "q", "f64": "d", "str": "I"}
_C_TYPES = {
    "u32": "uint32_t",
    "i32": "int32_t",
    "u64": "uint64_t",
    "i64": "int64_t",
    "f64": "double",
    "str": "uint32_t",
}


@dataclass(frozen=True)
class Record:
    """A record's layout: fields in order, naturally aligned by construction (checked here and by the C compiler)."""

    name: str
    fields: tuple[tuple[str, str], ...]
    packer: struct.Struct = field(init=False)

    def __post_init__(self) -> None:
        offset = 0
        for name, kind in self.fields:
            size = struct.calcsize("<" + _CODES[kind])
            if offset % size:
                raise AssertionError(f"record {self.name}: field {name} is not aligned")
            offset += size
        if any(kind in ("u64", "i64", "f64") for _, kind in self.fields) and offset % 8:
            raise AssertionError(f"record {self.name}: its size {offset} needs padding")
        object.__setattr__(self, "packer", struct.Struct("<" + "".join(_CODES[kind] for _, kind in self.fields)))

    @property
    def bytes(self) -> int:
        return self.packer.size


def _record(name: str, text: str) -> Record:
    pairs = (item.split() for item in text.split(","))
    return Record(name, tuple((field_name, kind) for kind, field_name in pairs))


HEADER = _record(
    "header",
    "u64 magic, u32 format_version, u32 header_bytes, u64 file_bytes, u64 digest, u64 plan_id, u64 weights_bytes,"
    "u64 resident_bytes, u64 resident_digest, f64 seconds, str name, str target, u32 threads, u32 sections",
)
SECTION = _record("section", "u32 kind, u32 record_bytes, u64 offset, u64 count")

#: The sections in file order. The first holds the strings, one byte to a record.
SECTIONS: tuple[Record, ...] = (
    Record("string", ()),
    _record("dim_op", "u32 op, u32 reserved, i64 value"),
    _record("dim", "u32 first, u32 count"),
    _record("type", "u32 dtype, u32 rank, u32 first_dim, str text"),
    _record("symbol", "str name, u32 setter, i64 min, i64 typical, i64 max"),
    _record("feature", "str name"),
    _record("input", "str name, u32 type"),
    _record("output", "str name, u32 type"),
    _record("arena", "str name, u32 kind, str tier, u32 reserved, u64 bytes"),
    _record("buffer", "str name, u32 arena, u64 offset, u64 bytes, i64 first, i64 last, u32 type, str why"),
    _record("weight", "str name, str format, str label, u32 reserved, u64 offset, u64 bytes, u64 digest"),
    _record("kernel", "str name"),
    _record("queue", "str name, u32 first_call, u32 calls, u32 first_read, u32 reads, u32 reserved"),
    _record(
        "call",
        "u32 kind, u32 kernel, u32 first_arg, u32 args, u32 barrier, i32 parts, str label, u32 needs,"
        "f64 seconds, f64 flops, f64 bytes",
    ),
    _record("read", "u64 offset, u64 bytes, u32 buffer, str label, i64 after, u64 digest, f64 seconds"),
    _record("arg", "u32 space, u32 index"),
    _record("note", "str key, str value"),
    _record("state", "str name, u32 type, u64 offset, u64 bytes, u32 initial, u32 reserved"),
    _record("region", "u32 first, u32 last, u32 arg, u32 kind"),
)
_BY_NAME = {record.name: record for record in SECTIONS}

ARENA_KINDS = ("scratch", "workspace", "weights", "ring", "state", "mapped")
ARG_SPACES = ("input", "output", "buffer", "weight", "workspace", "file", "dim", "state", "next", "carry")
#: what a region record is: calls that run where a condition is false, or true; a loop without a condition, or with one
REGION_KINDS = ("unless", "where", "loop", "loop_while")
CALL_KINDS = ("kernel",)
DIM_OPS = ("const", "symbol", "add", "mul", "floordiv", "mod", "min", "max")
DIM_DEPTH = 32  # values an evaluation may hold at once
DIM_CODE = 4096  # operations of one dim


def _record_bytes(record: Record) -> int:
    return record.bytes if record.fields else 1


def _align(offset: int) -> int:
    return (offset + 7) // 8 * 8


class _Writer:
    """Collects the sections; equal strings, dims and types are stored once."""

    def __init__(self) -> None:
        self.strings = bytearray(b"\0")
        self.rows: dict[str, list[tuple[Any, ...]]] = {record.name: [] for record in SECTIONS}
        self._string_at: dict[str, int] = {"": 0}
        self._dim_at: dict[Dim, int] = {}
        self._type_at: dict[TensorType, int] = {}
        self.symbols: dict[str, int] = {}

    def string(self, text: str) -> int:
        if text not in self._string_at:
            if "\0" in text:
                raise PlanError(f"a plan's text holds a zero byte: {text!r}", level="plan")
            self._string_at[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return self._string_at[text]

    def add(self, section: str, *row: Any) -> int:
        rows = self.rows[section]
        rows.append(row)
        return len(rows) - 1

    def _code(self, dim: Dim) -> list[tuple[int, int, int]]:
        op = {name: number for number, name in enumerate(DIM_OPS)}
        if isinstance(dim, int):
            return [(op["const"], 0, dim)]
        code: list[tuple[int, int, int]] = []
        for number, (monomial, coefficient) in enumerate(dim.terms):
            code.append((op["const"], 0, coefficient))
            for atom in monomial:
                if isinstance(atom, str):
                    if atom not in self.symbols:
                        raise PlanError(f"dim {dim} uses the undeclared symbol {atom!r}", level="plan")
                    code.append((op["symbol"], 0, self.symbols[atom]))
                else:
                    code += [*self._code(atom.left), *self._code(atom.right), (op[atom.function], 0, 0)]
                code.append((op["mul"], 0, 0))
            if number:
                code.append((op["add"], 0, 0))
        return code

    def type(self, value: TensorType) -> int:
        if value not in self._type_at:
            first = len(self.rows["dim"])
            for dim in value.shape:
                code = self._code(dim)
                if len(code) > DIM_CODE:
                    raise PlanError(f"dim {dim} is too long for a plan", level="plan")
                begin = len(self.rows["dim_op"])
                self.rows["dim_op"] += code
                self.add("dim", begin, len(code))
            text = self.string(shape_text(value.shape))
            self._type_at[value] = self.add("type", value.dtype.onnx, value.rank, first, text)
        return self._type_at[value]

    def file(self, header: dict[str, Any]) -> bytes:
        tables: list[tuple[int, bytes, int]] = []
        for record in SECTIONS:
            rows = self.rows[record.name]
            data = b"".join(record.packer.pack(*row) for row in rows) if record.fields else bytes(self.strings)
            tables.append((_record_bytes(record), data, len(rows) if record.fields else len(data)))
        offset = HEADER.bytes + SECTION.bytes * len(SECTIONS)
        head, body = bytearray(), bytearray()
        for kind, (size, data, count) in enumerate(tables):
            begin = _align(offset)
            body += bytes(begin - offset) + data
            head += SECTION.packer.pack(kind, size, begin, count)
            offset = begin + len(data)
        body += bytes(_align(offset) - offset)
        header |= {"file_bytes": _align(offset), "header_bytes": HEADER.bytes, "sections": len(SECTIONS), "digest": 0}
        packed = HEADER.packer.pack(*(header[name] for name, _ in HEADER.fields))
        digest = digest64(packed + bytes(head) + bytes(body))
        return HEADER.packer.pack(*(header[n] if n != "digest" else digest for n, _ in HEADER.fields)) + head + body


def _index(names: tuple[str, ...], name: str, what: str) -> int:
    if name not in names:
        raise PlanError(f"a plan cannot hold the {what} {name!r}", level="plan", hint=f"known: {', '.join(names)}")
    return names.index(name)


@dataclass(frozen=True)
class WeightDigests:
    """`plan_digest.digest64` of the parts of weights.bin, each padding included: the resident part, what each read reads, and
    by weight number each weight that kernels read by themselves. Together they cover every byte.
    """

    resident: int = 0
    reads: tuple[int, ...] = ()
    files: Mapping[int, int] = field(default_factory=dict)


def _write_regions(writer: _Writer, plan: Plan) -> None:
    """Regions as they stand, and loops among them, the outer before the inner."""

    def arg(value: Arg) -> int:
        return writer.add("arg", _index(ARG_SPACES, value.space, "argument space"), value.index)

    rows: list[Region | Loop] = [*plan.regions, *plan.loops]
    if plan.loops:
        rows.sort(key=lambda row: (row.first, -row.last, isinstance(row, Loop)))
    for row in rows:
        if isinstance(row, Region):
            writer.add("region", row.first, row.last, arg(row.condition), REGION_KINDS.index("unless") + row.when)
            continue
        at = arg(Arg("dim", row.trip))
        kind = "loop" if row.condition is None else "loop_while"
        if row.condition is not None:
            arg(row.condition)
        writer.add("region", row.first, row.last, at, REGION_KINDS.index(kind))


def encode(plan: Plan, *, digests: WeightDigests | None = None, plan_id: int | None = None) -> bytes:
    """`plan.bin` of a plan.

    Without `digests` they are all 0. `plan_id` ties plan.bin to its libplan.so (whose
    `st_plan_id` must be equal); by default it is `plan_id(plan)`.
    """
    digests = digests or WeightDigests(reads=(0,) * len(plan.reads))
    if len(digests.reads) != len(plan.reads):
        raise PlanError(f"{len(digests.reads)} digests for {len(plan.reads)} reads", level="plan")
    if plan_id is None:
        plan_id = _plan_id(plan)
    writer = _Writer()
    setters = {**plan.setters, **{loop.trip: len(plan.calls) + number for number, loop in enumerate(plan.loops)}}
    for number, (name, bounds) in enumerate(plan.symbols.items()):
        writer.symbols[name] = number
        setter = setters.get(number, -1) + 1
        writer.add("symbol", writer.string(name), setter, bounds.min, bounds.typical, bounds.max)
    for feature in plan.features:
        writer.add("feature", writer.string(feature))
    for section, ports in (("input", plan.inputs), ("output", plan.outputs)):
        for port in ports:
            writer.add(section, writer.string(port.name), writer.type(port.type))
    for arena in plan.arenas:
        kind = _index(ARENA_KINDS, arena.kind, "arena kind")
        writer.add("arena", writer.string(arena.name), kind, writer.string(arena.tier), 0, arena.bytes)
    for b in plan.buffers:
        row = (b.arena, b.offset, b.bytes, b.first, b.last, writer.type(b.type), writer.string(b.why))
        writer.add("buffer", writer.string(b.name), *row)
    for number, w in enumerate(plan.weights):
        texts = (writer.string(w.name), writer.string(w.format), writer.string(w.label))
        writer.add("weight", *texts, 0, w.offset, w.bytes, digests.files.get(number, 0))
    for kernel in plan.kernels:
        writer.add("kernel", writer.string(kernel))
    for queue in plan.queues:
        spans = (len(writer.rows["call"]), len(queue.calls), len(writer.rows["read"]), len(queue.reads))
        writer.add("queue", writer.string(queue.name), *spans, 0)
        for call in queue.calls:
            first = len(writer.rows["arg"])
            for arg in call.args:
                writer.add("arg", _index(ARG_SPACES, arg.space, "argument space"), arg.index)
            flow = (first, len(call.args), int(call.barrier), call.parts, writer.string(call.label), call.needs)
            writer.add("call", 0, call.kernel, *flow, call.seconds, call.flops, call.bytes)
        for read in queue.reads:
            digest = digests.reads[len(writer.rows["read"])]
            span = (read.offset, read.bytes, read.buffer, writer.string(read.label))
            writer.add("read", *span, read.after, digest, read.seconds)
    _write_regions(writer, plan)
    for key, value in plan.notes.items():
        writer.add("note", writer.string(key), writer.string(value))
    for s in plan.states:
        start = 0 if s.initial is None else s.initial + 1
        writer.add("state", writer.string(s.name), writer.type(s.type), s.offset, s.bytes, start, 0)
    header = {
        "magic": MAGIC,
        "format_version": FORMAT_VERSION,
        "plan_id": plan_id,
        "weights_bytes": plan.weights_bytes,
        "resident_bytes": plan.resident_bytes,
        "resident_digest": digests.resident,
        "seconds": plan.seconds,
        "name": writer.string(plan.name),
        "target": writer.string(plan.target),
        "threads": plan.threads,
    }
    try:
        return writer.file(header)
    except (struct.error, OverflowError) as error:
        raise PlanError(f"a number of plan {plan.name} does not fit its record: {error}", level="plan") from error


def plan_id(plan: Plan) -> int:
    """What ties plan.bin to the libplan.so made for it: a digest of the plan without its weights' bytes; never 0."""
    return digest64(encode(plan, plan_id=0)) or 1


_plan_id = plan_id  # `encode` has a parameter of that name


def read_header(data: bytes) -> dict[str, Any]:
    """The header's fields by name, after checking magic, version, size and digest. Raises PlanError."""
    if len(data) < HEADER.bytes:
        raise PlanError(f"plan.bin is truncated: {len(data)} bytes", hint="compile the plan again")
    header: dict[str, Any] = dict(zip((n for n, _ in HEADER.fields), HEADER.packer.unpack_from(data), strict=True))
    if header["magic"] != MAGIC:
        raise PlanError("plan.bin is not a stratac plan", hint="compile the plan again")
    if header["format_version"] != FORMAT_VERSION:
        version = header["format_version"]
        hint = "upgrade stratac" if version > FORMAT_VERSION else "compile the plan again"
        raise PlanError(f"plan.bin has format {version}, this stratac reads {FORMAT_VERSION}", hint=hint)
    if header["header_bytes"] != HEADER.bytes or header["file_bytes"] != len(data):
        raise PlanError(
            f"plan.bin has {len(data)} bytes, its header says {header['file_bytes']}", hint="compile it again"
        )
    blank = dict(header, digest=0)
    zeroed = HEADER.packer.pack(*(blank[n] for n, _ in HEADER.fields)) + bytes(data[HEADER.bytes :])
    if digest64(zeroed) != header["digest"]:
        raise PlanError("plan.bin is damaged: its digest does not match", hint="compile the plan again")
    return header


class _Reader:
    def __init__(self, data: bytes, sections: int) -> None:
        if sections != len(SECTIONS):
            raise ValueError("section count")
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        for number, record in enumerate(SECTIONS):
            row = SECTION.packer.unpack_from(data, HEADER.bytes + number * SECTION.bytes)
            kind, size, offset, count = row
            end = offset + size * count
            if kind != number or size != _record_bytes(record) or offset % 8 or end > len(data):
                raise ValueError(f"section {record.name}")
            if record.fields:
                self.rows[record.name] = list(record.packer.iter_unpack(data[offset:end]))
            else:
                self.strings = data[offset:end]
        if not self.strings or self.strings[0] or self.strings[-1]:
            raise ValueError("strings")
        self.symbols = [self.string(row[0]) for row in self.rows["symbol"]]

    def string(self, offset: int) -> str:
        return self.strings[offset : self.strings.index(b"\0", offset)].decode()

    def dim(self, number: int) -> Dim:
        first, count = self.rows["dim"][number]
        code = self.rows["dim_op"][first : first + count]
        if not 0 < count == len(code) <= DIM_CODE:
            raise ValueError("dim code")
        # the stack holds atoms (a name or a call) and polynomials under construction (lists of terms)
        stack: list[Any] = []
        for op, _, value in code:
            name = DIM_OPS[op]
            if name == "const":
                stack.append([((), value)])
            elif name == "symbol":
                stack.append(self.symbols[value])
            else:
                right, left = stack.pop(), stack.pop()
                if name == "mul":
                    ((monomial, coefficient),) = left
                    if isinstance(right, list):
                        raise ValueError("dim factor")
                    stack.append([((*monomial, right), coefficient)])
                elif name == "add":
                    stack.append([*_terms(left), *_terms(right)])
                else:
                    stack.append(DimCall(name, _dim(_terms(left)), _dim(_terms(right))))
            if len(stack) > DIM_DEPTH:
                raise ValueError("dim depth")
        (result,) = stack
        return _dim(_terms(result))

    def type(self, number: int) -> TensorType:
        dtype, rank, first, _ = self.rows["type"][number]
        return TensorType(BY_ONNX[dtype], tuple(self.dim(first + axis) for axis in range(rank)))


def _terms(item: Any) -> list[tuple[Monomial, int]]:
    if not isinstance(item, list):
        raise ValueError("dim term")
    return item


def _dim(terms: list[tuple[Monomial, int]]) -> Dim:
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    return Expr(tuple(terms))


def decode(data: bytes) -> Plan:
    """The plan that `encode` wrote. Raises PlanError for anything else, without ever running or trusting it."""
    header = read_header(data)
    try:
        return _decode(data, header)
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise PlanError(f"plan.bin is malformed: {error}", hint="compile the plan again") from error


def _decode(data: bytes, header: dict[str, Any]) -> Plan:
    reader = _Reader(data, header["sections"])
    rows, text = reader.rows, reader.string

    def ports(section: str) -> tuple[PlanPort, ...]:
        return tuple(PlanPort(text(name), reader.type(type_)) for name, type_ in rows[section])

    def call(row: tuple[Any, ...]) -> Call:
        kind, kernel, first, count, barrier, parts, label, needs, seconds, flops, moved = row
        args = rows["arg"][first : first + count]
        if len(args) != count or barrier > 1 or kind >= len(CALL_KINDS):
            raise ValueError("call")
        found = tuple(Arg(ARG_SPACES[space], index) for space, index in args)
        return Call(kernel, found, bool(barrier), parts, text(label), seconds, flops, moved, needs)

    reads = [
        Read(offset, size, buffer, after, text(label), seconds)
        for offset, size, buffer, label, after, _, seconds in rows["read"]
    ]
    calls = [call(row) for row in rows["call"]]

    def arg(number: int) -> Arg:
        space, index = rows["arg"][number]
        return Arg(ARG_SPACES[space], index)

    regions: list[Region] = []
    loops: list[Loop] = []
    for first, last, at, kind in rows["region"]:
        name = REGION_KINDS[kind]
        if name.startswith("loop"):
            loops.append(Loop(first, last, arg(at).index, arg(at + 1) if name == "loop_while" else None))
        else:
            regions.append(Region(first, last, arg(at), name == "where"))

    return Plan(
        name=text(header["name"]),
        target=text(header["target"]),
        features=tuple(text(row[0]) for row in rows["feature"]),
        threads=header["threads"],
        symbols={text(name): Bounds(low, typical, high) for name, _, low, typical, high in rows["symbol"]},
        inputs=ports("input"),
        outputs=ports("output"),
        arenas=tuple(Arena(text(n), ARENA_KINDS[kind], text(tier), size) for n, kind, tier, _, size in rows["arena"]),
        buffers=tuple(
            Buffer(text(n), arena, offset, size, first, last, reader.type(type_), text(why))
            for n, arena, offset, size, first, last, type_, why in rows["buffer"]
        ),
        weights=tuple(
            WeightEntry(text(n), offset, size, text(form), text(label))
            for n, form, label, _, offset, size, _ in rows["weight"]
        ),
        weights_bytes=header["weights_bytes"],
        resident_bytes=header["resident_bytes"],
        kernels=tuple(text(row[0]) for row in rows["kernel"]),
        queues=tuple(
            Queue(text(n), tuple(calls[first : first + count]), tuple(reads[start : start + many]))
            for n, first, count, start, many, _ in rows["queue"]
        ),
        seconds=header["seconds"],
        notes={text(key): text(value) for key, value in rows["note"]},
        states=tuple(
            StateEntry(text(n), reader.type(type_), offset, size, start - 1 if start else None)
            for n, type_, offset, size, start, _ in rows["state"]
        ),
        regions=tuple(regions),
        loops=tuple(loops),
    )


def _enum(prefix: str, names: Iterable[str], value: Callable[[int], int] = int) -> str:
    rows = "".join(f"    {prefix}_{name.upper()} = {value(number)},\n" for number, name in enumerate(names))
    return f"enum {{\n{rows}    {prefix}_COUNT\n}};\n"


def c_header() -> str:
    """`csrc/include/plan_format.h`: the same layouts as C structs."""
    out = [
        "/* The layout of plan.bin. Generated by `python -m stratac.ir.plan_binary`; do not edit. */\n",
        "#ifndef STRATAC_PLAN_FORMAT_H\n#define STRATAC_PLAN_FORMAT_H\n\n#include <stdint.h>\n\n",
        f"#define STP_MAGIC UINT64_C(0x{MAGIC:016x})\n#define STP_FORMAT_VERSION {FORMAT_VERSION}\n",
        f"#define STP_ALIGNMENT {ALIGNMENT}\n#define STP_READ_ALIGNMENT {READ_ALIGNMENT}\n"
        f"#define STP_REQUEST_BYTES {REQUEST_BYTES}\n#define STP_REQUEST_DEPTH {REQUEST_DEPTH}\n"
        f"#define STP_DIM_DEPTH {DIM_DEPTH}\n#define STP_DIM_CODE {DIM_CODE}\n\n",
        _enum("STP_SECTION", (record.name for record in SECTIONS)),
        _enum("STP_ARENA", ARENA_KINDS),
        _enum("STP_SPACE", ARG_SPACES),
        _enum("STP_CALL", CALL_KINDS),
        _enum("STP_REGION", REGION_KINDS),
        _enum("STP_DIM", DIM_OPS),
        "\n/* Element types: X(name, code, bits). The codes are ONNX's. */\n#define STP_DTYPES(X)",
        *(f" \\\n    X({t.name}, {t.onnx}, {t.bits})" for t in DTYPES.values()),
        f"\n#define STP_BOOL {DTYPES['bool'].onnx}\n",
    ]
    for record in (HEADER, SECTION, *(_BY_NAME[r.name] for r in SECTIONS if r.fields)):
        fields = "".join(f"    {_C_TYPES[kind]} {name};\n" for name, kind in record.fields)
        out.append(f"\ntypedef struct stp_{record.name} {{\n{fields}}} stp_{record.name};\n")
        out.append(f'_Static_assert(sizeof(stp_{record.name}) == {record.bytes}, "layout of stp_{record.name}");\n')
    sizes = ", ".join(str(_record_bytes(record)) for record in SECTIONS)
    names = ", ".join(f'"{record.name}"' for record in SECTIONS)
    out.append(f"\n/* Bytes of a record and name of each section. */\n#define STP_RECORD_BYTES {{{sizes}}}\n")
    out.append(f"#define STP_SECTION_NAMES \\\n    {{{names}}}\n\n#endif\n")
    return "".join(out)


if __name__ == "__main__":
    import sys

    sys.stdout.write(c_header())
