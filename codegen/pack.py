"""Weight layouts: how the bytes of a weight are arranged ahead of time so that kernels stream them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..ir.errors import StratacError
from ..ir.placed import DENSE
from .facts import TILES

#: columns of a panel, by ISA: st_panel() of that build
PANELS = {isa: tile.panel for isa, tile in TILES.items()}


@dataclass(frozen=True)
class Layout:
    """A strided selection of a weight's elements, then panels.

    The elements are those of the dense weight at offset + sum(i * stride) over `dims` = (matrices, *depth, columns). With
    `panel` > 0 every matrix, its depth dims flattened to K, becomes ceil(columns / panel) panels of K rows by `panel` columns,
    zero padded (see csrc/kernels/kernels.h); with panel 0 the selection is stored densely.
    """

    panel: int
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]

    def __str__(self) -> str:
        dims, strides = (",".join(map(str, t)) for t in (self.dims, self.strides))
        return f"panel{self.panel}({self.offset};{dims};{strides})"

    @staticmethod
    def parse(text: str) -> Layout:
        match = re.fullmatch(r"panel(\d+)\((\d+);([\d,]*);([-\d,]*)\)", text)
        if match is None:
            raise StratacError(f"unknown weight format {text!r}")
        panel, offset, dims, strides = match.groups()
        numbers = [tuple(int(n) for n in part.split(",") if n) for part in (dims, strides)]
        return Layout(int(panel), int(offset), numbers[0], numbers[1])

    @property
    def elements(self) -> int:
        """Elements once packed, padding included."""
        count = 1
        for dim in self.dims[:-1]:
            count *= dim
        columns = self.dims[-1]
        return count * (-(-columns // self.panel) * self.panel if self.panel else columns)


def packed_bytes(format: str, dense_bytes: int, element_bytes: int) -> int:
    """Bytes of a weight in a format."""
    return dense_bytes if format == DENSE else Layout.parse(format).elements * element_bytes


def pack(array: np.ndarray, format: str) -> np.ndarray:
    """The weight's elements in their packed order: a flat, contiguous array of the same dtype."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if format == DENSE:
        return flat
    layout = Layout.parse(format)
    size = flat.itemsize
    chosen = np.lib.stride_tricks.as_strided(
        flat[layout.offset :], layout.dims, tuple(s * size for s in layout.strides), writeable=False
    )
    if not layout.panel:
        return np.ascontiguousarray(chosen).reshape(-1)
    matrices, columns = layout.dims[0], layout.dims[-1]
    depth = int(np.prod(layout.dims[1:-1], dtype=np.int64))
    chosen = chosen.reshape(matrices, depth, columns) if len(layout.dims) != 3 else chosen
    panels = -(-columns // layout.panel)
    out = np.zeros((matrices, panels, depth, layout.panel), flat.dtype)
    for p in range(panels):
        part = chosen[:, :, p * layout.panel : (p + 1) * layout.panel]
        out[:, p, :, : part.shape[2]] = part
    return out.reshape(-1)
