"""The meaning of recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..ops_recurrent import GATES, activations_of
from .registry import Array, meaning, rounded

_FUNCTIONS: Mapping[str, Callable[[Array, float, float], Array]] = {
    "relu": lambda x, a, b: np.maximum(x, 0),
    "tanh": lambda x, a, b: np.tanh(x),
    "sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x),
    "thresholded_relu": lambda x, a, b: np.where(x <= a, 0, x),
    "scaled_tanh": lambda x, a, b: a * np.tanh(b * x),
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(x), x),
    "softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "softplus": lambda x, a, b: np.logaddexp(0, x),
}


@meaning("recurrent")
def recurrent(
    x: Array,
    r: Array,
    bias: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    peepholes: Array | None = None,
    lengths: Array | None = None,
    *,
    cell: str,
    hidden: int,
    direction: str,
    activations: str,
    clip: float,
) -> tuple[Array, ...]:
    """the cells as the ONNX standard has them; what gates' activations take is clipped; states beyond a row's length are zero"""
    steps, batch, _ = x.shape
    gates, count = GATES[cell], r.shape[0]
    functions = activations_of(activations)
    each = len(functions) // count
    inputs = x.astype(np.float64).reshape(steps, batch, count, gates, hidden)
    y = np.zeros((steps, count, batch, hidden))
    h = np.zeros((count, batch, hidden)) if h0 is None else h0.astype(np.float64)
    c = np.zeros((count, batch, hidden)) if c0 is None else c0.astype(np.float64)
    for d in range(count):
        matrices = r[d].astype(np.float64).swapaxes(1, 2).reshape(gates, hidden, -1)[:, :, :hidden]
        peep = np.zeros((3, hidden)) if peepholes is None else peepholes[d].astype(np.float64)
        extra = np.zeros(hidden) if bias is None else bias[d].astype(np.float64)

        def act(number: int, value: Array, clip: float = clip, d: int = d) -> Array:
            name, alpha, beta = functions[d * each + number]
            return _FUNCTIONS[name](np.clip(value, -clip, clip), alpha, beta)

        for row in range(batch):
            length = steps if lengths is None else min(max(int(lengths[row]), 0), steps)
            times = range(length)
            for t in reversed(times) if direction == "reverse" or d else times:
                now = inputs[t, row, d], h[d, row], c[d, row]
                h[d, row], c[d, row] = _step(cell, *now, matrices, extra, peep, act)
                y[t, d, row] = h[d, row]
    results = (rounded(y, x), rounded(h, x))
    return (*results, rounded(c, x)) if gates == 4 else results


def _step(
    cell: str,
    x: Array,
    h: Array,
    c: Array,
    r: Array,
    bias: Array,
    peep: Array,
    act: Callable[..., Array],
) -> tuple[Array, Array]:
    """The next state and cell of one row: x [gates, hidden], r [gates, hidden, hidden]."""
    if cell == "rnn":
        return act(0, x[0] + h @ r[0]), c
    if cell.startswith("gru"):
        z, reset = act(0, x[0] + h @ r[0]), act(0, x[1] + h @ r[1])
        inner = reset * (h @ r[2] + bias) if cell == "gru_linear" else (reset * h) @ r[2]
        return (1 - z) * act(1, x[2] + inner) + z * h, c
    gates = [x[g] + h @ r[g] for g in range(4)]
    into = act(0, gates[0] + peep[0] * c)
    forget = 1 - into if cell == "lstm_coupled" else act(0, gates[2] + peep[2] * c)
    new = forget * c + into * act(1, gates[3])
    return act(0, gates[1] + peep[1] * new) * act(2, new, np.inf), new
