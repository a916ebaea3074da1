"""What matmul, convolution and attention share: the callbacks (epilogue, prologue, score) and the call of the family's function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...ir.dims import Dim
from ...ir.kernel import Accumulator, Apply, Axis, Const, Contraction, Conv, Index, Matmul, Read, Scalar, Store
from ...ir.lower_root import merged_stride
from ...ir.types import bf16, bool_, f32
from ..c_printer import Printer
from ..c_scalar import literal
from ..family import Emitted, Symbols
from ..render import render
from .loops import decode


@dataclass
class CallParts:
    """Everything the template needs that differs between the families."""

    struct: str
    function: str
    fields: list[tuple[str, str]]
    workspace: int
    store: str = ""
    load: str = ""
    score: str = ""
    loops: tuple[Axis, ...] = ()
    moving: list[tuple[str, str]] = field(default_factory=list)
    before: str = ""  # what several threads call and meet behind, before `function`


def new_printer(kernel: Contraction, symbols: Symbols) -> Printer:
    return Printer(kernel.operands, tuple(symbols), [f"a{k}" for k in range(len(kernel.operands))])


def pointer_lines(kernel: Contraction) -> list[str]:
    lines = []
    for k, operand in enumerate(kernel.operands):
        const = "const " if operand.role == "in" else ""
        lines.append(f"{const}{operand.dtype.c} *const a{k} = ({const}{operand.dtype.c} *)args[{k + 1}];")
        lines.append(f"(void)a{k};")
    return lines


def _finish(printer: Printer, kernel: Contraction, loops: Sequence[Axis], symbols: Symbols) -> str:
    head = [*printer.dim_lines(tuple(symbols)), *pointer_lines(kernel)]
    head += [f"const int64_t {axis.name} = c->{axis.name}; (void){axis.name};" for axis in loops]
    return "\n".join([*(f"    {line}" for line in head), printer.out.text])


def vector_stores(printer: Printer, stores: Sequence[Store], axis: str) -> bool:
    """Whether the epilogue can run over vectors of columns."""
    return all(
        printer.can_vectorise(printer.held(s), axis, False)
        and printer.store_has_vectors(s, axis)
        and s.value.dtype != bool_
        for s in stores
    )


def print_rows(
    printer: Printer,
    rows: Sequence[Axis],
    first: str,
    count: str,
    column: str,
    start: str,
    end: str,
    pointer: str,
    kind: str,
    stores: Sequence[Store],
) -> None:
    """for each row of a tile: the stores over columns start .. end; `pointer` is the C of the tile row of `kind`, less `start`."""
    with printer.out.block(f"for (int64_t r = 0; r < {count}; r++)"):
        printer.memo.append({})
        decode(printer, rows, f"{first} + r")
        printer.out.put(f"{kind} *const t = {pointer};")
        printer.out.put("(void)t;")
        printer.accumulator = f"t + {column}"
        if vector_stores(printer, stores, column):

            def body(_: int) -> None:
                for store in stores:
                    printer.store(store, vector=True)

            printer.vector_loop(column, start, end, body, 1, stores)
        else:
            with printer.out.block(f"for (int64_t {column} = {start}; {column} < {end}; {column}++)"), printer.scope():
                for store in stores:
                    printer.store(store, vector=False)
        printer.memo.pop()


def store_callback(
    kernel: Contraction,
    symbols: Symbols,
    batch: Sequence[Axis],
    rows: Sequence[Axis],
    column: Axis,
    loops: Sequence[Axis] = (),
) -> str:
    """The body of the epilogue callback."""
    printer = new_printer(kernel, symbols)
    decode(printer, batch, "batch0")
    kind = kernel.sums.c
    tile = f"({kind} *)tile + r * ld - col0"
    print_rows(printer, rows, "row0", "rows", column.name, "col0", "col0 + cols", tile, kind, kernel.epilogue)
    return _finish(printer, kernel, loops, symbols)


def load_callback(
    kernel: Contraction,
    symbols: Symbols,
    value: Scalar,
    batch: Sequence[Axis],
    rows: Sequence[Axis],
    depth: Axis,
    loops: Sequence[Axis],
) -> str:
    """The body of the prologue callback: one row of the left operand."""
    printer = new_printer(kernel, symbols)
    decode(printer, batch, "batch0")
    decode(printer, rows, "row0")
    name = depth.name
    if printer.can_vectorise(value, name, False):

        def body(_: int) -> None:
            code = printer.vector(value)
            place = f"out + ({name} - k0)"
            tail = printer.tail
            printer.out.put(f"vf_store_n({place}, {code}, {tail});" if tail else f"vf_store({place}, {code});")

        printer.vector_axis = name
        printer.hoist(value)
        printer.vector_loop(name, "k0", "k0 + count", body)
    else:
        with printer.out.block(f"for (int64_t {name} = k0; {name} < k0 + count; {name}++)"), printer.scope():
            printer.out.put(f"out[{name} - k0] = {printer.scalar(value)};")
    return _finish(printer, kernel, loops, symbols)


def score_callback(kernel: Contraction, symbols: Symbols, value: Scalar, axes: Sequence[Axis]) -> str:
    """The body of the attention score callback; axes are batch, head, query."""
    printer = new_printer(kernel, symbols)
    batch, head, query = axes
    printer.out.put(f"const int64_t {batch.name} = batch0, {head.name} = head0;")
    printer.out.put(f"(void){batch.name}, (void){head.name};")
    printer.pointers = (*printer.pointers, "scores")
    with printer.out.block("for (int64_t r = 0; r < queries; r++)"):
        printer.memo.append({})
        printer.out.put(f"const int64_t {query.name} = query0 + r;")
        printer.out.put(f"(void){query.name};")
        printer.out.put("float *const t = scores + r * ld - key0;")
        printer.accumulator = "t + j"
        if printer.can_vectorise(value, "j", False):

            def body(_: int) -> None:
                code = printer.vector(value)
                tail = printer.tail
                printer.out.put(f"vf_store_n(t + j, {code}, {tail});" if tail else f"vf_store(t + j, {code});")

            printer.vector_axis = "j"
            printer.hoist(value)
            printer.vector_loop("j", "key0", "key0 + keys", body)
        else:
            with printer.out.block("for (int64_t j = key0; j < key0 + keys; j++)"), printer.scope():
                printer.out.put(f"t[j] = {printer.scalar(value)};")
        printer.memo.pop()
    return _finish(printer, kernel, (), symbols)


def emit_call(kernel: Contraction, name: str, symbols: Symbols, parts: CallParts, printer: Printer) -> Emitted:
    """The whole C of a contraction; `printer` collected what the fields use: symbols, and lines in front of the call."""
    text = render(
        "contraction.c.j2",
        name=name,
        struct=parts.struct,
        function=parts.function,
        before=parts.before,
        fields=parts.fields,
        store=parts.store,
        load=parts.load,
        score=parts.score,
        loops=[axis.name for axis in parts.loops],
        loop_extents=[(axis.name, printer.dim(axis.extent)) for axis in parts.loops],
        moving=parts.moving,
        lines=[*printer.dim_lines(tuple(symbols)), *pointer_lines(kernel), *map(str.strip, printer.out.rows)],
    )
    return Emitted(text, parts.workspace, bool(parts.before))


@dataclass(frozen=True)
class Finish:
    """An epilogue that kernels apply in registers (`st_finish`): the sum, with a bias by column and a matrix of the rows' stride
    added, within bounds."""

    store: Store
    bias: Read | None
    add: Read | None
    low: float
    high: float
    narrow: bool = False  # the result is stored as bf16


def finish_of(kernel: Contraction) -> Finish | None:
    """The epilogue of a convolution as what st_conv_f32 and st_depthwise_f32 apply themselves, if it is no more than that."""
    root, (store, *others) = kernel.root, kernel.epilogue
    if not isinstance(root, Conv) or len(root.rows) != 1:
        return None
    row, column = root.rows[0].name, root.column.name
    low, high, value = -math.inf, math.inf, store.value
    narrow = is_depthwise(root) and value.dtype == bf16
    if narrow and isinstance(value, Apply) and value.function == "cast":
        value = value.args[0]
    if others or kernel.sums != f32 or value.dtype != f32 or not _dense(store.index, row, column):
        return None
    while isinstance(value, Apply) and value.function in ("min", "max"):
        bound = next((x for x in value.args if isinstance(x, Const)), None)
        rest = next((x for x in value.args if not isinstance(x, Const)), None)
        if bound is None or rest is None or value.dtype != f32 or math.isnan(bound.value):
            return None
        if value.function == "min":
            high = min(high, bound.value)
        else:
            low = max(low, bound.value)
        value = rest
    if low > high:
        return None
    reads: dict[bool, Read] = {}
    while isinstance(value, Apply) and value.function == "add" and value.dtype == f32:
        read = next((x for x in value.args if isinstance(x, Read)), None)
        term = next((x for x in value.args if not isinstance(x, Read)), None)
        if read is None or term is None or kernel.operands[read.operand].dtype != f32:
            return None
        moves = read.index.coefficient(row) != 0
        # the bias is added first
        if moves in reads or (moves and False in reads) or not _dense(read.index, row if moves else "", column):
            return None
        reads[moves] = read
        value = term
    if not isinstance(value, Accumulator) or (True in reads and is_depthwise(root)):
        return None
    return Finish(store, reads.get(False), reads.get(True), low, high, narrow)


def is_depthwise(root: Conv) -> bool:
    return root.groups > 1 and root.size[3] == 1 and root.column.extent == root.groups


def _dense(index: Index, row: str, column: str) -> bool:
    """Whether columns lie one after the other, and nothing moves but them and the rows."""
    axes = {axis for axis, _ in index.terms}
    return index.coefficient(column) == 1 and axes <= {row, column} and not index.gathers


def finish_fields(finish: Finish, row: str, printer: Printer) -> list[tuple[str, str]]:
    """The fields of a call whose kernel applies the epilogue."""

    def place(operand: int, index: Index) -> str:
        return f"a{operand} + {printer.dim(index.base)}"

    fields = [
        ("c_narrow" if finish.narrow else "c", place(finish.store.operand, finish.store.index)),
        ("c_row", printer.dim(finish.store.index.coefficient(row))),
        ("finish.on", "1"),
    ]
    if finish.bias:
        fields.append(("finish.bias", place(finish.bias.operand, finish.bias.index)))
    if finish.add:
        fields.append(("finish.add", place(finish.add.operand, finish.add.index)))
        fields.append(("finish.add_row", printer.dim(finish.add.index.coefficient(row))))
    return [*fields, ("finish.low", literal(finish.low, f32)), ("finish.high", literal(finish.high, f32))]


@dataclass(frozen=True)
class NarrowRows:
    """A left operand of bf16 whose rows lie along the depth: what of a prologue that only widens it is left."""

    operand: int
    base: Dim
    loops: tuple[Dim, ...]  # strides
    batch: Dim
    row: Dim


def narrow_rows(root: Matmul) -> NarrowRows | None:
    """The left operand of a product as rows of bf16, if that is what its prologue reads."""
    match root.prologue:
        case Apply("cast", (Read(operand, index, dtype),), to) if dtype == bf16 and to == f32 and not index.gathers:
            row = merged_stride(index, root.rows)
            step = index.coefficient(root.depth.name)
            if row is None or (step != 1 and root.depth.extent != 1):
                return None
            loops = tuple(index.coefficient(axis.name) for axis in root.loops)
            return NarrowRows(operand, index.base, loops, index.coefficient(root.batch.name), row)
    return None


def is_accumulator(store: Store) -> bool:
    return isinstance(store.value, Accumulator)
