"""Values of a model that are no tensors of numbers, while it is imported: sequences, optionals without a value, strings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from ....ir.dims import Shape
from ....ir.types import TensorType
from ..known import Known


@dataclass(frozen=True)
class Strings:
    """A tensor of strings: the graph value `value` is `u8[*shape, width]`, each string UTF-8 with zeros behind it."""

    value: str
    type: TensorType

    @property
    def shape(self) -> Shape:
        return self.type.shape[:-1]

    @property
    def width(self) -> int:
        width = self.type.shape[-1]
        assert isinstance(width, int)
        return width


@dataclass(frozen=True)
class Items:
    """A sequence: its elements are known one by one, and so is their number."""

    items: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Nothing:
    """An optional without a value. One with a value is that value."""


@dataclass(frozen=True)
class Maps:
    """A sequence of maps, one for each row of the graph value `value` [rows, keys]: from each key to its element of the row. Only
    outputs of the model are such."""

    value: str
    keys: tuple[Union[int, str], ...]


Structured = Union[Strings, Items, Nothing, Maps]
#: Whatever a name of the model may stand for: a value of the graph, known contents, or one of the above.
Value = Union[str, Known, Structured]
