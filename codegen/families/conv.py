"""Channels-last convolutions: csrc/kernels/conv.c (implicit GEMM, dense and grouped), winograd.c and depthwise.c."""

from __future__ import annotations

from dataclasses import replace

from ...ir.dims import product
from ...ir.kernel import Contraction, Conv, Kernel
from ...ir.machine import Device
from ...ir.types import DType, bf16, f32, i32, u8
from ..c_printer import Printer
from ..facts import (
    PRODUCT_TILES,
    STEP,
    TILE_PANEL,
    conv_direct,
    conv_run,
    conv_workspace,
    may_share_rows,
    tile_extension,
    tile_least_depth,
    whole_workspace,
    winograd_workspace,
)
from ..family import Emitted, Packing, Plain, Symbols
from ..pack import PANELS, Layout
from ..terms import Terms
from ..terms_heavy import conv_terms, conv_tile_terms, depthwise_terms, whole_conv_terms, winograd_terms
from .contraction import (
    CallParts,
    emit_call,
    finish_fields,
    finish_of,
    is_accumulator,
    is_depthwise,
    new_printer,
    store_callback,
)


def _root(kernel: Kernel) -> Conv:
    assert isinstance(kernel, Contraction) and isinstance(kernel.root, Conv)
    return kernel.root


class ConvFamily(Plain):
    """Dense and grouped convolutions with filters packed ahead."""

    name = "conv"
    packed_only = True
    pairs = False  # of bf16 along the depth
    parts = 0  # of bf16 in tiles, if any
    sums = f32
    pixels: tuple[DType, ...] = (f32,)  # types of X
    struct, function = "st_conv", "st_conv_f32"
    finishes = True  # the function applies simple epilogues itself

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        if not (isinstance(kernel, Contraction) and isinstance(kernel.root, Conv) and kernel.sums == self.sums):
            return False
        root = kernel.root
        constant = isinstance(root.size[3], int) and isinstance(root.column.extent, int)
        if not constant or kernel.operands[root.x.operand].dtype not in self.pixels:
            return False
        return is_depthwise(root) == (self.function == "st_depthwise_f32")

    def narrow(self, kernel: Kernel) -> frozenset[int]:
        found = isinstance(kernel, Contraction) and isinstance(kernel.root, Conv) and bf16 in self.pixels
        return frozenset({_root(kernel).x.operand} if found else {})

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        root = _root(kernel)
        filter_ = root.filter
        if filter_.operand not in weights or any(not isinstance(d, int) for d in (filter_.offset, *filter_.strides)):
            return ()
        return (Packing(filter_.operand, str(self._layout(root, device))),)

    def _layout(self, root: Conv, device: Device) -> Layout:
        out, inner, height, width = root.filter.strides
        per_group = root.column.extent // root.groups
        dims = (root.groups, *root.window[:2], root.size[3], per_group)
        strides = (out * per_group, height, width, inner, out)
        panel = TILE_PANEL if self.parts else PANELS[device.isa]
        run = conv_run(root.window, root.size[3]) if self._direct(root) else 0  # type: ignore[arg-type]
        run = run if run % STEP else 0
        return Layout(panel, root.filter.offset, dims, strides, self.pairs, tiles=self.parts, run=run)  # type: ignore[arg-type]

    def _direct(self, root: Conv) -> int:
        return self.parts and conv_direct(root.window, root.size[3], self.parts)  # type: ignore[arg-type]

    def _marks(self, root: Conv, printer: Printer) -> list[tuple[str, str]]:
        """The fields that say how filters are packed."""
        marks = [("pairs", "1")] if self.pairs else [("tiles", str(self.parts))] if self.parts else []
        direct = self._direct(root)
        return [*marks, ("direct", str(direct))] if direct else marks

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        root = _root(kernel)
        depth, columns = root.window[0] * root.window[1] * root.size[3], root.column.extent // root.groups
        return conv_workspace(device.isa, depth, columns, self.pairs, self.parts, self._direct(root))  # type: ignore[arg-type]

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        assert isinstance(kernel, Contraction)
        if is_depthwise(_root(kernel)):
            return depthwise_terms(kernel, symbols, device.isa)
        if self.parts:
            return conv_tile_terms(kernel, symbols, device.isa, self.parts)
        return conv_terms(kernel, symbols, device.isa, self.pairs)

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        root = _root(kernel)
        assert isinstance(kernel, Contraction)
        printer = new_printer(kernel, symbols)
        dim = printer.dim
        kh, kw, stride_h, stride_w, dilation_h, dilation_w, top, left = root.window
        n, h, w, cg = root.size
        oh, ow = root.out_size
        sizes = {
            "n": n,
            "h": h,
            "w": w,
            "cg": cg,
            "oh": oh,
            "ow": ow,
            "og": root.column.extent // root.groups,
            "groups": root.groups,
            "kh": kh,
            "kw": kw,
            "stride_h": stride_h,
            "stride_w": stride_w,
            "dilation_h": dilation_h,
            "dilation_w": dilation_w,
            "pad_top": top,
            "pad_left": left,
            **dict(zip(("x_n", "x_h", "x_w"), root.x.strides, strict=True)),
        }
        fields = [(f"window.{key}", dim(value)) for key, value in sizes.items()]
        x = "narrow" if kernel.operands[root.x.operand].dtype == bf16 else "x"
        fields += [(x, f"a{root.x.operand} + {dim(root.x.offset)}"), ("filter", f"a{root.filter.operand}")]
        fields += self._marks(root, printer)
        store = ""
        (first, *others) = kernel.epilogue
        plain = is_accumulator(first) and not others and len(root.rows) == 1
        if plain and first.index.coefficient(root.column.name) == 1:
            fields.append(("c", f"a{first.operand} + {dim(first.index.base)}"))
            fields.append(("c_row", dim(first.index.coefficient(root.rows[0].name))))
        elif self.finishes and (finish := finish_of(kernel)):
            fields += finish_fields(finish, root.rows[0].name, printer)
        else:
            store = store_callback(kernel, symbols, (), root.rows, root.column)
            fields += [("store", f"{name}_store"), ("store_ctx", "&context")]
        need = self.workspace(kernel, packed, symbols, device)
        # windows, of one group, are split once for all threads
        one = not self._direct(root) and root.groups == 1 and x == "x"
        rows = product(axis.extent for axis in root.rows)
        before = "st_conv_rows" if self.parts and one and may_share_rows(rows) else ""
        parts = CallParts(self.struct, self.function, fields, need, store, before=before)
        return emit_call(kernel, name, symbols, parts, printer)


class ConvPairsFamily(ConvFamily):
    """Pixels and filters rounded to bf16 and multiplied in pairs, with sums in f32."""

    name = "conv_bf16"
    mode = "bf16"
    pairs = True


class WholeConvFamily(ConvFamily):
    """Convolutions of whole numbers of 8 bits, with sums in i32."""

    name = "conv_i8"
    mode = "i8"
    sums = i32
    pixels = (u8,)
    struct, function = "st_whole_conv", "st_conv_i8"
    finishes = False

    def _layout(self, root: Conv, device: Device) -> Layout:
        return replace(super()._layout(root, device), quads=True)

    def _marks(self, root: Conv, printer: Printer) -> list[tuple[str, str]]:
        assert root.zero is not None
        return [("zero", printer.scalar(root.zero))]

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        root = _root(kernel)
        return whole_workspace(device.isa, int(product((*root.window[:2], root.size[3]))))  # type: ignore[arg-type]

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        assert isinstance(kernel, Contraction)
        return whole_conv_terms(kernel, symbols, device.isa)


class WinogradFamily(ConvFamily):
    """3x3 convolutions with stride 1 in tiles of 2x2 pixels: 16 products where the window takes 36. Errors are as small as
    those of f32, but relative to the largest values of a window, not to each output's own terms."""

    name = "winograd"
    mode = "winograd"
    function = "st_winograd_f32"
    finishes = False

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        if not super().accepts(kernel, device):
            return False
        root = _root(kernel)
        return root.groups == 1 and root.window[:6] == (3, 3, 1, 1, 1, 1)

    def _layout(self, root: Conv, device: Device) -> Layout:
        return replace(super()._layout(root, device), points=True)

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        return winograd_workspace(device.isa, _root(kernel).size[3])  # type: ignore[arg-type]

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        assert isinstance(kernel, Contraction)
        return winograd_terms(kernel, symbols, device.isa)


class ConvTilesFamily(ConvFamily):
    """Convolutions on tiles (AMX), pixels and filters as the operands of `TilesFamily`."""

    finishes = False

    def __init__(self, mode: str) -> None:
        self.mode, self.parts = mode, PRODUCT_TILES[mode]
        self.name = f"conv_tiles_{mode}"
        self.pixels = (f32, bf16) if self.parts == 1 else (f32,)
        self.extension = tile_extension(self.parts)

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        """A depth of a few elements would be mostly padding, and no more exact than f32."""
        if not super().accepts(kernel, device):
            return False
        root = _root(kernel)
        return int(product((*root.window[:2], root.size[3]))) >= tile_least_depth(self.parts)  # type: ignore[arg-type]


class DepthwiseFamily(ConvFamily):
    """One filter per channel: channels are the vector axis, filters are stored tap by tap."""

    name = "depthwise"
    function = "st_depthwise_f32"
    pixels = (f32, bf16)

    def _layout(self, root: Conv, device: Device) -> Layout:
        out, _, height, width = root.filter.strides
        dims = (*root.window[:2], root.groups)
        return Layout(0, root.filter.offset, dims, (height, width, out))  # type: ignore[arg-type]

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        root = _root(kernel)
        return conv_workspace(device.isa, int(product(root.window[:2])), root.column.extent)  # type: ignore[arg-type]
