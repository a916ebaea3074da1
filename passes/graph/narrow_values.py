"""Values that products in bf16 read are stored as bf16 by the cluster that computes them.

Such a product rounds its left operand anyway: rounded by whoever makes it, it takes half the bytes to write and to read, and
nothing is left to do in front of the product. Whoever else reads the value widens it as it is read. Which operands products take
that way only kernels know, so the pass is given a function that says it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...ir.dims import typical
from ...ir.graph import Graph, Node, make_attrs
from ...ir.kernel import Contraction, Kernel
from ...ir.lower import try_lower
from ...ir.ops import OPS
from ...ir.types import TensorType, bf16, f32
from ...ir.verify_kernel import strided_operands

#: smaller values are in a near cache either way
LEAST_ELEMENTS = 4096

#: The values that the kernel of a cluster of a graph reads as bf16 at no cost, be they so or not.
NarrowReads = Callable[[Node, Graph], frozenset[str]]


def narrow_values(graph: Graph, reads: NarrowReads) -> Graph:
    """Of a graph of clusters; outputs, states and what loops carry keep their types."""
    makers = {value: node for node in graph.nodes for value in node.outputs}
    kept = {*graph.output_values, *graph.input_values, *(value for pair in graph.rewritten() for value in pair)}
    found = {
        value
        for node in graph.nodes
        if node.body
        for value in reads(node, graph)
        if value in makers and value not in kept and _computes(makers[value]) and _worth(graph, value)
    }
    while found:
        changed = _narrowed(graph, found)
        spoilt = _spoilt(graph, changed, found, reads)
        if not spoilt:
            return changed
        found -= spoilt
    return graph


def _computes(node: Node) -> bool:
    """Whether a cluster does more than move elements, which are best moved as they are."""
    return any(OPS[child.op].category not in ("view", "source", "movement") for child in node.body)


def _worth(graph: Graph, value: str) -> bool:
    kind = graph.types[value]
    return kind.dtype == f32 and typical(kind.elements, graph.symbols) >= LEAST_ELEMENTS


def _narrowed(graph: Graph, values: set[str]) -> Graph:
    """The values rounded at the end of the clusters that make them, and widened in those that read them, behind views of them."""
    types = {v: replace(kind, dtype=bf16) if v in values else kind for v, kind in graph.types.items()}
    nodes = tuple(
        node if values.isdisjoint((*node.used, *node.outputs)) else _rounding(node, values, types)
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes, types=types)


def _rounding(node: Node, values: set[str], types: dict[str, TensorType]) -> Node:
    """The cluster with those of the values that it reads or makes in bf16; `types` is kept in step."""
    given = [value for value in node.used if value in values]
    made = [value for value in node.outputs if value in values]
    wide = {value: f"{value}.wide.{node.outputs[0]}" for value in (*given, *made)}
    narrow = dict(zip(given, given, strict=True))  # and views of them
    widened: list[str] = []
    body: list[Node] = []
    for child in node.body:
        if OPS[child.op].category == "view" and child.inputs[0] in narrow and child.output not in node.outputs:
            name = f"{child.output}.narrow.{node.outputs[0]}"
            body.append(replace(child, inputs=(narrow[child.inputs[0]], *child.inputs[1:]), outputs=(name,)))
            types[name] = replace(types[child.output], dtype=bf16)
            narrow[child.output], wide[child.output] = name, child.output
            continue
        fresh = [value for value in child.used if value in narrow and value not in widened]
        body += [_cast(narrow[value], wide[value], node) for value in fresh]
        widened += fresh
        inputs, outputs = (tuple(wide.get(v, v) for v in names) for names in (child.inputs, child.outputs))
        body.append(replace(child, inputs=inputs, outputs=outputs))
    types |= {wide[value]: replace(types[value], dtype=f32) for value in (*widened, *made)}
    for view in narrow.keys() - {*given, *widened}:
        del types[view]  # which nobody reads wide
    return replace(node, body=(*body, *(_cast(wide[value], value, node) for value in made)))


def _cast(source: str, target: str, node: Node) -> Node:
    to = bf16 if target in node.outputs else f32
    return Node("cast", (source,), (target,), make_attrs({"to": to}), node.source)


def _spoilt(before: Graph, after: Graph, values: set[str], reads: NarrowReads) -> set[str]:
    """Of these values those that a cluster reads or writes which has no such kernel any more, or whose root cannot take them."""
    found: set[str] = set()
    for old, new in zip(before.nodes, after.nodes, strict=True):
        touched = {v for v in (*new.used, *new.outputs) if v in values}
        if not touched:
            continue
        was, now = _kernel(old, before), _kernel(new, after)
        if isinstance(now, str) or isinstance(now, Contraction) != isinstance(was, Contraction):
            found |= touched
        else:
            root = strided_operands(now.root) if isinstance(now, Contraction) else []
            taken = {(*new.used, *new.outputs)[read.operand] for read, _ in root} | reads(old, before)
            found |= (touched & taken) - reads(new, after)
    return found


def _kernel(node: Node, graph: Graph) -> Kernel | str:
    return try_lower(node.body, node.used, node.outputs, graph.types, graph.symbols)
