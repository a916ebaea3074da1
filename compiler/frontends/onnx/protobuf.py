"""Reads a model file without its weights: a scanner of the protobuf wire format over a memory map.

Every `TensorProto` whose `raw_data` holds a KiB or more is rewritten, in memory, to refer to those bytes as *external
data* that lies in the .onnx file itself. What remains is a small ModelProto, and embedded and external weights look
alike from there on.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ....ir.errors import ModelError

#: `raw_data` of at least this many bytes stays in the file.
LARGE = 1024
_DEPTH = 100  # what protobuf itself allows

# Which fields of which message lead to tensors (field numbers of onnx.proto).
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 15: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute", 12: "value"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "value": {2: "type"},
    "type": {1: "tensor type", 4: "holder", 9: "holder"},
    "holder": {1: "type"},
    "tensor type": {2: "shape"},
    "shape": {1: "dim"},
}
# The text fields that the importer reads; protobuf itself would hand out bytes where they are not UTF-8.
_TEXT: Mapping[str, frozenset[int]] = {
    "graph": frozenset({2}),
    "function": frozenset({1, 4, 5, 6, 10}),
    "node": frozenset({1, 2, 3, 4, 7}),
    "attribute": frozenset({1, 21}),
    "tensor": frozenset({8}),
    "value": frozenset({1}),
    "dim": frozenset({2}),
    "opset": frozenset({1}),
    "entry": frozenset({1, 2}),
}
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14


class _Corrupt(Exception):
    """The bytes are no protobuf message."""


def _varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= end or shift > 63:
            raise _Corrupt(f"a number at byte {position} does not end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _encode(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return _encode(number << 3 | 2) + _encode(len(payload)) + payload


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, wire type, field start, payload start, payload end) of each field."""
    position = start
    while position < end:
        begin = position
        tag, position = _varint(data, position, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _Corrupt(f"field number 0 at byte {begin}")
        first = position
        if wire == 0:
            _, position = _varint(data, position, end)
        elif wire == 1:
            position += 8
        elif wire == 2:
            length, first = _varint(data, position, end)
            position = first + length
        elif wire == 5:
            position += 4
        else:
            raise _Corrupt(f"unknown wire type {wire} at byte {begin}")
        if position > end:
            raise _Corrupt(f"the field at byte {begin} is cut off")
        yield number, wire, begin, first, position


def _external(location: str, offset: int, length: int) -> bytes:
    entries = {"location": location, "offset": str(offset), "length": str(length)}
    coded = b"".join(_field(_EXTERNAL_DATA, _field(1, k.encode()) + _field(2, v.encode())) for k, v in entries.items())
    return coded + _encode(_DATA_LOCATION << 3) + _encode(1)


def _check_text(raw: bytes, position: int) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise _Corrupt(f"the name at byte {position} is not UTF-8 text") from None


def _strip(data: mmap.mmap, start: int, end: int, kind: str, location: str, depth: int = 0) -> bytes:
    """The message between `start` and `end` without its large payloads."""
    if depth > _DEPTH:
        raise _Corrupt(f"messages nest deeper than {_DEPTH} at byte {start}")
    children, text = _CHILDREN.get(kind, {}), _TEXT.get(kind, ())
    parts: list[bytes] = []
    kept, tail = start, b""
    for number, wire, begin, first, stop in _fields(data, start, end):
        if wire != 2:
            continue
        if number in children:
            parts += [
                data[kept:begin],
                _field(number, _strip(data, first, stop, children[number], location, depth + 1)),
            ]
            kept = stop
        elif number in text:
            _check_text(data[first:stop], first)
        elif kind == "tensor" and number == _RAW_DATA and stop - first >= LARGE:
            parts.append(data[kept:begin])
            kept, tail = stop, _external(location, first, stop - first)
    return b"".join([*parts, data[kept:end], tail])


def read_model(path: Path) -> onnx.ModelProto:
    """The model of a file, large payloads replaced by references to the file. Raises ModelError."""
    hint = "is it a complete ONNX file (a Git LFS pointer, an interrupted download)?"
    try:
        with open(path, "rb") as file:
            if not file.seek(0, 2):
                raise ModelError(f"{path} is empty", hint=hint)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                small = _strip(data, 0, len(data), "model", path.name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"cannot read the model {path}: {reason}") from None
    except _Corrupt as error:
        raise ModelError(f"{path} is not a valid ONNX file: {error}", hint=hint) from None
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(small)
    except (DecodeError, UnicodeDecodeError):
        raise ModelError(f"{path} is not a valid ONNX file: it does not parse as a ModelProto", hint=hint) from None
    if not model.HasField("graph") or not (model.graph.output or model.graph.node):
        raise ModelError(f"{path} is not a valid ONNX file: it holds no graph", hint=hint)
    return model
