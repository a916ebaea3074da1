"""Where the bytes of parameters, buffers and constants lie: in files that exist, in one file written here, or in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ....ir import types
from ....ir.graph import FileBytes, Inline
from ....ir.types import COMPUTABLE, DType, TensorType
from ..unsupported import Unsupported, UnsupportedType

#: Tensors up to this many bytes are kept in the graph.
INLINE_BYTES = 1 << 16
_ALIGNMENT = 64

_DTYPES: Mapping[Any, DType] = {
    torch.float64: types.f64,
    torch.float32: types.f32,
    torch.float16: types.f16,
    torch.bfloat16: types.bf16,
    torch.float8_e4m3fn: types.f8e4m3,
    torch.float8_e5m2: types.f8e5m2,
    torch.int64: types.i64,
    torch.int32: types.i32,
    torch.int16: types.i16,
    torch.int8: types.i8,
    torch.uint64: types.u64,
    torch.uint32: types.u32,
    torch.uint16: types.u16,
    torch.uint8: types.u8,
    torch.bool: types.bool_,
    torch.complex64: types.c64,
    torch.complex128: types.c128,
}


def dtype_of(dtype: Any) -> DType:
    """The element type of a torch dtype. Raises UnsupportedType where it cannot be computed in."""
    found = _DTYPES.get(dtype)
    if found is None or found not in COMPUTABLE:
        raise UnsupportedType(str(dtype).removeprefix("torch."))
    return found


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its type there and where its bytes lie, `bytes.file` relative to the model's folder."""

    type: TensorType
    bytes: FileBytes


@dataclass(frozen=True)
class Joined:
    """A tensor whose parts lie in files apart: each part a tensor, or, `stacked`, several along a new first axis; the parts are
    joined along `axis`."""

    type: TensorType
    parts: tuple[tuple[Stored, ...], ...]
    stacked: bool
    axis: int


class Weights:
    """The tensors of one program by name. `stored` are in files already; others are written to `folder`, or inlined without one.

    Equal tensors, as tied parameters are, have one place.
    """

    NAME = "parameters.bin"

    def __init__(self, tensors: Mapping[str, Any], stored: Mapping[str, Stored | Joined], folder: Path | None) -> None:
        self.tensors, self.stored, self.folder = tensors, stored, folder
        self._file: BinaryIO | None = None
        self._places: dict[tuple[Any, ...], tuple[TensorType, FileBytes | Inline]] = {}

    def place(self, name: str) -> tuple[TensorType, FileBytes | Inline]:
        """The type of a tensor as it is stored, and its bytes. Raises Unsupported."""
        found = self.stored.get(name)
        if isinstance(found, Joined):
            raise Unsupported(f"the tensor {name!r} lies in the files in parts, where it has to be whole")
        if found is not None:
            return found.type, found.bytes
        tensor = self.tensors.get(name)
        if tensor is None or tensor.is_meta or type(tensor).__name__ == "FakeTensor":
            raise Unsupported(f"the tensor {name!r} has no values", "load the model's weights before exporting it")
        tensor = tensor.detach()
        kind = TensorType(dtype_of(tensor.dtype), tuple(int(d) for d in tensor.shape))
        key = (tensor.data_ptr(), kind, tensor.stride()) if tensor.numel() else (name,)
        if key not in self._places:
            self._places[key] = kind, self._written(dense_bytes(tensor))
        return self._places[key]

    def joined(self, name: str) -> Joined | None:
        """The parts of a tensor that is in files in parts."""
        found = self.stored.get(name)
        return found if isinstance(found, Joined) else None

    def zeros(self, name: str) -> bool:
        """Whether a tensor in memory has nothing but zeros."""
        tensor = self.tensors.get(name)
        if name in self.stored or tensor is None or tensor.is_meta or type(tensor).__name__ == "FakeTensor":
            return False
        return not bool(dense_bytes(tensor.detach()).any())

    def array(self, name: str) -> np.ndarray | None:
        """The values of a small tensor in memory; None where they would have to be read from a file."""
        tensor = self.tensors.get(name)
        if name in self.stored or tensor is None or tensor.is_meta or tensor.dtype == torch.bfloat16:
            return None
        return np.asarray(tensor.detach().contiguous().numpy())

    def _written(self, data: np.ndarray) -> FileBytes | Inline:
        if self.folder is None or data.nbytes <= INLINE_BYTES:
            return Inline(data.tobytes())
        if self._file is None:
            self._file = open(self.folder / self.NAME, "wb")  # noqa: SIM115 - closed by `close`
        self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
        offset = self._file.tell()
        self._file.write(data.data)
        return FileBytes(self.NAME, offset, data.nbytes)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def dense_bytes(tensor: Any) -> np.ndarray:
    """The bytes of a tensor in row-major order; no copy where it is dense."""
    flat = tensor.contiguous().reshape(-1)
    return np.asarray(flat.view(torch.uint8).numpy()) if flat.numel() else np.empty(0, np.uint8)
