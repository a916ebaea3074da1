"""The interpreter against second opinions: torch, onnxruntime and plain numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from stratac.ir import types as t
from stratac.ir.builder import GraphBuilder
from stratac.ir.graph import Node, Port, make_attrs
from stratac.ir.interp import MEANINGS, run
from stratac.ir.interp.registry import Array
from stratac.ir.interp.special import erf
from stratac.ir.narrow import decoded, encoded
from stratac.ir.ops import OPS
from stratac.ir.types import TensorType, from_numpy

RNG = np.random.default_rng(7)


def apply(op: str, *arrays: Array | None, **attrs: Any) -> Array:
    """One op on these arrays, through the type rules and `run`."""
    builder = GraphBuilder(name="one")
    names = []
    for index, array in enumerate(arrays):
        if array is None:
            names.append("")
        else:
            names.append(builder.input(f"i{index}", TensorType(from_numpy(array.dtype), array.shape)))
    node = builder.add(Node(op, tuple(names), ("out",), make_attrs(attrs)))
    graph = builder.finish([Port("out", node.output)])
    return run(graph, {f"i{i}": a for i, a in enumerate(arrays) if a is not None})["out"]


def floats(*shape: int, lo: float = -2.0, hi: float = 2.0) -> Array:
    return RNG.uniform(lo, hi, shape).astype(np.float32)


def through_torch(function: Callable[..., Any], *arrays: Array) -> Array:
    """The function in float64, rounded to float32 where the inputs are."""
    tensors = [torch.from_numpy(a.astype(np.float64) if a.dtype == np.float32 else a.copy()) for a in arrays]
    result = function(*tensors).numpy()
    return result.astype(np.float32) if result.dtype == np.float64 else result  # type: ignore[no-any-return]


def test_every_row_has_one_meaning() -> None:
    assert set(MEANINGS) == set(OPS)


X = floats(3, 4, 5)
POSITIVE = floats(3, 4, 5, lo=0.1, hi=9.0)
IMAGE, FILTER, BIAS = floats(2, 4, 9, 8), floats(6, 2, 3, 2), floats(6)
WINDOW = {"strides": (2, 1), "pads": (1, 0, 1, 0), "dilations": (2, 1)}
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 1e-40], np.float32)
Q, K, V, MASK = floats(2, 4, 3, 8), floats(2, 2, 5, 8), floats(2, 2, 5, 6), floats(2, 1, 3, 5)


def attend(q: Any, k: Any, v: Any, mask: Any = None, **options: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True, **options)


def rotated(x: Any, cos: Any, sin: Any) -> Any:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def norm(x: Any, scale: Any, bias: Any) -> Any:
    return F.layer_norm(x, x.shape[1:], scale.expand(x.shape[1:]), bias.expand(x.shape[1:]), 1e-3)


#: op, attributes, inputs, torch's opinion
CASES: list[tuple[str, dict[str, Any], tuple[Array, ...], Callable[..., Any]]] = [
    *[
        (n, {}, (X,), getattr(torch, n))
        for n in ("neg", "abs", "relu", "floor", "ceil", "round", "sign", "exp", "tanh")
    ],
    *[(n, {}, (X,), getattr(torch, n)) for n in ("sigmoid", "erf", "sin", "cos")],
    *[(n, {}, (X,), getattr(torch, n)) for n in ("tan", "sinh", "cosh", "atan", "asinh")],
    *[(n, {}, (X / 2,), getattr(torch, n)) for n in ("asin", "acos", "atanh")],
    ("acosh", {}, (POSITIVE + 1,), torch.acosh),
    ("shift_left", {}, (np.array([-7, 3, 1], np.int32), np.array([2, 31, 4], np.int32)), torch.bitwise_left_shift),
    ("shift_right", {}, (np.array([-7, 3, -1], np.int8), np.array([2, 1, 7], np.int8)), torch.bitwise_right_shift),
    *[(n, {}, (POSITIVE,), getattr(torch, n)) for n in ("sqrt", "rsqrt", "reciprocal", "log")],
    *[(n, {}, (SPECIAL,), getattr(torch, n)) for n in ("abs", "relu", "sqrt", "exp", "tanh", "sigmoid", "erf", "log")],
    *[(n, {}, (SPECIAL,), getattr(torch, n)) for n in ("isnan", "isinf", "neg", "floor", "round")],
    ("softplus", {}, (X,), F.softplus),
    ("silu", {}, (X,), F.silu),
    ("gelu", {}, (X,), F.gelu),
    ("gelu", {"approximate": "tanh"}, (X,), lambda x: F.gelu(x, approximate="tanh")),
    ("leaky_relu", {"alpha": 0.1}, (X,), lambda x: F.leaky_relu(x, 0.1)),
    ("elu", {"alpha": 0.7}, (X,), lambda x: F.elu(x, 0.7)),
    ("hard_sigmoid", {"alpha": 1 / 6, "beta": 0.5}, (X * 2,), F.hardsigmoid),
    ("hard_swish", {}, (X * 2,), F.hardswish),
    ("clip", {"min": -0.5, "max": 0.75}, (X,), lambda x: torch.clamp(x, -0.5, 0.75)),
    ("clip", {"min": 0.0}, (SPECIAL,), lambda x: torch.clamp(x, min=0)),
    *[
        (n, {}, (X, floats(4, 1)), getattr(torch, n))
        for n in ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt")
    ],
    ("ge", {}, (X, X), torch.ge),
    ("min", {}, (X, floats(5)), torch.minimum),
    ("max", {}, (SPECIAL, SPECIAL[::-1].copy()), torch.maximum),
    ("pow", {}, (POSITIVE, X), torch.pow),
    ("mod", {"fmod": True}, (X, POSITIVE), torch.fmod),
    ("mod", {}, (X, POSITIVE), torch.remainder),
    ("and", {}, (X > 0, X > 1), torch.logical_and),
    ("or", {}, (X > 0, X > 1), torch.logical_or),
    ("xor", {}, (X > 0, X > 1), torch.logical_xor),
    ("not", {}, (X > 0,), torch.logical_not),
    ("where", {}, (X > 0, X, POSITIVE), torch.where),
    ("cast", {"to": t.i32}, (X * 9,), lambda x: x.to(torch.int32)),
    ("cast", {"to": t.f32}, (np.arange(-3, 3),), lambda x: x.to(torch.float32)),
    ("cast", {"to": t.bool_}, (np.array([0.0, 0.2, -1], np.float32),), lambda x: x.to(torch.bool)),
    ("cast", {"to": t.i8}, (np.array([300, -200, 5], np.int64),), lambda x: x.to(torch.int8)),
    ("reduce_sum", {"axes": (0, -1)}, (X,), lambda x: x.sum((0, 2), keepdim=True)),
    ("reduce_mean", {"axes": (1,), "keepdims": False}, (X,), lambda x: x.mean(1)),
    ("reduce_max", {"axes": (2, 1)}, (X,), lambda x: x.amax((1, 2), keepdim=True)),
    ("reduce_min", {"axes": (0,), "keepdims": False}, (X,), lambda x: x.amin(0)),
    ("reduce_prod", {"axes": (1,)}, (X,), lambda x: x.prod(1, keepdim=True)),
    ("reduce_sum", {"axes": (0,)}, (np.array([2**31 - 1, 5], np.int32),), lambda x: x.sum(0, True, dtype=torch.int32)),
    ("argmax", {"axis": -1}, (X,), lambda x: x.argmax(-1, keepdim=True)),
    ("argmin", {"axis": 0, "keepdims": False}, (X,), lambda x: x.argmin(0)),
    ("cumsum", {"axis": 1}, (X,), lambda x: x.cumsum(1)),
    ("cumprod", {"axis": 1}, (X,), lambda x: x.cumprod(1)),
    ("cumprod", {"axis": 2, "reverse": True}, (X,), lambda x: x.flip(2).cumprod(2).flip(2)),
    ("cumsum", {"axis": 1, "reverse": True}, (X,), lambda x: x.flip(1).cumsum(1).flip(1)),
    ("cumsum", {"axis": 1, "exclusive": True}, (X,), lambda x: x.cumsum(1) - x),
    ("reshape", {"shape": (5, 12)}, (X,), lambda x: x.reshape(5, 12)),
    ("transpose", {"perm": (2, 0, 1)}, (X,), lambda x: x.permute(2, 0, 1)),
    ("expand", {"shape": (2, 3, 1, 5)}, (X,), lambda x: x.expand(2, 3, 4, 5)),
    ("slice", {"axis": 1, "start": 1, "extent": 2, "step": 2}, (X,), lambda x: x[:, 1:4:2]),
    ("slice", {"axis": -1, "start": 4, "extent": 5, "step": -1}, (X,), lambda x: x.flip(2)),
    ("concat", {"axis": 1}, (X, X[:, :1], X), lambda *x: torch.cat(x, 1)),
    ("pad", {"pads": (0, 1, 0, 2), "value": 3.0}, (X[0],), lambda x: F.pad(x, (1, 2, 0, 0), value=3.0)),
    (
        "pad",
        {"pads": (0, 1, 2, 0, 3, 1), "mode": "reflect"},
        (X,),
        lambda x: F.pad(x[None], (2, 1, 1, 3), "reflect")[0],
    ),
    ("pad", {"pads": (0, 1, 2, 0, 3, 1), "mode": "edge"}, (X,), lambda x: F.pad(x[None], (2, 1, 1, 3), "replicate")[0]),
    ("gather", {"axis": 1}, (X, np.array([[0, 3], [-1, 2]])), lambda x, i: x[:, i % 4]),
    ("matmul", {}, (X, floats(5, 7)), torch.matmul),
    ("matmul", {}, (floats(2, 1, 3, 4), floats(5, 4, 2)), torch.matmul),
    ("matmul", {}, (X, floats(5)), torch.matmul),
    ("matmul", {}, (floats(5), floats(5)), torch.matmul),
    ("matmul", {}, (floats(4), floats(2, 4, 3)), torch.matmul),
    (
        "conv",
        {**WINDOW, "groups": 2},
        (IMAGE, FILTER, BIAS),
        lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), (2, 1), 2),
    ),
    (
        "conv",
        {"strides": (1,), "pads": (2, 2), "dilations": (1,), "groups": 4},
        (floats(2, 4, 9), floats(4, 1, 5)),
        lambda x, w: F.conv1d(x, w, None, 1, 2, 1, 4),
    ),
    (
        "conv",
        {"strides": (1, 1, 1), "pads": (1,) * 6, "dilations": (1, 1, 1)},
        (floats(1, 2, 3, 4, 5), floats(3, 2, 3, 3, 3)),
        lambda x, w: F.conv3d(x, w, None, 1, 1),
    ),
    ("max_pool", {**WINDOW, "kernel": (3, 2)}, (IMAGE,), lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0), (2, 1))),
    *[
        (
            "avg_pool",
            {
                "kernel": (3, 2),
                "strides": (2, 1),
                "pads": (1, 0, 1, 0),
                "dilations": (1, 1),
                "count_include_pad": count,
            },
            (IMAGE,),
            lambda x, count=count: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0), count_include_pad=count),
        )
        for count in (True, False)
    ],
    ("attention", {"scale": 0.3}, (Q, K, V), attend),
    ("attention", {"scale": 0.3}, (Q, K, V, MASK), attend),
    ("attention", {"scale": 0.3, "causal": True}, (Q, Q, Q), lambda q, k, v: attend(q, k, v, is_causal=True)),
    ("softmax", {"axis": 1}, (X * 9,), lambda x: F.softmax(x, 1)),
    ("log_softmax", {"axis": -1}, (X * 9,), lambda x: F.log_softmax(x, -1)),
    ("layer_norm", {"axis": 1, "epsilon": 1e-3}, (X, floats(4, 5), floats(5)), norm),
    ("rms_norm", {"axis": -1, "epsilon": 1e-3}, (X, floats(5)), lambda x, s: F.rms_norm(x, x.shape[2:], s, 1e-3)),
    (
        "batch_norm",
        {"epsilon": 1e-5},
        (X, floats(4), floats(4), floats(4), floats(4, lo=0.5)),
        lambda x, s, b, m, v: F.batch_norm(x, m, v, s, b, eps=1e-5),
    ),
    ("rotary", {}, (floats(2, 3, 8), floats(3, 8), floats(3, 8)), rotated),
]


@pytest.mark.parametrize(("op", "attrs", "inputs", "opinion"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_torch_agrees(op: str, attrs: dict[str, Any], inputs: tuple[Array, ...], opinion: Callable[..., Any]) -> None:
    actual, expected = apply(op, *inputs, **attrs), through_torch(opinion, *inputs)
    assert actual.dtype == expected.dtype
    # both compute in float64 and round once, so at most the last place differs
    np.testing.assert_allclose(actual, expected, rtol=2**-23, atol=1e-7 if op in ("sin", "cumsum", "sub") else 1e-15)


def test_channels_last_is_the_same_convolution() -> None:
    attrs = {**WINDOW, "groups": 2}
    first = apply("conv", IMAGE, FILTER, BIAS, **attrs)
    last = apply("conv", np.moveaxis(IMAGE, 1, -1), FILTER, BIAS, channels_last=True, **attrs)
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), first)
    for op, more in (("max_pool", {}), ("avg_pool", {"count_include_pad": True})):
        first = apply(op, IMAGE, kernel=(3, 2), **WINDOW, **more)
        last = apply(op, np.moveaxis(IMAGE, 1, -1), kernel=(3, 2), channels_last=True, **WINDOW, **more)
        np.testing.assert_array_equal(np.moveaxis(last, -1, 1), first)


def test_rotary_interleaved_turns_neighbours() -> None:
    x, angle = floats(3, 4), floats(3, 2).repeat(2, axis=1)
    turned = apply("rotary", x, np.cos(angle), np.sin(angle), interleaved=True)
    expected = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * angle[:, ::2])
    np.testing.assert_allclose(turned[:, 0::2], expected.real, atol=1e-6)
    np.testing.assert_allclose(turned[:, 1::2], expected.imag, atol=1e-6)


def test_sources() -> None:
    np.testing.assert_array_equal(apply("iota", extent=4), np.arange(4))
    assert apply("iota", extent=4, dtype=t.f32).dtype == np.float32
    assert apply("dim", value=7).shape == () and apply("dim", value=7) == 7


def test_integers_divide_as_in_c() -> None:
    a = np.array([7, -7, 7, -7, 6, 5, -(2**31)], np.int32)
    b = np.array([2, 2, -2, -2, 3, 0, -1], np.int32)
    np.testing.assert_array_equal(apply("div", a, b), [3, -3, -3, 3, 2, 0, -(2**31)])
    np.testing.assert_array_equal(apply("mod", a[:5], b[:5]), [1, 1, -1, -1, 0])
    np.testing.assert_array_equal(apply("mod", a[:5], b[:5], fmod=True), [1, -1, 1, -1, 0])
    u = np.array([7, 250], np.uint8)
    np.testing.assert_array_equal(apply("div", u, np.array([2, 3], np.uint8)), [3, 83])
    np.testing.assert_array_equal(apply("add", u, u), [14, 244])
    means = apply("reduce_mean", np.array([[-3, -4], [3, 4]], np.int64), axes=(1,), keepdims=False)
    np.testing.assert_array_equal(means, [-3, 3])


def test_integer_powers() -> None:
    a, b = np.array([2, -3, 1, -1, -1, 2, 0], np.int64), np.array([10, 3, -5, -3, -2, -1, 0], np.int64)
    np.testing.assert_array_equal(apply("pow", a, b), [1024, -27, 1, -1, 1, 0, 1])


def test_integer_clip_and_rounding() -> None:
    a = np.array([-128, -3, 0, 7, 127], np.int8)
    np.testing.assert_array_equal(apply("clip", a, min=-2.5, max=300.0), [-2, -2, 0, 7, 127])
    np.testing.assert_array_equal(apply("round", a), a)


def test_last_of_equal_maxima() -> None:
    a = np.array([[1, 5, 5, 0, 0]], np.float32)
    assert apply("argmax", a, axis=1, select_last=True) == 2 and apply("argmax", a, axis=1) == 1
    assert apply("argmin", a, axis=-1, select_last=True) == 4 and apply("argmin", a, axis=-1) == 3


def test_empty_reductions() -> None:
    empty = np.zeros((2, 0), np.float32)
    np.testing.assert_array_equal(apply("reduce_sum", empty, axes=(1,)), [[0], [0]])
    np.testing.assert_array_equal(apply("reduce_prod", empty, axes=(1,)), [[1], [1]])
    np.testing.assert_array_equal(apply("reduce_max", empty, axes=(1,)), [[-np.inf]] * 2)
    np.testing.assert_array_equal(apply("reduce_min", empty.astype(np.int32), axes=(1,)), [[2**31 - 1]] * 2)
    assert apply("matmul", empty, np.zeros((0, 3), np.float32)).tolist() == [[0] * 3] * 2


def test_nan_wins() -> None:
    x = np.array([1, np.nan, 3], np.float32)
    for op in ("reduce_max", "reduce_min", "reduce_sum", "reduce_mean"):
        assert np.isnan(apply(op, x, axes=(0,)))
    assert np.isnan(apply("softmax", x, axis=0)).all()
    assert np.isnan(apply("min", x, np.array(0, np.float32))[1])


def test_a_query_without_keys_is_zero() -> None:
    q, k = floats(1, 1, 3, 4), floats(1, 1, 2, 4)
    out = apply("attention", q, k, k, scale=1.0, causal=True)
    assert (out[0, 0, 0] == 0).all() and np.isfinite(out[0, 0, 1:]).all()


def test_float32_sums_are_rounded_once() -> None:
    x = np.full(100_000, 0.1, np.float32)
    exact = np.float32(math.fsum(x.astype(np.float64)))
    assert apply("reduce_sum", x, axes=(0,), keepdims=False) == exact
    assert apply("matmul", x, np.ones_like(x)) == exact


def test_erf_is_accurate() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), [1e-300, 0.46875, 4.0, 6.0, np.inf, -np.inf]])
    np.testing.assert_allclose(erf(x), [math.erf(v) for v in x], rtol=1e-15, atol=0)
    assert np.isnan(erf(np.array([np.nan])))[0]


def test_bf16_matches_torch() -> None:
    x = np.concatenate([floats(1000), SPECIAL])
    expected = torch.from_numpy(x).to(torch.bfloat16)
    back = decoded(encoded(x, t.bf16), t.bf16)
    np.testing.assert_array_equal(back, expected.to(torch.float32).numpy())
