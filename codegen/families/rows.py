"""Rows of a weight that stays in storage: embedding lookups whose kernel reads each row by itself.

The weight's argument is an `st_source` instead of a pointer (csrc/include/kernel_abi.h). Nothing else of the weight is ever in
memory, so a table of any size costs the plan one row and what alignment needs, for each thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.dims import product, typical
from ...ir.kernel import Axis, Kernel, Loops, Read, Scalar, Store, walk
from ...ir.machine import Device
from ...ir.plan import READ_ALIGNMENT
from ..c_printer import Printer
from ..family import Emitted, Packing, Plain, Symbols
from ..terms import Terms
from .loops import decode

BATCH = 64  # rows read side by side: ST_SOURCE_BATCH


@dataclass(frozen=True)
class Lookup:
    """out[rows.., column] = table[number(rows..) * columns + column]: what a kernel of this family does."""

    table: int
    rows: tuple[Axis, ...]
    column: Axis
    number: Scalar
    store: Store
    row_bytes: int


def lookup_of(kernel: Kernel) -> Lookup | None:
    """The lookup that a kernel is, where whole rows, which lie together in the table and in the result, are copied."""
    if not isinstance(kernel, Loops) or len(kernel.nests) != 1 or len(kernel.nests[0].stages) != 1:
        return None
    (nest,) = kernel.nests
    (store,) = nest.stages
    if not isinstance(store, Store) or store.axes or not isinstance(store.value, Read) or store.index.gathers:
        return None
    read = store.value
    index = read.index
    if index.base != 0 or len(index.gathers) != 1 or len(index.terms) != 1 or index.terms[0][1] != 1:
        return None
    ((number, width),) = index.gathers
    column = next(axis for axis in nest.outer if axis.name == index.terms[0][0])
    parts = [part for part in walk(number) if isinstance(part, Read)]
    if (
        not isinstance(width, int)
        or column.extent != width
        or store.index.coefficient(column.name) != 1
        or kernel.operands[store.operand].dtype != read.dtype
        or any(p.operand == read.operand or p.index.coefficient(column.name) != 0 for p in parts)
    ):
        return None
    rows = tuple(axis for axis in nest.outer if axis != column)
    return Lookup(read.operand, rows, column, number, store, width * read.dtype.bytes)


def storage_bytes(row_bytes: int) -> int:
    """What reading a row that begins anywhere takes from storage, amply."""
    return row_bytes + -row_bytes % READ_ALIGNMENT + READ_ALIGNMENT


class RowsFamily(Plain):
    """Lookups of rows by number."""

    name = "rows"

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        return lookup_of(kernel) is not None

    def direct(self, kernel: Kernel, weights: frozenset[int]) -> tuple[int, ...]:
        """The operand that is read from storage; none where the table is no weight."""
        lookup = lookup_of(kernel)
        return (lookup.table,) if lookup is not None and lookup.table in weights else ()

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        return ()

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        """Bounce buffers: what `st_source_bounce` says, for each row of a batch."""
        lookup = lookup_of(kernel)
        assert lookup is not None
        return BATCH * (storage_bytes(lookup.row_bytes) + READ_ALIGNMENT)

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        """`rows_read` reads of `row_bytes` bytes each; each thread waits for `rows_at_once` of them together."""
        lookup = lookup_of(kernel)
        assert lookup is not None
        rows = typical(product(axis.extent for axis in lookup.rows), symbols)
        found = Terms()
        found.add("rows_read", rows)
        found.add("rows_at_once", BATCH)
        found.add("row_bytes", storage_bytes(lookup.row_bytes))
        found.units = rows
        return found

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        """Rows are shared out among the parts."""
        lookup = lookup_of(kernel)
        assert isinstance(kernel, Loops) and lookup is not None
        order = tuple(symbols)
        printer = Printer(kernel.operands, order, [f"a{k}" for k in range(len(kernel.operands))])
        total = printer.dim(product(axis.extent for axis in lookup.rows))
        printer.out.put(f"const int64_t units = {total}, last = units * (part + 1) / parts;")
        printer.out.put(f"st_row rows[{BATCH}];")
        printer.out.put("int count = 0;")
        with printer.out.block("for (int64_t unit = units * part / parts; unit < last; unit++)"):
            decode(printer, lookup.rows, "unit")
            number = printer.scalar(lookup.number)
            to = f"a{lookup.store.operand} + ({printer.index(lookup.store.index, without=lookup.column.name)})"
            size = lookup.row_bytes
            printer.out.put(f"rows[count++] = (st_row){{(uint64_t){number} * {size}, {to}}};")
            with printer.out.block(f"if (count == {BATCH} || unit + 1 == last)"):
                printer.out.put(f"st_source_rows(args[{lookup.table + 1}], rows, count, {size}, bounce, part);")
                printer.out.put("count = 0;")
        pointers = [
            f"{'const ' if o.role == 'in' else ''}{o.dtype.c} *const a{k} = args[{k + 1}];"
            for k, o in enumerate(kernel.operands)
            if k != lookup.table
        ]
        lines = [
            *printer.dim_lines(order),
            *pointers,
            *(f"(void)a{k};" for k in range(len(kernel.operands)) if k != lookup.table),
            "void *const bounce = (char *)args[0] + part * st_plan_workspace;",
        ]
        text = [
            f"void {name}(void *const *args, const int64_t *dims, int part, int parts)",
            "{",
            "    (void)dims;",
            *(f"    {line}" for line in lines),
            printer.out.text,
            "}",
        ]
        return Emitted("\n".join(text), self.workspace(kernel, packed, symbols, device))
