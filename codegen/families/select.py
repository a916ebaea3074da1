"""Positions at which a condition holds: one pass in order by one thread, which sets a dim of the plan to how many it found."""

from __future__ import annotations

from ...ir.dims import typical
from ...ir.kernel import Kernel, Selection
from ...ir.machine import Device
from ..c_printer import Printer
from ..family import Emitted, Packing, Plain, Symbols
from ..terms import Terms


class SelectFamily(Plain):
    """Generated: the condition is an expression. The last argument points to the dim."""

    name = "select"

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        return isinstance(kernel, Selection)

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        return ()

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        return 0

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        """A scalar load, a test and an addition for each point, and a store."""
        assert isinstance(kernel, Selection)
        points, found = max(typical(kernel.axis.extent, symbols), 0), Terms()
        for name, each in (("s_ld", 1), ("s_op", 2), ("s_st", 1)):
            found.add(name, each * points)
        found.units = 1
        return found

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        """Counts on where there is no room left, so that the runtime sees a value above the dim's bound."""
        assert isinstance(kernel, Selection)
        order = tuple(symbols)
        printer = Printer(kernel.operands, order, [f"a{k}" for k in range(len(kernel.operands))])
        out = next(k for k, operand in enumerate(kernel.operands) if operand.role == "out")
        axis, room = kernel.axis.name, symbols[kernel.count].max
        extent = printer.dim(kernel.axis.extent)
        printer.out.put("int64_t count = 0;")
        with printer.out.block(f"for (int64_t {axis} = 0; {axis} < {extent}; {axis}++)"), printer.scope():
            printer.out.put(f"const int chosen = {printer.scalar(kernel.condition)} != 0;")
            with printer.out.block(f"if (chosen && count < {room})"):
                printer.out.put(f"a{out}[count] = {axis};")
            printer.out.put("count += chosen;")
        printer.out.put(f"*(int64_t *)args[{len(kernel.operands) + 1}] = count;")
        pointers = [
            f"{'const ' if o.role == 'in' else ''}{o.dtype.c} *const a{k} = args[{k + 1}];"
            for k, o in enumerate(kernel.operands)
        ]
        text = [
            f"void {name}(void *const *args, const int64_t *dims, int part, int parts)",
            "{",
            "    (void)dims, (void)parts;",
            "    if (part)",
            "        return;",
            *(f"    {line}" for line in (*printer.dim_lines(order), *pointers)),
            printer.out.text,
            "}",
        ]
        return Emitted("\n".join(text), 0)
