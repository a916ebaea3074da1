"""Inputs of a run: of the wrong name, type or shape, or unreadable; and the unusual ones that are fine."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import save, two_inputs

X = np.linspace(-1, 1, 2 * 5 * 8, dtype=np.float32).reshape(2, 5, 8)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "got no 'x'; its inputs are x: f32[batch, seq, 8]"),
        ({"X": X}, "the plan has no input 'X'"),
        ({"xx": X}, "did you mean 'x'?"),
        ({"x": X, "z": X}, "the plan has no input 'z'"),
        (
            {"x": X.astype(np.float64)},
            "element type f32 (float32) and got float64; convert it: array.astype(np.float32)",
        ),
        ({"x": X.astype(np.int64)}, "got int64"),
        ({"x": np.array("text")}, "element type f32"),
        ({"x": X[0]}, "takes shape [batch, seq, 8] and got [5, 8]"),
        ({"x": X[..., :7]}, "takes shape [batch, seq, 8] and got [2, 5, 7]"),
        ({"x": np.float32(1)}, "takes shape [batch, seq, 8] and got []"),
        ({"x": np.zeros((2, 17, 8), np.float32)}, "dim seq is 17 in axis 1 of input 'x', outside its bounds 1 to 16"),
        ({"x": np.zeros((0, 5, 8), np.float32)}, "dim batch is 0"),
        ({"x": np.zeros((5, 5, 8), np.float32)}, "compile with a wider --dim batch="),
        ({"x": np.array([{}], object)}, "cannot read in.npz"),
    ],
)
def test_wrong_arrays(stratac: CommandLine, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez("in.npz", **arrays)
    stratac.refused(("run", "mlp.plan", "-i", "in.npz", "-o", "out.npz"), 2, said)


def test_inputs_that_disagree_about_a_dim(stratac: CommandLine) -> None:
    save(two_inputs(), Path("two.onnx"))
    stratac.good("compile", "two.onnx", "--dim", "n=1:4:8")
    np.savez("in.npz", x=np.ones((3, 4), np.float32), z=np.ones((5, 4), np.float32))
    stratac.refused(("run", "two.plan", "-i", "in.npz"), 2, "input 'z'", "its axis 0 is 5 where 3 is needed to agree")


def test_unreadable_files(stratac: CommandLine) -> None:
    np.savez("ok.npz", x=X)
    data = Path("ok.npz").read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    np.save("array.npy", X)
    for name, content, said in (
        ("empty.npz", b"", "not an .npz file"),
        ("text.npz", b"x = [1, 2, 3]\n", "write it with numpy.savez"),
        ("short.npz", data[:-50], "cut off"),
        ("flipped.npz", bytes(flipped), "cannot read flipped.npz"),
        ("array.npy", Path("array.npy").read_bytes(), "not an .npz file"),
    ):
        Path(name).write_bytes(content)
        stratac.refused(("run", "mlp.plan", "-i", name), 2, name, said)
    with zipfile.ZipFile("other.npz", "w") as file:
        file.writestr("x", b"no array")
    stratac.refused(("run", "mlp.plan", "-i", "other.npz"), 2)
    stratac.refused(("run", "mlp.plan", "-i", "gone.npz"), 2, "cannot read gone.npz: No such file")
    stratac.refused(("run", "mlp.plan", "-i", "."), 2, "Is a directory")


def test_no_inputs(stratac: CommandLine) -> None:
    stratac.refused(("run", "mlp.plan"), 2, "-i FILE.npz with x: f32[batch, seq, 8]; or --random SEED")
    stratac.refused(("run", "mlp.plan", "--random", "1", "--dim", "sec=1"), 2, "no dim 'sec'; it has batch, seq")
    stratac.refused(("run", "mlp.plan", "--random", "1", "--dim", "seq=99"), 2, "outside its bounds 1 to 16")
    stratac.refused(("run", "mlp.plan", "--random", "1", "--dim", "seq"), 2, "write NAME=N")
    np.savez("in.npz", x=X)
    stratac.refused(("run", "mlp.plan", "-i", "in.npz", "--dim", "seq=5"), 2, "--dim sizes random inputs")


def test_any_layout_and_byte_order_is_fine(stratac: CommandLine) -> None:
    outputs = []
    for array in (X, X.astype(">f4"), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], X[::-1][::-1]):
        np.savez("in.npz", x=array)
        stratac.good("run", "mlp.plan", "-i", "in.npz", "-o", "out.npz")
        outputs.append(np.load("out.npz")["y"])
    assert outputs[0].shape == (2, 5, 12)
    for other in outputs[1:]:
        np.testing.assert_array_equal(other, outputs[0])


def test_not_a_plan(stratac: CommandLine) -> None:
    Path("empty").mkdir()
    for words in (("inspect",), ("verify",), ("verify", "--static"), ("run", "--random", "1")):
        stratac.refused((*words, "gone.plan"), 2, "gone.plan does not exist; give the folder that `stratac compile -o`")
        stratac.refused((*words, "mlp.onnx"), 2, "mlp.onnx is not a folder")
        stratac.refused((*words, "empty"), 2, "manifest.json does not exist")


def test_verify_against_another_model(stratac: CommandLine) -> None:
    save(two_inputs(), Path("two.onnx"))
    stratac.refused(("verify", "mlp.plan", "--against", "two.onnx"), 2, "has the inputs x, z, the plan has x")
    stratac.refused(("verify", "mlp.plan", "--against", "gone.onnx"), 2, "no model gone.onnx")
    Path("bad.onnx").write_bytes(b"nonsense")
    stratac.refused(("verify", "mlp.plan", "--against", "bad.onnx"), 2, "onnxruntime cannot load bad.onnx")
