"""Whether a cluster may write a result over one of its operands: how states are updated without a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .graph import Node
from .kernel import Loops, Nest, Read, Routine, Scalar, Store, walk
from .lower import try_lower
from .lower_scope import Symbols
from .ops import OPS
from .types import TensorType


def writes_in_place(cluster: Node, value: str, result: str, types: Mapping[str, TensorType], symbols: Symbols) -> bool:
    """Whether the cluster's kernel is still right where `result` lies at the bytes of `value`, one of its inputs.

    A loop nest is where all it reads of an element comes before it stores the same element of the result, in the same turn of its
    loops. A routine is where its op's row says so of the first input.
    """
    kernel = try_lower(cluster.body, cluster.used, cluster.outputs, types, symbols)
    values = (*cluster.used, *cluster.outputs)
    source, target = values.index(value), len(cluster.used) + cluster.outputs.index(result)
    if isinstance(kernel, Loops):
        return all(_element_by_element(nest, source, target) for nest in kernel.nests)
    if not isinstance(kernel, Routine) or not OPS[kernel.op].in_place:
        return False
    first, *others = kernel.inputs
    whole = first is not None and first.operand == source and first.offset == 0
    alone = all(other is None or other.operand != source for other in others)
    return whole and alone and [dense.operand for dense in kernel.results if dense is not None] == [target]


def _element_by_element(nest: Nest, source: int, target: int) -> bool:
    """Points of the outer axes run in any order, in vectors too, and share no element of the result: one of them tells of all."""
    stores = [k for k, stage in enumerate(nest.stages) if isinstance(stage, Store) and stage.operand == target]
    for number, stage in enumerate(nest.stages):
        inside = [expression for expression, _ in stage.index.gathers] if isinstance(stage, Store) else []
        reads = [read for expression in (stage.value, *inside) for read in _reads(expression, source)]
        if not reads:
            continue
        if len(stores) != 1 or number > stores[0] or stage.axes != nest.stages[stores[0]].axes:
            return False
        written = nest.stages[stores[0]]
        assert isinstance(written, Store)
        if any(read.index != written.index for read in reads):
            return False
    return True


def _reads(expression: Scalar, operand: int) -> Iterator[Read]:
    return (part for part in walk(expression) if isinstance(part, Read) and part.operand == operand)
