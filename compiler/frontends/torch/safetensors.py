"""Safetensors files without their tensors: what is in them and where its bytes lie."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....ir import types
from ....ir.errors import ModelError
from ....ir.graph import FileBytes
from ....ir.types import DType, TensorType
from .weights import Stored

_DTYPES: Mapping[str, DType] = {
    "F64": types.f64,
    "F32": types.f32,
    "F16": types.f16,
    "BF16": types.bf16,
    "I64": types.i64,
    "I32": types.i32,
    "I16": types.i16,
    "I8": types.i8,
    "U64": types.u64,
    "U32": types.u32,
    "U16": types.u16,
    "U8": types.u8,
    "BOOL": types.bool_,
}
#: no header is as long as that
_LONGEST = 1 << 28


def read_folder(folder: Path) -> dict[str, Stored]:
    """Every tensor of a model folder: of model.safetensors, or of the shards its index names. Raises ModelError."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} is no index of safetensors shards: {error}") from None
    else:
        shards = ["model.safetensors"]
    found: dict[str, Stored] = {}
    for shard in shards:
        path = folder / str(shard)
        if "/" in str(shard) or "\\" in str(shard) or not path.is_file():
            hint = "models are read from safetensors files; convert others with save_pretrained"
            raise ModelError(f"the file of weights {shard!r} is missing in {folder}", hint=hint)
        found |= read_header(path)
    return found


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of one file; its bytes are not read. Raises ModelError where the header does not fit the file."""
    held = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(_LONGEST, held - 8):
            raise ModelError(f"{path.name} is no safetensors file", hint="was its download interrupted?")
        text = file.read(length)
    try:
        header = json.loads(text)
        return {
            str(name): _stored(path.name, str(name), entry, 8 + length, held)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the header of {path.name} cannot be read: {error}") from None


def _stored(file: str, name: str, entry: Mapping[str, Any], base: int, held: int) -> Stored:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise ModelError(f"{file}: tensor {name!r} has the element type {entry['dtype']}, which is not supported yet")
    shape = tuple(int(d) for d in entry["shape"])
    kind, size = TensorType(dtype, shape), dtype.bytes * math.prod(shape)
    begin, end = (int(v) for v in entry["data_offsets"])
    if not 0 <= begin <= end or end - begin != size or base + end > held:
        hint = "was its download interrupted?"
        raise ModelError(f"{file}: tensor {name!r} of type {kind} does not lie within the file", hint=hint)
    return Stored(kind, FileBytes(file, base + begin, size))
