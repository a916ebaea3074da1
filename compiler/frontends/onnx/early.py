"""Nodes of opsets 1 to 6 as opset 7 writes them: what changed in between, operator by operator.

Opset 7 brought broadcasting as numpy has it, and dropped the switches between training and inference; before it,
operators had attributes for both, and some took as attributes what later came as inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from ....ir.types import i64
from .. import contents
from ..unsupported import Unsupported
from .site import Site

#: Operators of later opsets have their own versions of these rules.
FIRST_MODERN = 7
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
#: Attributes that say nothing of results: hints for the frameworks of the time.
_HINTS = ("consumed_inputs", "output_sequence")

Change = Callable[["_Edit"], None]
_CHANGES: dict[str, Change] = {}


def modern(site: Site) -> Site:
    """The node of a site as opset 7 has it; the site itself where it is of a later opset."""
    if site.opset >= FIRST_MODERN or site.node.domain not in ("", "ai.onnx"):
        return site
    edit = _Edit(site)
    for name in _HINTS:
        edit.take(name)
    if site.op in _CHANGES:
        _CHANGES[site.op](edit)
    return Site(site.importer, edit.node, FIRST_MODERN, site.source)


def _change(*ops: str) -> Callable[[Change], Change]:
    def register(function: Change) -> Change:
        _CHANGES.update(dict.fromkeys(ops, function))
        return function

    return register


class _Edit:
    """A copy of a node that is being changed."""

    def __init__(self, site: Site) -> None:
        self.site, self.node = site, onnx.NodeProto()
        self.node.CopyFrom(site.node)

    def take(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, which the node has no more."""
        for index, attribute in enumerate(self.node.attribute):
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                del self.node.attribute[index]
                return value
        return default

    def set(self, name: str, value: Any) -> None:
        self.take(name)
        kind = onnx.AttributeProto.INTS if value == [] else None  # which an empty list does not tell
        self.node.attribute.append(onnx.helper.make_attribute(name, value, attr_type=kind))

    def default(self, name: str, value: Any) -> None:
        if not any(attribute.name == name for attribute in self.node.attribute):
            self.set(name, value)

    def replace(self, index: int, result: Any) -> None:
        """Another value, or known contents, as an input."""
        name = f"{self.node.output[0]} input {index}"
        self.site.importer.bind(name, result)
        while len(self.node.input) <= index:
            self.node.input.append("")
        self.node.input[index] = name

    def list(self, index: int, values: list[int]) -> None:
        self.replace(index, contents.vector(i64, values))


@_change(*_ELEMENTWISE)
def _broadcast(edit: _Edit) -> None:
    """`broadcast` matches the second operand's axes with those of the first from `axis` on, by default with the last ones."""
    axis = edit.take("axis")
    if not edit.take("broadcast", 0) or axis is None:
        return
    wide, narrow = edit.site.type(0).rank, edit.site.type(1).shape
    start = edit.site.axis(axis, wide)
    behind = wide - start - len(narrow)
    if behind < 0:
        raise Unsupported(f"axis {axis}: rank {len(narrow)} does not fit into rank {wide} there")
    if behind:
        edit.replace(1, edit.site.reshape(edit.site.x(1), (*narrow, *(1,) * behind)))


@_change("PRelu")
def _slope_per_channel(edit: _Edit) -> None:
    """One slope per channel; the channels are axis 1."""
    slope, rank = edit.site.type(1).shape, edit.site.type(0).rank
    if len(slope) == 1 and slope != (1,) and rank > 2:
        edit.replace(1, edit.site.reshape(edit.site.x(1), (*slope, *(1,) * (rank - 2))))


@_change("Gemm")
def _gemm(edit: _Edit) -> None:
    edit.take("broadcast")


@_change("BatchNormalization", "Dropout")
def _inference(edit: _Edit) -> None:
    """Without `is_test` a node is one of training, which its further outputs tell for a batch norm."""
    if not edit.take("is_test", 0) and (edit.site.op == "Dropout" or edit.site.used(1)):
        raise Unsupported("is_test = 0 is training", "export the model in evaluation mode")


@_change("Concat")
def _concat(edit: _Edit) -> None:
    if edit.site.opset < 4:
        edit.default("axis", 1)


@_change("Reshape")
def _reshape(edit: _Edit) -> None:
    if edit.site.opset < 5:
        edit.list(1, list(edit.take("shape", [])))


@_change("Cast")
def _cast(edit: _Edit) -> None:
    if edit.site.opset < 6:
        name = edit.take("to", b"").decode("utf-8", "replace")
        codes = dict(onnx.TensorProto.DataType.items())
        if name not in codes:
            raise Unsupported(f"to = {name!r} is no element type")
        edit.set("to", codes[name])


@_change("Pad")
def _pad(edit: _Edit) -> None:
    if edit.site.opset < 2:
        edit.set("pads", edit.take("paddings", []))


@_change("Split")
def _split(edit: _Edit) -> None:
    if edit.site.opset < 2 and edit.site.has(1):
        edit.set("split", edit.site.numbers(1, "split sizes"))
        del edit.node.input[1:]


@_change("Tile")
def _tile(edit: _Edit) -> None:
    """Before opset 6: how often along which axis, both as inputs."""
    if edit.site.opset < 6:
        repeats = [1] * edit.site.type().rank
        times, axis = edit.site.whole(1, "tiles"), edit.site.whole(2, "axis")
        repeats[edit.site.axis(axis, len(repeats))] = times
        edit.list(1, repeats)
        del edit.node.input[2:]


@_change("Upsample")
def _upsample(edit: _Edit) -> None:
    scales = [edit.take(f"{name}_scale", 1.0) for name in ("height", "width")]
    edit.set("scales", [1.0, 1.0, *scales])


@_change("Selu")
def _selu(edit: _Edit) -> None:
    if edit.site.opset < 6:
        edit.default("alpha", 1.6732)
        edit.default("gamma", 1.0507)


@_change("LpPool", "GlobalLpPool")
def _lp_pool(edit: _Edit) -> None:
    if edit.site.opset < 2:
        order = edit.take("p", 2.0)
        edit.set("p", int(order) if order.is_integer() else order)
