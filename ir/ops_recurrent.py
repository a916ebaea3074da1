"""Rows of recurrent layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .dims import ceildiv
from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, fail, given
from .types import TensorType, f32, f64, i32

#: Columns of a panel of the recurrent matrices, as csrc/kernels/recurrent.h has them.
PANEL = 64
#: cell -> its gates
GATES: Mapping[str, int] = {"rnn": 1, "gru": 3, "gru_linear": 3, "lstm": 4, "lstm_coupled": 4}
#: activations -> the parameters they take
ACTIVATIONS: Mapping[str, int] = {
    **dict.fromkeys(("relu", "tanh", "sigmoid", "softsign", "softplus"), 0),
    **dict.fromkeys(("leaky_relu", "thresholded_relu", "elu"), 1),
    **dict.fromkeys(("affine", "scaled_tanh", "hard_sigmoid"), 2),
}


class Activation(NamedTuple):
    """A function with its parameters, zero where it takes none."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


def activations_of(text: str) -> tuple[Activation, ...]:
    """`"sigmoid tanh leaky_relu:0.01"` as activations. Raises ValueError for anything else."""
    found = []
    for word in text.split():
        name, *numbers = word.split(":")
        if ACTIVATIONS.get(name) != len(numbers):
            raise ValueError(f"{word!r} is no activation")
        found.append(Activation(name, *map(float, numbers)))
    return tuple(found)


def text_of(activations: tuple[Activation, ...]) -> str:
    """The inverse of `activations_of`."""
    return " ".join(":".join([a.name, *map(repr, a[1 : 1 + ACTIVATIONS[a.name]])]) for a in activations)


def functions(cell: str) -> int:
    """Activations of one direction."""
    return {1: 1, 3: 2, 4: 3}[GATES[cell]]


def recurrent(node: Node, types: Types) -> list[TensorType]:
    """x [T, B, D * G * H], r [D, G, panels, H, 64], and, if given, bias [D, H] of gru_linear, h0 and c0 [D, B, H], peepholes
    [D, 3, H], lengths i32 [B]."""
    x, r = given(node, types, 0), given(node, types, 1)
    cell, hidden = node.attr("cell"), node.attr("hidden")
    count = 2 if node.attr("direction", "forward") == "bidirectional" else 1
    gates = GATES[cell]
    if x.dtype not in (f32, f64) or x.rank != 3 or x.shape[2] != count * gates * hidden:
        raise fail(node, f"{cell} of {hidden} hidden units in {count} directions does not fit inputs {x}")
    if r != TensorType(x.dtype, (count, gates, ceildiv(hidden, PANEL), hidden, PANEL)):
        raise fail(node, f"the recurrent matrices {r} are not {count} x {gates} in panels of {hidden} x {PANEL}")
    steps, batch = x.shape[:2]
    state = TensorType(x.dtype, (count, batch, hidden))
    wanted = (TensorType(x.dtype, (count, hidden)), state, state, TensorType(x.dtype, (count, 3, hidden)))
    for index, type in enumerate((*wanted, TensorType(i32, (batch,))), 2):
        have = types[index] if index < len(types) else None
        if have is not None and have != type:
            raise fail(node, f"input {index} must be {type}, got {have}")
    try:
        named = len(activations_of(node.attr("activations")))
    except ValueError as error:
        raise fail(node, str(error)) from None
    if named != count * functions(cell):
        raise fail(node, f"{named} activations for {count} x {functions(cell)}")
    results = [TensorType(x.dtype, (steps, count, batch, hidden)), state]
    return [*results, state] if gates == 4 else results


ROWS = (
    Op(
        "recurrent",
        "routine",
        (2, 7),
        recurrent,
        {
            "cell": AttrSpec("str", choices=tuple(GATES)),
            "hidden": AttrSpec("int"),
            "direction": AttrSpec("str", "forward", ("forward", "reverse", "bidirectional")),
            "activations": AttrSpec("str"),
            "clip": AttrSpec("float", float("inf")),
        },
        2,
        "a recurrent layer over inputs that are projected already, their biases added: all hidden states, the last, the last cell",
    ),
)
