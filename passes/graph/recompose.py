"""Composites rebuilt from the parts that exporters leave: softmax, norms, activations, rotary embeddings, attention, and batch
norms that belong into a convolution.

One walk in topological order: what it makes early (a softmax) is there for what it looks for later (attention). It expects
folded constants and equal computations merged. A rule that would change a value's type has matched by accident, and is dropped.
"""

from __future__ import annotations

from ...ir.graph import Graph, Node
from . import recompose_activation as activation
from . import recompose_attention as attention
from . import recompose_conv as conv
from . import recompose_norm as norm
from .rebuild import Rebuild, Rule, rebuild
from .recompose_rotary import rotary


def _same_type(rule: Rule) -> Rule:
    def checked(work: Rebuild, node: Node) -> str | None:
        value = rule(work, node)
        return value if value and work.type(value) == work.old.types[node.outputs[0]] else None

    return checked


_RULES: dict[str, tuple[Rule, ...]] = {
    "div": (norm.softmax, norm.norm, activation.gated, activation.sigmoid, conv.channel_factor),
    "mul": (norm.softmax, norm.norm, norm.scale, activation.gated, conv.channel_factor),
    "add": (norm.bias, norm.factored_layer_norm, rotary, conv.channel_shift),
    "sub": (norm.log_softmax,),
    "log": (norm.log_softmax,),
    "reciprocal": (activation.sigmoid,),
    "batch_norm": (conv.batch_norm,),
    "avg_pool": (conv.whole_window,),
    "max_pool": (conv.whole_window,),
    "matmul": (attention.attention,),
    "attention": (attention.simplify_attention,),
}


def recompose(graph: Graph) -> Graph:
    """The graph with every composite whole."""
    return rebuild(graph, {op: tuple(_same_type(rule) for rule in rules) for op, rules in _RULES.items()})
