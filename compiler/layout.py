"""What the inputs and outputs of a model become: lengths of sequences, optionals without a value, slots of strings, and which pairs
of them are state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..ir.errors import StratacError

#: What is said of a sequence: the shape of each element, in extents and names of dims, or None where the model's own type has it.
#: None by itself is an optional without a value.
Elements = tuple[tuple[int | str, ...] | None, ...] | None
#: Bytes that a string may have, unless the user says.
STRING_BYTES = 64
_LONGEST = 1 << 12
_HINT = "write NAME=3, NAME=[2,3],[n] (the shape of each element) or NAME=none"


@dataclass(frozen=True)
class Layout:
    """`sequences` gives the elements of sequences by the name of the input (None: an optional without a value), `string_bytes` is
    the length of the slots of strings. `states` gives by the names of inputs the outputs they are tied to: what a run leaves there
    the next one finds, and neither is a port. `trips` is how often loops run at most of which only the data says it (0: not
    said)."""

    sequences: Mapping[str, Elements] = field(default_factory=dict)
    string_bytes: int = STRING_BYTES
    states: Mapping[str, str] = field(default_factory=dict)
    trips: int = 0

    def facts(self) -> dict[str, Any]:
        """As plain data, what is not the default."""
        found: dict[str, Any] = {}
        if self.sequences:
            found["sequences"] = {
                name: None if shapes is None else [None if shape is None else list(shape) for shape in shapes]
                for name, shapes in self.sequences.items()
            }
        if self.string_bytes != STRING_BYTES:
            found["string_bytes"] = self.string_bytes
        if self.states:
            found["states"] = dict(self.states)
        if self.trips:
            found["trips"] = self.trips
        return found


def layout_from_facts(facts: Mapping[str, Any]) -> Layout:
    """The layout whose `facts` these are."""
    sequences = {name: _elements(name, value) for name, value in facts.get("sequences", {}).items()}
    return Layout(
        sequences, facts.get("string_bytes", STRING_BYTES), dict(facts.get("states", {})), facts.get("trips", 0)
    )


def make_layout(
    sequences: Mapping[str, Any] | None, string_bytes: int, states: Mapping[str, str] | None = None, trips: int = 0
) -> Layout:
    """From the caller's values: a length, a list of shapes or None for each sequence. Raises StratacError."""
    if not 1 <= string_bytes <= 1 << 20:
        raise StratacError(f"strings of {string_bytes} bytes are not possible", hint="give 1 to 1048576")
    if not 0 <= trips <= 1 << 14:
        raise StratacError(f"loops of {trips} iterations are not possible", hint="give 1 to 16384")
    elements = {name: _elements(name, value) for name, value in (sequences or {}).items()}
    return Layout(elements, string_bytes, dict(states or {}), trips)


def _elements(name: str, value: Any) -> Elements:
    if value is None:
        return None
    if isinstance(value, int) and 0 <= value <= _LONGEST:
        return (None,) * value
    shapes: list[tuple[int | str, ...] | None] = []
    for shape in value if isinstance(value, (list, tuple)) else (value,):
        if shape is None:
            shapes.append(None)
            continue
        if not isinstance(shape, (list, tuple)) or any(not isinstance(d, (int, str)) or d == "" for d in shape):
            raise StratacError(f"the sequence {name!r} of {value!r} is not understood", hint=_HINT)
        shapes.append(tuple(shape))
    return tuple(shapes)


def parse_states(texts: Sequence[str]) -> dict[str, str]:
    """`past_key=present_key`: an input and the output it becomes. Raises StratacError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, output = (part.strip() for part in text.partition("="))
        if not equals or not name or not output or name in found:
            raise StratacError(f"--state {text!r} is not understood", hint="write INPUT=OUTPUT, each input once")
        found[name] = output
    return found


def parse_sequences(texts: Sequence[str]) -> dict[str, Any]:
    """`x=3` (a length), `x=[2,3],[n]` (the shape of each element) or `x=none` (an optional without a value).
    Raises StratacError."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or name in found:
            raise StratacError(f"--sequence {text!r} is not understood", hint=_HINT)
        if value.lower() == "none":
            found[name] = None
        elif value.isdigit():
            found[name] = int(value)
        elif re.fullmatch(r"\[[^][]*\](\s*,\s*\[[^][]*\])*", value):
            shapes = [
                [part.strip() for part in one.split(",") if part.strip()] for one in re.findall(r"\[([^][]*)\]", value)
            ]
            found[name] = [[int(part) if part.isdigit() else part for part in shape] for shape in shapes]
        else:
            raise StratacError(f"--sequence {text!r} is not understood", hint=_HINT)
    return found
