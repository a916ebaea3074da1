"""Values of inputs given when compiling: read from the command line, recorded in a plan's report and manifest, told to people."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import StratacError

#: values of more elements are told by their type and digest
_SHOWN = 8
_HINT = "write NAME=3, NAME=1,0,-1, NAME=true or NAME=@FILE.npy"


def parse_constant(text: str) -> tuple[str, np.ndarray]:
    """`k=2` (a number), `axes=0,1` (a list; `axes=0,` has one element, `axes=` none) or `sizes=@file.npy`. Raises StratacError."""
    name, found, value = text.partition("=")
    if not found or not name:
        raise StratacError(f"--constant {text!r} is not understood", hint=_HINT)
    value = value.strip()
    if value.startswith("@"):
        return name, _load(text, Path(value[1:]))
    if not value:
        return name, np.zeros(0, np.int64)
    if "," not in value:
        return name, np.asarray(_number(text, value))
    return name, np.asarray([_number(text, part.strip()) for part in value.split(",") if part.strip()])


def parse_constants(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Several of them, each name once."""
    found: dict[str, np.ndarray] = {}
    for text in texts:
        name, value = parse_constant(text)
        if name in found:
            raise StratacError(f"--constant gives {name!r} twice")
        found[name] = value
    return found


def _number(text: str, part: str) -> int | float | bool:
    if part.lower() in ("true", "false"):
        return part.lower() == "true"
    try:
        return int(part) if re.fullmatch(r"[+-]?\d+", part) else float(part)
    except ValueError:
        raise StratacError(f"--constant {text!r}: {part!r} is no number", hint=_HINT) from None


def _load(text: str, path: Path) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise StratacError(f"--constant {text!r}: cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise StratacError(
            f"--constant {text!r}: {path} is no .npy file: {error}", hint="write it with numpy.save"
        ) from error
    if not isinstance(found, np.ndarray):
        raise StratacError(f"--constant {text!r}: {path} holds several arrays", hint="give one .npy file each")
    return found


def value_text(value: np.ndarray) -> str:
    """A value for people: `[0, 1]`, or its type and digest where it has many elements."""
    if value.size <= _SHOWN:
        return str(value.tolist())
    return f"{value.dtype}{list(value.shape)} with sha256 {constant_digest(value)[:12]}"


def constant_digest(value: np.ndarray) -> str:
    """sha256 of the elements in row-major order."""
    return hashlib.sha256(_bytes(value)).hexdigest()


def _bytes(value: np.ndarray) -> bytes:
    return repr(value.tolist()).encode() if value.dtype.kind == "O" else np.ascontiguousarray(value).tobytes()


def manifest_rows(constants: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """What a manifest says of each: element type as given, shape, sha256 of the elements."""
    return {
        name: {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": constant_digest(value)}
        for name, value in constants.items()
    }


def constants_to_facts(constants: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """As plain data that `constants_from_facts` reads back: element type, shape and base64 of the elements, or a list of texts."""
    found = {}
    for name, value in constants.items():
        text = value.dtype.kind == "O"
        data = value.reshape(-1).tolist() if text else base64.b64encode(_bytes(value)).decode()
        found[name] = [str(value.dtype), list(value.shape), data]
    return found


def constants_from_facts(facts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays whose `constants_to_facts` these are."""
    found = {}
    for name, (dtype, shape, data) in facts.items():
        if dtype == "object":
            found[name] = np.array(data, object).reshape(shape)
        else:
            found[name] = np.frombuffer(base64.b64decode(data), np.dtype(dtype)).reshape(shape)
    return found
