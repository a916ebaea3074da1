"""Optimisers against the reference of the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx.helper import make_opsetid
from onnx.reference import ReferenceEvaluator
from stratac.tests.frontends.onnx.build import FLOAT, INT64, N, check, make, value

CASES = [
    ("Adagrad", 3, {"norm_coefficient": 0.01, "epsilon": 1e-5, "decay_factor": 0.1}),
    ("Adam", 4, {"norm_coefficient": 0.01, "alpha": 0.95, "beta": 0.1, "epsilon": 1e-7, "norm_coefficient_post": 0.02}),
    ("Momentum", 3, {"norm_coefficient": 0.01, "alpha": 0.95, "beta": 0.1, "mode": "standard"}),
    ("Momentum", 3, {"norm_coefficient": 0.0, "alpha": 0.95, "beta": 1.0, "mode": "nesterov"}),
]


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("tensors", [1, 2])
@pytest.mark.parametrize(("op", "kinds", "attributes"), CASES, ids=["adagrad", "adam", "momentum", "nesterov"])
def test_steps(tmp_path: Path, op: str, kinds: int, attributes: dict[str, object], tensors: int, step: int) -> None:
    rng = np.random.default_rng(step)
    feeds = {"r": np.array(0.1, "f4"), "t": np.array(step, "i8")}
    ports = [value("r", FLOAT, []), value("t", INT64, [])]
    for kind in range(kinds):
        for i in range(tensors):
            name, shape = f"k{kind}_{i}", (2, 3) if i else (4,)
            feeds[name] = np.abs(rng.standard_normal(shape)).astype("f4")
            ports.append(value(name, FLOAT, shape))
    outputs = [f"y{i}" for i in range((kinds - 1) * tensors)]
    domain = "ai.onnx.preview.training"
    node = N(op, list(feeds), outputs, domain=domain, **attributes)
    model = make([node], ports, outputs, opset=18, domains=[make_opsetid(domain, 1)])
    want = [np.asarray(w, "f4") for w in ReferenceEvaluator(model).run(None, feeds)]
    check(tmp_path, model, feeds, expected=want)
