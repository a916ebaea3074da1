"""Operators of the com.microsoft domain against onnxruntime, which defines them, over shapes and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.graph import Graph
from stratac.ir.interp import run
from stratac.passes.base import run_passes
from stratac.passes.pipelines import GRAPH_PASSES
from stratac.tests.frontends.onnx.build import FLOAT, N, array, check, make, ops, rand, reference, save, value

KINDS = {"float32": FLOAT, "int64": 7, "int32": 6, "uint8": 2, "int8": 3, "bool": 9}


def contrib(
    folder: Path,
    op: str,
    inputs: Mapping[str, np.ndarray | None],
    outputs: Sequence[str] = ("y",),
    constants: Sequence[str] = (),
    **attributes: Any,
) -> Graph:
    """A model of one node; None is an input left out, `constants` names those that are compiled in."""
    feeds = {k: np.asarray(v) for k, v in inputs.items() if v is not None}
    names = ["" if v is None else k for k, v in inputs.items()]
    node = N(op, names, list(outputs), domain="com.microsoft", **attributes)
    given = {k: v for k, v in feeds.items() if k not in constants}
    model = make(
        [node],
        [value(k, KINDS[v.dtype.name], v.shape) for k, v in given.items()],
        [o for o in outputs if o],
        [array(k, feeds[k]) for k in constants if k in feeds],
        domains=(helper.make_opsetid("com.microsoft", 1),),
    )
    return check(folder, model, given)


def whole(low: int, high: int, *shape: int, dtype: Any = np.int64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


# -- activations, products, convolutions


@pytest.mark.parametrize("op", ["Gelu", "FastGelu", "BiasGelu", "QuickGelu"])
def test_activations(tmp_path: Path, op: str) -> None:
    inputs: dict[str, Any] = {"x": rand(2, 3, 8)}
    if op in ("BiasGelu", "FastGelu"):
        inputs["b"] = rand(8, seed=1)
    contrib(tmp_path, op, inputs)


@pytest.mark.parametrize(
    "turn", [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0), (0, 0, 1, 0), (0, 1, 0, 1), (1, 1, 1, 1)]
)
def test_fused_matmul(tmp_path: Path, turn: tuple[int, int, int, int]) -> None:
    ta, tb, ba, bb = turn
    a, b = rand(2, 3, 5, 4), rand(2, 3, 4, 6, seed=1)
    a = a.swapaxes(2, 3) if ta else a
    b = b.swapaxes(2, 3) if tb else b
    a = np.moveaxis(a, 2, 0) if ba else a
    b = np.moveaxis(b, 2, 0) if bb else b
    attributes = {"transA": ta, "transB": tb, "transBatchA": ba, "transBatchB": bb, "alpha": 0.5}
    contrib(tmp_path, "FusedMatMul", {"a": a, "b": b}, **attributes)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu"])
def test_fused_gemm(tmp_path: Path, activation: str) -> None:
    inputs = {"a": rand(3, 4), "b": rand(5, 4, seed=1), "c": rand(5, seed=2)}
    extra = {"activation_alpha": 0.2} if activation in ("LeakyRelu", "Elu") else {}
    contrib(tmp_path, "FusedGemm", inputs, transB=1, alpha=0.5, beta=2.0, activation=activation, **extra)


@pytest.mark.parametrize(
    ("activation", "numbers"),
    [
        ("Relu", []),
        ("Tanh", []),
        ("Sigmoid", []),
        ("LeakyRelu", [0.3]),
        ("Clip", [-0.5, 0.5]),
        ("HardSigmoid", [0.3, 0.4]),
    ],
)
@pytest.mark.parametrize("added", [False, True])
def test_fused_conv(tmp_path: Path, activation: str, numbers: list[float], added: bool) -> None:
    inputs = {"x": rand(1, 4, 6, 6), "w": rand(8, 4, 3, 3, seed=1), "b": rand(8, seed=2)}
    more = {"activation_params": numbers} if numbers else {}
    z = {"z": rand(1, 8, 6, 6, seed=3)} if added else {}
    contrib(tmp_path, "FusedConv", {**inputs, **z}, ("y",), ("w", "b"), pads=[1] * 4, activation=activation, **more)


# -- norms


@pytest.mark.parametrize("simplified", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_skip_norms(tmp_path: Path, simplified: bool, bias: bool) -> None:
    inputs: dict[str, Any] = {"x": rand(2, 3, 8), "skip": rand(2, 3, 8, seed=1), "gamma": rand(8, seed=2)}
    if not simplified:
        inputs["beta"] = rand(8, seed=3)
    if bias:
        inputs["bias"] = rand(8, seed=4)
    op = "SkipSimplifiedLayerNormalization" if simplified else "SkipLayerNormalization"
    contrib(tmp_path, op, inputs, ("y", "", "", "sum"), epsilon=1e-5)


@pytest.mark.parametrize("more", [(), ("mask",), ("segments",), ("segments", "mask", "positions")])
def test_embed_layer_norm(tmp_path: Path, more: tuple[str, ...]) -> None:
    segments = whole(0, 2, 2, 5, dtype=np.int32, seed=1)
    mask = (np.arange(5) < np.array([[3], [5]])).astype(np.int32)
    inputs = {
        "words": whole(0, 9, 2, 5, dtype=np.int32),
        "segments": segments if "segments" in more else None,
        "table": rand(9, 8),
        "places": rand(7, 8, seed=1),
        "kinds": rand(2, 8, seed=2) if "segments" in more else None,
        "gamma": rand(8, seed=3),
        "beta": rand(8, seed=4),
        "mask": mask if "mask" in more else None,
        "positions": whole(0, 7, 2, 5, dtype=np.int32, seed=5) if "positions" in more else None,
    }
    contrib(tmp_path, "EmbedLayerNormalization", inputs, ("y", "tokens", "sum"), mask_index_type=int("mask" in more))


@pytest.mark.parametrize("last", [0, 1])
def test_group_norm_means_the_same_in_both_layouts(tmp_path: Path, last: int) -> None:
    """onnxruntime has it for graphics cards only; the ONNX operator is the second opinion."""
    x, gamma, beta = rand(2, 8, 3, 3), rand(8, seed=1), rand(8, seed=2)
    plain = make(
        [
            N("GroupNormalization", ["x", "g", "b"], ["n"], num_groups=4),
            N("Sigmoid", ["n"], ["s"]),
            N("Mul", ["n", "s"], ["y"]),
        ],
        [value(k, FLOAT, v.shape) for k, v in (("x", x), ("g", gamma), ("b", beta))],
        opset=21,
    )
    (want,) = reference(plain, {"x": x, "g": gamma, "b": beta}, 21)
    given = x.transpose(0, 2, 3, 1) if last else x
    node = N("GroupNorm", ["x", "g", "b"], ["y"], domain="com.microsoft", groups=4, activation=1, channels_last=last)
    model = make(
        [node],
        [value(k, FLOAT, v.shape) for k, v in (("x", given), ("g", gamma), ("b", beta))],
        domains=(helper.make_opsetid("com.microsoft", 1),),
    )
    got = run(import_onnx(save(tmp_path, model)), {"x": given, "g": gamma, "b": beta})["y"]
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2) if last else got, want, rtol=1e-4, atol=1e-5)


# -- attention

B, S, H, D = 2, 4, 3, 8


def _raw_mask(kind: str, keys: int) -> np.ndarray | None:
    lengths = np.array([keys - 1, keys], np.int32)
    seen = np.arange(keys) < lengths[:, None]
    return {
        "none": None,
        "keys": seen.astype(np.int32),
        "queries": np.broadcast_to(seen[:, None, :], (B, S, keys)).astype(np.int32),
        "ends": lengths,
        "ends and starts": np.concatenate([lengths, np.array([1, 0], np.int32)]),
    }[kind]


@pytest.mark.parametrize("mask", ["none", "keys", "queries", "ends", "ends and starts"])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_attention(tmp_path: Path, mask: str, past: bool, unidirectional: int) -> None:
    keys = S + 2 if past else S
    inputs = {
        "x": rand(B, S, 16),
        "w": rand(16, 3 * H * D, seed=1) * 0.3,
        "b": rand(3 * H * D, seed=2),
        "mask": _raw_mask(mask, keys),
        "past": rand(2, B, H, 2, D, seed=3) if past else None,
        "bias": None if past else rand(B, H, S, keys, seed=4),
    }
    outputs = ("y", "present") if past else ("y",)
    constants = ("w", "b")
    contrib(tmp_path, "Attention", inputs, outputs, constants, num_heads=H, unidirectional=unidirectional)


@pytest.mark.parametrize("mask", ["none", "keys", "queries", "ends"])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention(tmp_path: Path, mask: str, past: bool, bias: bool) -> None:
    if past and mask == "ends":
        pytest.skip("onnxruntime has no lengths beside a past")
    keys = S + 2 if past else S
    inputs = {
        "q": rand(B, S, H * D),
        "k": rand(B, S, H * D, seed=1),
        "v": rand(B, S, H * D, seed=2),
        "b": rand(3 * H * D, seed=3) if bias else None,
        "mask": _raw_mask(mask, keys),
        "added": rand(1, H, S, keys, seed=4),
        "pk": rand(B, H, 2, D, seed=5) if past else None,
        "pv": rand(B, H, 2, D, seed=6) if past else None,
    }
    outputs = ("y", "present_k", "present_v") if past else ("y",)
    contrib(tmp_path, "MultiHeadAttention", inputs, outputs, num_heads=H, unidirectional=int(bias), scale=0.3)


def test_cross_attention_with_keys_in_heads(tmp_path: Path) -> None:
    inputs = {"q": rand(B, S, H * D), "k": rand(B, H, 5, D, seed=1), "v": rand(B, H, 5, D, seed=2)}
    graph = contrib(tmp_path, "MultiHeadAttention", inputs, num_heads=H)
    assert ops(graph).count("attention") == 1


ROTARY = {
    "plain": {},
    "rotary": {"do_rotary": 1},
    "interleaved": {"do_rotary": 1, "rotary_interleaved": 1},
    "window": {"local_window_size": 2},
    "softcap": {"softcap": 1.5, "scale": 0.7},
    "sink": {"smooth_softmax": 1},
}


@pytest.mark.parametrize("kind", ROTARY)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("past", ["none", "grown", "buffer", "ragged"])
def test_group_query_attention(tmp_path: Path, kind: str, packed: bool, past: str) -> None:
    """A first step; one token behind a cache that grows, or that has room, in which sequences may differ in length."""
    heads, groups, size = 4, 2, 16
    old = {"none": 0, "grown": 3, "buffer": 3, "ragged": 3}[past]
    room = 6 if past in ("buffer", "ragged") else old
    fresh = 1 if old else S
    total = old + fresh
    lengths = np.array([total, total - 2 if past == "ragged" else total], np.int32)
    q, k, v = (rand(B, fresh, n * size, seed=i) for i, n in enumerate((heads, groups, groups)))
    cache = [rand(B, groups, room, size, seed=i) for i in (5, 6)] if old else [None, None]
    angles = np.outer(np.arange(8), 0.3 ** np.arange(size // 2)).astype(np.float32)
    attributes = dict(ROTARY[kind])
    rotary = "do_rotary" in attributes
    inputs = {
        "q": np.concatenate([q, k, v], axis=2) if packed else q,
        "k": None if packed else k,
        "v": None if packed else v,
        "pk": cache[0],
        "pv": cache[1],
        "lengths": lengths - 1,
        "total": np.array([total], np.int32),
        "cos": np.cos(angles) if rotary else None,
        "sin": np.sin(angles) if rotary else None,
    }
    graph = contrib(
        tmp_path,
        "GroupQueryAttention",
        inputs,
        ("y", "present_k", "present_v"),
        ("total", "cos", "sin"),
        num_heads=heads,
        kv_num_heads=groups,
        **attributes,
    )
    if kind == "plain":
        assert ops(graph).count("attention") == 1


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", ["first", "each"])
@pytest.mark.parametrize("rank", [3, 4])
def test_rotary_embedding(tmp_path: Path, interleaved: int, positions: str, rank: int) -> None:
    x = rand(B, S, H * D) if rank == 3 else rand(B, H, S, D)
    angles = rand(9, D // 2, seed=1)
    where = np.array([3], np.int64) if positions == "first" else whole(0, 9, B, S)
    inputs = {"x": x, "positions": where, "cos": np.cos(angles), "sin": np.sin(angles)}
    contrib(tmp_path, "RotaryEmbedding", inputs, interleaved=interleaved)


def test_rotary_embedding_of_a_part(tmp_path: Path) -> None:
    angles = rand(9, 2, seed=1)
    inputs = {"x": rand(B, S, H * D), "positions": whole(0, 9, B, S), "cos": np.cos(angles), "sin": np.sin(angles)}
    contrib(tmp_path, "RotaryEmbedding", inputs, num_heads=H, rotary_embedding_dim=4)


@pytest.mark.parametrize("mask", ["none", "ends"])
@pytest.mark.parametrize("columns", [False, True])
def test_quantized_attention(tmp_path: Path, mask: str, columns: bool) -> None:
    width = 3 * H * D
    inputs = {
        "x": whole(0, 256, B, S, 16, dtype=np.uint8),
        "w": whole(-100, 100, 16, width, dtype=np.int8, seed=1),
        "b": rand(width, seed=2),
        "xs": np.float32(0.01),
        "ws": np.abs(rand(width, seed=3)) * 0.01 if columns else np.float32(0.01),
        "mask": _raw_mask(mask, S),
        "xz": np.uint8(120),
        "wz": np.zeros(width, np.int8) if columns else np.int8(0),
    }
    contrib(tmp_path, "QAttention", inputs, ("y",), ("w", "b", "ws", "xz", "wz", "xs"), num_heads=H)


# -- weights of few bits


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", ["none", "bytes", "floats"])
@pytest.mark.parametrize("depth", [64, 40])
def test_matmul_n_bits(tmp_path: Path, bits: int, zeros: str, depth: int) -> None:
    if bits == 8 and zeros == "floats":
        pytest.skip("onnxruntime takes no such zero points with 8 bits")
    columns, size = 5, 16
    blocks = -(-depth // size)
    given = {
        "none": None,
        "bytes": whole(0, 256, columns * -(-blocks * bits // 8), dtype=np.uint8, seed=2),
        "floats": (whole(0, 1 << bits, columns, blocks, seed=2) + 0.5).astype(np.float32),
    }[zeros]
    inputs = {
        "a": rand(2, 3, depth),
        "w": whole(0, 256, columns, blocks, size * bits // 8, dtype=np.uint8),
        "s": np.abs(rand(columns * blocks, seed=1)) * 0.1,
        "z": given,
    }
    contrib(tmp_path, "MatMulNBits", inputs, ("y",), ("w", "s", "z"), K=depth, N=columns, bits=bits, block_size=size)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_of_few_bits_are_constants(tmp_path: Path, bits: int) -> None:
    """A product with them is one with a weight, which is packed ahead."""
    depth = columns = 1024
    blocks = depth // 32
    inputs = {
        "a": rand(1, depth),
        "w": whole(0, 256, columns, blocks, 4 * bits, dtype=np.uint8),
        "s": np.abs(rand(columns, blocks, seed=1)) * 0.01,
        "z": whole(0, 256, columns, -(-blocks * bits // 8), dtype=np.uint8, seed=2),
    }
    more = {"K": depth, "N": columns, "bits": bits, "block_size": 32}
    model_inputs = [value("a", FLOAT, (1, depth))]
    node = N("MatMulNBits", list(inputs), ["y"], domain="com.microsoft", **more)
    constants = [array(k, v) for k, v in inputs.items() if k != "a"]
    model = make([node], model_inputs, constants=constants, domains=(helper.make_opsetid("com.microsoft", 1),))
    graph = run_passes(import_onnx(save(tmp_path, model)), GRAPH_PASSES)
    assert ops(graph) == ["matmul"]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_gather_block_quantized(tmp_path: Path, bits: int, zeros: bool) -> None:
    rows, width, size = 6, 32, 16
    inputs = {
        "w": whole(0, 256, rows, width * bits // 8, dtype=np.uint8),
        "i": whole(0, rows, 2, 3),
        "s": np.abs(rand(rows, width // size, seed=1)),
        "z": whole(0, 256, rows, width // size * bits // 8, dtype=np.uint8, seed=2) if zeros else None,
    }
    contrib(
        tmp_path, "GatherBlockQuantized", inputs, ("y",), ("w", "s", "z"), bits=bits, block_size=size, quantize_axis=1
    )


def test_matmul_integer_to_float(tmp_path: Path) -> None:
    inputs = {
        "a": whole(0, 256, 3, 8, dtype=np.uint8),
        "b": whole(-100, 100, 8, 5, dtype=np.int8, seed=1),
        "as": np.float32(0.02),
        "bs": np.abs(rand(5, seed=2)),
        "az": np.uint8(100),
        "bz": None,
        "c": rand(5, seed=3),
    }
    contrib(tmp_path, "MatMulIntegerToFloat", inputs, ("y",), ("b", "bs"))


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
def test_quantization(tmp_path: Path, op: str) -> None:
    x = rand(2, 3, 4) * 20 if op == "QuantizeLinear" else whole(0, 256, 2, 3, 4, dtype=np.uint8)
    contrib(tmp_path, op, {"x": x, "s": np.float32(0.3), "z": np.uint8(7)})


def test_trilu_and_expand_dims(tmp_path: Path) -> None:
    contrib(tmp_path, "Trilu", {"x": rand(2, 3, 3)}, upper=0)
    contrib(tmp_path, "ExpandDims", {"x": rand(2, 3), "axis": np.array(-1, np.int32)}, ("y",), ("axis",))


# -- recurrences


@pytest.mark.parametrize("update", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize(("heads", "groups"), [(2, 2), (4, 2)])
@pytest.mark.parametrize("past", [False, True])
def test_linear_attention(tmp_path: Path, update: str, heads: int, groups: int, past: bool) -> None:
    size, width = 4, 6
    keys = rand(B, S, groups, size, seed=1)
    keys /= np.linalg.norm(keys, axis=3, keepdims=True)
    inputs = {
        "q": rand(B, S, heads * size),
        "k": keys.reshape(B, S, groups * size),
        "v": rand(B, S, groups * width, seed=2),
        "state": rand(B, groups, size, width, seed=3) if past else None,
        "decay": -np.abs(rand(B, S, groups * (size if past else 1), seed=4)) if "gated" in update else None,
        "rate": np.abs(rand(B, S, groups, seed=5)) * 0.3 if "delta" in update else None,
    }
    attributes = {"q_num_heads": heads, "kv_num_heads": groups, "update_rule": update}
    graph = contrib(tmp_path, "LinearAttention", inputs, ("y", "present"), **attributes)
    assert ops(graph).count("linear_attention") == 1


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("activation", ["none", "silu"])
def test_causal_convolution(tmp_path: Path, past: bool, activation: str) -> None:
    inputs = {
        "x": rand(B, 4, 5),
        "w": rand(4, 1, 3, seed=1),
        "b": rand(4, seed=2),
        "past": rand(B, 4, 2, seed=3) if past else None,
    }
    contrib(tmp_path, "CausalConvWithState", inputs, ("y", "present"), ("w", "b"), activation=activation)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_distances(tmp_path: Path, metric: str) -> None:
    contrib(tmp_path, "CDist", {"a": rand(5, 7), "b": rand(3, 7, seed=1)}, metric=metric)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pad(tmp_path: Path, mode: str) -> None:
    inputs = {"x": rand(3, 4), "p": np.array([1, 0, 2, 1])}
    contrib(tmp_path, "Pad", inputs, ("y",), ("p",), mode=mode)


def test_operators_that_the_standard_has_too(tmp_path: Path) -> None:
    contrib(tmp_path, "GatherND", {"x": rand(3, 4, 2), "i": np.array([[0, 1], [2, 3]])})
    contrib(tmp_path, "Range", {"a": np.array(1.0, "f4"), "b": np.array(7.0, "f4")}, ("y",), ("a", "b"))
    grid = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 2)).astype("f4")
    contrib(tmp_path, "GridSample", {"x": rand(2, 3, 5, 6), "g": grid}, mode="bilinear")


def test_unique_as_they_occur(tmp_path: Path) -> None:
    contrib(tmp_path, "Unique", {"x": np.array([3, 1, 3, 2, 1, 3], "f4")}, ("y", "i", "c"))


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("depth", [64, 40])
def test_matmul_bnb4(tmp_path: Path, kind: int, depth: int) -> None:
    """Blocks of 32 elements that go over the ends of rows."""
    columns, size = 6, 32
    packed = whole(0, 256, depth * columns // 2, dtype=np.uint8)
    factors = np.random.default_rng(1).random(-(-depth * columns // size)).astype("f4") + 0.5
    inputs = {"a": rand(3, depth), "b": packed, "s": factors}
    shape = {"K": depth, "N": columns, "block_size": size, "quant_type": kind}
    contrib(tmp_path, "MatMulBnb4", inputs, ("y",), ("b", "s"), **shape)


@pytest.mark.parametrize("both", [0, 1])
def test_relative_position_bias(tmp_path: Path, both: int) -> None:
    """As T5 has it: half of the buckets for near keys, the rest ever wider."""
    table, queries, keys = rand(32, 3), 40, 300
    node = N("RelativePositionBias", ["t", "q", "k"], ["y"], domain="com.microsoft", is_bidirectional=both)
    constants = [array("q", [queries], np.int64), array("k", [keys], np.int64)]
    domains = (helper.make_opsetid("com.microsoft", 1),)
    model = make([node], [value("t", FLOAT, [32, 3])], ["y"], constants, domains=domains)
    got = run(import_onnx(save(tmp_path, model)), {"t": table})["y"]
    apart = np.arange(queries)[:, None] - np.arange(keys)
    count, base = (16, 16 * (apart < 0)) if both else (32, 0)
    apart = abs(apart) if both else np.maximum(apart, 0)
    single = count // 2
    far = single + (np.log(np.maximum(apart, 1) / single) / np.log(128 / single) * (count - single) + 1e-9).astype(int)
    bucket = base + np.where(apart < single, apart, np.minimum(far, count - 1))
    np.testing.assert_array_equal(got, table[bucket].transpose(2, 0, 1)[None])
