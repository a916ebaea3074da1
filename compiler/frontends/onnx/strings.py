"""Tensors of strings: constants of the model, and operators that only move elements.

An operator that moves elements does not look at them, so its own rule is applied to their *positions*, and the strings are gathered
by what comes out: reshaping, slicing, joining, choosing and indexing need no rules for strings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Union

import numpy as np
import onnx

from ....ir.dims import Dim, Shape, product
from ....ir.types import i64
from .. import contents
from ..emit import Emitter
from ..known import Known
from ..unsupported import Unsupported
from .merge import widened
from .site import Site
from .structured import Items, Strings, Value

#: Operators whose outputs hold elements of their inputs, and nothing else of them.
MOVERS = frozenset(
    ("", op)
    for op in (
        *("Compress", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "OneHot"),
        *(
            "Reshape",
            "ReverseSequence",
            "ScatterElements",
            "ScatterND",
            "Scatter",
            "Shape",
            "Size",
            "Slice",
            "SpaceToDepth",
        ),
        *("Split", "SplitToSequence", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"),
    )
) | {("ai.onnx.ml", "ArrayFeatureExtractor")}
#: Those that leave the order of elements as it is.
_VIEWS = frozenset(("Flatten", "Reshape", "Squeeze", "Unsqueeze"))
#: Those that read the type alone.
_READERS = frozenset(("Shape", "Size"))


#: Bytes that the slots of constant strings may take together.
_TABLE = 1 << 28


def slots_of(texts: Sequence[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """Strings as `uint8[*shape, width]`, as wide as the longest. Raises Unsupported for one that holds a NUL, and for too few."""
    if any(extent < 0 for extent in shape) or len(texts) != math.prod(shape):
        raise Unsupported(f"{len(texts)} strings are no tensor of shape {list(shape)}")
    if any(b"\0" in text for text in texts):
        raise Unsupported("strings with a NUL character are not supported")
    width = max((len(text) for text in texts), default=1) or 1
    if len(texts) * width > _TABLE:
        raise Unsupported(
            f"{len(texts)} strings of up to {width} bytes are not supported: each takes the slot of the longest"
        )
    return np.array(texts, f"S{width}").view(np.uint8).reshape(*shape, width)


def strings_constant(emitter: Emitter, texts: Sequence[bytes], shape: tuple[int, ...]) -> Strings:
    """A constant tensor of strings."""
    value = emitter.constant(slots_of(texts, shape))
    return Strings(value, emitter.builder.types[value])


def moved(site: Site, rule: Callable[[Site], Union[Value, Sequence[Value]]]) -> Union[Value, Sequence[Value]]:
    """The outputs of an operator of MOVERS with strings among its inputs; `rule` is that of tensors of numbers."""
    found = {
        name: strings
        for name in dict.fromkeys(site.node.input)
        if isinstance(strings := site.importer.structured.get(name), Strings)
    }
    copy = onnx.NodeProto()
    copy.CopyFrom(site.node)
    tables = []
    width = max(strings.width for strings in found.values())
    offset: Dim = 0
    for name, strings in found.items():
        count = product(strings.shape)
        positions = site.importer.temporary(_positions(site, offset, count, strings.shape))
        copy.input[:] = [positions if each == name else each for each in copy.input]
        tables.append(site.reshape(widened(site, strings, width), (count, width)))
        offset = offset + count
    results = rule(site.like(copy))
    if site.op in _READERS:
        return results
    table = tables[0] if len(tables) == 1 else site.emit("concat", *tables, axis=0)

    def strings_at(value: Value) -> Value:
        if isinstance(value, Items):
            return Items(tuple(strings_at(item) for item in value.items))
        if not isinstance(value, (str, Known)):
            raise Unsupported("does not move strings")
        shape = site.type_of(value).shape
        if site.op in _VIEWS:
            return strings_of(site, site.reshape(table, (*shape, width)))
        return strings_of(site, site.emit("gather", table, site.data(value), axis=0))

    if isinstance(results, (str, Known, Items)):
        return strings_at(results)
    assert isinstance(results, (list, tuple))
    return [strings_at(value) for value in results]


def strings_of(site: Site, value: str) -> Strings:
    """Strings in the slots of a graph value."""
    return Strings(value, site.type_of(value))


def _positions(site: Site, offset: Dim, count: Dim, shape: Shape) -> Value:
    return site.viewed(contents.arange(i64, offset, 1, count), shape)
