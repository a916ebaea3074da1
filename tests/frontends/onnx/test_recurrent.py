"""Recurrent layers against onnxruntime: directions, initial states, lengths, clipping, functions, forms of the cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError
from stratac.ir.interp import run
from stratac.tests.frontends.onnx.build import FLOAT, N, array, check, make, value

T, B, WIDTH, H = 5, 3, 4, 6
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _inputs() -> np.ndarray:
    return np.random.default_rng(4).uniform(-1, 1, (T, B, WIDTH)).astype("f4")


def layer(folder: Path, op: str, have: str = "", dtype: str = "f4", expected: Any = None, **attributes: Any) -> Any:
    """A model of one layer with the optional inputs of `have`: bias, lengths, h, c, peepholes by their first letters."""
    rng, gates = np.random.default_rng(3), GATES[op]
    count = 2 if attributes.get("direction") == "bidirectional" else 1
    flip = (1, 0, 2) if attributes.get("layout") else (0, 1, 2)
    shapes = {"W": (count, gates * H, WIDTH), "R": (count, gates * H, H), "b": (count, 2 * gates * H)}
    shapes |= {"h": (count, B, H), "c": (count, B, H), "p": (count, 3 * H)}
    draw = {name: rng.uniform(-0.7, 0.7, shape).astype(dtype) for name, shape in shapes.items()}
    draw |= {name: np.ascontiguousarray(draw[name].transpose(flip)) for name in ("h", "c")}
    x = np.ascontiguousarray(_inputs().astype(dtype).transpose(flip))
    constants = [array(name, draw[name]) for name in ("W", "R", *have.replace("l", ""))]
    if "l" in have:
        constants.append(array("l", [5, 2, 4], np.int32))
    names = ["x", "W", "R", *(n if n in have else "" for n in "blhcp"[: {"LSTM": 5}.get(op, 3)])]
    outputs = ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]
    node = N(op, names, outputs, hidden_size=H, **attributes)
    kind = FLOAT if dtype == "f4" else 11
    model = make([node], [value("x", kind, x.shape)], outputs, constants, 14)
    return check(folder, model, {"x": x}, expected=expected)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("op", "have"), [("RNN", "blh"), ("GRU", "blh"), ("LSTM", "blhcp"), ("LSTM", "bl"), ("GRU", "")]
)
def test_layers(tmp_path: Path, op: str, have: str, direction: str) -> None:
    layer(tmp_path, op, have, direction=direction)


@pytest.mark.parametrize("have", ["blh", "h", "b"])
def test_reset_after_the_product(tmp_path: Path, have: str) -> None:
    layer(tmp_path, "GRU", have, linear_before_reset=1, direction="bidirectional")


def test_coupled_gates(tmp_path: Path) -> None:
    layer(tmp_path, "LSTM", "bhc", input_forget=1)


@pytest.mark.parametrize("op", GATES)
def test_clip(tmp_path: Path, op: str) -> None:
    layer(tmp_path, op, "bh", clip=0.3)


FUNCTIONS = [
    "Relu",
    "Affine",
    "LeakyRelu",
    "ThresholdedRelu",
    "ScaledTanh",
    "HardSigmoid",
    "Elu",
    "Softsign",
    "Softplus",
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions(tmp_path: Path, function: str) -> None:
    more = {} if function in ("Relu", "Softsign", "Softplus") else {"activation_alpha": [0.4]}
    if function in ("Affine", "ScaledTanh", "HardSigmoid"):
        more["activation_beta"] = [0.3]
    layer(tmp_path, "RNN", "bh", activations=[function], **more)


def test_parameters_go_to_the_functions_that_take_them(tmp_path: Path) -> None:
    functions = ["Sigmoid", "LeakyRelu", "HardSigmoid", "Tanh"]
    layer(
        tmp_path,
        "GRU",
        "b",
        direction="bidirectional",
        activations=functions,
        activation_alpha=[0.2, 0.3],
        activation_beta=[0.4],
    )


@pytest.mark.parametrize("op", GATES)
def test_batch_first(tmp_path: Path, op: str) -> None:
    """What time first gives, turned (onnxruntime has no layout 1)."""
    have, options = "bhc"[: 3 if op == "LSTM" else 2], {"direction": "bidirectional", "clip": 0.9}
    graph, x = layer(tmp_path, op, have, **options), _inputs()
    y, *last = run(graph, {"x": x}).values()
    turned = [y.transpose(2, 0, 1, 3), *(state.transpose(1, 0, 2) for state in last)]
    layer(tmp_path, op, have, expected=turned, layout=1, **options)


def test_a_batch_and_steps_that_are_dims(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w, r = (rng.uniform(-1, 1, (1, 4 * H, n)).astype("f4") for n in (WIDTH, H))
    model = make(
        [N("LSTM", ["x", "W", "R"], ["y"], hidden_size=H)],
        [value("x", FLOAT, ["t", "b", WIDTH])],
        constants=[array("W", w), array("R", r)],
        opset=14,
    )
    x = rng.standard_normal((T, B, WIDTH)).astype("f4")
    check(tmp_path, model, {"x": x}, {"t": Bounds(1, 4, 9), "b": Bounds(1, 1, 4)})


def test_wrong_layers(tmp_path: Path) -> None:
    for attributes, what in (
        ({"activations": ["Tanh"]}, "1 activations for 2 functions"),
        ({"activations": ["Tanh", "Maximum"]}, "activation 'Maximum' is not supported"),
    ):
        with pytest.raises(ModelError, match=what):
            layer(tmp_path, "GRU", **attributes)
