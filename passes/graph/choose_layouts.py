"""Channels last wherever convolutions and pooling run: every value of such a region gets a *twin* with its channel dim moved to
the end, and ops are rewritten to work on twins. The channels-first value is made again (a transpose) only for who needs it."""

from __future__ import annotations

from dataclasses import replace

from ...ir.dims import product
from ...ir.graph import Graph, Node, Port
from ...ir.ops import OPS
from ...ir.rewrite import drop_unused
from .rebuild import Rebuild

_WINDOWED = ("conv", "max_pool", "avg_pool")


def _to_last(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1)


def _to_first(rank: int) -> tuple[int, ...]:
    return (0, rank - 1, *range(1, rank - 1))


class _Layouts:
    def __init__(self, graph: Graph) -> None:
        self.work = Rebuild(graph)
        self.first: dict[str, str] = {}  # old value -> new value in the model's own layout
        self.twin: dict[str, str] = {}  # old value -> new value with channels last
        for value in (*graph.input_values, *graph.weights):
            self.first[value] = value

    def rank(self, value: str) -> int:
        return self.work.old.types[value].rank

    def in_first(self, value: str, like: Node) -> str:
        if value not in self.first:
            perm = _to_first(self.rank(value))
            self.first[value] = self.work.emit("transpose", self.twin[value], like=like, perm=perm)
        return self.first[value]

    def in_last(self, value: str, like: Node) -> str:
        if value not in self.twin:
            perm = _to_last(self.rank(value))
            self.twin[value] = self.work.emit("transpose", self.first[value], like=like, perm=perm)
        return self.twin[value]

    def aligned(self, value: str, rank: int, like: Node) -> str:
        """A twin of an operand that broadcasts to `rank` dims."""
        if value in self.twin:
            return self.twin[value]
        own = self.rank(value)
        shape = self.work.old.types[value].shape
        if own == rank:
            return self.in_last(value, like)
        if product(shape) == 1:
            return self.first[value]
        wide = (1,) * (rank - own) + shape
        full = self.work.emit("reshape", self.first[value], like=like, shape=wide)
        return self.work.emit("transpose", full, like=like, perm=_to_last(rank))

    # -- one node --------------------------------------------------------------------------------------------------

    def visit(self, node: Node) -> None:
        value = self.rewritten(node)
        if value is not None:
            self.twin[node.outputs[0]] = value
            return
        kept = replace(node, inputs=tuple(self.in_first(v, node) if v else v for v in node.inputs))
        self.work.keep(kept)
        for output in node.outputs:
            self.first[output] = output

    def rewritten(self, node: Node) -> str | None:
        """The node on twins: the twin of its output, or None to leave the node as it is."""
        rank = self.rank(node.outputs[0])
        emit, attrs = self.work.emit, dict(node.attrs)
        if node.op in _WINDOWED and 3 <= rank <= 5 and not node.attr("channels_last", False):
            x = self.in_last(node.inputs[0], node)
            return emit(node.op, x, *node.inputs[1:], like=node, **{**attrs, "channels_last": True})
        source = node.inputs[0] if node.inputs else ""
        with_twin = [v for v in node.inputs if v in self.twin and v not in self.first]
        if not with_twin:
            return None
        if OPS[node.op].category == "elementwise" and all(self.rank(v) == rank for v in with_twin):
            inputs = [self.aligned(v, rank, node) for v in node.inputs]
            return emit(node.op, *inputs, like=node, **attrs)
        if self.rank(source) != rank:
            return self._flattened(node) if node.op == "reshape" else None
        place = {axis: position for position, axis in enumerate(_to_last(rank))}
        if OPS[node.op].category == "reduction" and "axes" in attrs and attrs.get("keepdims", True):
            axes = tuple(sorted(place[a % rank] for a in node.attr("axes")))
            return emit(node.op, self.twin[source], like=node, **{**attrs, "axes": axes})
        if node.op in ("concat", "slice"):
            inputs = [self.in_last(v, node) for v in node.inputs]
            return emit(node.op, *inputs, like=node, **{**attrs, "axis": place[node.attr("axis") % rank]})
        if node.op == "pad":
            pads = node.attr("pads")
            moved = tuple(pads[a + side * rank] for side in (0, 1) for a in _to_last(rank))
            return emit("pad", self.twin[source], like=node, **{**attrs, "pads": moved})
        return None

    def _flattened(self, node: Node) -> str | None:
        """[N, C, H, W] -> [N, C, H * W] keeps its twin."""
        shape, old = node.attr("shape"), self.work.old.types[node.inputs[0]].shape
        if len(shape) == 3 and shape[:2] == old[:2]:
            return self.work.emit("reshape", self.twin[node.inputs[0]], like=node, shape=(shape[0], shape[2], shape[1]))
        return None


def choose_layouts(graph: Graph) -> Graph:
    """Convolutions, pooling and what lies between them run channels last."""
    if not any(node.op in _WINDOWED for node in graph.nodes):
        return graph
    layouts = _Layouts(graph)
    for node in graph.nodes:
        layouts.visit(node)
    last = graph.nodes[-1]
    ports = [Port(p.name, layouts.in_first(p.value, last)) for p in graph.outputs]
    updates = {s.name: layouts.in_first(s.update, last) for s in graph.states}
    return drop_unused(layouts.work.builder.finish(ports, updates))
