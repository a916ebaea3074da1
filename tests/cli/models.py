"""Small models for the command line to work on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
N = helper.make_node
#: Bounds for `mlp`.
DIMS = ("--dim", "batch=1:2:4", "--dim", "seq=1:5:16")


def weight(name: str, *shape: int, scale: float = 1.0) -> onnx.TensorProto:
    rng = np.random.default_rng(sum(map(ord, name)))
    return numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name)


def whole(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def value(name: str, shape: Sequence[int | str], kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    constants: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, ends, constants)
    ids = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=ids, ir_version=8)


def save(made: onnx.ModelProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.SerializeToString())
    return path


def mlp(width: int = 12, seed: str = "") -> onnx.ModelProto:
    """y = relu(x w + b) over [batch, seq, 8]."""
    w, b = "w" + seed, "b" + seed
    nodes = [
        N("MatMul", ["x", w], ["xw"], name="product"),
        N("Add", ["xw", b], ["sum"], name="bias"),
        N("Relu", ["sum"], ["y"], name="act"),
    ]
    return model(nodes, [value("x", ["batch", "seq", 8])], ["y"], [weight(w, 8, width), weight(b, width)])


def two_inputs() -> onnx.ModelProto:
    """y = x + z over [n, m], where both inputs must agree on n."""
    return model([N("Add", ["x", "z"], ["y"])], [value("x", ["n", 4]), value("z", ["n", 4])], ["y"])


def conv_net() -> onnx.ModelProto:
    """A stem, a depthwise block with a residual, pooling and a head: images [batch, 3, 24, 24] to 10 classes."""
    nodes = [
        N("Conv", ["x", "stem", "stem_b"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        N("Relu", ["a"], ["b"]),
        N("Conv", ["b", "deep"], ["c"], pads=[1, 1, 1, 1], group=16, kernel_shape=[3, 3]),
        N("Conv", ["c", "point", "point_b"], ["d"], kernel_shape=[1, 1]),
        N("Add", ["d", "b"], ["e"]),
        N("MaxPool", ["e"], ["f"], kernel_shape=[2, 2], strides=[2, 2]),
        N("GlobalAveragePool", ["f"], ["g"]),
        N("Flatten", ["g"], ["h"]),
        N("Gemm", ["h", "head", "head_b"], ["y"], transB=1),
    ]
    constants = [weight("stem", 16, 3, 3, 3, scale=0.3), weight("stem_b", 16), weight("deep", 16, 1, 3, 3, scale=0.3)]
    constants += [weight("point", 16, 16, 1, 1, scale=0.3), weight("point_b", 16)]
    constants += [weight("head", 10, 16, scale=0.3), weight("head_b", 10)]
    return model(nodes, [value("x", ["batch", 3, 24, 24])], ["y"], constants)


def transformer_block() -> onnx.ModelProto:
    """Embedding, attention of two heads from its parts, layer norm, a GELU MLP: tokens [batch, seq] to [batch, seq, 32]."""
    nodes = [
        N("Gather", ["table", "tokens"], ["x"]),
        N("LayerNormalization", ["x", "gain", "shift"], ["n"], axis=-1),
    ]
    for part in "qkv":
        nodes += [
            N("MatMul", ["n", f"w{part}"], [f"{part}0"]),
            N("Reshape", [f"{part}0", "split"], [f"{part}1"]),
            N("Transpose", [f"{part}1"], [f"{part}2"], perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]),
        ]
    nodes += [
        N("MatMul", ["q2", "k2"], ["scores"]),
        N("Div", ["scores", "four"], ["scaled"]),
        N("Softmax", ["scaled"], ["chances"], axis=-1),
        N("MatMul", ["chances", "v2"], ["mixed"]),
        N("Transpose", ["mixed"], ["merged"], perm=[0, 2, 1, 3]),
        N("Reshape", ["merged", "join"], ["joined"]),
        N("MatMul", ["joined", "wo"], ["attended"]),
        N("Add", ["attended", "x"], ["r"]),
        N("MatMul", ["r", "up"], ["u"]),
        N("Div", ["u", "root"], ["u1"]),
        N("Erf", ["u1"], ["u2"]),
        N("Add", ["u2", "one"], ["u3"]),
        N("Mul", ["u", "u3"], ["u4"]),
        N("Mul", ["u4", "half"], ["gelu"]),
        N("MatMul", ["gelu", "down"], ["d"]),
        N("Add", ["d", "r"], ["y"]),
    ]
    constants = [weight("table", 50, 32), weight("gain", 32), weight("shift", 32)]
    constants += [weight(f"w{part}", 32, 32, scale=0.2) for part in "qkvo"]
    constants += [weight("up", 32, 64, scale=0.2), weight("down", 64, 32, scale=0.2)]
    constants += [whole("split", 0, 0, 2, 16), whole("join", 0, 0, 32)]
    numbers = {"four": 4.0, "root": 2.0**0.5, "one": 1.0, "half": 0.5}
    constants += [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in numbers.items()]
    return model(nodes, [value("tokens", ["batch", "seq"], INT64)], ["y"], constants)


def five_problems() -> onnx.ModelProto:
    """An operator without a rule, a misspelt one, one of another domain, an element type and sizes that do not fit."""
    nodes = [
        N("ImageDecoder", ["x"], ["a"], name="no_rule"),
        N("Reluu", ["x"], ["b"], name="misspelt"),
        N("Frobnicate", ["x"], ["c"], domain="com.acme", name="foreign"),
        N("Cast", ["x"], ["d"], to=TensorProto.COMPLEX64, name="complex"),
        N("MatMul", ["x", "w"], ["y"], name="sizes"),
    ]
    return model(nodes, [value("x", ["batch", 4])], ["y"], [weight("w", 3, 3)], ["com.acme"])


def external(location: str) -> onnx.ModelProto:
    """`mlp` whose weight lies in another file."""
    made = mlp()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return made
