"""Rows of recurrences that take the place of attention."""

from __future__ import annotations

from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, fail, given
from .types import TensorType


def linear_attention(node: Node, types: Types) -> list[TensorType]:
    """q [B, T, H, D], k [B, T, G, D], v [B, T, G, E], optional factor [B, T, G, D or 1], rate [B, T, G or 1] and state
    [B, G, D, E]; H and G divide each other. Gives [B, T, max(H, G), E] and the state behind the last step."""
    q, k, v = (given(node, types, i) for i in range(3))
    factor, rate, state = (types[i] if i < len(types) else None for i in (3, 4, 5))
    if not q.rank == k.rank == v.rank == 4:
        raise fail(node, f"needs rank 4, got {q}, {k}, {v}")
    batch, steps, heads, size = q.shape
    groups, width = v.shape[2:]
    if k.shape != (batch, steps, groups, size) or v.shape[:2] != (batch, steps):
        raise fail(node, f"shapes do not fit: q {q}, k {k}, v {v}")
    if not isinstance(heads, int) or not isinstance(groups, int) or max(heads, groups) % max(min(heads, groups), 1):
        raise fail(node, f"{heads} query heads and {groups} key heads do not divide each other")
    if factor is not None and factor.shape not in ((batch, steps, groups, size), (batch, steps, groups, 1)):
        raise fail(node, f"the factor {factor} does not fit {k}")
    if rate is not None and rate.shape not in ((batch, steps, groups), (batch, steps, 1)):
        raise fail(node, f"the rate {rate} does not fit {k}")
    full = (batch, groups, size, width)
    if state is not None and state.shape != full:
        raise fail(node, f"the state {state} does not fit {k} and {v}")
    if len({t.dtype for t in types if t is not None}) > 1:
        raise fail(node, "inputs have different element types", "insert a cast")
    return [TensorType(q.dtype, (batch, steps, max(heads, groups), width)), TensorType(q.dtype, full)]


ROWS = (
    Op(
        "linear_attention",
        "routine",
        (3, 6),
        linear_attention,
        {"scale": AttrSpec("float", 1.0)},
        8,
        "step by step: state *= factor; u = rate * (v - state^T k), or v without a rate; state += k u^T; scale * state^T q",
    ),
)
