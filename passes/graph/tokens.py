"""Tokens of a batch of padded sequences: which axes of a value count them, and which values say that one is padding."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.dims import Dim, Shape, product
from ...ir.graph import Graph, Node
from ...ir.types import DType, bool_, f32

#: What is added to a score of less than 1e29 hides a key for certain.
HIDES = -1e30
#: With the user's word: hides keys as models mean it, unless scores differ by nearly as much.
MEANT = -1e4


class NotPacked(Exception):
    """Why the rows of a model are not packed."""


@dataclass(frozen=True)
class Mask:
    """`condition` holds (or, if not `wanted`, fails) where a key is seen, and has a value for each token in order; `proven` unless
    only the user's word makes it so."""

    condition: str
    wanted: bool
    proven: bool


class Tokens:
    """The tokens of one graph: `batch` sequences of `seq`."""

    def __init__(self, graph: Graph, batch: Dim, seq: Dim) -> None:
        self.graph, self.batch, self.seq, self.total = graph, batch, seq, batch * seq
        self.producers = graph.producers()

    def shape(self, value: str) -> Shape:
        return self.graph.types[value].shape

    def lead(self, shape: Shape) -> int:
        """How many leading axes count the tokens: 2, 1 or 0 (none do)."""
        if shape[:2] == (self.batch, self.seq):
            return 2
        return int(shape[:1] == (self.total,))

    def scalar(self, value: str) -> float | None:
        """The element of a scalar literal."""
        node = self.producers.get(value)
        if node is not None and node.op in ("reshape", "expand"):
            return self.scalar(node.inputs[0])
        return float(node.attr("value")) if node is not None and node.op == "fill" else None

    def bare(self, value: str) -> str:
        """Below views that keep one element for each token, in order."""
        while (node := self.producers.get(value)) is not None and node.op in ("reshape", "expand"):
            if product(self.shape(node.inputs[0])) != self.total:
                break
            value = node.inputs[0]
        return value

    def root(self, value: str) -> str:
        """What is zero exactly where `value` is zero or false: below views and casts that keep zeros apart from the rest."""
        while True:
            value = self.bare(value)
            node = self.producers.get(value)
            if node is None or not self.keeps_zeros(node):
                return value
            value = node.inputs[0]

    def keeps_zeros(self, node: Node) -> bool:
        """Whether a node gives zero (or false) for zero alone."""
        if node.op == "ne":
            return self.scalar(node.inputs[1]) == 0.0
        return node.op == "cast" and _keeps_zeros(
            self.graph.types[node.inputs[0]].dtype, self.graph.types[node.output].dtype
        )

    def mask(self, node: Node) -> Mask:
        """Which keys an attention's queries see, the same for all of a sequence. Raises NotPacked."""
        q, k, mask = (self.shape(node.inputs[i]) for i in (0, 1, 3))
        where = node.source.node or f"%{node.output}"
        if (q[0], q[2]) != (self.batch, self.seq) or k[2] != self.seq or self.graph.types[node.output].dtype != f32:
            raise NotPacked(f"{where} does not attend within sequences of [{self.batch}, {self.seq}] in f32")
        if (*(1,) * (4 - len(mask)), *mask) != (self.batch, 1, 1, self.seq):
            raise NotPacked(
                f"the mask of {where} has the shape [{', '.join(map(str, mask))}], not one value for each key"
            )
        found = self.hides(self.bare(node.inputs[3]))
        if found is None:
            raise NotPacked(f"what is added to the scores of {where} is not known to hide keys and do nothing else")
        return found

    def hides(self, value: str) -> Mask | None:
        """The mask that an addend to scores stands for: where(seen, 0, low), or (1 - mask) * low."""
        node = self.producers.get(value)
        if node is not None and node.op == "where":
            condition, *choices = node.inputs
            yes, no = map(self.scalar, choices)
            condition = self.bare(condition)
            if product(self.shape(condition)) != self.total or yes is None or no is None:
                return None
            low = no if yes == 0.0 else yes
            return Mask(condition, yes == 0.0, low <= HIDES) if 0.0 in (yes, no) and low <= MEANT else None
        for part, factor in (node.inputs, node.inputs[::-1]) if node is not None and node.op == "mul" else ():
            found = self.one_less(part, self.scalar(factor))
            if found is not None:
                return found
        return None

    def one_less(self, value: str, low: float | None) -> Mask | None:
        """The mask in (1 - mask) * low."""
        node = self.producers.get(self.bare(value))
        if low is None or low > MEANT or node is None or node.op != "sub" or self.scalar(node.inputs[0]) != 1.0:
            return None
        cast = self.producers.get(self.bare(node.inputs[1]))
        if cast is None or cast.op != "cast":
            return None
        source = self.bare(cast.inputs[0])
        if product(self.shape(source)) != self.total:
            return None
        return Mask(source, True, self.graph.types[source].dtype == bool_ and low <= HIDES)

    def zero_with(self, value: str, out: Shape, condition: str) -> bool:
        """Whether an operand of what has the shape `out` is zero, or false, wherever `condition` is."""
        if len(self.shape(value)) != len(out) or self.lead(self.shape(value)) != self.lead(out):
            return False
        while product(self.shape(value)) != self.total:
            node = self.producers.get(value)
            if node is None or not (node.op in ("expand", "reshape") or self.keeps_zeros(node)):
                return False
            inner = self.shape(node.inputs[0])
            if not self.lead(inner) or (node.op == "expand" and len(inner) != len(self.shape(value))):
                return False
            value = node.inputs[0]
        return self.lead(self.shape(value)) != 0 and self.root(value) == self.root(condition)


def _keeps_zeros(source: DType, to: DType) -> bool:
    """Whether a cast gives zero for zero alone."""
    if source == bool_ or to == bool_:
        return True
    return source.is_integer and (to.is_float or to.bits >= source.bits)
