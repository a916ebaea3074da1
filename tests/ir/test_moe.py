"""Mixtures of experts: the meaning against a loop and against its own decomposition, what a run costs, and the importer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.ir.builder import GraphBuilder
from stratac.ir.decompose import decompose_where
from stratac.ir.dims import Bounds, typical
from stratac.ir.errors import ModelError, VerifyError
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.ops import flops
from stratac.ir.traffic import expected_experts, moved
from stratac.ir.types import TensorType, f32
from stratac.ir.verify import verify_graph
from stratac.passes.graph.fuse import fuse
from stratac.passes.graph.fuse_estimated import fuse_estimated

T, H, E, F = 6, 8, 5, 12


def silu(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / (1 + np.exp(-x)))


def arrays(seed: int, second: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "x": (T, H),
        "shares": (T, E),
        "up": (E, F, H),
        "down": (E, H, F),
        **({"second": (E, F, H)} if second else {}),
    }
    found = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    found["shares"] = np.abs(found["shares"])
    return found


def moe_graph(given: dict[str, np.ndarray], weights: bool = False, **attrs: Any) -> Graph:
    builder = GraphBuilder(name="moe")
    names = []
    for name, array in given.items():
        if weights and name not in ("x", "shares"):
            names.append(builder.constant(array))
        else:
            names.append(builder.input(name, TensorType(f32, array.shape)))
    return builder.finish([Port("y", builder.op("moe", *names, **attrs))])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_meaning_is_the_chosen_experts_weighted(normalize: bool, second: bool) -> None:
    given = arrays(1, second)
    found = run(moe_graph(given, top_k=2, normalize=normalize, activation="silu"), given)["y"]
    wanted = np.zeros((T, H))
    for row in range(T):
        best = sorted(range(E), key=lambda e: -given["shares"][row, e])[:2]
        total = sum(given["shares"][row, e] for e in best) if normalize else 1.0
        for e in best:
            hidden = silu(given["up"][e] @ given["x"][row])
            if second:
                hidden = hidden * (given["second"][e] @ given["x"][row])
            wanted[row] += given["shares"][row, e] / total * (given["down"][e] @ hidden)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("activation", ["silu", "gelu", "relu"])
def test_decomposition_means_the_same(top_k: int, activation: str) -> None:
    given = arrays(2)
    given["shares"][0, :3] = 0.5  # equal probabilities: the lower numbers win
    graph = moe_graph(given, top_k=top_k, activation=activation)
    parts = decompose_where(graph, lambda node: node.op == "moe")
    verify_graph(parts)
    assert all(node.op != "moe" for node in parts.nodes)
    np.testing.assert_allclose(run(parts, given)["y"], run(graph, given)["y"], rtol=1e-5, atol=1e-5)


def test_fusion_takes_it_apart_or_keeps_it_whole() -> None:
    given = arrays(3)
    graph = moe_graph(given, weights=True, top_k=2)
    inputs = {name: given[name] for name in ("x", "shares")}
    apart, whole = fuse(graph), fuse_estimated(graph)
    assert [n.op for n in whole.nodes[0].body] == ["moe"] and len(whole.nodes) == 1
    assert all(n.op != "moe" for n in apart.walk())
    for clusters in (apart, whole):
        verify_graph(clusters, level="clusters")
        np.testing.assert_allclose(run(clusters, inputs)["y"], run(graph, inputs)["y"], rtol=1e-5, atol=1e-5)


def test_only_active_experts_count() -> None:
    given = arrays(4)
    graph = moe_graph(given, weights=True, top_k=2)
    (cluster,) = fuse_estimated(graph).nodes
    assert typical(flops(cluster, graph.types), {}) == 2 * 3 * T * 2 * H * F
    bytes_of = moved(cluster, graph)
    weights = sum(count for value, count in bytes_of.items() if value in graph.weights)
    assert weights == pytest.approx(expected_experts(E, 2, T) * 3 * F * H * 4)


def test_expected_experts() -> None:
    """Against the mean over all ways two tokens can choose, and at the ends."""
    assert expected_experts(8, 2, 1) == pytest.approx(2) and expected_experts(8, 8, 3) == pytest.approx(8)
    assert expected_experts(4, 1, 2) == pytest.approx(np.mean([len({a, b}) for a in range(4) for b in range(4)]))
    assert expected_experts(64, 2, 10_000) == pytest.approx(64)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"shares": np.zeros((T, E + 1), np.float32)}, "does not fit"),
        ({"down": np.zeros((E, F, H), np.float32)}, "do not fit"),
        ({"second": np.zeros((E, H, F), np.float32)}, "do not fit"),
    ],
)
def test_type_rule_refuses(change: dict[str, np.ndarray], match: str) -> None:
    with pytest.raises(VerifyError, match=match):
        moe_graph({**arrays(5), **change}, top_k=2)
    with pytest.raises(VerifyError, match="top_k 9"):
        moe_graph(arrays(5), top_k=9)


# -- com.microsoft MoE


def onnx_moe(path: Path, fused: int = 0, **attrs: Any) -> Path:
    rows = F * 2 if fused else F
    shapes = {"up": (E, rows, H), "down": (E, H, F), **({} if fused else {"second": (E, F, H)})}
    rng = np.random.default_rng(6)
    weights = [
        helper.make_tensor(n, TensorProto.FLOAT, s, rng.standard_normal(int(np.prod(s))).astype(np.float32))
        for n, s in shapes.items()
    ]
    inputs = ["x", "logits", "up", "", "down", "", *([] if fused else ["second"])]
    attrs = {
        "k": 2,
        "activation_type": "swiglu" if fused else "silu",
        "normalize_routing_weights": 1,
        "swiglu_fusion": fused,
        **attrs,
    }
    node = helper.make_node("MoE", inputs, ["y"], domain="com.microsoft", **attrs)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["b", 3, H]), ("logits", ["r", E]))
    ]
    graph = helper.make_graph([node], "g", ends, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return path


@pytest.mark.parametrize("fused", [0, 1, 2])
def test_import(tmp_path: Path, fused: int) -> None:
    path = onnx_moe(tmp_path / "moe.onnx", fused)
    graph = import_onnx(path, {"b": Bounds(2, 2, 2), "r": Bounds(6, 6, 6)})
    rng = np.random.default_rng(7)
    given = {
        "x": rng.standard_normal((2, 3, H)).astype(np.float32),
        "logits": rng.standard_normal((6, E)).astype(np.float32),
    }
    found = run(graph, given)["y"].reshape(6, H)
    constants = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(path).graph.initializer}
    gate, linear = constants["up"], constants.get("second")
    if fused == 1:
        gate, linear = constants["up"][:, 0::2], constants["up"][:, 1::2]
    if fused == 2:
        gate, linear = constants["up"][:, :F], constants["up"][:, F:]
    for row in range(6):
        shares = np.exp(given["logits"][row]) / np.exp(given["logits"][row]).sum()
        best = np.argsort(-shares)[:2]
        x = given["x"].reshape(6, H)[row]
        wanted = sum(
            shares[e] / shares[best].sum() * (constants["down"][e] @ (silu(gate[e] @ x) * (linear[e] @ x)))
            for e in best
        )
        np.testing.assert_allclose(found[row], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("activation", "fused", "normalize"), [("relu", 0, 0), ("silu", 0, 1), ("gelu", 0, 1), ("swiglu", 1, 1)]
)
def test_import_agrees_with_onnxruntime(tmp_path: Path, activation: str, fused: int, normalize: int) -> None:
    """Without a third matrix, which its CPU kernel lacks."""
    rng, rows = np.random.default_rng(8), F * 2 if fused else F
    weights = [
        onnx.numpy_helper.from_array((rng.standard_normal(s) * 0.3).astype(np.float32), n)
        for n, s in (("up", (E, rows, H)), ("down", (E, H, F)))
    ]
    attrs = {"k": 2, "activation_type": activation, "normalize_routing_weights": normalize}
    attrs |= {"swiglu_fusion": fused} if fused else {}
    node = helper.make_node("MoE", ["x", "logits", "up", "", "down"], ["y"], domain="com.microsoft", **attrs)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("x", [T, H]), ("logits", [T, E]), ("y", [T, H]))
    ]
    graph = helper.make_graph([node], "g", ends[:2], ends[2:], weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "moe.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    given = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("x", (T, H)), ("logits", (T, E)))}
    (wanted,) = onnxruntime.InferenceSession(path).run(None, given)
    np.testing.assert_allclose(run(import_onnx(path), given)["y"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("attrs", "match"),
    [({"activation_type": "identity"}, "activation_type"), ({"use_sparse_mixer": 1}, "use_sparse_mixer")],
)
def test_import_refuses(tmp_path: Path, attrs: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        import_onnx(onnx_moe(tmp_path / "moe.onnx", **attrs), {"b": Bounds(2, 2, 2), "r": Bounds(6, 6, 6)})
