"""Windows and filter banks against the reference of the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError
from stratac.ir.interp import run
from stratac.tests.frontends.onnx.build import FLOAT, N, array, check, make, save, value

WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow")


@pytest.mark.parametrize("size", [1, 2, 7, 400])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("op", WINDOWS)
def test_windows(tmp_path: Path, op: str, periodic: int, size: int) -> None:
    for dtype in (FLOAT, 11):
        if size == 1 and not periodic:
            continue  # 0 / 0
        node = N(op, ["n"], ["y"], periodic=periodic, output_datatype=dtype)
        check(tmp_path, make([node], [], constants=[array("n", size, np.int64)], opset=22), {})


def test_a_window_of_a_size_that_is_a_dim(tmp_path: Path) -> None:
    nodes = [N("Shape", ["x"], ["n"]), N("Squeeze", ["n"], ["s"]), N("HannWindow", ["s"], ["y"])]
    graph = import_onnx(save(tmp_path, make(nodes, [value("x", FLOAT, ["n"])])), {"n": Bounds(1, 8, 16)})
    got = run(graph, {"x": np.zeros(8, "f4")})["y"]
    np.testing.assert_allclose(got, np.sin(np.arange(8) * np.pi / 8) ** 2, atol=1e-6)


@pytest.mark.parametrize(
    "case", [(8, 16, 8192, 0.0, 4096.0), (80, 400, 16000, 0.0, 8000.0), (20, 512, 44100, 20.0, 2e4)]
)
def test_mel_filters(tmp_path: Path, case: tuple[int, int, int, float, float]) -> None:
    kinds = (np.int64, np.int64, np.int64, np.float32, np.float32)
    constants = [array(f"c{i}", v, kind) for i, (v, kind) in enumerate(zip(case, kinds, strict=True))]
    node = N("MelWeightMatrix", [f"c{i}" for i in range(5)], ["y"])
    check(tmp_path, make([node], [], constants=constants, opset=22), {})


def test_mel_filters_beyond_the_spectrum(tmp_path: Path) -> None:
    numbers = (8, 16, 8000, 0.0, 9000.0)
    constants = [array(f"c{i}", v, np.float32 if i > 2 else np.int64) for i, v in enumerate(numbers)]
    model = make([N("MelWeightMatrix", [f"c{i}" for i in range(5)], ["y"])], [], constants=constants, opset=22)
    with pytest.raises(ModelError, match="not within the spectrum"):
        import_onnx(save(tmp_path, model), {})
