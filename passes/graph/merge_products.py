"""Products of one left operand with several weights, whose results attention reads, as one product with all of them side by side.

Kernels that split or round the left operand then do it once and not for each of query, key and value; there are fewer kernels and
barriers. Attention reads its operands through strides, so that nobody needs a copy. Every element is the sum it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ...ir.graph import Derived, Graph, Node, Weight, make_attrs
from ...ir.ops import OPS
from ...ir.types import TensorType, f32
from .rebuild import Rebuild, rebuild


@dataclass(frozen=True)
class _Member:
    """A product with a weight, and the bias behind it (empty: none); `result` is what others read."""

    product: Node
    bias: str
    result: str


def merge_products(graph: Graph) -> Graph:
    """The graph with such products merged; the same graph if there are none."""
    groups: dict[str, list[_Member]] = {}
    users = graph.users()
    for node in graph.nodes:
        member = _member(graph, node, users)
        if member is not None and _attended(member.result, users, set(graph.output_values)):
            groups.setdefault(node.inputs[0], []).append(member)
    merge = _Merge([members for members in groups.values() if len(members) > 1])
    return rebuild(graph, {"matmul": (merge.product, merge.result), "add": (merge.result,)}) if merge.groups else graph


def _member(graph: Graph, node: Node, users: dict[str, list[Node]]) -> _Member | None:
    if node.op != "matmul" or node.inputs[1] not in graph.weights or graph.types[node.output].dtype != f32:
        return None
    shape = graph.types[node.inputs[1]].shape
    if len(shape) != 2 or graph.types[node.inputs[0]].rank < 2 or not all(isinstance(d, int) for d in shape):
        return None
    behind = users.get(node.output, [])
    if len(behind) == 1 and behind[0].op == "add" and node.output not in graph.output_values:
        (other,) = [v for v in behind[0].inputs if v != node.output] or [""]
        if other in graph.weights and graph.types[other].shape == shape[1:]:
            return _Member(node, other, behind[0].output)
    return _Member(node, "", node.output)


def _attended(value: str, users: dict[str, list[Node]], kept: set[str]) -> bool:
    """Whether attention alone reads a value, through views if at all."""
    readers = users.get(value, [])
    return (
        bool(readers)
        and value not in kept
        and all(
            node.op in ("attention", "ragged_attention")
            or (OPS[node.op].category == "view" and _attended(node.output, users, kept))
            for node in readers
        )
    )


def _width(work: Rebuild, member: _Member) -> int:
    width = work.old.types[member.product.inputs[1]].shape[1]
    assert isinstance(width, int)
    return width


def _nothing(work: Rebuild, member: _Member) -> str:
    """A bias that leaves every sum as it is."""
    return work.builder.constant(np.full(_width(work, member), -0.0, np.float32))


class _Merge:
    """The rules; a group is computed where its first product stood."""

    def __init__(self, groups: list[list[_Member]]) -> None:
        self.groups = groups
        self.of_product = {member.product.output: group for group in groups for member in group}
        self.of_result = {m.result: (group, k) for group in groups for k, m in enumerate(group)}
        self.made: dict[str, str] = {}  # left operand of the old graph -> merged value

    def product(self, work: Rebuild, node: Node) -> None:
        group = self.of_product.get(node.output)
        if group is None or group[0].product.output != node.output:
            return
        weight = self._beside(work, [m.product.inputs[1] for m in group], 1)
        value = work.emit("matmul", node.inputs[0], weight, like=node)
        if any(m.bias for m in group):
            bias = self._beside(work, [m.bias or _nothing(work, m) for m in group], 0)
            value = work.emit("add", value, bias, like=node)
        self.made[group[0].result] = value

    def result(self, work: Rebuild, node: Node) -> str | None:
        if node.output not in self.of_result:
            return None
        group, number = self.of_result[node.output]
        widths = [_width(work, m) for m in group]
        start = (0, *accumulate(widths))[number]
        value = self.made[group[0].result]
        axis = len(work.shape(value)) - 1
        return work.emit("slice", value, like=node, axis=axis, start=start, extent=widths[number], step=1)

    def _beside(self, work: Rebuild, values: list[str], axis: int) -> str:
        """Weights along an axis as one weight, which is evaluated when it is packed."""
        kinds = [work.type(v) for v in values]
        shape = list(kinds[0].shape)
        shape[axis] = sum((kind.shape[axis] for kind in kinds), 0)
        label = " | ".join(work.builder.weights[v].label or v for v in values)
        content = Derived("concat", tuple(values), make_attrs({"axis": axis}))
        return work.builder.weight(
            Weight(work.builder.fresh("w"), TensorType(kinds[0].dtype, tuple(shape)), content, label)
        )
