"""How values that a caller sees are made up of ports: tensors, tensors of strings, sequences, maps and optionals.

A plan's ports are dense arrays of numbers. A tensor of strings is a port of bytes with one more axis: each string is UTF-8 in a
slot of `width` bytes, zeros behind it. A sequence is one port for each element, but maps with the same keys are one port with a row
for each of them; an optional without a value has none. This module needs only numpy: the runtime imports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import StratacError

_KINDS = ("tensor", "strings", "sequence", "maps", "none")


@dataclass(frozen=True)
class Form:
    """One value. `port` names the port of a tensor, `width` is the bytes of a slot where its elements are strings; `items` are the
    elements of a sequence. `maps` are a sequence with a map for each row of the tensor of the port: from `keys` to the elements of
    the row."""

    kind: str  # tensor, strings, sequence, maps or none
    port: str = ""
    width: int = 0
    items: tuple[Form, ...] = ()
    keys: tuple[int | str, ...] = ()

    def leaves(self) -> tuple[Form, ...]:
        """The tensors the value is made of, in order."""
        if self.kind == "sequence":
            return tuple(leaf for item in self.items for leaf in item.leaves())
        if self.kind == "maps":
            return (Form("tensor", self.port),)
        return () if self.kind == "none" else (self,)

    def ports(self) -> tuple[str, ...]:
        """Their ports."""
        return tuple(leaf.port for leaf in self.leaves())


def named(rows: tuple[tuple[str, Form], ...]) -> dict[str, Form]:
    """Values by name, those they are made of by their ports."""
    return {leaf.port: leaf for _, form in rows for leaf in form.leaves()} | dict(rows)


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a model by name, in order."""

    inputs: tuple[tuple[str, Form], ...]
    outputs: tuple[tuple[str, Form], ...]

    @property
    def plain(self) -> bool:
        """Whether every value is a tensor of numbers, so that there is nothing to say."""
        return all(form.kind == "tensor" and form.port == name for name, form in (*self.inputs, *self.outputs))


# -- as plain data


def form_to_data(form: Form) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": form.kind}
    if form.port:
        found["port"] = form.port
    if form.width:
        found["width"] = form.width
    if form.kind == "sequence":
        found["items"] = [form_to_data(item) for item in form.items]
    if form.kind == "maps":
        found["keys"] = list(form.keys)
    return found


def interface_to_data(interface: Interface) -> dict[str, Any]:
    """What a manifest says; `interface_from_data` reads it back."""
    return {
        side: [{"name": name, **form_to_data(form)} for name, form in rows]
        for side, rows in (("inputs", interface.inputs), ("outputs", interface.outputs))
    }


def form_from_data(data: Mapping[str, Any]) -> Form:
    """Raises ValueError for what is no form."""
    kind, port, width = data.get("kind"), data.get("port", ""), data.get("width", 0)
    keys = data.get("keys", [])
    if (
        kind not in _KINDS
        or not isinstance(port, str)
        or not isinstance(width, int)
        or (kind == "strings") != (width > 0)
        or not isinstance(keys, list)
        or (kind == "maps") != (len(keys) > 0)
        or any(not isinstance(key, (int, str)) for key in keys)
    ):
        raise ValueError(f"{dict(data)} is no form of a value")
    items = tuple(form_from_data(item) for item in data.get("items", ()))
    return Form(kind, port, width, items, tuple(keys))


def interface_from_data(data: Mapping[str, Any]) -> Interface:
    """Raises ValueError, KeyError or TypeError for what is no interface."""
    sides = [tuple((str(row["name"]), form_from_data(row)) for row in data[side]) for side in ("inputs", "outputs")]
    return Interface(*sides)


# -- arrays


def encode(name: str, form: Form, value: Any) -> dict[str, Any]:
    """The ports of one value: `value` is an array, an array (or nested lists) of strings, a list, or None; slots of
    strings are taken as they are. Raises StratacError."""
    if form.kind == "tensor":
        return {form.port: value}
    if form.kind == "strings":
        slots = isinstance(value, np.ndarray) and value.dtype == np.uint8
        return {form.port: value if slots else string_slots(name, value, form.width)}
    if form.kind == "none":
        if value is not None:
            raise StratacError(
                f"input {name!r} was compiled without a value and got one",
                hint="compile again without --sequence NAME=none",
            )
        return {}
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise StratacError(f"input {name!r} is a sequence and got a {type(value).__name__}", hint="give a list")
    items = list(value)
    if len(items) != len(form.items):
        what = f"the sequence {name!r} was compiled for {len(form.items)} elements and got {len(items)}"
        raise StratacError(what, hint=f"compile again with --sequence {name}={len(items)}")
    found: dict[str, Any] = {}
    for position, (item, part) in enumerate(zip(items, form.items, strict=True)):
        found |= encode(f"{name}[{position}]", part, item)
    return found


def decode(form: Form, arrays: Mapping[str, np.ndarray]) -> Any:
    """The value behind the arrays of its ports: an array, an object array of `str`, a list (of arrays or `dict`), or None."""
    if form.kind == "tensor":
        return arrays[form.port]
    if form.kind == "strings":
        return slot_strings(arrays[form.port])
    if form.kind == "maps":
        return [dict(zip(form.keys, row, strict=True)) for row in arrays[form.port].tolist()]
    return None if form.kind == "none" else [decode(item, arrays) for item in form.items]


def string_slots(name: str, value: Any, width: int) -> np.ndarray:
    """Strings (or bytes of UTF-8) as `uint8[..., width]`. Raises StratacError for one that is too long or holds a NUL."""
    array = np.asarray(value)
    if array.dtype.kind not in "OUST":
        raise StratacError(f"{name!r} is a tensor of strings and got {array.dtype}")
    slots = []
    for text in array.reshape(-1).tolist():
        if not isinstance(text, (str, bytes)):
            raise StratacError(f"{name!r} is a tensor of strings and holds a {type(text).__name__}")
        data = text.encode() if isinstance(text, str) else text
        if len(data) > width:
            hint = f"compile again with --string-bytes {len(data)} or more"
            raise StratacError(f"{name!r}: a string of {len(data)} bytes is longer than the {width} planned", hint=hint)
        if b"\0" in data:
            raise StratacError(f"{name!r}: strings with a NUL character are not supported")
        slots.append(data)
    return np.array(slots, f"S{width}").view(np.uint8).reshape(*array.shape, width)


def slot_strings(slots: np.ndarray) -> np.ndarray:
    """The object array of strings that `uint8[..., width]` holds."""
    found = np.empty(slots.shape[:-1], object)
    flat = np.ascontiguousarray(slots).reshape(-1, slots.shape[-1])
    texts = [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in flat]
    found.reshape(-1)[:] = texts
    return found
