"""Ops that are no loop nests: each is a template of its own, in `codegen/routines`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ...ir.dims import Dim, Expr, product, typical, upper
from ...ir.kernel import Dense, Kernel, Routine
from ...ir.machine import Device
from ...ir.ops import OPS
from ...ir.types import f64
from ..c_printer import Printer
from ..c_scalar import literal
from ..family import Emitted, Packing, Plain, Symbols, align64
from ..render import render
from ..routines import NEEDS
from ..routines.arrays import Array
from ..terms import Terms


class RoutineFamily(Plain):
    """One function for each op, element type and shape. Dims that it sets are its last arguments."""

    name = "routine"

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        return isinstance(kernel, Routine) and kernel.op in NEEDS

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        return ()

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        assert isinstance(kernel, Routine)
        return align64(max(NEEDS[kernel.op].scratch(kernel, lambda dim: max(upper(dim, symbols), 0)), 0))

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        assert isinstance(kernel, Routine)
        needs, found = NEEDS[kernel.op], Terms()

        def size(dim: Dim) -> int:
            return max(typical(dim, symbols), 0)

        work = needs.work(kernel, size)
        for name, each in (("s_ld", 1), ("s_op", 2)):
            found.add(name, each * work)
        found.add("s_st", sum(size(product(dense.shape)) for dense in kernel.results if dense is not None))
        found.units = max(needs.units(kernel, size), 1)
        return found

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        assert isinstance(kernel, Routine)
        order = tuple(symbols)
        printer = Printer(kernel.operands, order, [f"a{k}" for k in range(len(kernel.operands))])
        row = OPS[kernel.op]
        given = {**{key: spec.default for key, spec in row.attrs.items()}, **dict(kernel.attrs)}
        sets = [key for key, spec in row.attrs.items() if spec.kind == "sets"]
        absent = [None] * (row.arity[1] - len(kernel.inputs))
        body = render(
            f"{kernel.op}.c.j2",
            inputs=[_array(dense, kernel, printer) for dense in (*kernel.inputs, *absent)],
            results=[_array(dense, kernel, printer) for dense in kernel.results],
            attrs=SimpleNamespace(**{key: _value(value, printer) for key, value in given.items() if key not in sets}),
            counts={key: f"*(int64_t *)args[{len(kernel.operands) + 1 + k}]" for k, key in enumerate(sets)},
            room={key: symbols[str(given[key])].max for key in sets},
        )
        pointers = _pointers(kernel, printer)
        lines = [
            f"void {name}(void *const *args, const int64_t *dims, int part, int parts)",
            "{",
            "    (void)dims, (void)part, (void)parts;",
            *(f"    {line}" for line in printer.dim_lines(order)),
            *(f"    {line}" for line in pointers),
            "    char *const scratch = (char *)args[0] + part * st_plan_workspace;",
            "    (void)scratch;",
            *(f"    {line}" if line and not line.startswith("#") else line for line in body.splitlines()),
            "}",
        ]
        return Emitted("\n".join(lines), self.workspace(kernel, packed, symbols, device))


def _array(dense: Dense | None, kernel: Routine, printer: Printer) -> Array | None:
    if dense is None:
        return None
    dtype = kernel.operands[dense.operand].dtype
    side = "x" if kernel.operands[dense.operand].role == "in" else "y"
    number = (kernel.inputs if side == "x" else kernel.results).index(dense)
    shape = tuple(f"({printer.dim(extent)})" for extent in dense.shape)
    extents = tuple(extent if isinstance(extent, int) else None for extent in dense.shape)
    return Array(f"{side}{number}", dtype, shape, extents, f"({printer.dim(product(dense.shape))})")


def _pointers(kernel: Routine, printer: Printer) -> list[str]:
    lines = []
    for side, qualifier, row in (("x", "const ", kernel.inputs), ("y", "", kernel.results)):
        for number, dense in enumerate(row):
            if dense is None or row.index(dense) != number:
                continue
            c, place = kernel.operands[dense.operand].dtype.c, f"args[{dense.operand + 1}]"
            offset = f" + ({printer.dim(dense.offset)})" if dense.offset != 0 else ""
            lines.append(f"{qualifier}{c} *const {side}{number} = ({qualifier}{c} *){place}{offset};")
            lines.append(f"(void){side}{number};")
    return lines


def _value(value: Any, printer: Printer) -> Any:
    """An attribute for a template."""
    if isinstance(value, tuple):
        return tuple(_value(part, printer) for part in value)
    if isinstance(value, Expr):
        return f"({printer.dim(value)})"
    if isinstance(value, float):
        return literal(value, f64)
    return value
