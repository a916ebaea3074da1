"""Matrix products: csrc/kernels/gemm.c with generated prologue and epilogue."""

from __future__ import annotations

from dataclasses import replace

from ...ir.dims import Dim, product, upper
from ...ir.kernel import Axis, Contraction, Kernel, Matmul, Read, walk
from ...ir.machine import Device
from ...ir.types import f32, i32
from ..c_printer import Printer
from ..facts import (
    PRODUCT_TILES,
    TILE_PANEL,
    gemm_workspace,
    gemm_workspace_up_to,
    may_share_rows,
    tile_extension,
    tile_least_depth,
    whole_workspace,
)
from ..family import Emitted, Packing, Plain, Symbols
from ..pack import PANELS, Layout
from ..terms import Terms
from ..terms_heavy import matmul_terms, matmul_tile_terms, whole_matmul_terms
from .contraction import CallParts, emit_call, is_accumulator, load_callback, narrow_rows, new_printer, store_callback


def _root(kernel: Kernel) -> Matmul:
    assert isinstance(kernel, Contraction) and isinstance(kernel.root, Matmul)
    return kernel.root


class MatmulFamily(Plain):
    """f32 products with the right operand packed ahead (a weight) or strided (an activation)."""

    name = "matmul"
    pairs = False  # of bf16 along the depth
    parts = 0  # of bf16 in tiles, if any
    sums = f32
    struct, function = "st_gemm", "st_gemm_f32"

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        return isinstance(kernel, Contraction) and isinstance(kernel.root, Matmul) and kernel.sums == self.sums

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        root = _root(kernel)
        b, lead = root.b, len(root.loops)
        sizes = (root.batch.extent, root.depth.extent, root.column.extent, b.offset, *b.strides)
        if b.operand not in weights or any(not isinstance(d, int) for d in sizes if d is not root.batch.extent):
            return ()
        if any(stride != 0 for stride in b.strides[:lead]):
            return ()
        matrices = root.batch.extent if b.strides[lead] != 0 else 1
        assert isinstance(kernel, Contraction)
        if not isinstance(matrices, int) or _reads(kernel)[b.operand]:
            return ()
        dims = (matrices, root.depth.extent, root.column.extent)
        return (Packing(b.operand, str(self._layout(Layout(PANELS[device.isa], b.offset, dims, b.strides[lead:])))),)  # type: ignore[arg-type]

    def _layout(self, plain: Layout) -> Layout:
        """How the right operand is packed, from its plain panels."""
        return replace(plain, pairs=self.pairs)

    def _marks(self, root: Matmul, printer: Printer) -> list[tuple[str, str]]:
        """The fields that say how the right operand is packed."""
        return [("b_packed", "1"), *([("pairs", "1")] if self.pairs else [])]

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        root = _root(kernel)
        m, n, k = (upper(d, symbols) for d in (_extent(root.rows), root.column.extent, root.depth.extent))
        is_packed = root.b.operand in packed
        if isinstance(root.depth.extent, int):
            return gemm_workspace(device.isa, m, n, k, is_packed, self.pairs, self.parts)
        return gemm_workspace_up_to(device.isa, m, n, k, is_packed)

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        assert isinstance(kernel, Contraction)
        if self.parts:
            return matmul_tile_terms(kernel, symbols, device.isa, self.parts)
        return matmul_terms(kernel, _root(kernel).b.operand in packed, symbols, device.isa, self.pairs)

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        root = _root(kernel)
        assert isinstance(kernel, Contraction)
        printer = new_printer(kernel, symbols)
        lead = len(root.loops)
        is_packed = root.b.operand in packed
        dim = printer.dim
        batch = (root.batch,) if root.batch.extent != 1 else ()
        fields = [
            ("batch", dim(root.batch.extent)),
            ("m", dim(_extent(root.rows))),
            ("n", dim(root.column.extent)),
            ("k", dim(root.depth.extent)),
        ]
        moving: list[tuple[str, str]] = []

        def place(base: Dim, strides: tuple[Dim, ...]) -> str:
            terms = [dim(base), *(f"{a.name} * {dim(s)}" for a, s in zip(root.loops, strides, strict=False) if s != 0)]
            return " + ".join(terms)

        if self.parts == 1 and (rows := narrow_rows(root)) is not None:
            moving.append(("narrow", f"a{rows.operand} + {place(rows.base, rows.loops)}"))
            fields += [("a_batch", dim(rows.batch)), ("a_row", dim(rows.row)), ("a_col", "1")]
            load = ""
        elif root.prologue is None:
            a = root.a
            moving.append(("a", f"a{a.operand} + {place(a.offset, a.strides[:lead])}"))
            steps = zip(("a_batch", "a_row", "a_col"), a.strides[lead:], strict=True)
            fields += [(name_, dim(step)) for name_, step in steps]
            load = ""
        else:
            load = load_callback(kernel, symbols, root.prologue, batch, root.rows, root.depth, root.loops)
            fields += [("load", f"{name}_load"), ("load_ctx", "&context")]
        if is_packed:
            # one packed matrix after the other; shared by the batch when B does not depend on it
            (packing,) = self.packings(kernel, packed, device)
            layout = Layout.parse(packing.format)
            size = layout.elements // layout.dims[0]
            moving.append(("b", f"a{root.b.operand}"))
            fields += [("b_batch", dim(size) if root.b.strides[lead] != 0 else "0"), *self._marks(root, printer)]
        else:
            moving.append(("b", f"a{root.b.operand} + {place(root.b.offset, root.b.strides[:lead])}"))
            steps = zip(("b_batch", "b_row", "b_col"), root.b.strides[lead:], strict=True)
            fields += [(name_, dim(step)) for name_, step in steps]
        store = ""
        if _writes_rows(kernel, root):
            (only,) = kernel.epilogue
            coefficient = only.index.coefficient
            loops = tuple(coefficient(axis.name) for axis in root.loops)
            moving.append(("c", f"a{only.operand} + {place(only.index.base, loops)}"))
            fields.append(("c_batch", dim(coefficient(root.batch.name)) if batch else "0"))
            fields.append(("c_row", dim(coefficient(root.rows[-1].name))))
        else:
            store = store_callback(kernel, symbols, batch, root.rows, root.column, root.loops)
            fields += [("store", f"{name}_store"), ("store_ctx", "&context")]
        need = self.workspace(kernel, packed, symbols, device)
        # rows of the left operand as it is, of one matrix, are split once for all threads
        one = root.prologue is None and not root.loops and not batch
        before = "st_gemm_rows" if self.parts and one and may_share_rows(_extent(root.rows)) else ""
        parts = CallParts(self.struct, self.function, fields, need, store, load, "", root.loops, moving, before)
        return emit_call(kernel, name, symbols, parts, printer)


class PairsFamily(MatmulFamily):
    """Products whose operands are rounded to bf16 and multiplied in pairs, with sums in f32: half the bytes of a weight, and on
    processors with the instruction for it up to twice the arithmetic."""

    name = "matmul_bf16"
    mode = "bf16"
    packed_only = True
    pairs = True

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        """The left operand's rows are rounded as they are read, so they must lie along the depth."""
        if not super().accepts(kernel, device):
            return False
        root = _root(kernel)
        return root.prologue is not None or root.a.strides[-1] == 1


class WholeFamily(MatmulFamily):
    """Products of whole numbers of 8 bits, with sums in i32: a quarter of the bytes of f32, and on processors with the instruction
    for it up to four times the arithmetic."""

    name = "matmul_i8"
    mode = "i8"
    packed_only = True
    sums = i32
    struct, function = "st_whole_gemm", "st_gemm_i8"

    def _layout(self, plain: Layout) -> Layout:
        return replace(plain, quads=True)

    def _marks(self, root: Matmul, printer: Printer) -> list[tuple[str, str]]:
        assert root.zero is not None
        return [("zero", printer.scalar(root.zero))]

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        return whole_workspace(device.isa, upper(_root(kernel).depth.extent, symbols))

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        assert isinstance(kernel, Contraction)
        return whole_matmul_terms(kernel, symbols, device.isa)


class TilesFamily(MatmulFamily):
    """Products on tiles (AMX): of bf16, each operand a sum of one, two or three of them, with sums in f32; of bytes, for operands
    in block floating point."""

    packed_only = True

    def __init__(self, mode: str) -> None:
        self.mode, self.parts = mode, PRODUCT_TILES[mode]
        self.name = f"matmul_tiles_{mode}"
        self.extension = tile_extension(self.parts)

    def _layout(self, plain: Layout) -> Layout:
        return replace(plain, panel=TILE_PANEL, tiles=self.parts)

    def _marks(self, root: Matmul, printer: Printer) -> list[tuple[str, str]]:
        return [("b_packed", "1"), ("tiles", str(self.parts))]

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        """A depth of a few elements would be mostly padding, and no more exact than f32."""
        if not super().accepts(kernel, device):
            return False
        depth = _root(kernel).depth.extent
        return isinstance(depth, int) and depth >= tile_least_depth(self.parts)

    def narrow(self, kernel: Kernel) -> frozenset[int]:
        if self.parts > 1 or not isinstance(kernel, Contraction) or not isinstance(kernel.root, Matmul):
            return frozenset()
        root = kernel.root
        if root.prologue is not None:
            rows = narrow_rows(root)
            return frozenset() if rows is None else frozenset({rows.operand})
        return frozenset({root.a.operand} if root.a.strides[-1] == 1 else {})


def _extent(rows: tuple[Axis, ...]) -> Dim:
    return product(axis.extent for axis in rows)


def _reads(kernel: Contraction) -> list[bool]:
    """Which operands the epilogue or prologue read, beside the root."""
    values = [s.value for s in kernel.epilogue]
    root = kernel.root
    if isinstance(root, Matmul):
        values += [root.prologue] if root.prologue is not None else []
    read = {e.operand for v in values for e in walk(v) if isinstance(e, Read)}
    if isinstance(root, Matmul) and root.prologue is None:
        read.add(root.a.operand)
    return [k in read for k in range(len(kernel.operands))]


def _writes_rows(kernel: Contraction, root: Matmul) -> bool:
    """Whether the epilogue is nothing but a row-major store that the family does itself."""
    if len(kernel.epilogue) != 1 or len(root.rows) != 1:
        return False
    (store,) = kernel.epilogue
    step = store.index.coefficient(root.column.name)
    return is_accumulator(store) and (step == 1 or root.column.extent == 1)
