"""The operator tests of the onnx package: what is imported gives the reference's numbers, and nothing crashes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError
from stratac.ir.interp import run
from stratac.ir.narrow import widened
from stratac.ir.types import ML_NAMES

#: How many cases of onnx 1.23 are at least imported and right; raise it when rules are added.
SUPPORTED = 1610
#: Their numbers are those of numpy's generator.
_DRAWN = re.compile("test_bernoulli|test_training_dropout(_default)?(_mask)?$")
_NEEDS_CONSTANT = re.compile("must be known|must be constant|one known number|depends on the data")


def _bake(model: onnx.ModelProto, inputs: list[np.ndarray]) -> tuple[onnx.ModelProto, list[np.ndarray]]:
    """Whole-number inputs become constants: the tests pass shapes, axes and pads as inputs."""
    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    del baked.graph.input[:]
    kept = []
    sources, later = {"ConstantOfShape", "Range"}, {"Resize", "Upsample", "Pad", "OneHot"}
    for position, (info, data) in enumerate(zip(model.graph.input, inputs, strict=True)):
        op = model.graph.node[0].op_type
        whole = data.dtype.kind in "iub" and (position or len(inputs) == 1)
        if whole or op in sources or (op in later and position):
            baked.graph.initializer.append(numpy_helper.from_array(data, info.name))
        else:
            baked.graph.input.append(info)
            kept.append(data)
    return baked, kept


def _storage(array: np.ndarray) -> np.ndarray:
    """The array of the interpreter for one of ml_dtypes."""
    dtype = ML_NAMES.get(array.dtype.name)
    if dtype is None:
        return array
    return array.astype(dtype.np) if dtype.is_integer else array.view(dtype.np)


def _attempt(path: Path, model: onnx.ModelProto, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> str:
    path.write_bytes(model.SerializeToString())
    feeds = {info.name: data for info, data in zip(model.graph.input, inputs, strict=True)}
    dims = {}
    for info in model.graph.input:
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                size = feeds[info.name].shape[axis]
                dims[dim.dim_param or f"{info.name}_{axis}"] = Bounds(size, size, size)
    got = run(import_onnx(path, dims), {name: _storage(data) for name, data in feeds.items()})
    for info, want in zip(model.graph.output, outputs, strict=True):
        have = got[info.name]
        dtype = ML_NAMES.get(want.dtype.name)
        # the reference rounds what functions compute in between, and its sums are not ours: a few units of the last place
        rtol = {"bfloat16": 2**-6, "float16": 2**-8}.get(want.dtype.name, 1e-3)
        if dtype is not None:
            have, want = widened(have, dtype), widened(_storage(want), dtype)
        if have.shape != want.shape or have.dtype != want.dtype:
            return f"{have.dtype}{have.shape} instead of {want.dtype}{want.shape}"
        if not np.allclose(have, want, rtol=rtol, atol=1e-5, equal_nan=True):
            return "other values"
    return ""


@pytest.mark.filterwarnings("ignore")
def test_node_cases(tmp_path: Path) -> None:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [c for c in collect_testcases(None) if c.model is not None and c.data_sets]
    right, wrong = 0, []
    for case in cases:
        inputs, outputs = case.data_sets[0]
        if not all(isinstance(a, (np.ndarray, np.generic)) for a in (*inputs, *outputs)):
            continue
        inputs, outputs = [np.asarray(a) for a in inputs], [np.asarray(a) for a in outputs]
        if any(a.dtype == object for a in (*inputs, *outputs)):
            continue  # strings are slots of bytes in the interpreter
        try:
            try:
                result = _attempt(tmp_path / "case.onnx", case.model, inputs, outputs)
            except ModelError as error:
                if not _NEEDS_CONSTANT.search(str(error)):
                    raise
                result = _attempt(tmp_path / "case.onnx", *_bake(case.model, inputs), outputs)
        except ModelError:
            continue
        right += not result
        if result and not _DRAWN.match(case.name):
            wrong.append(f"{case.name}: {result}")
    assert not wrong, "\n".join(wrong)
    if onnx.defs.onnx_opset_version() >= 28:
        assert right >= SUPPORTED, right
