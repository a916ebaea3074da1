"""Batches of sequences of different lengths: encoders compute the rows of valid tokens alone.

Where the mask of attention says which tokens are valid, what a padded one holds reaches no valid one: attention gives it no weight,
and everything else of an encoder works row by row. So the valid rows of [batch, seq, ..] are gathered in front of the first such
computation, attention runs within each sequence's rows, and at the end every row goes back to its place, with zeros between
(ByteTransformer, Zhai et al. 2023, section IV). How many rows there are is a run-time dim.

That changes what a model gives at padded positions, so it is done by itself only where the model's outputs are proven not to tell
(what leaves the rows has been multiplied by the mask, say); otherwise where the user names the mask (`declared`), and thereby says
that it holds zeros and ones and that outputs at padded positions do not matter: they become zeros.

A hidden key's weight is exactly zero, not just small: what is added to its score is so low that the exponential underflows for
any score a model computes with (`tokens.HIDES`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...ir.builder import GraphBuilder
from ...ir.dims import Bounds, Dim, Shape, symbol, typical, upper
from ...ir.errors import StratacError
from ...ir.graph import Attr, Graph, Node, Port
from ...ir.ops import OPS
from ...ir.rewrite import drop_unused
from ...ir.types import bool_, i64
from .tokens import NotPacked, Tokens


@dataclass(frozen=True)
class Packed:
    """A graph, and the decision in a sentence; empty where there was nothing to decide."""

    graph: Graph
    note: str = ""


def pack_rows(graph: Graph, declared: str = "") -> Packed:
    """`declared` names the input that is the mask of valid tokens, if the user says so.

    Raises StratacError where rows cannot be packed although a mask is declared.
    """
    found = [node for node in graph.nodes if node.op == "attention"]
    masked = [node for node in found if len(node.inputs) > 3]
    if not declared and not masked:
        return Packed(graph)
    try:
        if not found:
            raise NotPacked("it has no attention")
        if graph.states:
            raise NotPacked("it keeps state from one run to the next")
        if len(masked) < len(found):
            raise NotPacked(f"{_name(found, masked)} has no mask")
        packed, why = _Packing(graph, masked, declared).run()
    except NotPacked as reason:
        if declared:
            hint = "compile without it, or with a model whose attention masks padded keys"
            raise StratacError(
                f"the rows of this model cannot be packed by {declared!r}: {reason}", hint=hint
            ) from None
        return Packed(graph, f"padded rows are computed like all others: {reason}")
    return Packed(packed, f"padded rows are not computed: {why}")


def _name(found: list[Node], masked: list[Node]) -> str:
    bare = next(node for node in found if node not in masked)
    return bare.source.node or f"%{bare.output}"


class _Packing:
    """One graph under construction, with the packed forms of its values: [rows, ..] of what is [batch, seq, ..] or
    [batch * seq, ..], and, for what is split into heads, [rows, heads, ..] of [batch, heads, seq, ..]."""

    def __init__(self, graph: Graph, attentions: list[Node], declared: str) -> None:
        self.old, self.declared = graph, declared
        first = graph.types[attentions[0].inputs[0]].shape
        self.tokens = tokens = Tokens(graph, first[0], first[2])
        self.batch, self.seq, self.total = tokens.batch, tokens.seq, tokens.total
        self.producers, self.lead, self.shape = tokens.producers, tokens.lead, tokens.shape
        masks = {tokens.mask(node) for node in attentions}
        if len(masks) > 1:
            raise NotPacked("its attentions hide different keys")
        (self.hidden,) = masks
        named = [port.value for port in graph.inputs if port.name == declared]
        if declared and named != [tokens.root(self.hidden.condition)]:
            raise NotPacked(f"the keys its attention hides do not follow from an input {declared!r}")
        if not self.hidden.proven and not declared:
            raise NotPacked("its mask may hold other values than 0 and 1, or hides keys by too small a number")
        self.new = GraphBuilder(graph)
        self.like = attentions[0]
        self.name = "rows"
        while self.name in graph.symbols:
            self.name += "_"
        self.count = symbol(self.name)
        spread = Bounds(0, typical(self.total, graph.symbols), upper(self.total, graph.symbols))
        self.new.symbols[self.name] = spread
        self.rows: dict[str, str] = {}  # packed form by value of the old graph
        self.heads: dict[str, str] = {}
        self.inside: set[str] = set()  # values that depend on packed attention and have no other form
        self.restored: dict[str, str] = {}
        self.shared: dict[str, str] = {}
        self.told: set[str] = set()  # outputs whose padded rows become zeros

    def run(self) -> tuple[Graph, str]:
        for node in self.old.nodes:
            self.like = node
            if node.op == "attention":
                self.attend(node)
            elif self.inside.isdisjoint(node.used):
                self.new.add(node)
            elif not self.follow(node):
                self.new.add(self.leave(node))
        ports = [Port(port.name, self.output(port)) for port in self.old.outputs]
        graph = drop_unused(self.new.finish(ports))
        mask = f"the mask {self.declared!r}" if self.declared else f"the mask {self.label(self.hidden.condition)}"
        given = ", ".join(map(repr, sorted(self.told)))
        result = f"{given} gets zeros at padded positions" if given else "no output tells them from zeros"
        count = sum(node.op == "ragged_attention" for node in graph.nodes)
        runs = "attention runs" if count == 1 else f"{count} attentions run"
        return graph, f"by {mask}, {runs} on valid rows; {result}"

    def label(self, value: str) -> str:
        root = self.tokens.root(value)
        return next((repr(port.name) for port in self.old.inputs if port.value == root), f"%{root}")

    # -- values that many need -------------------------------------------------------------------------------------

    def emit(self, op: str, *inputs: str, **attrs: Attr | None) -> str:
        return self.new.op(op, *inputs, source=self.like.source, **attrs)  # type: ignore[arg-type]

    def share(self, name: str, make: Callable[[], str]) -> str:
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def number(self, value: Dim) -> str:
        if isinstance(value, int):
            return self.new.constant(np.array(value, np.int64))
        return self.emit("dim", value=value, dtype=i64)

    def valid(self) -> str:
        """bool [batch * seq]."""

        def make() -> str:
            value = self.hidden.condition
            if self.old.types[value].dtype != bool_:
                value = self.emit("cast", value, to=bool_)
            value = self.emit("reshape", value, shape=(self.total,))
            return value if self.hidden.wanted else self.emit("not", value)

        return self.share("valid", make)

    def ones(self) -> str:
        """The same as i64."""
        return self.share("ones", lambda: self.emit("cast", self.valid(), to=i64))

    def chosen(self) -> str:
        """i64 [rows]: batch * seq + position of each valid token."""
        return self.share("chosen", lambda: self.emit("nonzero", self.valid(), count=self.count))

    def ends(self) -> str:
        """i64 [batch]: where each sequence's rows end."""

        def make() -> str:
            each = self.emit("reshape", self.ones(), shape=(self.batch, self.seq))
            return self.emit("cumsum", self.emit("reduce_sum", each, axes=(1,), keepdims=False), axis=0)

        return self.share("ends", make)

    def places(self) -> str:
        """i64 [batch * seq]: the row of each token, -1 where it is padding."""

        def make() -> str:
            row = self.emit("sub", self.emit("cumsum", self.ones(), axis=0), self.number(1))
            return self.emit("where", self.valid(), row, self.number(-1))

        return self.share("places", make)

    # -- packed forms ----------------------------------------------------------------------------------------------

    def pack(self, value: str) -> str:
        """The rows of a value: computed from rows as far back as that goes, then gathered."""
        if value not in self.rows:
            node, outer = self.producers.get(value), self.like
            self.like = node or outer
            made = self.row_by_row(node) if node is not None and node.outputs == (value,) else None
            self.rows[value] = made or self.gathered(value)
            self.like = outer
        return self.rows[value]

    def gathered(self, value: str) -> str:
        shape = self.shape(value)
        lead = self.lead(shape)
        if not lead or value in self.inside:
            raise NotPacked(f"%{value} does not go token by token")
        flat = value if lead == 1 else self.emit("reshape", value, shape=(self.total, *shape[2:]))
        return self.emit("gather", flat, self.chosen(), axis=0)

    def aligned(self, value: str, out: Shape, lead: int) -> str:
        """An operand of what has the shape `out`, for the packed result."""
        shape = self.shape(value)
        wide: Shape = (*(1,) * (len(out) - len(shape)), *shape)
        if wide[:lead] == out[:lead]:
            if len(shape) < len(out):  # the batch is 1
                raise NotPacked(f"%{value} goes token by token without a batch")
            return self.pack(value)
        if value in self.inside:
            raise NotPacked(f"%{value} is shared between tokens")
        rest = wide[lead:]
        if all(extent == 1 for extent in wide[:lead]):
            return value if len(shape) <= len(rest) else self.emit("reshape", value, shape=rest)
        along = 1 if wide[0] == 1 else 0  # the same for all sequences, or for all tokens of one
        if lead != 2 or wide[1 - along] != 1:
            raise NotPacked(f"%{value} is not aligned with tokens")
        table = self.emit("reshape", value, shape=(wide[along], *rest))
        step = "mod" if along else "div"
        index = self.share(
            step, lambda: self.emit(step, self.chosen(), self.share("seq", lambda: self.number(self.seq)))
        )
        return self.emit("gather", table, index, axis=0)

    def row_by_row(self, node: Node) -> str | None:
        """The packed result of a node whose every row depends on the same rows of its operands; None for others."""
        if len(node.outputs) != 1:
            return None
        out = self.shape(node.output)
        lead = self.lead(out)
        if not lead:
            return None
        attrs: dict[str, Any] = dict(node.attrs)
        source = node.inputs[0] if node.inputs else ""
        inner = self.lead(self.shape(source)) if source else 0
        shift = lead - 1
        if OPS[node.op].category == "elementwise":
            return self.emit(node.op, *(self.aligned(v, out, lead) for v in node.inputs), **attrs)
        match node.op:
            case "matmul" if inner == lead and len(out) > lead and len(self.shape(node.inputs[1])) == 2:
                if node.inputs[1] not in self.inside:
                    return self.emit("matmul", self.pack(source), node.inputs[1])
            case "expand" if inner == lead:
                return self.emit("expand", self.aligned(source, out, lead), shape=(self.count, *out[lead:]))
            case "reshape" if inner:
                return self.emit("reshape", self.pack(source), shape=(self.count, *out[lead:]))
            case "transpose" if source in self.heads and attrs["perm"] == (0, 2, 1, 3) and lead == 2:
                return self.heads[source]
            case "transpose" if inner == lead and attrs["perm"][:lead] == tuple(range(lead)):
                perm = (0, *(axis - shift for axis in attrs["perm"][lead:]))
                return self.emit("transpose", self.pack(source), perm=perm)
            case (
                "layer_norm"
                | "rms_norm"
                | "softmax"
                | "log_softmax"
                | "argmax"
                | "argmin"
                | "cumsum"
                | "cumprod"
                | "slice"
            ):
                axis = attrs["axis"] % len(self.shape(source))
                if inner == lead and axis >= lead and self.inside.isdisjoint(node.inputs[1:]):
                    return self.emit(node.op, self.pack(source), *node.inputs[1:], **{**attrs, "axis": axis - shift})
            case "reduce_sum" | "reduce_mean" | "reduce_max" | "reduce_min" | "reduce_prod":
                axes = tuple(axis % len(self.shape(source)) for axis in attrs["axes"])
                if inner == lead and min(axes, default=lead) >= lead:
                    return self.emit(node.op, self.pack(source), **{**attrs, "axes": tuple(a - shift for a in axes)})
            case "concat" if attrs["axis"] % len(out) >= lead:
                if all(self.lead(self.shape(v)) == lead for v in node.inputs):
                    return self.emit("concat", *map(self.pack, node.inputs), axis=attrs["axis"] % len(out) - shift)
            case "gather" if attrs["axis"] % len(self.shape(source)) == 0 and source not in self.inside:
                if self.lead(self.shape(node.inputs[1])) == lead:
                    return self.emit("gather", source, self.pack(node.inputs[1]), axis=0)
        return None

    def split(self, node: Node | None) -> str | None:
        """[batch, seq, heads, ..] where a node makes [batch, heads, seq, ..] of it."""
        if node is None or node.op != "transpose" or node.attr("perm") != (0, 2, 1, 3) or node.inputs[0] in self.heads:
            return None
        return node.inputs[0] if self.lead(self.shape(node.inputs[0])) == 2 else None

    def attend(self, node: Node) -> None:
        packed = []
        if node.attr("softcap", 0.0):
            raise NotPacked("attention with a softcap has no ragged form")
        for value in node.inputs[:3]:
            rows = self.split(self.producers.get(value))
            if rows is None:
                raise NotPacked(f"%{value}, an operand of attention, is not made by splitting rows into heads")
            packed.append(self.pack(rows))
        attrs = {"scale": node.attr("scale"), "causal": node.attr("causal", False), "longest": self.seq}
        self.heads[node.output] = self.emit("ragged_attention", *packed, self.ends(), **attrs)
        self.inside.add(node.output)

    def follow(self, node: Node) -> bool:
        """Whether a node behind attention goes on in packed form."""
        if (rows := self.split(node)) is not None:
            self.heads[node.output] = self.pack(rows)
            self.inside.add(node.output)
            return True
        try:
            made = self.row_by_row(node)
        except NotPacked:
            return False
        if made is None:
            return False
        self.rows[node.output] = made
        self.inside.add(node.output)
        return True

    # -- the way back ----------------------------------------------------------------------------------------------

    def restore(self, value: str) -> str:
        """A value in its own shape, with zeros where tokens are padding."""
        if value in self.restored:
            return self.restored[value]
        if value not in self.rows:
            raise NotPacked(f"%{value}, which attention gives, is used otherwise than to join its heads")
        shape, dtype = self.shape(value), self.old.types[value].dtype
        rest = shape[self.lead(shape) :]
        rows = self.rows[value] if dtype != bool_ else self.emit("cast", self.rows[value], to=i64)
        beyond = (0,) * len(rest)
        wide = self.emit("pad", rows, pads=(0, *beyond, 1, *beyond))  # its last row, which index -1 means, is zeros
        wide = self.emit("reshape", self.emit("gather", wide, self.places(), axis=0), shape=shape)
        self.restored[value] = wide if dtype != bool_ else self.emit("cast", wide, to=bool_)
        return self.restored[value]

    def leave(self, node: Node) -> Node:
        """A node that mixes tokens, or picks some, on restored operands."""
        for value in set(node.used) & self.inside:
            picks = node.op == "slice" and node.attr("axis") % len(self.shape(value)) == 1 and node.attr("extent") == 1
            if not self.vanishes(value) and not (self.declared and picks):
                mixed = f"{node.op} {node.source.node or ''}".strip()
                raise NotPacked(f"what padded tokens hold may reach {mixed}, which does not go token by token")
        inputs = tuple(self.restore(v) if v in self.inside else v for v in node.inputs)
        return replace(node, inputs=inputs)

    def output(self, port: Port) -> str:
        if port.value not in self.inside:
            return port.value
        if not self.vanishes(port.value):
            if not self.declared:
                flag = f"; --ragged {self.label(self.hidden.condition).strip(chr(39))} says that these do not matter"
                raise NotPacked(f"output {port.name!r} holds what is computed at padded positions{flag}")
            self.told.add(port.name)
        return self.restore(port.value)

    def vanishes(self, value: str) -> bool:
        """Whether the model itself has zeros there at padded tokens, as long as it computes with finite numbers."""
        node = self.producers.get(value)
        if self.lead(self.shape(value)) == 0 or node is None:
            return False
        match node.op:
            case "mul":
                return any(self.vanishes(v) or self.masks(v, value) for v in node.inputs)
            case "where":
                condition, _, no = node.inputs
                seen = self.masks(condition, value)
                return seen and (self.tokens.scalar(no) == 0.0 or self.vanishes(no))
            case "reshape" | "cast" | "neg" | "relu":
                return self.vanishes(node.inputs[0])
        return False

    def masks(self, value: str, of: str) -> bool:
        """Whether an operand of the node that gives `of` is zero, or false, wherever a token is padding."""
        return self.hidden.wanted and self.tokens.zero_with(value, self.shape(of), self.hidden.condition)
