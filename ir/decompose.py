"""Composites as other rows: how a device without a special kernel runs them, and how loop nests see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from .dims import Bounds, Shape
from .graph import Attr, Graph, Node, make_attrs
from .ops import infer
from .rules import MOE_ACTIVATIONS
from .types import TensorType

Emit = Callable[..., str]


class _Scope:
    """Emits nodes whose values are named after the composite's output, typed by their rows."""

    def __init__(self, node: Node, types: Mapping[str, TensorType], symbols: Mapping[str, Bounds]) -> None:
        self.node, self.types, self.symbols = node, dict(types), symbols
        self.nodes: list[Node] = []

    def emit(self, op: str, *inputs: str, **attrs: Attr | None) -> str:
        name = f"{self.node.outputs[0]}.{len(self.nodes)}"
        node = Node(op, inputs, (name,), make_attrs(attrs), self.node.source)
        (self.types[name],) = infer(node, self.types, self.symbols)
        self.nodes.append(node)
        return name

    def shape(self, value: str) -> Shape:
        return self.types[value].shape

    def scalar(self, value: float, like: str) -> str:
        """A constant of like's dtype."""
        return self.emit("fill", value=value, shape=(), dtype=self.types[like].dtype)


def _softmax(s: _Scope, x: str) -> str:
    axes = (s.node.attr("axis") % len(s.shape(x)),)
    shifted = s.emit("exp", s.emit("sub", x, s.emit("reduce_max", x, axes=axes)))
    return s.emit("div", shifted, s.emit("reduce_sum", shifted, axes=axes))


def _log_softmax(s: _Scope, x: str) -> str:
    axes = (s.node.attr("axis") % len(s.shape(x)),)
    shifted = s.emit("sub", x, s.emit("reduce_max", x, axes=axes))
    return s.emit("sub", shifted, s.emit("log", s.emit("reduce_sum", s.emit("exp", shifted), axes=axes)))


def _normalised(s: _Scope, x: str, centred: str, axes: tuple[int, ...]) -> str:
    variance = s.emit("reduce_mean", s.emit("mul", centred, centred), axes=axes)
    return s.emit("mul", centred, s.emit("rsqrt", s.emit("add", variance, s.scalar(s.node.attr("epsilon"), x))))


def _axes_from(s: _Scope, x: str) -> tuple[int, ...]:
    rank = len(s.shape(x))
    return tuple(range(s.node.attr("axis") % rank, rank))


def _layer_norm(s: _Scope, x: str, scale: str, bias: str = "") -> str:
    axes = _axes_from(s, x)
    centred = s.emit("sub", x, s.emit("reduce_mean", x, axes=axes))
    scaled = s.emit("mul", _normalised(s, x, centred, axes), scale)
    return s.emit("add", scaled, bias) if bias else scaled


def _rms_norm(s: _Scope, x: str, scale: str) -> str:
    return s.emit("mul", _normalised(s, x, x, _axes_from(s, x)), scale)


def _batch_norm(s: _Scope, x: str, scale: str, bias: str, mean: str, variance: str) -> str:
    rank = len(s.shape(x))
    column = (1, s.shape(x)[1], *(1,) * (rank - 2))
    scale, bias, mean, variance = (s.emit("reshape", v, shape=column) for v in (scale, bias, mean, variance))
    inverse = s.emit("rsqrt", s.emit("add", variance, s.scalar(s.node.attr("epsilon"), x)))
    return s.emit("add", s.emit("mul", s.emit("mul", s.emit("sub", x, mean), inverse), scale), bias)


def _rotary(s: _Scope, x: str, cos: str, sin: str) -> str:
    shape = s.shape(x)
    half = shape[-1] // 2
    axis = len(shape) - 1
    if s.node.attr("interleaved", False):
        pairs = s.emit("reshape", x, shape=(*shape[:-1], half, 2))
        first = s.emit("slice", pairs, axis=axis + 1, start=0, extent=1, step=1)
        second = s.emit("slice", pairs, axis=axis + 1, start=1, extent=1, step=1)
        turned = s.emit("reshape", s.emit("concat", s.emit("neg", second), first, axis=axis + 1), shape=shape)
    else:
        first = s.emit("slice", x, axis=axis, start=0, extent=half, step=1)
        second = s.emit("slice", x, axis=axis, start=half, extent=half, step=1)
        turned = s.emit("concat", s.emit("neg", second), first, axis=axis)
    return s.emit("add", s.emit("mul", x, cos), s.emit("mul", turned, sin))


def _attention(s: _Scope, q: str, k: str, v: str, mask: str = "") -> str:
    batch, heads, queries, _ = s.shape(q)
    groups, keys = s.shape(k)[1:3]
    if groups != heads:
        repeat = heads // groups
        k, v = (
            s.emit(
                "reshape",
                s.emit(
                    "expand",
                    s.emit("reshape", x, shape=(batch, groups, 1, keys, s.shape(x)[3])),
                    shape=(batch, groups, repeat, keys, s.shape(x)[3]),
                ),
                shape=(batch, heads, keys, s.shape(x)[3]),
            )
            for x in (k, v)
        )
    scores = s.emit("matmul", q, s.emit("transpose", k, perm=(0, 1, 3, 2)))
    scores = s.emit("mul", scores, s.scalar(s.node.attr("scale"), q))
    softcap = s.node.attr("softcap", 0.0)
    if softcap:
        scores = s.emit("mul", s.emit("tanh", s.emit("div", scores, s.scalar(softcap, q))), s.scalar(softcap, q))
    if s.node.attr("causal", False):
        row = s.emit("reshape", s.emit("iota", extent=queries), shape=(queries, 1))
        limit = s.emit("add", row, s.emit("dim", value=keys - queries))
        visible = s.emit("le", s.emit("iota", extent=keys), limit)
        scores = s.emit("where", visible, scores, s.scalar(-math.inf, q))
    if mask:
        scores = s.emit("add", scores, mask)
    shares = s.emit("softmax", scores, axis=-1)
    if mask or s.node.attr("causal", False):  # a query that sees no key
        blind = s.emit("eq", s.emit("reduce_max", scores, axes=(3,)), s.scalar(-math.inf, q))
        shares = s.emit("where", blind, s.scalar(0.0, q), shares)
    return s.emit("matmul", shares, v)


def _moe(s: _Scope, x: str, shares: str, up: str, down: str, second: str = "") -> str:
    """Every expert computes every row: right, and top_k of all experts' work is used. The rank of an expert is the number of those
    with a greater probability, or an equal one and a lower number."""
    rows, experts = s.shape(shares)
    assert isinstance(experts, int)
    this = s.emit("reshape", shares, shape=(rows, experts, 1))
    other = s.emit("reshape", shares, shape=(rows, 1, experts))
    number = s.emit("iota", extent=experts)
    before = s.emit("lt", number, s.emit("reshape", number, shape=(experts, 1)))
    ahead = s.emit("or", s.emit("gt", other, this), s.emit("and", s.emit("eq", other, this), before))
    dtype = s.types[x].dtype
    rank = s.emit("reduce_sum", s.emit("cast", ahead, to=dtype), axes=(2,), keepdims=False)
    chosen = s.emit("lt", rank, s.scalar(float(s.node.attr("top_k")), x))
    kept = s.emit("where", chosen, shares, s.scalar(0.0, x))
    if s.node.attr("normalize", True):
        kept = s.emit("div", kept, s.emit("reduce_sum", kept, axes=(1,), keepdims=True))
    tall = s.emit("reshape", x, shape=(1, *s.shape(x)))
    hidden = s.emit("matmul", tall, s.emit("transpose", up, perm=(0, 2, 1)))
    activation, attrs = MOE_ACTIVATIONS[s.node.attr("activation", "silu")]
    hidden = s.emit(activation, hidden, **attrs)
    if second:
        hidden = s.emit("mul", hidden, s.emit("matmul", tall, s.emit("transpose", second, perm=(0, 2, 1))))
    wide = s.emit("matmul", hidden, s.emit("transpose", down, perm=(0, 2, 1)))
    weight = s.emit("reshape", s.emit("transpose", kept, perm=(1, 0)), shape=(experts, rows, 1))
    return s.emit("reduce_sum", s.emit("mul", wide, weight), axes=(0,), keepdims=False)


_RULES: dict[str, Callable[..., str]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "rotary": _rotary,
    "attention": _attention,
    "moe": _moe,
}


def has_decomposition(op: str) -> bool:
    return op in _RULES


def decompose(
    node: Node, types: Mapping[str, TensorType], symbols: Mapping[str, Bounds]
) -> tuple[tuple[Node, ...], dict[str, TensorType]]:
    """The nodes that compute a composite, the last one under the composite's output name, and the types of all values. Narrow
    elements are widened first, and the result, no part of it, is rounded."""
    scope = _Scope(node, types, symbols)
    narrow = types[node.output].dtype
    inputs = [
        scope.emit("cast", v, to=types[v].dtype.wide) if v and types[v].dtype.is_narrow else v for v in node.inputs
    ]
    result = _RULES[node.op](scope, *inputs)
    if narrow.is_narrow:
        result = scope.emit("cast", result, to=narrow)
    renamed = [replace(n, outputs=node.outputs) if n.outputs[0] == result else n for n in scope.nodes]
    scope.types[node.output] = scope.types.pop(result)
    return tuple(renamed), scope.types


def decompose_where(graph: Graph, wanted: Callable[[Node], bool]) -> Graph:
    """The graph with every node decomposed that is `wanted`."""
    nodes: list[Node] = []
    types = dict(graph.types)
    for node in graph.nodes:
        if wanted(node):
            parts, types = decompose(node, types, graph.symbols)
            nodes += parts
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), types=types)
