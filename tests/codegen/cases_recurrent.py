"""Directed cases of recurrent layers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .cases import M, N, Net, case

_CELLS = {"rnn": 1, "gru": 3, "gru_linear": 3, "lstm": 4, "lstm_coupled": 4}
_USUAL = {1: "tanh", 3: "sigmoid tanh", 4: "sigmoid tanh tanh"}


def _recurrent(net: Net, cell: str, hidden: int, batch: Any, dtype: str, whole: bool, **attrs: Any) -> tuple[str, ...]:
    """A layer over N steps, with all of its optional inputs if `whole`; its matrices are small, so that errors do not grow."""
    gates, count = _CELLS[cell], 2 if attrs.get("direction") == "bidirectional" else 1
    x = net.input((N, batch, count * gates * hidden), dtype, -1, 1)
    panels = -(-hidden // 64)
    r = np.zeros((count, gates, panels * 64, hidden), dtype)
    values = np.random.default_rng(1).uniform(-1, 1, (count, gates, hidden, hidden)) / np.sqrt(hidden)
    r[:, :, :hidden] = values
    packed = net.input(np.ascontiguousarray(r.reshape(count, gates, panels, 64, hidden).swapaxes(3, 4)))
    extra = [""] * 5
    if whole:
        extra[0] = net.input((count, hidden), dtype, -1, 1) if cell == "gru_linear" else ""
        extra[1] = net.input((count, batch, hidden), dtype, -1, 1)
        if gates == 4:
            extra[2] = net.input((count, batch, hidden), dtype, -1, 1)
            extra[3] = net.input((count, 3, hidden), dtype, -1, 1)
        extra[4] = net.input((batch,), "int32", -1, 9)
    attrs.setdefault("activations", " ".join([_USUAL[gates]] * count))
    return net.many("recurrent", x, packed, *extra, outputs=3 if gates == 4 else 2, cell=cell, hidden=hidden, **attrs)


@case(*itertools.product(_CELLS, (5, 64, 70), ("float32", "float64")), tolerance=2e-5)
def recurrent(net: Net, cell: str, hidden: int, dtype: str) -> tuple[str, ...]:
    """Batches that fill the rows of a tile and that do not."""
    first = _recurrent(net, cell, hidden, M, dtype, True, direction="bidirectional")
    return *first, *_recurrent(net, cell, hidden, 4, dtype, False, direction="reverse")


_ODD = "relu softsign softplus leaky_relu:0.1 thresholded_relu:0.2 elu:0.7 affine:0.5:0.1 scaled_tanh:0.9:0.8 hard_sigmoid:0.2:0.5"


@case(*_ODD.split(), tolerance=2e-5)
def recurrent_functions(net: Net, function: str) -> tuple[str, ...]:
    found = _recurrent(net, "rnn", 9, 3, "float32", True, activations=function)
    more = _recurrent(net, "lstm", 9, 2, "float32", False, activations=f"sigmoid {function} tanh", clip=0.4)
    return *found, *more, _recurrent(net, "gru", 4, 1, "float64", False, activations=f"{function} tanh", clip=0.3)[0]


@case()
def recurrent_of_one_state(net: Net) -> str:
    """Only the last state is read."""
    return _recurrent(net, "gru", 8, 2, "float32", False)[1]
