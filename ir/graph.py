"""Level one, *what*: operators over typed tensors with symbolic dims, and weights as references into files.

Values are named by strings, each defined once: by an input, a weight or a node. Nodes stand in topological order.
A *cluster* is a node of op `cluster` whose `body` computes its outputs from its inputs; bodies do not nest further.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from .dims import Bounds, Expr
from .errors import Source
from .interface import Interface
from .types import DType, TensorType

#: Attribute values: numbers, strings, dtypes, dims, and tuples of these.
Attr = Union[bool, int, float, str, DType, Expr, tuple["Attr", ...]]
Attrs = tuple[tuple[str, Attr], ...]


def make_attrs(values: Mapping[str, Attr | None]) -> Attrs:
    """Sorted attribute pairs; None values are left out."""
    return tuple(sorted((k, v) for k, v in values.items() if v is not None))


@dataclass(frozen=True)
class Node:
    """One operator applied. An absent optional input is the empty string."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Attrs = ()
    source: Source = Source()
    body: tuple[Node, ...] = ()
    graph: Graph | None = None  # of a `loop`: what it repeats; see `ir/ops_control.py`

    def attr(self, name: str, default: Any = None) -> Any:
        for key, value in self.attrs:
            if key == name:
                return value
        return default

    @property
    def output(self) -> str:
        """The only output."""
        (value,) = self.outputs
        return value

    @property
    def used(self) -> tuple[str, ...]:
        """Inputs that are present, each once."""
        return tuple(dict.fromkeys(v for v in self.inputs if v))


@dataclass(frozen=True)
class FileBytes:
    """Bytes of a file: `file` is relative to the model's folder."""

    file: str
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Inline:
    """Bytes kept in the graph itself: little-endian, dense, row-major."""

    data: bytes


@dataclass(frozen=True)
class Derived:
    """A constant computed from other weights by one op, evaluated only when its bytes are packed."""

    op: str
    inputs: tuple[str, ...]
    attrs: Attrs = ()


@dataclass(frozen=True)
class Weight:
    """A constant tensor whose bytes are a reference, never an array in memory. `name` is the value it defines."""

    name: str
    type: TensorType
    content: FileBytes | Inline | Derived
    label: str = ""


@dataclass(frozen=True)
class Port:
    """An input or output of the model: its public name and the value behind it."""

    name: str
    value: str


@dataclass(frozen=True)
class State:
    """What stays from one run to the next: a cache, a window, a counter. Its type has constant extents.

    `value` is what a run finds, `update` the value it has for the next run (`value` itself: it never changes). It starts as the
    weight `initial`, which nothing else reads, or as zeros where that is empty. `name` is public.
    """

    name: str
    value: str
    update: str
    initial: str = ""


@dataclass(frozen=True)
class Carried:
    """What a loop hands from one trip to the next: `value` as a trip finds it, and `update`, the same bytes as the trip leaves
    them. Behind the loop `update` is what it ended with: what `value` was in front of it, where there was no trip."""

    value: str
    update: str


@dataclass(frozen=True)
class Loop:
    """Top-level nodes `first` to `last` (their first outputs), which run again and again: a `loop` laid out flat.

    `trip` is the symbol that counts trips from 0; its greatest value is that of the last trip there may be. The loop ends sooner
    where `condition`, a carried bool, is false in front of a trip; without one it is empty. The typical value of `trip` is that of
    the last trip predicted.
    """

    trip: str
    first: str
    last: str
    carried: tuple[Carried, ...]
    condition: str = ""
    why: str = ""


@dataclass(frozen=True)
class Graph:
    """A model. `types` holds the type of every value, those inside cluster bodies included."""

    name: str
    symbols: Mapping[str, Bounds]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: Mapping[str, Weight]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    folder: str = field(default="", compare=False)  # where `FileBytes.file` is looked up; never printed
    absent: frozenset[str] = field(
        default=frozenset(), compare=False
    )  # files of weights that were missing; never printed
    interface: Interface | None = field(default=None, compare=False)  # what callers see of the ports; never printed
    states: tuple[State, ...] = ()
    loops: tuple[
        Loop, ...
    ] = ()  # of a graph of clusters, in order of their first nodes, an outer one before those inside it
    notes: tuple[str, ...] = field(default=(), compare=False)  # what a front end decided, for people; never printed

    def readable(self, weight: str) -> bool:
        """Whether the bytes of a weight can be read: no file it comes from was missing."""
        pending = [weight] if self.absent else []
        while pending:
            content = self.weights[pending.pop()].content
            if isinstance(content, FileBytes) and content.file in self.absent:
                return False
            if isinstance(content, Derived):
                pending += [base for base in content.inputs if base]
        return True

    def walk(self) -> Iterator[Node]:
        """Every node; a cluster before its body."""
        for node in self.nodes:
            yield node
            yield from node.body

    def producers(self) -> dict[str, Node]:
        """The top-level node that defines each value."""
        return {v: node for node in self.nodes for v in node.outputs if v}

    def users(self) -> dict[str, list[Node]]:
        """The top-level nodes that read each value, in order, each once per value. Graph outputs are not nodes."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in node.used:
                found.setdefault(value, []).append(node)
        return found

    def spans(self) -> list[tuple[int, int]]:
        """The positions of the first and the last node of each loop."""
        positions = {node.outputs[0]: position for position, node in enumerate(self.nodes)} if self.loops else {}
        return [(positions[loop.first], positions[loop.last]) for loop in self.loops]

    def trips(self) -> dict[str, int]:
        """How often each top-level node that lies in loops is predicted to run, by its first output."""
        found: dict[str, int] = {}
        for loop, (first, last) in zip(self.loops, self.spans(), strict=True):
            for node in self.nodes[first : last + 1]:
                found[node.outputs[0]] = found.get(node.outputs[0], 1) * (self.symbols[loop.trip].typical + 1)
        return found

    def rewritten(self) -> Iterator[tuple[str, str]]:
        """Pairs of values that are the same bytes, before and after one node writes over them: states and what loops carry."""
        yield from ((state.value, state.update) for state in self.states if state.update != state.value)
        yield from ((one.value, one.update) for loop in self.loops for one in loop.carried)

    def overwrites(self) -> Iterator[tuple[State, Node, list[Node]]]:
        """Each state that changes, the top-level node that computes what it becomes, and the other nodes that read it: in a graph
        of clusters these come before that node, which writes where they read."""
        producers = self.producers()
        for state in self.states:
            if state.update != state.value and state.update in producers:
                writer = producers[state.update]
                yield state, writer, [n for n in self.nodes if state.value in n.used and n is not writer]

    @property
    def input_values(self) -> tuple[str, ...]:
        """What a run finds: inputs, then states."""
        return (*(port.value for port in self.inputs), *(state.value for state in self.states))

    @property
    def output_values(self) -> tuple[str, ...]:
        """What a run must leave: outputs, then what the states become."""
        return (*(port.value for port in self.outputs), *(state.update for state in self.states))
