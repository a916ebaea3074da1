"""`--ragged`: the rows of valid tokens alone, from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from stratac.compiler.api import compile as compile_model
from stratac.ir.errors import StratacError
from stratac.runtime.session import load
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import INT64, N, model, save, value, weight, whole

DIMS = ("--dim", "batch=1:2:4", "--dim", "seq=1:8:12")


def encoder() -> onnx.ModelProto:
    """One layer of attention over embedded tokens, two heads of four: y [batch, seq, 8]."""
    split = [N("Reshape", [f"{x}0", "heads"], [f"{x}1"]) for x in "qkv"]
    nodes = [
        N("Gather", ["words", "ids"], ["x"], name="embedding"),
        *(N("MatMul", ["x", f"w{x}"], [f"{x}0"]) for x in "qkv"),
        *split,
        N("Transpose", ["q1"], ["q"], perm=[0, 2, 1, 3]),
        N("Transpose", ["k1"], ["k"], perm=[0, 2, 3, 1]),
        N("Transpose", ["v1"], ["v"], perm=[0, 2, 1, 3]),
        N("MatMul", ["q", "k"], ["s0"]),
        N("Mul", ["s0", "scale"], ["s1"]),
        N("Unsqueeze", ["attention_mask", "axes"], ["m0"]),
        N("Cast", ["m0"], ["m1"], to=onnx.TensorProto.BOOL),
        N("Where", ["m1", "zero", "low"], ["m2"]),
        N("Add", ["s1", "m2"], ["s2"]),
        N("Softmax", ["s2"], ["p"], axis=-1, name="shares"),
        N("MatMul", ["p", "v"], ["o0"]),
        N("Transpose", ["o0"], ["o1"], perm=[0, 2, 1, 3]),
        N("Reshape", ["o1", "rows"], ["o2"]),
        N("MatMul", ["o2", "wo"], ["o3"]),
        N("Add", ["o3", "x"], ["y"]),
    ]
    constants = [weight("words", 20, 8), *(weight(f"w{x}", 8, 8, scale=0.3) for x in "qkvo")]
    constants += [whole("heads", 0, 0, 2, 4), whole("rows", 0, 0, 8), whole("axes", 1, 2)]
    floats = {"zero": 0.0, "low": np.finfo(np.float32).min, "scale": 0.5}
    constants += [onnx.numpy_helper.from_array(np.array(x, np.float32), name) for name, x in floats.items()]
    ports = [value(name, ["batch", "seq"], INT64) for name in ("ids", "attention_mask")]
    return model(nodes, ports, ["y"], constants)


def test_ragged(stratac: CommandLine) -> None:
    path = save(encoder(), Path("encoder.onnx"))
    stratac.good("compile", path, *DIMS, "--quiet", "-o", "plain.plan")
    stratac.good("compile", path, *DIMS, "--quiet", "-o", "ragged.plan", "--ragged", "attention_mask")
    plain, ragged = (stratac.good("inspect", folder) for folder in ("plain.plan", "ragged.plan"))
    assert "output 'y' holds what is computed at padded positions; --ragged attention_mask says" in plain
    assert "by the mask 'attention_mask', attention runs on valid rows; 'y' gets zeros at padded positions" in ragged
    assert "rows = 0:16:48 (min:typical:max, found out in each run)" in ragged
    found = stratac.good("verify", "ragged.plan", "--against", path)
    assert "FAILED" not in found and "rows=" not in found
    assert json.loads(Path("ragged.plan/report.json").read_text())["options"]["ragged"] == "attention_mask"
    assert "rows" in stratac.good("inspect", "ragged.plan", "--level", "plan")
    assert stratac.good("explain", "plain.plan", "--what-if", "ragged=attention_mask")


def test_from_python(stratac: CommandLine) -> None:
    path = save(encoder(), Path("encoder.onnx"))
    dims = {"batch": "1:2:4", "seq": "1:8:12"}
    plain, ragged = (compile_model(path, f"{name}.plan", dims=dims, ragged=name) for name in ("", "attention_mask"))
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    inputs = {"ids": np.arange(20).reshape(4, 5), "attention_mask": mask}
    with load(plain) as a, load(ragged) as b:
        (theirs,), (ours,) = a.run(None, inputs), b.run(None, inputs)
    assert ours[mask == 1].tobytes() == theirs[mask == 1].tobytes() and not ours[mask == 0].any()


def test_refusals(stratac: CommandLine) -> None:
    path = save(encoder(), Path("encoder.onnx"))
    why = "the keys its attention hides do not follow from an input"
    stratac.refused(("compile", path, *DIMS, "--ragged", "ids"), 2, "cannot be packed by 'ids'", why)
    stratac.refused(
        ("compile", "mlp.onnx", "--ragged", "x", "--dim", "batch=2", "--dim", "seq=4"), 2, "it has no attention"
    )
    with pytest.raises(StratacError, match="cannot be packed by 'nothing'"):
        compile_model(path, dims={"batch": 2, "seq": 4}, ragged="nothing")
