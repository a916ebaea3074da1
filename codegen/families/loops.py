"""Loop nests as C: the family that can run every cluster without a heavy root, and the reference for those with one."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.dims import Dim, product, upper
from ...ir.kernel import Axis, Index, Loops, Nest, Read, Stage, Store, walk
from ...ir.machine import Device
from ...ir.types import f32
from ..c_printer import Printer
from ..family import Emitted, Symbols, align64
from .tiles import Tiling, print_tile, tiling

CHUNK = 2048  # elements of the vector axis in one unit of work of an elementwise nest
FOLD_CHUNK = 64  # the same where each element folds a window
LINE = 64  # bytes of a line of the caches
SMALL = 8  # a constant extent below this is not worth vectors


def workspace_bytes(kernel: Loops, symbols: Symbols) -> int:
    """Bytes of row scratch that one thread needs."""
    return sum(align64(upper(o.elements, symbols) * o.dtype.bytes) for o in kernel.operands if o.role == "row")


def emit_loops(kernel: Loops, name: str, symbols: Symbols, device: Device) -> Emitted:
    """The C function of a loop kernel. Arguments: workspace, then the in and out operands in order."""
    order = tuple(symbols)
    pointers = [f"{'r' if o.role == 'row' else 'a'}{k}" for k, o in enumerate(kernel.operands)]
    printer = Printer(kernel.operands, order, pointers)
    past = past_caches(kernel, symbols, device)
    for operand, elements in past.items():
        printer.past[operand] = f"{printer.dim(elements)} >= {past_elements(device)}"
    for nest in kernel.nests:
        with printer.out.block(""):
            printer.memo.append({})
            _print_nest(printer, nest)
            printer.memo.pop()
    return Emitted(
        "\n".join(
            [
                f"void {name}(void *const *args, const int64_t *dims, int part, int parts)",
                "{",
                "    (void)dims, (void)args, (void)part, (void)parts;",
                *(f"    {line}" for line in printer.dim_lines(order)),
                *_pointer_lines(kernel, symbols),
                printer.out.text,
                *(["    vf_settle();"] if past else []),
                "}",
            ]
        ),
        workspace_bytes(kernel, symbols),
    )


def past_caches(kernel: Loops, symbols: Symbols, device: Device) -> dict[int, Dim]:
    """The outputs that are written past the caches, into which their lines would only be read and soon be pushed out again: what
    may have at least half the bytes of the largest cache. With how many elements each has. None of what the kernel reads again, and
    only where a vector is a whole line: of one that is written in pieces, those that wait may be put out one by one."""
    if f32.bytes * device.lanes != LINE:
        return {}
    elements = past_elements(device)
    stages = [(nest, stage) for nest in kernel.nests for stage in nest.stages]
    read = {e.operand for _, stage in stages for e in walk(stage.value) if isinstance(e, Read)}
    found: dict[int, Dim] = {}
    for nest, stage in stages:
        if not isinstance(stage, Store) or stage.value.dtype != f32 or stage.operand in read:
            continue
        written = product(axis.extent for axis in (*nest.outer, *stage.axes))
        if kernel.operands[stage.operand].role == "out" and upper(written, symbols) >= elements:
            found[stage.operand] = written
    return found


def past_elements(device: Device) -> int:
    """Floats in half of the largest cache; more than there are if none is known."""
    largest = max((cache.bytes for cache in device.caches), default=1 << 62)
    return largest // 2 // f32.bytes


def _pointer_lines(kernel: Loops, symbols: Symbols) -> list[str]:
    lines, offset = [], 0
    need = workspace_bytes(kernel, symbols)
    if need:
        lines.append("    char *const scratch = (char *)args[0] + part * st_plan_workspace;")
    for k, operand in enumerate(kernel.operands):
        if operand.role == "row":
            lines.append(f"    {operand.dtype.c} *const r{k} = ({operand.dtype.c} *)(scratch + {offset});")
            offset += align64(upper(operand.elements, symbols) * operand.dtype.bytes)
        else:
            const = "const " if operand.role == "in" else ""
            lines.append(f"    {const}{operand.dtype.c} *const a{k} = ({const}{operand.dtype.c} *)args[{k + 1}];")
    return [*lines, *(f"    (void)a{k};" for k, o in enumerate(kernel.operands) if o.role != "row")]


# -- which axis becomes the vector axis ----------------------------------------------------------------------------


def inner_axes(nest: Nest) -> tuple[Axis, ...]:
    return next((s.axes for s in nest.stages if s.axes), ())


def _accesses(nest: Nest) -> list[Index]:
    found = [e.index for s in nest.stages for e in walk(s.value) if isinstance(e, Read)]
    return found + [s.index for s in nest.stages if isinstance(s, Store)]


def legal(printer: Printer, stages: Sequence[Stage], axis: Axis, outer: bool) -> bool:
    for stage in stages:
        if not outer and not stage.axes:
            continue  # printed as scalar code between the loops
        if stage.value.dtype != f32 and not isinstance(stage, Store):
            return False
        if not printer.can_vectorise(printer.held(stage), axis.name, outer):
            return False
        if isinstance(stage, Store):
            if not printer.store_has_vectors(stage, axis.name):
                return False
        elif not outer and (stage.function == "prod" or stage.running):
            return False
    return True


def vector_axis(printer: Printer, nest: Nest) -> tuple[Axis, bool] | None:
    """The axis to run vectors over and whether it is an outer one; None for scalar loops."""
    inner = inner_axes(nest)
    has_rows = any(isinstance(s, Store) and printer.operands[s.operand].role == "row" for s in nest.stages)
    choices: list[tuple[int, Axis, bool]] = []
    accesses = _accesses(nest)

    def score(axis: Axis) -> int:
        steps = [i.coefficient(axis.name) for i in accesses]
        return sum(3 * (s == 1) - 2 * (s != 1 and s != 0) for s in steps)

    if inner and any(legal(printer, group, inner[-1], False) for axes, group in printer.groups(nest.stages) if axes):
        choices.append((score(inner[-1]) + 1, inner[-1], False))
    if not has_rows:
        for axis in reversed(nest.outer):
            if legal(printer, nest.stages, axis, True):
                choices.append((score(axis), axis, True))
    choices = [c for c in choices if not (isinstance(c[1].extent, int) and c[1].extent < SMALL)]
    if not choices:
        return None
    best = max(choices, key=lambda c: c[0])
    return best[1], best[2]


# -- printing ------------------------------------------------------------------------------------------------------


def decode(printer: Printer, axes: Sequence[Axis], unit: str) -> None:
    """Loop axes from a flat work number."""
    rest = unit
    for position, axis in enumerate(reversed(axes)):
        if position + 1 == len(axes):
            printer.out.put(f"const int64_t {axis.name} = {rest};")
            return
        extent = printer.dim(axis.extent)
        printer.out.put(f"const int64_t {axis.name} = ({rest}) % ({extent});")
        following = printer.fresh("u")
        printer.out.put(f"const int64_t {following} = ({rest}) / ({extent});")
        rest = following


def _print_nest(printer: Printer, nest: Nest) -> None:
    chosen = vector_axis(printer, nest)
    folds = bool(inner_axes(nest))
    if folds and (chosen is None or not chosen[1]):
        _print_rows(printer, nest, vector=chosen is not None)
        return
    if not nest.outer:
        with printer.out.block("if (part == 0)"):
            for axes, group in printer.groups(nest.stages):
                printer.scalar_group(axes, group)
        return
    axis = chosen[0] if chosen else longest_contiguous(nest)
    others = [a for a in nest.outer if a != axis]
    if chosen is not None and (tiles := tiling(printer, nest, axis)) is not None:
        _print_tiled(printer, nest, axis, tiles, [a for a in others if a != tiles.axis])
        return
    chunk = FOLD_CHUNK if folds else CHUNK
    extent = printer.dim(axis.extent)
    printer.out.put(f"const int64_t chunks = ({extent} + {chunk - 1}) / {chunk};")
    total = printer.dim(product(a.extent for a in others))
    printer.out.put(f"const int64_t units = {total} * chunks;")
    with _units(printer):
        start, end = _stretch(printer, "unit % chunks", chunk, extent)
        if others:
            printer.out.put("const int64_t place = unit / chunks;")
            decode(printer, others, "place")
        if chosen is None:
            with printer.out.block(f"for (int64_t {axis.name} = {start}; {axis.name} < {end}; {axis.name}++)"):
                printer.memo.append({})
                for axes, group in printer.groups(nest.stages):
                    printer.scalar_group(axes, group)
                printer.memo.pop()
        else:
            printer.outer_vector = True
            hoisted = () if folds else nest.stages
            printer.vector_loop(
                axis.name, start, end, lambda u: printer.outer_vector_stages(nest.stages), stages=hoisted
            )
            printer.outer_vector = False


def _stretch(printer: Printer, number: str, size: int, extent: str) -> tuple[str, str]:
    """Declare where stretch `number` of an axis begins and ends; the last one may be shorter than `size`."""
    start, end = printer.fresh("from"), printer.fresh("to")
    printer.out.put(f"const int64_t {start} = {number} * {size};")
    printer.out.put(f"const int64_t {end} = {start} + {size} < {extent} ? {start} + {size} : {extent};")
    return start, end


def _print_tiled(printer: Printer, nest: Nest, axis: Axis, tiles: Tiling, others: Sequence[Axis]) -> None:
    """A unit of work is a stretch of the vector axis by the length of a tile along the axis it is read."""
    extent, along = printer.dim(axis.extent), printer.dim(tiles.axis.extent)
    printer.out.put(f"const int64_t chunks = ({extent} + {tiles.width - 1}) / {tiles.width};")
    printer.out.put(f"const int64_t stretches = ({along} + {tiles.length - 1}) / {tiles.length};")
    total = printer.dim(product(a.extent for a in others))
    printer.out.put(f"const int64_t units = {total} * stretches * chunks;")
    with _units(printer):
        start, end = _stretch(printer, "unit % chunks", tiles.width, extent)
        first, last = _stretch(printer, "unit / chunks % stretches", tiles.length, along)
        if others:
            printer.out.put("const int64_t place = unit / chunks / stretches;")
            decode(printer, others, "place")
        printer.outer_vector = True
        printer.vector_loop(axis.name, start, end, lambda u: print_tile(printer, nest.stages, tiles, first, last))
        printer.outer_vector = False


def longest_contiguous(nest: Nest) -> Axis:
    """For scalar loops: the axis the store walks with step 1, else the last."""
    for axis in reversed(nest.outer):
        if all(s.index.coefficient(axis.name) == 1 for s in nest.stages if isinstance(s, Store)):
            return axis
    return nest.outer[-1]


class _units:
    """for (unit = this part's share of units)"""

    def __init__(self, printer: Printer) -> None:
        self.printer = printer

    def __enter__(self) -> None:
        self.printer.out.put("const int64_t last = units * (part + 1) / parts;")
        self.printer.out.put("for (int64_t unit = units * part / parts; unit < last; unit++) {")
        self.printer.out.depth += 1
        self.printer.memo.append({})

    def __exit__(self, *_: object) -> None:
        self.printer.memo.pop()
        self.printer.out.depth -= 1
        self.printer.out.put("}")


def _print_rows(printer: Printer, nest: Nest, vector: bool) -> None:
    total: Dim = product(a.extent for a in nest.outer)
    printer.out.put(f"const int64_t units = {printer.dim(total)};")
    with _units(printer):
        decode(printer, nest.outer, "unit")
        for axes, group in printer.groups(nest.stages):
            if vector and axes and legal(printer, group, axes[-1], False):
                printer.inner_vector_group(axes, group)
            else:
                printer.scalar_group(axes, group)
