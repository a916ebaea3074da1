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
from ...ir.types import bf16, f32
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
    types = dict(graph.types)
    nodes = []
    for node in graph.nodes:
        if not any(v in values for v in (*node.used, *node.outputs)):
            nodes.append(node)
            continue
        narrow = {value: value for value in node.used if value in values}  # and views of them
        wide = {value: f"{value}.wide.{node.outputs[0]}" for value in (*narrow, *node.outputs) if value in values}
        body: list[Node] = []
        for child in node.body:
            source, made = child.inputs[0] if child.inputs else "", child.outputs[0]
            if source in narrow and OPS[child.op].category == "view" and made not in node.outputs:
                narrow[made], wide[made] = f"{made}.narrow.{node.outputs[0]}", made
                types[narrow[made]] = replace(graph.types[made], dtype=bf16)
                body.append(replace(child, inputs=(narrow[source], *child.inputs[1:]), outputs=(narrow[made],)))
                continue
            read = dict.fromkeys(v for v in child.inputs if v in narrow)
            done = {v for one in body for v in one.outputs}
            body += [_cast(narrow[v], wide[v], node) for v in read if wide[v] not in done]
            body.append(
                replace(
                    child,
                    inputs=tuple(wide.get(v, v) for v in child.inputs),
                    outputs=tuple(wide.get(v, v) for v in child.outputs),
                )
            )
        body += [_cast(wide[value], value, node) for value in node.outputs if value in values]
        made_here = {v for one in body for v in one.outputs}
        for value, name in wide.items():
            types.pop(name, None)  # of a view that nobody reads wide
            if name in made_here:
                types[name] = graph.types[value]
        nodes.append(replace(node, body=tuple(body)))
    types |= {value: replace(graph.types[value], dtype=bf16) for value in values}
    return replace(graph, nodes=tuple(nodes), types=types)


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
