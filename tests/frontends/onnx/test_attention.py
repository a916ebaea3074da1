"""Attention against the reference of the onnx package, over its options together, and the common forms as one row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratac.ir.dims import Bounds
from stratac.tests.frontends.onnx.build import BOOL, FLOAT, INT64, N, check, make, ops, rand, value

SIZE = 4


def _mask(draw: Any, shape: tuple[int, ...], opset: int) -> np.ndarray | None:
    """None, or a mask that broadcasts to [batch, heads, queries, keys], its last axis perhaps shorter. (The reference takes the
    number of queries from a mask, so it has all of them.)"""
    if draw(st.booleans()):
        return None
    rank = draw(st.integers(2, 4))
    have = [n if i > 1 or draw(st.booleans()) else 1 for i, n in enumerate(shape)][4 - rank :]
    if opset >= 24:
        have[-1] = draw(st.integers(1, shape[3]))
    values = rand(*have, seed=draw(st.integers(0, 9)))
    if draw(st.booleans()):
        return values > -0.8
    return np.where(values > 1.2, np.float32(-np.inf), values)


@st.composite
def models(draw: Any) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    opset = draw(st.sampled_from((23, 24, 25)))
    batch, groups, repeat = (draw(st.integers(1, 2)) for _ in range(3))
    heads, queries, fresh, width = (
        groups * repeat,
        draw(st.integers(1, 3)),
        draw(st.integers(1, 5)),
        draw(st.integers(2, 3)),
    )
    past = draw(st.integers(0, 3)) if draw(st.booleans()) else None
    keys = fresh + (past or 0)
    feeds = {
        "q": rand(batch, heads, queries, SIZE, seed=1),
        "k": rand(batch, groups, fresh, SIZE, seed=2),
        "v": rand(batch, groups, fresh, width, seed=3),
    }
    attributes: dict[str, Any] = {"is_causal": draw(st.integers(0, 1))}
    if draw(st.booleans()):
        feeds = {n: x.transpose(0, 2, 1, 3).reshape(batch, x.shape[2], -1) for n, x in feeds.items()}
        attributes |= {"q_num_heads": heads, "kv_num_heads": groups}
    if draw(st.booleans()):
        attributes["scale"] = 0.7
    if draw(st.booleans()):
        attributes["softcap"] = 1.5
    if opset >= 25:
        attributes |= {k: draw(st.integers(-1, 3)) for k in ("left_window_size", "right_window_size")}
    names = ["q", "k", "v", "", "", "", ""]
    mask = _mask(draw, (batch, heads, queries, keys), opset)
    if mask is not None:
        feeds["mask"], names[3] = mask, "mask"
    if past is not None:
        feeds |= {"pk": rand(batch, groups, past, SIZE, seed=4), "pv": rand(batch, groups, past, width, seed=5)}
        names[4:6] = "pk", "pv"
    elif opset >= 24 and draw(st.booleans()):
        lengths = [draw(st.integers(0, keys)) for _ in range(batch)]
        feeds["lengths"], names[6] = np.array(lengths, np.int64), "lengths"
    outputs = ["y", "present_k", "present_v"]
    modes = (1, 2, 3) if "softcap" in attributes else (0, 2, 3)  # the reference caps what mode 0 gives
    if draw(st.booleans()):
        attributes["qk_matmul_output_mode"] = draw(st.sampled_from(modes))
        outputs.append("between")
    while not names[-1]:
        names.pop()
    kinds = {"float32": FLOAT, "bool": BOOL, "int64": INT64}
    inputs = [value(n, kinds[x.dtype.name], x.shape) for n, x in feeds.items()]
    return make([N("Attention", names, outputs, **attributes)], inputs, outputs, opset=opset), feeds


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models())
def test_attention(tmp_path: Path, case: tuple[onnx.ModelProto, dict[str, np.ndarray]]) -> None:
    check(tmp_path, *case)


@pytest.mark.parametrize("more", [{}, {"softcap": 2.0}, {"is_causal": 1}])
def test_common_forms_are_one_row(tmp_path: Path, more: dict[str, Any]) -> None:
    inputs = [value(n, FLOAT, ["b", 2, "s", SIZE]) for n in "qkv"]
    model = make([N("Attention", ["q", "k", "v"], ["y"], **more)], inputs, opset=23)
    feeds = {n: rand(2, 2, 3, SIZE, seed=i) for i, n in enumerate("qkv")}
    graph = check(tmp_path, model, feeds, {"b": Bounds(1, 1, 4), "s": Bounds(1, 3, 8)})
    assert ops(graph) == ["attention"]
