"""Large products taken apart by columns, so that each part's weight fits the memory through which weights are streamed.

`matmul(x, w)` becomes one product for each group of w's columns, joined by a concat. What follows element by element is done to the
parts, in front of the concat, so that it stays part of the products' kernels. Every element is computed as before, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from ...ir.graph import Derived, Graph, Node, Weight, make_attrs
from ...ir.ops import OPS
from ...ir.types import TensorType
from .match import uses
from .rebuild import Rebuild, Rule, rebuild

#: parts are multiples of this many columns: whole panels of every kernel
COLUMNS = 64


@dataclass(frozen=True)
class Parts:
    """A value as the concat of these along its last axis; `cuts` are where they start, and the end."""

    values: tuple[str, ...]
    cuts: tuple[int, ...]


def split_weights(limit_bytes: int) -> Callable[[Graph], Graph]:
    """The pass for weights of at most `limit_bytes` each, where whole groups of COLUMNS columns allow."""

    def run(graph: Graph) -> Graph:
        return rebuild(graph, _Split(limit_bytes).rules())

    return run


def oversized(graph: Graph, limit_bytes: int) -> Mapping[str, int]:
    """Weights that some op reads whole and that are larger than `limit_bytes`: label -> bytes. Rows looked up one by one do not
    count."""
    found: dict[str, int] = {}
    for node in graph.walk():
        whole = node.used[1:] if is_lookup(node, graph) else node.used
        for value in whole if node.op != "cluster" else ():
            size = graph.weights[value].type.nbytes if value in graph.weights else 0
            if isinstance(size, int) and size > limit_bytes:
                found[graph.weights[value].label or value] = size
    return found


def is_lookup(node: Node, graph: Graph) -> bool:
    """Whether a node picks rows of a weight by number, as embeddings do."""
    return node.op == "gather" and node.inputs[0] in graph.weights and node.attr("axis") == 0


@dataclass
class _Split:
    limit: int
    parts: dict[str, Parts] = field(default_factory=dict)  # values of the new graph that are made of parts
    slices: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def rules(self) -> dict[str, tuple[Rule, ...]]:
        followers = {name: (self.follow,) for name, row in OPS.items() if row.category == "elementwise"}
        return {**followers, "reshape": (self.reshape,), "matmul": (self.matmul,)}

    def matmul(self, work: Rebuild, node: Node) -> str | None:
        x, w = node.inputs
        if w not in work.builder.weights or len(work.shape(w)) < 2:
            return None
        size, columns = work.type(w).nbytes, work.shape(w)[-1]
        if not isinstance(size, int) or not isinstance(columns, int) or size <= self.limit:
            return None
        most = max(self.limit * columns // size // COLUMNS * COLUMNS, COLUMNS)
        count = -(-columns // most)
        step = -(-columns // count // COLUMNS) * COLUMNS
        cuts = (*range(0, columns, step), columns)
        if len(cuts) == 2:
            return None
        values = tuple(work.emit("matmul", x, self.slice(work, w, *span, node), like=node) for span in pairwise(cuts))
        return self.join(work, node, Parts(values, cuts))

    def follow(self, work: Rebuild, node: Node) -> str | None:
        """An elementwise op on a value made of parts, which nobody else reads, is done to each part."""
        found = self.parts_in(work, node)
        shape = work.old.types[node.output].shape
        if found is None or not shape or shape[-1] != found.cuts[-1]:
            return None
        if any(v and work.shape(v)[-1:] not in ((), (1,), (found.cuts[-1],)) for v in node.inputs):
            return None
        values = []
        for number, (start, end) in enumerate(pairwise(found.cuts)):
            inputs = [self.part(work, v, found.cuts, number, start, end, node) if v else v for v in node.inputs]
            values.append(work.emit(node.op, *inputs, like=node, **dict(node.attrs)))
        return self.join(work, node, Parts(tuple(values), found.cuts))

    def reshape(self, work: Rebuild, node: Node) -> str | None:
        """A reshape that keeps the last axis."""
        found, shape = self.parts_in(work, node), node.attr("shape")
        if found is None or not shape or shape[-1] != found.cuts[-1]:
            return None
        widths = (end - start for start, end in pairwise(found.cuts))
        pairs = zip(found.values, widths, strict=True)
        values = tuple(work.emit("reshape", v, like=node, shape=(*shape[:-1], width)) for v, width in pairs)
        return self.join(work, node, Parts(values, found.cuts))

    def parts_in(self, work: Rebuild, node: Node) -> Parts | None:
        """Those of the inputs that are made of parts and read by this node alone; None where they are cut differently."""
        found = {self.parts[v].cuts: self.parts[v] for v in node.used if v in self.parts and uses(work, v) == 1}
        return next(iter(found.values())) if len(found) == 1 else None

    def part(
        self, work: Rebuild, value: str, cuts: tuple[int, ...], number: int, start: int, end: int, node: Node
    ) -> str:
        if value in self.parts and self.parts[value].cuts == cuts:
            return self.parts[value].values[number]
        shape = work.shape(value)
        return value if not shape or shape[-1] == 1 else self.slice(work, value, start, end, node)

    def slice(self, work: Rebuild, value: str, start: int, end: int, node: Node) -> str:
        """Columns of a value; of a weight as a weight, which is evaluated when it is packed."""
        key = (value, start, end)
        if key not in self.slices:
            kind = work.type(value)
            attrs = {"axis": len(kind.shape) - 1, "start": start, "extent": end - start, "step": 1}
            if value in work.builder.weights:
                name = work.builder.fresh("w")
                label = f"{work.builder.weights[value].label or value}[:, {start}:{end}]"
                cut = TensorType(kind.dtype, (*kind.shape[:-1], end - start))
                content = Derived("slice", (value,), make_attrs(attrs))
                self.slices[key] = work.builder.weight(Weight(name, cut, content, label))
            else:
                self.slices[key] = work.emit("slice", value, like=node, **attrs)
        return self.slices[key]

    def join(self, work: Rebuild, node: Node, parts: Parts) -> str:
        value = work.emit("concat", *parts.values, like=node, axis=len(work.old.types[node.output].shape) - 1)
        self.parts[value] = parts
        return value
