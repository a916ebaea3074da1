"""Tensors of a model: their type, where their bytes lie, and, for small ones, their values."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ....ir.graph import FileBytes, Inline
from ....ir.narrow import unpacked, widened
from ....ir.types import BY_ONNX, COMPUTABLE, DType, TensorType, f16
from ..unsupported import Unsupported, UnsupportedType


def dtype_of(code: int) -> DType:
    """The element type of a TensorProto.DataType. Raises UnsupportedType where it cannot be computed in."""
    dtype = BY_ONNX.get(code)
    if dtype is None:
        raise UnsupportedType(str(code))
    if dtype not in COMPUTABLE:
        raise UnsupportedType(dtype.name)
    return dtype


@dataclass(frozen=True)
class Tensors:
    """Reads the tensors of one model; external data only from inside `folder`, `file` being the model itself.

    With `estimate`, files of external data may be missing: `absent` collects their names.
    """

    folder: Path
    file: str
    estimate: bool = False
    absent: set[str] = field(default_factory=set)

    def dtype_of(self, code: int) -> DType:
        return dtype_of(code)

    def type_of(self, proto: onnx.TensorProto) -> TensorType:
        if any(d < 0 for d in proto.dims):
            raise Unsupported(f"tensor {proto.name!r} has a negative extent: {list(proto.dims)}")
        type = TensorType(self.dtype_of(proto.data_type), tuple(int(d) for d in proto.dims))
        if type.fault:
            raise Unsupported(f"tensor {proto.name!r} is {type}: {type.fault}")
        return type

    def content(self, proto: onnx.TensorProto) -> FileBytes | Inline:
        """Where the bytes are, checked to be there."""
        type, count = self.type_of(proto), math.prod(proto.dims)
        size = (count * type.dtype.bits + 7) // 8
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            return self._external(proto, size)
        if proto.HasField("raw_data"):
            if len(proto.raw_data) != size:
                raise Unsupported(
                    f"tensor {proto.name!r} holds {len(proto.raw_data)} bytes, its type {type} needs {size}"
                )
            return Inline(_dense(bytes(proto.raw_data), type.dtype, count))
        try:
            array = _codes(proto, type.dtype) if type.dtype.is_narrow else numpy_helper.to_array(proto)
        except (ArithmeticError, ValueError, TypeError) as error:
            raise Unsupported(f"tensor {proto.name!r} of type {type} cannot be read: {error}") from None
        if array.size != count:
            raise Unsupported(f"tensor {proto.name!r} holds {array.size} elements, its type {type} needs {count}")
        return Inline(np.ascontiguousarray(array).astype(type.dtype.np).tobytes())

    def array(self, proto: onnx.TensorProto) -> np.ndarray:
        """The values; meant for small tensors. Floats that numpy lacks come as float32."""
        type, content = self.type_of(proto), self.content(proto)
        if isinstance(content, FileBytes) and content.file in self.absent:
            raise Unsupported(f"the values of tensor {proto.name!r} are needed, but {content.file!r} is missing")
        if isinstance(content, Inline):
            data = content.data
        else:
            data = _dense(self._read(content), type.dtype, math.prod(proto.dims))
        found = np.frombuffer(data, type.dtype.np).reshape(tuple(proto.dims))
        return found if type.dtype == f16 else widened(found, type.dtype)

    def _read(self, place: FileBytes) -> bytes:
        try:
            with open(self.folder / place.file, "rb") as file:
                file.seek(place.offset)
                return file.read(place.nbytes)
        except OSError as error:
            raise Unsupported(f"external data file {place.file!r} cannot be read: {error.strerror}") from None

    def present(self, proto: onnx.TensorProto) -> bool:
        """Whether the values can be read."""
        content = self.content(proto)
        return isinstance(content, Inline) or content.file not in self.absent

    def _external(self, proto: onnx.TensorProto, size: int) -> FileBytes:
        entries = {entry.key: entry.value for entry in proto.external_data}
        location, name = entries.get("location", ""), f"tensor {proto.name!r}"
        path = Path(location)
        if not location or path.is_absolute() or ".." in path.parts or "\0" in location or "\\" in location:
            raise Unsupported(
                f"{name}: external data {location!r} lies outside the model's folder", "put the file beside the model"
            )
        full = self.folder / path
        if location != self.file and not Path(os.path.realpath(full)).is_relative_to(os.path.realpath(self.folder)):
            raise Unsupported(f"{name}: external data {location!r} is a link that leaves the model's folder")
        missing = not os.path.isfile(full)  # which says no of names that no file can have
        if missing and not self.estimate:
            raise Unsupported(f"{name}: external data file {location!r} is missing", f"put it into {self.folder}")
        try:
            offset, length = int(entries.get("offset") or 0), int(entries.get("length") or size)
        except ValueError:
            raise Unsupported(f"{name}: external data offset and length must be numbers") from None
        if length != size or offset < 0:
            raise Unsupported(f"{name}: external data holds {length} bytes at {offset}, its type needs {size}")
        if missing:
            self.absent.add(path.as_posix())
            return FileBytes(path.as_posix(), offset, length)
        held = full.stat().st_size
        if offset + length > held:
            raise Unsupported(
                f"{name}: external data file {location!r} is too short: {held} bytes, {offset + length} needed",
                "was its download interrupted?",
            )
        return FileBytes(path.as_posix(), offset, length)


def _dense(data: bytes, dtype: DType, count: int) -> bytes:
    """What a file packs with one element in a byte."""
    return data if dtype.bits >= 8 else unpacked(np.frombuffer(data, np.uint8), dtype, count).tobytes()


def _codes(proto: onnx.TensorProto, dtype: DType) -> np.ndarray:
    """The storage of narrow elements that a message spells out: 16-bit floats and packed bytes are in `int32_data`."""
    words = np.array(proto.int32_data, np.int64)
    if dtype.bits == 16:
        return words.astype(np.uint16).view(dtype.np)
    found = words.astype(np.uint8)
    return found if dtype.bits == 8 else unpacked(found, dtype, math.prod(proto.dims))
