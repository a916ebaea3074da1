"""onnxruntime as a backend of the same suite: what it refuses, and where it gives other results than the reference."""

from __future__ import annotations

import ctypes
import math
import os
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType

#: The IR version of onnxruntime 1.31; newer ones add nothing that the suite's models have.
_NEWEST_IR = 13
#: Bits of the element types that numpy lacks, by their ONNX codes: bf16, the 8-bit floats, and those of half a byte and less.
_NOT_IN_NUMPY = {16: 16, **dict.fromkeys((17, 18, 19, 20, 24), 8), **dict.fromkeys((21, 22, 23), 4), 25: 2, 26: 2}


def onnxruntime_backend() -> type[Backend]:
    """One thread, its default optimisations, the CPU provider, opsets that are not released included."""
    os.environ["ALLOW_RELEASED_ONNX_OPSET_ONLY"] = "0"
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)

    class Rep(BackendRep):
        def __init__(self, model: onnx.ModelProto) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            known = onnx.ModelProto()
            known.CopyFrom(model)
            known.ir_version = min(model.ir_version, _NEWEST_IR)
            data = known.SerializeToString()
            self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

        def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
            names = [port.name for port in self.session.get_inputs()]
            feeds = dict(zip(names, map(self._value, inputs), strict=True))
            if not all(isinstance(value, onnxruntime.OrtValue) for value in feeds.values()):
                return tuple(self.session.run(None, feeds))
            found = self.session.run_with_ort_values([port.name for port in self.session.get_outputs()], feeds)
            return tuple(map(self._array, found))

        @staticmethod
        def _value(value: Any) -> Any:
            """What numpy has no element type for goes in by its ONNX type."""
            if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind in "OSU":
                return value
            code = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            make = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
            if _NOT_IN_NUMPY.get(code, 8) < 8:
                raise TypeError("its Python interface takes no arrays of elements below a byte")
            return make(np.asarray(value, order="C"), code)

        @staticmethod
        def _array(value: Any) -> Any:
            """An output, of whatever element type."""
            code = value.element_type() if value.is_tensor() else 0
            if code not in _NOT_IN_NUMPY:
                return value.numpy()
            shape, bits = value.shape(), _NOT_IN_NUMPY[code]
            data = ctypes.string_at(value.data_ptr(), (math.prod(shape) * bits + 7) // 8) if math.prod(shape) else b""
            tensor = onnx.helper.make_tensor("value", code, shape, data, raw=True)
            return onnx.numpy_helper.to_array(tensor)

    class OnnxRuntime(Backend):
        @classmethod
        def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
            return Rep(model)

        @classmethod
        def supports_device(cls, device: str) -> bool:
            return bool(Device(device).type == DeviceType.CPU)

    return OnnxRuntime
