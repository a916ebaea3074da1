"""Inputs whose values the user gives when compiling: they become constants of the model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ....ir.errors import ModelError, Problem, Source
from .protobuf import read_model


def fit_constants(path: Path, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`values` as the inputs of a model file have them: see `with_constants`."""
    return _fit(read_model(path), values, path.name)[0] if values else {}


def with_constants(model: onnx.ModelProto, values: Mapping[str, np.ndarray], file: str) -> onnx.ModelProto:
    """The model with the inputs named in `values` as constants of those values; the model itself where there are none.

    A value takes the input's element type if that holds it (whole numbers exactly, floats rounded), and its shape if both have
    one element. Symbolic dims of the input get the value's extents wherever they occur. Raises ModelError with every name
    that is no input and every value that does not fit.
    """
    if not values:
        return model
    fitted, dims = _fit(model, values, file)
    known = onnx.ModelProto()
    known.CopyFrom(model)
    del known.graph.input[:]
    known.graph.input.extend(i for i in model.graph.input if i.name not in values)
    known.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in fitted.items())
    for port in known.graph.input:
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]
    return known


def _fit(
    model: onnx.ModelProto, values: Mapping[str, np.ndarray], file: str
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The values as arrays of the inputs' types, and the extents of symbolic dims that follow from them."""
    fixed = {t.name for t in model.graph.initializer}
    inputs = {i.name: i for i in model.graph.input if i.name not in fixed}
    problems, fitted, dims = [], dict[str, np.ndarray](), dict[str, int]()
    for name, value in values.items():
        if name not in inputs:
            near = difflib.get_close_matches(name, sorted(inputs), 1, 0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"its inputs are {', '.join(map(repr, inputs)) or 'none'}"
            problems.append(
                Problem(f"the model has no input {name!r} to make a constant", source=Source(file), hint=hint)
            )
            continue
        try:
            fitted[name] = _fitted(inputs[name].type, np.asarray(value), dims)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            problems.append(Problem(f"the constant given for input {name!r}: {error}", source=Source(file)))
    if problems:
        raise ModelError(f"{file}: the constants given do not fit the model", problems)
    return fitted, dims


def _fitted(type: onnx.TypeProto, value: np.ndarray, dims: dict[str, int]) -> np.ndarray:
    """`value` as an array of the declared type; `dims` collects the extents of symbolic dims. Raises ValueError."""
    if type.WhichOneof("value") != "tensor_type":
        raise ValueError("only tensors can be constants")
    wanted = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(type.tensor_type.elem_type))
    array = value if value.dtype == wanted else _converted(value, wanted)
    if not type.tensor_type.HasField("shape"):
        return array
    shape = type.tensor_type.shape.dim
    if array.size == 1 and array.ndim != len(shape) and all(d.dim_value == 1 or d.dim_param for d in shape):
        array = array.reshape((1,) * len(shape))
    text = ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in shape)
    if array.ndim != len(shape):
        raise ValueError(f"its shape is {list(array.shape)}, the input has [{text}]")
    for extent, dim in zip(array.shape, shape, strict=True):
        declared = dim.dim_value if dim.HasField("dim_value") else dims.setdefault(dim.dim_param or "", extent)
        if declared != extent and (dim.HasField("dim_value") or dim.dim_param):
            raise ValueError(f"its shape is {list(array.shape)}, the input has [{text}]")
    dims.pop("", None)
    return array


def _converted(value: np.ndarray, wanted: np.dtype) -> np.ndarray:
    """Numbers in the element type an input has. Raises ValueError where it cannot hold them."""
    if wanted.kind == "O" and value.dtype.kind in "OSU":
        return value.astype(object)
    if wanted.kind == "O" or value.dtype.kind in "OSU":
        raise ValueError(f"{value.dtype} does not fit {wanted}")
    with np.errstate(all="ignore"):
        found = value.astype(wanted)
        exact = wanted.kind in "iub" or (wanted.kind == "V" and value.dtype.kind in "iub")
        if exact and not np.array_equal(found.astype(np.float64), value.astype(np.float64)):
            raise ValueError(f"{value.reshape(-1)[:8].tolist()} does not fit {wanted}")
    return np.asarray(found)
