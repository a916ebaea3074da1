"""The row of loops: a graph that runs again and again.

The node's `graph` is its body. Its states are what the loop carries: they start as the node's first inputs, and what they are in
the end are the node's outputs. Its inputs are values from outside that stay the same, the node's further inputs, in order. It has
no outputs. `trip` is a symbol that only the body has: it counts the trips from 0, and its greatest value is that of the last trip
there may be, its typical one that of the last trip predicted. With `while` the first state is one bool, and the loop ends where
that is false in front of a trip.

So nothing of a body can be mixed up with what is around it: passes run on bodies as they run on graphs. What trips add to, row by
row, is carried like anything else.
"""

from __future__ import annotations

from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, fail, given
from .types import TensorType, bool_


def loop(node: Node, types: Types) -> list[TensorType]:
    """The types of what is carried."""
    body = node.graph
    if body is None:
        raise fail(node, "has no body")
    if body.outputs or node.attr("trip") not in body.symbols:
        raise fail(node, f"has a body with {len(body.outputs)} outputs, whose dims are {', '.join(body.symbols)}")
    found = [body.types[state.value] for state in body.states]
    wanted = [*found, *(body.types[port.value] for port in body.inputs)]
    if len(wanted) != len(node.inputs) or not found:
        raise fail(node, f"gives {len(node.inputs)} values to a body that carries {len(found)} of {len(wanted)}")
    for place, kind in enumerate(wanted):
        if (got := given(node, types, place)) != kind:
            raise fail(node, f"input {place} is {got}, its body takes {kind}")
    if node.attr("while") and found[0] != TensorType(bool_, ()):
        raise fail(node, f"goes on while {found[0]}, which is not one bool")
    return found


ROWS = (
    Op(
        "loop",
        "loop",
        (1, 1 << 30),
        loop,
        {
            "trip": AttrSpec("str"),
            "while": AttrSpec("bool", False),
            "why": AttrSpec("str", ""),
        },
        0,
        "a graph of its own, over and over: what one trip leaves, the next one finds",
    ),
)
