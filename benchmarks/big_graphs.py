"""ONNX graphs of very large decoders without their weights: each weight refers to external data that does not exist.

    python -m benchmarks.big_graphs [NAMES...] [-o FOLDER] [--layers N]

The shapes are those of published model families, rounded; the graphs are written the way exporters write them: `llama70b` with the
operators of opset 23 (RMSNormalization, RotaryEmbedding, Attention), `dense1t` from elementary operators with casts around the
norms, the mixtures of experts with com.microsoft's MoE. Each has a prefill graph (tokens in, logits out) and a decode graph (one
new token per sequence, the keys and values of `past` positions in, and of one more out).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Decoder:
    """A decoder's shape. `experts` of which `top_k` are used by each token, in all layers; 0: one dense FFN. `style` is the
    vocabulary of operators: `ops23`, or `plain` for elementary ones."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    ffn: int
    vocab: int
    experts: int = 0
    top_k: int = 0
    dtype: str = "BFLOAT16"
    style: str = "ops23"

    @property
    def parameters(self) -> int:
        attention = self.hidden * self.head * (2 * self.heads + 2 * self.kv_heads)
        ffn = 3 * self.hidden * self.ffn * max(self.experts, 1) + self.hidden * self.experts
        return self.layers * (attention + ffn + 2 * self.hidden) + 2 * self.vocab * self.hidden + self.hidden


DECODERS = (
    Decoder("llama70b", 8192, 80, 64, 8, 128, 28672, 128256),
    Decoder("moe400b", 5120, 48, 40, 8, 128, 8192, 202048, experts=64, top_k=2),
    Decoder("dense1t", 20480, 196, 160, 16, 128, 71680, 128256, dtype="FLOAT16", style="plain"),
    Decoder("moe1t", 7168, 60, 64, 8, 128, 2048, 160000, experts=384, top_k=8),
)
PHASES = ("prefill", "decode")


def decoder(name: str) -> Decoder:
    return next(d for d in DECODERS if d.name == name)


class _Writer:
    """One graph under way; weights are references to bytes nobody has."""

    def __init__(self, shape: Decoder, phase: str) -> None:
        self.shape, self.phase = shape, phase
        self.float = getattr(TensorProto, shape.dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.offset = 0

    def weight(self, name: str, *dims: int) -> str:
        tensor = TensorProto(name=name, data_type=self.float, dims=dims, data_location=TensorProto.EXTERNAL)
        size = int(np.prod(dims, dtype=np.int64)) * 2
        for key, value in (("location", f"{self.shape.name}.data"), ("offset", self.offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        self.offset += size
        self.weights.append(tensor)
        return name

    def constant(self, name: str, array: np.ndarray, kind: int = 0) -> str:
        if kind and all(w.name != name for w in self.weights):
            self.weights.append(helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist()))
        elif all(w.name != name for w in self.weights):
            self.weights.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, outputs: Sequence[str] = (), domain: str = "", **attrs: object) -> str:
        names = list(outputs) or [f"v{len(self.nodes)}"]
        self.nodes.append(
            helper.make_node(kind, list(inputs), names, domain=domain, name=f"n{len(self.nodes)}", **attrs)
        )
        return names[0]

    def linear(self, x: str, name: str, width: int, out: int) -> str:
        return self.op("MatMul", x, self.weight(f"{name}.weight", width, out))

    # -- parts of a layer

    def norm(self, x: str, name: str) -> str:
        scale = self.weight(f"{name}.weight", self.shape.hidden)
        if self.shape.style == "ops23":
            return self.op("RMSNormalization", x, scale, axis=-1, epsilon=1e-5)
        wide = self.op("Cast", x, to=TensorProto.FLOAT)
        square = self.op("Pow", wide, self.constant("two", np.float32(2.0)))
        mean = self.op("ReduceMean", square, self.constant("last", np.array([-1], np.int64)), keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.constant("epsilon", np.float32(1e-5))))
        normed = self.op("Mul", wide, self.op("Reciprocal", root))
        return self.op("Mul", self.op("Cast", normed, to=self.float), scale)

    def heads(self, x: str, count: int) -> str:
        shape = self.constant(f"split{count}", np.array([0, 0, count, self.shape.head], np.int64))
        return self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3])

    def rotary(self, x: str) -> str:
        if self.shape.style == "ops23":
            return self.op("RotaryEmbedding", x, "cos", "sin", "position_ids")
        half = self.shape.head // 2
        ends = [
            self.constant(n, np.array([v], np.int64)) for n, v in (("zero", 0), ("half", half), ("whole", 2 * half))
        ]
        axis = self.constant("axis3", np.array([3], np.int64))
        low, high = self.op("Slice", x, ends[0], ends[1], axis), self.op("Slice", x, ends[1], ends[2], axis)
        turned = self.op("Concat", self.op("Neg", high), low, axis=-1)
        return self.op("Add", self.op("Mul", x, "cos4"), self.op("Mul", turned, "sin4"))

    def attention(self, x: str, name: str, layer: int) -> str:
        s = self.shape
        q, k, v = (
            self.linear(x, f"{name}.{part}_proj", s.hidden, count * s.head)
            for part, count in (("q", s.heads), ("k", s.kv_heads), ("v", s.kv_heads))
        )
        q, k, v = self.rotary(self.heads(q, s.heads)), self.rotary(self.heads(k, s.kv_heads)), self.heads(v, s.kv_heads)
        if self.phase == "decode":
            k, v = self.cached(k, "key", layer), self.cached(v, "value", layer)
        if s.style == "ops23":
            y = self.op("Attention", q, k, v, is_causal=int(self.phase == "prefill"), scale=s.head**-0.5)
        else:
            y = self.plain_attention(q, k, v)
        joined = self.constant("join", np.array([0, 0, s.heads * s.head], np.int64))
        y = self.op("Reshape", self.op("Transpose", y, perm=[0, 2, 1, 3]), joined)
        return self.linear(y, f"{name}.o_proj", s.heads * s.head, s.hidden)

    def cached(self, new: str, what: str, layer: int) -> str:
        s, name = self.shape, f"{layer}.{what}"
        kind = [s.kv_heads, "past", s.head]
        self.inputs.append(helper.make_tensor_value_info(f"past.{name}", self.float, ["batch", *kind]))
        self.outputs.append(
            helper.make_tensor_value_info(f"present.{name}", self.float, ["batch", s.kv_heads, None, s.head])
        )
        return self.op("Concat", f"past.{name}", new, outputs=[f"present.{name}"], axis=2)

    def plain_attention(self, q: str, k: str, v: str) -> str:
        """Keys and values repeated for the heads that share them, scores, a mask that is added, softmax."""
        s = self.shape
        repeat = s.heads // s.kv_heads
        tall = self.constant("axis2", np.array([2], np.int64))
        for name, value in (("k", k), ("v", v)):
            dims = self.op("Shape", value)
            parts = [self.op("Gather", dims, self.constant(f"at{i}", np.array([i], np.int64)), axis=0) for i in (0, 2)]
            times, size = (self.constant(n, np.array([d], np.int64)) for n, d in (("times", repeat), ("size", s.head)))
            groups = self.constant("groups", np.array([s.kv_heads], np.int64))
            many = self.constant("many", np.array([s.heads], np.int64))
            wide = self.op("Concat", parts[0], groups, times, parts[1], size, axis=0)
            flat = self.op("Concat", parts[0], many, parts[1], size, axis=0)
            grown = self.op("Reshape", self.op("Expand", self.op("Unsqueeze", value, tall), wide), flat)
            k, v = (grown, v) if name == "k" else (k, grown)
        scale = self.constant("scale", np.array(s.head**-0.5), self.float)
        scores = self.op("Mul", self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2])), scale)
        if self.phase == "prefill":
            scores = self.op("Add", scores, "mask")
        return self.op("MatMul", self.op("Softmax", scores, axis=-1), v)

    def ffn(self, x: str, name: str) -> str:
        s = self.shape
        if s.experts:
            logits = self.linear(x, f"{name}.router", s.hidden, s.experts)
            logits = self.op("Reshape", logits, self.constant("rows", np.array([-1, s.experts], np.int64)))
            gate, up = (self.weight(f"{name}.experts.{part}", s.experts, s.ffn, s.hidden) for part in ("gate", "up"))
            down = self.weight(f"{name}.experts.down", s.experts, s.hidden, s.ffn)
            inputs = (x, logits, gate, "", down, "", up)
            return self.op(
                "MoE", *inputs, domain="com.microsoft", activation_type="silu", k=s.top_k, normalize_routing_weights=1
            )
        gate, up = (self.linear(x, f"{name}.{part}_proj", s.hidden, s.ffn) for part in ("gate", "up"))
        gated = self.op("Mul", gate, self.op("Sigmoid", gate))
        return self.linear(self.op("Mul", gated, up), f"{name}.down_proj", s.ffn, s.hidden)

    # -- the whole

    def tables(self) -> None:
        """Angles of the rotary embedding, and the causal mask of the plain style."""
        s = self.shape
        longest = 131072
        cos, sin = (self.weight(f"rotary.{n}", longest, s.head // 2) for n in ("cos", "sin"))
        if s.style == "ops23":
            self.op("Identity", cos, outputs=["cos"])
            self.op("Identity", sin, outputs=["sin"])
            return
        ones = self.constant("axis1", np.array([1], np.int64))
        for name, table in (("cos4", cos), ("sin4", sin)):
            rows = self.op("Gather", table, "position_ids", axis=0)
            self.op("Unsqueeze", self.op("Concat", rows, rows, axis=-1), ones, outputs=[name])
        if self.phase == "prefill":
            zero, one = (self.constant(f"i{v}", np.array(v, np.int64)) for v in (0, 1))
            dims = self.op("Shape", "input_ids")
            length = self.op("Gather", dims, one, axis=0)
            column = self.op("Range", zero, length, one)
            row = self.op("Unsqueeze", column, ones)
            low, high = (self.constant(n, np.array(v), self.float) for n, v in (("f0", 0.0), ("lowest", -65504.0)))
            self.op("Where", self.op("LessOrEqual", column, row), low, high, outputs=["mask"])

    def graph(self) -> onnx.ModelProto:
        s = self.shape
        length: str | int = "seq" if self.phase == "prefill" else 1
        for name in ("input_ids", "position_ids"):
            self.inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", length]))
        self.outputs.append(helper.make_tensor_value_info("logits", self.float, ["batch", length, s.vocab]))
        self.tables()
        x = self.op("Gather", self.weight("embed_tokens.weight", s.vocab, s.hidden), "input_ids", axis=0)
        for layer in range(s.layers):
            name = f"layers.{layer}"
            x = self.op("Add", x, self.attention(self.norm(x, f"{name}.input_norm"), f"{name}.attention", layer))
            x = self.op("Add", x, self.ffn(self.norm(x, f"{name}.post_norm"), f"{name}.ffn"))
        x = self.norm(x, "norm")
        self.op("MatMul", x, self.weight("lm_head.weight", s.hidden, s.vocab), outputs=["logits"])
        graph = helper.make_graph(self.nodes, s.name, self.inputs, self.outputs, initializer=self.weights)
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=11)


def write(shape: Decoder, phase: str, folder: Path) -> Path:
    """`<name>-<phase>.onnx` in the folder; some hundred kilobytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{shape.name}-{phase}.onnx"
    path.write_bytes(_Writer(shape, phase).graph().SerializeToString())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(d.name for d in DECODERS)} (default: all)")
    parser.add_argument("-o", "--output", type=Path, default=Path("big"), metavar="FOLDER")
    parser.add_argument("--layers", type=int, help="fewer layers, for a quick look")
    args = parser.parse_args()
    for name in args.names or [d.name for d in DECODERS]:
        shape = decoder(name)
        shape = replace(shape, layers=args.layers) if args.layers else shape
        for phase in PHASES:
            path = write(shape, phase, args.output)
            print(f"{path}: {shape.parameters / 1e9:.1f} billion parameters, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
