"""Types of values by the standard's inference of shapes, in a process of its own: the onnx package does not survive all models."""

from __future__ import annotations

import subprocess
import sys

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

_PROGRAM = """\
import sys
import onnx
sys.stdout.buffer.write(onnx.shape_inference.infer_shapes(sys.stdin.buffer.read()).SerializeToString())
"""
#: The time that is given to it.
_SECONDS = 60.0


def types_written(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Types of inner values and outputs by name, as the model has them."""
    return {info.name: info.type for info in (*model.graph.value_info, *model.graph.output)}


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types of all values that can be inferred; the model itself where that fails."""
    try:
        data = model.SerializeToString()
        done = subprocess.run([sys.executable, "-c", _PROGRAM], input=data, capture_output=True, timeout=_SECONDS)
        found = onnx.ModelProto()
        found.ParseFromString(done.stdout)
    except (OSError, ValueError, DecodeError, subprocess.TimeoutExpired):
        return model
    return found if done.returncode == 0 else model
