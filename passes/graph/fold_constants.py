"""Ops on constants become constants: small ones are evaluated, large ones become Derived weights, evaluated when packed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from ...ir.dims import evaluate_shape, upper
from ...ir.graph import Derived, Graph, Inline, Node, Weight
from ...ir.interp import evaluate_weight
from ...ir.interp.movement import filled
from ...ir.ops import OPS
from ...ir.types import COMPUTABLE
from .rebuild import SMALL_BYTES, Rebuild, rebuild
from .whole_products import centring

#: a folded constant may be this much larger than what it is made of, unless it is small
GROWTH = 2
#: what dequantised weights are computed with
_ELEMENTWISE = frozenset({"cast", "sub", "mul", "transpose", "reshape"})
#: what stays as it is
_KEPT = frozenset({"fill", "loop"})


def _spelled_out(work: Rebuild, fill: Node) -> str:
    """The elements of a small `fill` as a weight."""
    kind = work.type(fill.output)
    array = filled(evaluate_shape(kind.shape, {}), fill.attr("value"), kind.dtype)
    return work.builder.weight(Weight(work.builder.fresh("c"), kind, Inline(array.tobytes())))


def _fold(work: Rebuild, node: Node, narrow: frozenset[str], operands: frozenset[str]) -> str | None:
    """The node as a constant, unless it is a matrix or more in `narrow`; those in `operands` may be as large as they like."""
    weights = work.builder.weights
    kind = work.old.types[node.outputs[0]]
    size = kind.nbytes
    if len(node.outputs) != 1 or not isinstance(size, int) or node.op in _KEPT or kind.dtype not in COMPUTABLE:
        return None
    inputs = []
    for value in node.inputs:
        literal = work.producer(value, "fill")
        if literal is not None and work.constant(value) is not None:
            value = _spelled_out(work, literal)
        if value not in weights:
            return None
        inputs.append(value)
    given = sum(upper(weights[v].type.nbytes, {}) for v in set(inputs))
    if node.output in narrow and kind.rank > 1:
        return None
    if size > SMALL_BYTES and size > GROWTH * given and node.output not in operands:
        return None
    if not inputs and (node.op == "dim" or size > SMALL_BYTES):
        return None
    name = work.builder.fresh("c")
    weight = Weight(name, kind, Derived(node.op, tuple(inputs), node.attrs), node.source.node)
    if size <= SMALL_BYTES and given <= 4 * SMALL_BYTES and all(work.readable(v) for v in inputs):
        graph = replace(work.snapshot(), weights={**weights, name: weight})
        data = np.ascontiguousarray(evaluate_weight(graph, name)).tobytes()
        weight = replace(weight, content=Inline(data))
    return work.builder.weight(weight)


def _operands(graph: Graph) -> frozenset[str]:
    """Values that operands of products in floats are made of, element by element: kernels want these ahead of time."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if OPS[node.op].category == "contraction" and graph.types[node.output].dtype.is_float:
            found.update(node.used)
        elif node.op in _ELEMENTWISE and node.output in found:
            elements = graph.types[node.output].elements
            found.update(value for value in node.used if graph.types[value].elements == elements)
    return frozenset(found)


def fold_constants(graph: Graph) -> Graph:
    """Every op whose inputs are constants is gone, except where the result would be large out of proportion, and where a
    product takes narrow integers as they are."""
    fold = partial(_fold, narrow=centring(graph), operands=_operands(graph))
    return rebuild(graph, {"*": (fold,)})
