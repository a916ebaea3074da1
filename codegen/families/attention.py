"""Attention: csrc/kernels/attention.c, or attention_tiles.c, with a generated score change (masks) and, rarely, an epilogue."""

from __future__ import annotations

from ...ir.dims import upper
from ...ir.kernel import Accumulator, Apply, Attention, Axis, Contraction, Kernel, Position, Read, Scalar, walk
from ...ir.machine import Device
from ...ir.types import f32
from ..c_scalar import literal
from ..facts import ATTENTION_FEW, LEAST_DEPTH, TILE_EXTENSION, TILE_MODES, attention_dots, attention_workspace
from ..family import Emitted, Packing, Plain, Symbols
from ..terms import Terms
from ..terms_heavy import attention_terms, attention_tile_terms
from .contraction import CallParts, emit_call, is_accumulator, new_printer, score_callback, store_callback


def _root(kernel: Kernel) -> Attention:
    assert isinstance(kernel, Contraction) and isinstance(kernel.root, Attention)
    return kernel.root


def adds_by_key(root: Attention) -> bool:
    """Whether the score change adds what depends on the batch and the key alone: then the kernel computes it once for all rows."""
    match root.score:
        case Apply("add", (Accumulator(), mask)) | Apply("add", (mask, Accumulator())):
            return not any(_depends(mask, axis) for axis in (root.heads, root.row))
    return False


def _depends(value: Scalar, axis: Axis) -> bool:
    parts = list(walk(value))
    return any(isinstance(e, Accumulator) for e in parts) or any(
        e.index.coefficient(axis.name) != 0 for e in parts if isinstance(e, Read | Position)
    )


class AttentionFamily(Plain):
    """Fused attention over strided rows: no transposed copy of q, k, v or the result."""

    name = "attention"
    pairs = False  # of bf16, in both products
    parts = 0  # of bf16 in tiles, if any

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        return isinstance(kernel, Contraction) and isinstance(kernel.root, Attention)

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        return ()

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        root = _root(kernel)
        rows = upper(root.lengths[0], symbols) * upper(root.heads.extent, symbols) // root.kv_heads
        keys, dim, v_dim = (upper(d, symbols) for d in (root.lengths[1], root.width, root.column.extent))
        return attention_workspace(device.isa, rows, keys, dim, v_dim, self.parts)

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        assert isinstance(kernel, Contraction)
        if self.parts:
            return attention_tile_terms(kernel, symbols, device.isa, adds_by_key(_root(kernel)), self.parts)
        return attention_terms(kernel, symbols, device.isa, adds_by_key(_root(kernel)), self.pairs)

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        root = _root(kernel)
        assert isinstance(kernel, Contraction)
        printer = new_printer(kernel, symbols)
        dim = printer.dim
        sizes = {
            "batch": root.batch.extent,
            "heads": root.heads.extent,
            "kv_heads": root.kv_heads,
            "queries": root.lengths[0],
            "keys": root.lengths[1],
            "dim": root.width,
            "v_dim": root.column.extent,
        }
        fields = [(key, dim(value)) for key, value in sizes.items()]
        for letter, operand in (("q", root.q), ("k", root.k), ("v", root.v)):
            fields.append((letter, f"a{operand.operand} + {dim(operand.offset)}"))
            steps = zip(("batch", "head", "row"), operand.strides, strict=True)
            fields += [(f"{letter}_{axis}", dim(step)) for axis, step in steps]
        fields += [("scale", literal(root.scale, f32)), ("causal", str(int(root.causal)))]
        if self.pairs:
            fields.append(("pairs", "1"))
        if self.parts:
            fields.append(("tiles", str(self.parts)))
        if root.ragged is not None:
            ends = root.ragged.ends
            fields.append(("ends", f"a{ends.operand} + {dim(ends.offset)}"))
            fields.append(("ends_step", dim(ends.strides[0])))
        score = ""
        if root.score is not None:
            score = score_callback(kernel, symbols, root.score, (root.batch, root.heads, root.row))
            fields += [("score", f"{name}_score"), ("score_ctx", "&context")]
            fields.append(("score_by_key", str(int(adds_by_key(root)))))
        store = ""
        (first, *others) = kernel.epilogue
        if is_accumulator(first) and not others and first.index.coefficient(root.column.name) == 1:
            fields.append(("out", f"a{first.operand} + {dim(first.index.base)}"))
            for field, axis in (("out_batch", root.batch), ("out_head", root.heads), ("out_row", root.row)):
                fields.append((field, dim(first.index.coefficient(axis.name))))
        else:
            axes = (root.batch, root.heads)
            store = store_callback(kernel, symbols, axes, (root.row,), root.column)
            fields += [("store", f"{name}_store"), ("store_ctx", "&context")]
        need = self.workspace(kernel, packed, symbols, device)
        parts = CallParts("st_attention", "st_attention_f32", fields, need, store, "", score)
        return emit_call(kernel, name, symbols, parts, printer)


class AttentionPairsFamily(AttentionFamily):
    """Attention whose products take q, k, v and the weights rounded to bf16, in pairs; sums and softmax are f32."""

    name = "attention_bf16"
    mode = "bf16"
    products = 2
    pairs = True

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        """Few rows are bound by reading keys and values, and computed in f32 whatever the mode."""
        return super().accepts(kernel, device) and _rows_above(_root(kernel), attention_dots(device.isa))


class AttentionTilesFamily(AttentionFamily):
    """Attention whose products are made on tiles of bf16 (AMX): q, k, v and the weights are sums of one, two or three of them."""

    products = 2
    extension = TILE_EXTENSION

    def __init__(self, mode: str) -> None:
        self.mode, self.parts = mode, TILE_MODES[mode]
        self.name = f"attention_tiles_{mode}"

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        """As in pairs; heads of a few elements would be mostly padding."""
        if not super().accepts(kernel, device):
            return False
        root = _root(kernel)
        return isinstance(root.width, int) and root.width >= LEAST_DEPTH and _rows_above(root, ATTENTION_FEW)


def _rows_above(root: Attention, few: int) -> bool:
    """Whether more than so many rows share a key/value head, or may."""
    rows = root.lengths[0] * root.heads.extent
    return not isinstance(rows, int) or rows > few * root.kv_heads
