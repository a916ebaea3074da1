"""The op table: one row per operator. Everything else that speaks of ops derives from here or registers under these names:
the meaning in `interp`, the lowering in `lower`, the importers in `compiler/frontends`."""

from __future__ import annotations

from collections.abc import Mapping

from . import (
    ops_attention,
    ops_control,
    ops_indexing,
    ops_matrix,
    ops_recurrent,
    ops_sorting,
    ops_strings,
    ops_trees,
    ops_vision,
    rules,
)
from .dims import Bounds, Dim, Expr, product, symbol_of
from .errors import VerifyError
from .graph import Graph, Node
from .op import REQUIRED, AttrSpec, Op
from .types import TensorType

__all__ = ["OPS", "REQUIRED", "AttrSpec", "Op", "check_attrs", "dims_set", "flops", "infer", "runtime_dims"]

_INTS, _INT, _FLOAT = AttrSpec("ints"), AttrSpec("int"), AttrSpec("float")
_ANY = 1 << 30


def _unary(name: str, flops: int = 1, **attrs: AttrSpec) -> Op:
    return Op(name, "elementwise", (1, 1), rules.elementwise, attrs, flops)


def _smooth(name: str, flops: int, **attrs: AttrSpec) -> Op:
    return Op(name, "elementwise", (1, 1), rules.smooth, attrs, flops)


def _binary(name: str, flops: int = 1, **attrs: AttrSpec) -> Op:
    return Op(name, "elementwise", (2, 2), rules.elementwise, attrs, flops)


def _compare(name: str, arity: int = 2) -> Op:
    return Op(name, "elementwise", (arity, arity), rules.compare)


_REDUCE = {"axes": _INTS, "keepdims": AttrSpec("bool", True)}
_WINDOW = {"strides": _INTS, "pads": _INTS, "dilations": _INTS, "channels_last": AttrSpec("bool", False)}
_RUNNING = {"axis": _INT, "exclusive": AttrSpec("bool", False), "reverse": AttrSpec("bool", False)}
_ARG = {"axis": _INT, "keepdims": AttrSpec("bool", True), "select_last": AttrSpec("bool", False)}

_ROWS = (
    # elementwise, one input
    *(_unary(name) for name in ("neg", "abs", "relu", "floor", "ceil", "round", "sign", "not")),
    *(_smooth(name, 4) for name in ("sqrt", "rsqrt", "reciprocal")),
    *(_smooth(name, 12) for name in ("exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "softplus", "silu")),
    *(_smooth(name, 24) for name in ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")),
    _smooth("gelu", 16, approximate=AttrSpec("str", "none", ("none", "tanh"))),
    _smooth("leaky_relu", 2, alpha=_FLOAT),
    _smooth("elu", 12, alpha=_FLOAT),
    _smooth("hard_sigmoid", 4, alpha=_FLOAT, beta=_FLOAT),
    _smooth("hard_swish", 5),
    _unary("clip", 2, min=AttrSpec("float", float("-inf")), max=AttrSpec("float", float("inf"))),
    _compare("isnan", 1),
    _compare("isinf", 1),
    Op(
        "cast",
        "elementwise",
        (1, 1),
        rules.cast,
        {
            "to": AttrSpec("dtype"),
            "saturate": AttrSpec("bool", False),
            "rounding": AttrSpec("str", "up", ("up", "down", "nearest")),
        },
    ),
    Op("bitcast", "elementwise", (1, 1), rules.bitcast, {"to": AttrSpec("dtype")}, 0, "the same bits as another type"),
    # elementwise, two and three inputs
    *(_binary(name) for name in ("add", "sub", "mul", "min", "max", "and", "or", "xor")),
    *(_binary(name) for name in ("shift_left", "shift_right")),
    _binary("div", 4),
    _binary("pow", 24),
    _binary("mod", 4, fmod=AttrSpec("bool", False)),
    *(_compare(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")),
    Op("where", "elementwise", (3, 3), rules.where),
    # reductions
    *(Op(f"reduce_{n}", "reduction", (1, 1), rules.reduce, _REDUCE) for n in ("sum", "mean", "max", "min", "prod")),
    *(Op(name, "reduction", (1, 1), rules.arg_reduce, _ARG) for name in ("argmax", "argmin")),
    *(Op(name, "reduction", (1, 1), rules.cumulative, _RUNNING) for name in ("cumsum", "cumprod")),
    # views
    Op("reshape", "view", (1, 1), rules.reshape, {"shape": AttrSpec("dims")}, 0),
    Op("transpose", "view", (1, 1), rules.transpose, {"perm": _INTS}, 0),
    Op("expand", "view", (1, 1), rules.expand, {"shape": AttrSpec("dims")}, 0),
    Op(
        "slice",
        "view",
        (1, 1),
        rules.slice_,
        {"axis": _INT, "start": AttrSpec("dim"), "extent": AttrSpec("dim"), "step": AttrSpec("int", 1)},
        0,
        "elements start, start + step, ..., `extent` of them",
    ),
    # movement
    Op("concat", "movement", (1, _ANY), rules.concat, {"axis": _INT}, 0),
    Op(
        "pad",
        "movement",
        (1, 1),
        rules.pad,
        {
            "pads": _INTS,
            "value": AttrSpec("float", 0.0),
            "mode": AttrSpec("str", "constant", ("constant", "edge", "reflect")),
        },
        0,
        "pads: all begins, then all ends; not negative",
    ),
    Op("gather", "movement", (2, 2), rules.gather, {"axis": _INT}, 0, "negative indices count from the end"),
    # selections
    Op(
        "nonzero",
        "selection",
        (1, 1),
        rules.nonzero,
        {"count": AttrSpec("sets")},
        1,
        "positions of the true elements, in order; their number becomes the dim `count`",
    ),
    # sources
    Op(
        "iota",
        "source",
        (0, 0),
        rules.iota,
        {"extent": AttrSpec("dim"), "dtype": AttrSpec("dtype", None)},
        0,
        "0, 1, 2, ...",
    ),
    Op(
        "fill",
        "source",
        (0, 0),
        rules.fill,
        {"value": _FLOAT, "shape": AttrSpec("dims"), "dtype": AttrSpec("dtype")},
        0,
        "every element is `value`",
    ),
    Op(
        "dim",
        "source",
        (0, 0),
        rules.dim,
        {"value": AttrSpec("dim"), "dtype": AttrSpec("dtype", None)},
        0,
        "a dim as a scalar",
    ),
    # contractions
    Op("matmul", "contraction", (2, 2), rules.matmul, {}, 2),
    Op("conv", "contraction", (2, 3), rules.conv, {**_WINDOW, "groups": AttrSpec("int", 1)}, 2),
    Op(
        "attention",
        "contraction",
        (3, 4),
        rules.attention,
        {"scale": _FLOAT, "causal": AttrSpec("bool", False), "softcap": AttrSpec("float", 0.0)},
        2,
        "softmax(scale * q @ k^T + mask) @ v; a causal query i sees keys <= i + keys - queries; softcap c: c tanh(s / c)",
    ),
    Op(
        "ragged_attention",
        "contraction",
        (4, 4),
        rules.ragged_attention,
        {"scale": _FLOAT, "causal": AttrSpec("bool", False), "longest": AttrSpec("dim")},
        2,
        "attention within each of several sequences that lie one after the other: sequence b ends in front of row ends[b]",
    ),
    Op(
        "moe",
        "contraction",
        (4, 5),
        rules.moe,
        {
            "top_k": _INT,
            "activation": AttrSpec("str", "silu", tuple(rules.MOE_ACTIVATIONS)),
            "normalize": AttrSpec("bool", True),
        },
        2,
        "mixture of experts: the top_k experts of each row, weighted by their probabilities",
    ),
    # windows
    Op("max_pool", "window", (1, 1), rules.pool, {**_WINDOW, "kernel": _INTS}),
    Op(
        "avg_pool",
        "window",
        (1, 1),
        rules.pool,
        {**_WINDOW, "kernel": _INTS, "count_include_pad": AttrSpec("bool", False)},
    ),
    # composites
    Op("softmax", "composite", (1, 1), rules.softmax, {"axis": _INT}, 20),
    Op("log_softmax", "composite", (1, 1), rules.softmax, {"axis": _INT}, 24),
    Op("layer_norm", "composite", (2, 3), rules.normalise, {"axis": _INT, "epsilon": _FLOAT}, 8),
    Op("rms_norm", "composite", (2, 2), rules.normalise, {"axis": _INT, "epsilon": _FLOAT}, 5),
    Op("batch_norm", "composite", (5, 5), rules.batch_norm, {"epsilon": _FLOAT}, 3, "x, scale, bias, mean, variance"),
    Op(
        "rotary",
        "composite",
        (3, 3),
        rules.rotary,
        {"interleaved": AttrSpec("bool", False)},
        4,
        "x * cos + rotate_half(x) * sin over the last axis; cos and sin broadcast to x",
    ),
)

#: Rows by subject; the rest stand above.
_SUBJECTS = (
    ops_attention,
    ops_control,
    ops_indexing,
    ops_matrix,
    ops_recurrent,
    ops_sorting,
    ops_strings,
    ops_trees,
    ops_vision,
)

OPS: Mapping[str, Op] = {row.name: row for row in (*_ROWS, *(row for subject in _SUBJECTS for row in subject.ROWS))}


def infer(node: Node, types: Mapping[str, TensorType], symbols: Mapping[str, Bounds]) -> list[TensorType]:
    """The output types of `node`, derived from its row. Raises VerifyError for an unknown op, a wrong arity or attribute."""
    if node.op == "cluster":
        inner = {v: types[v] for v in node.used}
        for child in node.body:
            inner.update(zip(child.outputs, infer(child, inner, symbols), strict=True))
        return [inner[v] for v in node.outputs]
    row = OPS.get(node.op)
    if row is None:
        raise VerifyError(f"unknown op {node.op!r}", source=node.source, hint="ops are the rows of ir/ops.py")
    low, high = row.arity
    if not low <= len(node.inputs) <= high:
        raise VerifyError(f"takes {low} to {high} inputs, got {len(node.inputs)}", op=node.op, source=node.source)
    if "" in node.inputs[:low]:
        raise VerifyError(f"input {node.inputs.index('')} is missing", op=node.op, source=node.source)
    check_attrs(node, row)
    found = row.rule(node, [types[v] if v else None for v in node.inputs])
    for kind in found:
        if kind.fault:
            raise VerifyError(f"gives {kind}: {kind.fault}", op=node.op, source=node.source)
    return found


def dims_set(node: Node) -> tuple[str, ...]:
    """The run-time dims whose values a node finds out, for a cluster those of its body."""
    if node.op == "cluster":
        return tuple(name for child in node.body for name in dims_set(child))
    row = OPS.get(node.op)
    attrs = [node.attr(name) for name, spec in row.attrs.items() if spec.kind == "sets"] if row else []
    return tuple(name for value in attrs if isinstance(value, Expr) and (name := symbol_of(value)) is not None)


def runtime_dims(graph: Graph) -> frozenset[str]:
    """The symbols that nodes set while the graph runs; all others follow from the inputs' extents."""
    return frozenset(name for node in graph.nodes for name in dims_set(node))


def check_attrs(node: Node, row: Op) -> None:
    """Raise VerifyError where an attribute is unknown, missing or of the wrong kind."""
    given = dict(node.attrs)
    for name, value in given.items():
        spec = row.attrs.get(name)
        if spec is None:
            raise VerifyError(f"has no attribute {name!r}", op=node.op, source=node.source)
        if not spec.accepts(value):
            raise VerifyError(f"attribute {name} = {value!r} is not a {spec.kind}", op=node.op, source=node.source)
    for name, spec in row.attrs.items():
        if spec.default is REQUIRED and name not in given:
            raise VerifyError(f"lacks attribute {name!r}", op=node.op, source=node.source)


def flops(node: Node, types: Mapping[str, TensorType]) -> Dim:
    """Arithmetic of one node, a multiply-add counting two; transcendental functions count as their row says."""
    out = types[node.outputs[0]]
    match node.op:
        case "cluster":
            return sum((flops(child, types) for child in node.body), start=0)
        case "loop" if node.graph is not None:
            body = node.graph
            trips = body.symbols[node.attr("trip")].typical + 1
            return trips * sum((flops(child, body.types) for child in body.nodes), start=0)
        case "matmul":
            return 2 * out.elements * types[node.inputs[0]].shape[-1]
        case "conv":
            return 2 * out.elements * product(types[node.inputs[1]].shape[1:])
        case "attention":
            q, v = types[node.inputs[0]], types[node.inputs[2]]
            scores = product(q.shape[:3]) * v.shape[2]
            return scores * (2 * q.shape[3] + 2 * v.shape[3] + 20)
        case "ragged_attention":
            q, v = types[node.inputs[0]], types[node.inputs[2]]
            longest: Dim = node.attr("longest")
            scores = product(q.shape[:2]) * longest
            each: Dim = 2 * q.shape[2] + 2 * v.shape[2] + 20
            return scores * each
        case "moe":
            top_k: int = node.attr("top_k")
            return 2 * out.elements * top_k * types[node.inputs[2]].shape[1] * (len(node.inputs) - 2)
        case "max_pool" | "avg_pool":
            return out.elements * product(node.attr("kernel"))
    row = OPS[node.op]
    size = types[node.inputs[0]].elements if row.category == "reduction" else out.elements
    return size * row.flops_per_element
