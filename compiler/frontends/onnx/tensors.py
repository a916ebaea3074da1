"""Tensors of a model: their type, where their bytes lie, and, for small ones, their values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ....ir.graph import FileBytes, Inline
from ....ir.types import BY_ONNX, COMPUTABLE, DType, TensorType


class Unsupported(Exception):
    """A rule, or a tensor, cannot be imported. `follows` marks what may only be a consequence of an earlier problem."""

    def __init__(self, what: str, hint: str = "", follows: bool = False) -> None:
        super().__init__(what)
        self.what, self.hint, self.follows = what, hint, follows


class UnsupportedType(Unsupported):
    """An element type that cannot be computed in; these are reported once per type."""

    def __init__(self, dtype: str) -> None:
        super().__init__(f"element type {dtype} is not supported yet", type_hint(dtype))
        self.dtype = dtype


def type_hint(dtype: str) -> str:
    return "convert the model to float32" if dtype in ("f16", "bf16") else ""


def dtype_of(code: int) -> DType:
    """The element type of a TensorProto.DataType. Raises Unsupported where it cannot be computed in."""
    dtype = BY_ONNX.get(code)
    if dtype is None:
        raise UnsupportedType(str(code))
    if dtype not in COMPUTABLE:
        raise UnsupportedType(dtype.name)
    return dtype


@dataclass(frozen=True)
class Tensors:
    """Reads the tensors of one model; external data only from inside `folder`, `file` being the model itself."""

    folder: Path
    file: str

    def type_of(self, proto: onnx.TensorProto) -> TensorType:
        if any(d < 0 for d in proto.dims):
            raise Unsupported(f"tensor {proto.name!r} has a negative extent: {list(proto.dims)}")
        return TensorType(dtype_of(proto.data_type), tuple(int(d) for d in proto.dims))

    def content(self, proto: onnx.TensorProto) -> FileBytes | Inline:
        """Where the bytes are, checked to be there."""
        type = self.type_of(proto)
        size = math.prod(proto.dims) * type.dtype.bytes
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            return self._external(proto, size)
        if proto.HasField("raw_data"):
            if len(proto.raw_data) != size:
                raise Unsupported(
                    f"tensor {proto.name!r} holds {len(proto.raw_data)} bytes, its type {type} needs {size}"
                )
            return Inline(bytes(proto.raw_data))
        try:
            array = numpy_helper.to_array(proto)
        except (ValueError, TypeError) as error:
            raise Unsupported(f"tensor {proto.name!r} of type {type} cannot be read: {error}") from None
        return Inline(np.ascontiguousarray(array).astype(type.dtype.np).tobytes())

    def array(self, proto: onnx.TensorProto) -> np.ndarray:
        """The values; meant for small tensors."""
        type, content = self.type_of(proto), self.content(proto)
        if isinstance(content, Inline):
            data = content.data
        else:
            with open(self.folder / content.file, "rb") as file:
                file.seek(content.offset)
                data = file.read(content.nbytes)
        return np.frombuffer(data, type.dtype.np).reshape(tuple(proto.dims))

    def _external(self, proto: onnx.TensorProto, size: int) -> FileBytes:
        entries = {entry.key: entry.value for entry in proto.external_data}
        location, name = entries.get("location", ""), f"tensor {proto.name!r}"
        path = Path(location)
        if not location or path.is_absolute() or ".." in path.parts or "\0" in location or "\\" in location:
            raise Unsupported(
                f"{name}: external data {location!r} lies outside the model's folder", "put the file beside the model"
            )
        full = self.folder / path
        if location != self.file and not full.resolve().is_relative_to(self.folder.resolve()):
            raise Unsupported(f"{name}: external data {location!r} is a link that leaves the model's folder")
        if not full.is_file():
            raise Unsupported(f"{name}: external data file {location!r} is missing", f"put it into {self.folder}")
        try:
            offset, length = int(entries.get("offset") or 0), int(entries.get("length") or size)
        except ValueError:
            raise Unsupported(f"{name}: external data offset and length must be numbers") from None
        if length != size or offset < 0:
            raise Unsupported(f"{name}: external data holds {length} bytes at {offset}, its type needs {size}")
        held = full.stat().st_size
        if offset + length > held:
            raise Unsupported(
                f"{name}: external data file {location!r} is too short: {held} bytes, {offset + length} needed",
                "was its download interrupted?",
            )
        return FileBytes(path.as_posix(), offset, length)
