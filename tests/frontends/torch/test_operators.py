"""Every rule gives what torch gives: many operators in one program, over extents of 0, 1 and primes, and with named axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from stratac.compiler.frontends.torch.registry import RULES
from stratac.tests.frontends.torch.programs import check

Case = Callable[..., Any]


def floats(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 97 * len(shape)))


def whole(*shape: int, low: int = -9, high: int = 9, seed: int = 1) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


UNARY: dict[str, Case] = {
    **{
        name: (lambda x, n=name, **_: getattr(torch, n)(x))
        for name in ("abs", "neg", "exp", "tanh", "sigmoid", "erf", "sin", "cos", "floor", "ceil", "round", "sign")
    },
    **{
        name: (lambda x, n=name, **_: getattr(torch, n)(x.abs() + 0.1))
        for name in ("sqrt", "rsqrt", "log", "reciprocal", "log2", "log10", "log1p")
    },
    **{
        name: (lambda x, n=name, **_: getattr(torch, n)(x))
        for name in ("tan", "sinh", "cosh", "expm1", "exp2", "square", "trunc", "frac", "erfc", "isnan", "isinf")
    },
    **{
        name: (lambda x, n=name, **_: getattr(F, n)(x))
        for name in ("relu", "silu", "gelu", "softplus", "mish", "elu", "selu", "celu", "hardtanh", "relu6")
    },
    **{
        name: (lambda x, n=name, **_: getattr(F, n)(x))
        for name in ("hardsigmoid", "hardswish", "leaky_relu", "logsigmoid", "softsign", "tanhshrink")
    },
    "gelu_tanh": lambda x, **_: F.gelu(x, approximate="tanh"),
    "softplus_beta": lambda x, **_: F.softplus(x, beta=2.0),
    "elu_alpha": lambda x, **_: F.elu(x, alpha=0.5),
    "elu_scales": lambda x, **_: torch.ops.aten.elu(x, 0.5, 2.0, 3.0),
    "celu_alpha": lambda x, **_: F.celu(x, alpha=0.5),
    "threshold": lambda x, **_: F.threshold(x, 0.25, -1.0),
    "sqrt_of_whole": lambda i, **_: torch.sqrt(i.abs()),
    "exp_of_whole": lambda i, **_: torch.exp(i),
    "abs_of_whole": lambda i, **_: i.abs(),
    "logical_not": lambda x, **_: torch.logical_not(x > 0),
    "not_of_whole": lambda i, **_: ~i,
    "to_half_way": lambda x, i, **_: (x.to(torch.int32), i.to(torch.float32), x.double(), (x > 0).to(torch.int64)),
    "nan_to_num": lambda x, **_: torch.nan_to_num(x / (x - x), nan=2.0),
    "clone": lambda x, **_: x.clone().detach().contiguous(),
}

BINARY: dict[str, Case] = {
    "add": lambda x, y, **_: x + y,
    "sub": lambda x, y, **_: x - y,
    "mul": lambda x, y, **_: x * y,
    "div": lambda x, y, **_: x / (y.abs() + 1),
    "scalars": lambda x, i, **_: (x + 1, x * 2.5, i + 1, i * 2.5, 1 - x, 3 / (x.abs() + 1), i / 4),
    "alpha": lambda x, y, **_: (torch.add(x, y, alpha=0.5), torch.sub(x, y, alpha=2), torch.rsub(x, y, alpha=2)),
    "mixed_types": lambda x, i, **_: (x + i, i * x, x.double() * i, i > x),
    "floor_division": lambda i, j, x, **_: (i // 3, i // -4, torch.div(i, j, rounding_mode="floor"), x // 0.5),
    "truncated": lambda i, x, **_: (torch.div(i, 4, rounding_mode="trunc"), torch.div(x, 0.3, rounding_mode="trunc")),
    "remainder": lambda i, x, **_: (i % 5, i % -5, torch.remainder(x, 0.7), torch.fmod(x, 0.7), torch.fmod(i, 4)),
    "pow": lambda x, y, i, **_: (x**2, x**3, x.abs() ** 0.5, (x.abs() + 1) ** -0.5, (x.abs() + 1) ** y, 2.0**x, i**2),
    "pow_negative": lambda x, **_: ((x.abs() + 1) ** -1, (x.abs() + 1) ** -2, (x.abs() + 0.5) ** 1.7),
    "compare": lambda x, y, **_: (x == y, x != y, x < y, x <= y, x > y, x >= y, x > 0, x <= 0.5),
    "compare_types": lambda i, x, **_: (i == 2, i >= 1.5, i < x, x != i),
    "extremes": lambda x, y, i, j, **_: (torch.maximum(x, y), torch.minimum(x, y), torch.maximum(i, j)),
    "logical": lambda x, y, **_: ((x > 0) & (y > 0), (x > 0) | (y > 0), (x > 0) ^ (y > 0), torch.logical_and(x, y)),
    "bits": lambda i, j, **_: (i & j, i | j, i ^ 5, i & 3),
    "bools_added": lambda x, y, **_: ((x > 0) + (y > 0), (x > 0) * (y > 0)),
    "where": lambda x, y, i, **_: (torch.where(x > 0, x, y), torch.where(x > 0, 1.0, x), torch.where(x > y, i, 7)),
    "masked_fill": lambda x, **_: (x.masked_fill(x > 0, -1), x.masked_fill(x < 0, float("-inf"))),
    "clamp": lambda x, i, **_: (x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=0), i.clamp(-2, 3), x.clamp(1, -1)),
    "clamp_tensors": lambda x, y, **_: torch.clamp(x, y - 0.5, y + 0.5),
    "lerp": lambda x, y, **_: (torch.lerp(x, y, 0.3), torch.addcmul(x, x, y, value=0.5)),
    "addcdiv": lambda x, y, **_: torch.addcdiv(x, x, y.abs() + 1, value=2.0),
    "prelu": lambda x, **_: F.prelu(x, torch.tensor([0.2])),
    "in_place": lambda x, y, **_: x.clone().add_(y).mul_(2).relu_(),
    "atan_free": lambda x, **_: x.square().sum() + x.new_zeros(()) + x.new_ones(3).sum(),
}


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("cases", [UNARY, BINARY], ids=["unary", "binary"])
def test_elementwise(cases: dict[str, Case], shape: tuple[int, ...]) -> None:
    tensors = {"x": floats(*shape), "y": floats(*shape, seed=5), "i": whole(*shape), "j": whole(*shape, low=1, seed=3)}
    check(cases, tensors)


SHAPE: dict[str, Case] = {
    "view": lambda x, **_: (x.view(-1), x.reshape(x.shape[0], -1) if x.shape[0] else x, x.flatten(1)),
    "unsqueeze": lambda x, **_: (x.unsqueeze(0), x.unsqueeze(-1), x.unsqueeze(1).squeeze(1), x[:, None]),
    "permute": lambda x, **_: (x.permute(2, 0, 1), x.transpose(-1, 0), x.mT, x[0].t() if x.shape[0] else x),
    "movedim": lambda x, **_: (x.movedim(0, -1), x.movedim((0, 1), (2, 0))),
    "expand": lambda x, **_: (x.unsqueeze(0).expand(3, -1, -1, -1), x[..., :1].expand_as(x)),
    "repeat": lambda x, **_: (x.repeat(2, 1, 3), x.repeat(2, 1, 1, 1), x.tile(2)),
    "repeat_interleave": lambda x, **_: (x.repeat_interleave(3, dim=1), x.repeat_interleave(2)),
    "cat": lambda x, y, **_: (torch.cat([x, y]), torch.cat([x, y, x], -1), torch.cat([x, x > 0], 1)),
    "stack": lambda x, y, **_: (torch.stack([x, y]), torch.stack([x, y, x], -1)),
    "slice": lambda x, **_: (x[:, 1:], x[..., ::2], x[:, -2:], x[:, :-1], x[:, 5:2], x[..., 1:100:3]),
    "select": lambda x, **_: (x[:, 0], x[..., -1], x.select(1, -1)),
    "narrow": lambda x, **_: x.narrow(1, 1, 2),
    "split": lambda x, **_: (*x.split(2, 1), *x.chunk(2, -1), *x.split([1, 1, x.shape[1] - 2], 1)),
    "unbind": lambda x, **_: x.unbind(1),
    "flip": lambda x, **_: (x.flip(1), x.flip(0, 2)),
    "roll": lambda x, **_: (x.roll(1, 1), x.roll((-1, 2), (1, 2)), x.roll(3)),
    "pad": lambda x, **_: (F.pad(x, (1, 2)), F.pad(x, (1, 0, 0, 3), value=2.5), F.pad(x, (-1, 1))),
    "triangles": lambda x, **_: (x.tril(), x.triu(1), x.tril(-1), (x > 0).triu()),
    "diff": lambda x, **_: (x.diff(), x.diff(dim=1), torch.diff((x > 0), dim=1)),
    "meshgrid": lambda x, **_: torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij"),
    "made": lambda x, **_: (torch.zeros_like(x), torch.full((2, 3), 1.5), x.new_full((2,), 3), torch.eye(3)),
    "arange": lambda x, **_: (
        torch.arange(5),
        torch.arange(2, 11, 3),
        torch.arange(0.0, 1.0, 0.25),
        torch.arange(3, 0, -1),
    ),
    "linspace": lambda x, **_: (torch.linspace(-1, 1, 5), torch.linspace(0, 1, 1)),
    "scalar": lambda x, **_: torch.scalar_tensor(2.0) + x.sum() * 0,
    "diagonal": lambda x, **_: torch.ones(3, 4).tril() + x.sum() * 0,
}


@pytest.mark.parametrize("shape", [(1, 3, 2), (2, 3, 5), (5, 7, 3)], ids=str)
def test_shapes(shape: tuple[int, ...]) -> None:
    check(SHAPE, {"x": floats(*shape), "y": floats(*shape, seed=7)})


EMPTY: dict[str, Case] = {
    name: SHAPE[name] for name in ("unsqueeze", "expand", "cat", "stack", "slice", "select", "flip", "roll", "made")
}


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 3, 0)], ids=str)
def test_empty_shapes(shape: tuple[int, ...]) -> None:
    cases = {name: case for name, case in EMPTY.items() if not (name == "select" and 0 in shape[1:])}
    check(cases, {"x": floats(*shape), "y": floats(*shape)})


REDUCE: dict[str, Case] = {
    "sum": lambda x, i, **_: (x.sum(), x.sum(1), x.sum((0, -1)), x.sum(-1, keepdim=True), i.sum(0), (x > 0).sum(-1)),
    "mean": lambda x, **_: (x.mean(), x.mean(-1), x.mean((0, 2), keepdim=True)),
    "prod": lambda x, **_: (x.prod(), x.prod(1), x.prod(-1, keepdim=True)),
    "extremes": lambda x, i, **_: (x.amax(1), x.amin((0, 1)), x.max(), i.min(), x.amax(-1, keepdim=True)),
    "positions": lambda x, **_: (x.argmax(), x.argmax(-1), x.argmin(0, keepdim=True)),
    "max_dim": lambda x, **_: (*x.max(1), *x.min(-1, keepdim=True)),
    "any": lambda x, **_: ((x > 0).any(), (x > 0).any(1), (x > 0).all(-1, keepdim=True), (x > -9).all(), x.any(0)),
    "variance": lambda x, **_: (x.var(-1), x.std(1, keepdim=True), x.var(correction=0), x.var((0, 2), unbiased=False)),
    "var_mean": lambda x, **_: torch.var_mean(x, 1),
    "logsumexp": lambda x, **_: (x.logsumexp(-1), x.logsumexp((0, 1), keepdim=True)),
    "norm": lambda x, **_: (x.norm(), x.norm(dim=-1), x.norm(1, dim=1), torch.linalg.vector_norm(x, math.inf, -1)),
    "norm_3": lambda x, **_: (torch.linalg.vector_norm(x, 3, 1), torch.linalg.vector_norm(x, 0)),
    "normalize": lambda x, **_: F.normalize(x, dim=-1),
    "cumsum": lambda x, i, **_: (x.cumsum(-1), i.cumsum(0), (x > 0).cumsum(1), torch.ones_like(i).cumsum(1)),
    "softmax": lambda x, **_: (x.softmax(-1), x.softmax(0), F.log_softmax(x, 1), x.double().softmax(-2)),
}


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 1, 2), (7, 2, 3)], ids=str)
def test_reductions(shape: tuple[int, ...]) -> None:
    check(REDUCE, {"x": floats(*shape), "i": whole(*shape)})


def test_reductions_of_nothing() -> None:
    """Sums over no elements are 0; the rest of a shape of 0 stays empty."""
    cases = {"sum": lambda x: (x.sum(), x.sum(1)), "mean": lambda x: x.mean(-1), "any": lambda x: (x > 0).any()}
    check(cases, {"x": floats(2, 0, 3)})


PRODUCTS: dict[str, Case] = {
    "linear": lambda x, w, b, **_: (F.linear(x, w, b), F.linear(x, w), F.linear(x[0], w, b), F.linear(x[0, 0], w)),
    "matmul": lambda x, w, **_: (x @ w.T, x[0] @ w.T, x[0, 0] @ w.T, w @ x[0, 0], torch.dot(x[0, 0], x[0, 0])),
    "mm": lambda x, w, **_: (torch.mm(x[0], w.T), torch.mv(w, x[0, 0])),
    "bmm": lambda x, **_: torch.bmm(x, x.transpose(1, 2)),
    "addmm": lambda x, w, b, **_: (torch.addmm(b, x[0], w.T), torch.addmm(b, x[0], w.T, beta=0.5, alpha=2.0)),
    "baddbmm": lambda x, **_: torch.baddbmm(torch.ones(1), x, x.transpose(1, 2), beta=0, alpha=0.5),
    "einsum": lambda x, w, **_: (torch.einsum("bsd,ed->bse", x, w), torch.einsum("bsd,btd->bst", x, x)),
    "bilinear": lambda x, w, **_: torch.einsum("ij,kj->ik", w, w),
    "outer": lambda x, **_: torch.outer(x[0, 0], x[0, 0]),
}


@pytest.mark.parametrize("sizes", [(2, 3, 5, 7), (1, 1, 1, 1), (3, 1, 2, 11)], ids=str)
def test_products(sizes: tuple[int, int, int, int]) -> None:
    batch, rows, inner, outer = sizes
    check(PRODUCTS, {"x": floats(batch, rows, inner), "w": floats(outer, inner), "b": floats(outer)})


CONVOLUTIONS: dict[str, Case] = {
    "conv1d": lambda s, w1, **_: (
        F.conv1d(s, w1),
        F.conv1d(s, w1, padding=2, stride=2),
        F.conv1d(s[0], w1, dilation=2),
    ),
    "conv1d_same": lambda s, w1, **_: (F.conv1d(s, w1, padding="same"), F.conv1d(s, w1, padding="valid")),
    "conv2d": lambda m, w2, b2, **_: (F.conv2d(m, w2, b2), F.conv2d(m, w2, stride=(2, 1), padding=(1, 0))),
    "grouped": lambda m, **_: F.conv2d(m, torch.ones(8, 2, 3, 3), groups=2, padding=1),
    "depthwise": lambda m, **_: F.conv2d(m, torch.ones(4, 1, 3, 3), groups=4),
    "conv3d": lambda m, **_: F.conv3d(m.unsqueeze(2), torch.ones(2, 4, 1, 2, 2)),
    "transposed": lambda m, w2, **_: (
        F.conv_transpose2d(m, torch.ones(4, 3, 2, 2), stride=2),
        F.conv_transpose2d(m, torch.ones(4, 3, 3, 3), stride=2, padding=1, output_padding=1),
        F.conv_transpose1d(m[:, :, 0], torch.ones(4, 2, 3), dilation=2),
        F.conv_transpose2d(m, torch.ones(4, 3, 3, 3), torch.ones(6), groups=2),
    ),
    "max_pool": lambda m, **_: (F.max_pool2d(m, 2), F.max_pool2d(m, 3, 2, 1), F.max_pool2d(m, 3, 2, 1, ceil_mode=True)),
    "max_pool_dilated": lambda m, s, **_: (F.max_pool2d(m, 2, 1, dilation=2), F.max_pool1d(s, 3, stride=2)),
    "avg_pool": lambda m, s, **_: (F.avg_pool2d(m, 2), F.avg_pool2d(m, 3, 2, 1), F.avg_pool1d(s, 2)),
    "avg_pool_ceil": lambda m, **_: (
        F.avg_pool2d(m, 3, 2, 1, ceil_mode=True),
        F.avg_pool2d(m, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        F.avg_pool2d(m[0], 3, 1, 1, count_include_pad=False),
    ),
    "adaptive": lambda m, s, **_: (
        F.adaptive_avg_pool2d(m, 1),
        F.adaptive_avg_pool2d(m, (3, 2)),
        F.adaptive_avg_pool1d(s, 4),
        F.adaptive_max_pool2d(m, 1),
    ),
    "batch_norm": lambda m, **_: F.batch_norm(
        m, torch.arange(4.0), torch.arange(1.0, 5.0), torch.ones(4), torch.ones(4)
    ),
    "batch_norm_bare": lambda m, **_: F.batch_norm(m, torch.arange(4.0), torch.arange(1.0, 5.0), eps=0.1),
    "group_norm": lambda m, **_: (F.group_norm(m, 2), F.group_norm(m, 4, torch.arange(4.0), torch.ones(4))),
    "instance_norm": lambda m, **_: F.instance_norm(m, weight=torch.arange(4.0), bias=torch.ones(4)),
    "nearest": lambda m, **_: (
        F.interpolate(m, scale_factor=2),
        F.interpolate(m, size=(5, 9)),
        F.interpolate(m, size=(5, 9), mode="nearest-exact"),
        F.interpolate(m[:, :, 0], scale_factor=3),
    ),
    "bilinear": lambda m, **_: (
        F.interpolate(m, scale_factor=2, mode="bilinear"),
        F.interpolate(m, size=(5, 9), mode="bilinear"),
        F.interpolate(m, size=(5, 9), mode="bilinear", align_corners=True),
        F.interpolate(m, scale_factor=1.5, mode="bilinear"),
        F.interpolate(m[:, :, 0], size=4, mode="linear"),
    ),
    "bicubic": lambda m, **_: (
        F.interpolate(m, size=(9, 5), mode="bicubic"),
        F.interpolate(m, size=(9, 5), mode="bicubic", align_corners=True),
    ),
    "pad_modes": lambda m, **_: (F.pad(m, (1, 2, 2, 1), "reflect"), F.pad(m, (1, 2, 0, 1), "replicate")),
    "circular": lambda m, **_: F.pad(m, (1, 2, 2, 1), "circular"),
    "pixel_shuffle": lambda m, **_: (F.pixel_shuffle(m, 2), F.pixel_unshuffle(m[..., :6, :6], 2)),
    "glu": lambda m, **_: F.glu(m, 1),
    "weight_norm": lambda s, w1, **_: F.conv1d(s, torch._weight_norm(w1, torch.arange(1.0, 6.0).view(5, 1, 1), 0)),
}


@pytest.mark.parametrize("sizes", [(2, 7, 11), (1, 6, 8)], ids=str)
def test_windows(sizes: tuple[int, int, int]) -> None:
    batch, height, width = sizes
    images = {"m": floats(batch, 4, height, width), "w2": floats(6, 4, 3, 2), "b2": floats(6)}
    check(CONVOLUTIONS, {**images, "s": floats(batch, 3, 13), "w1": floats(5, 3, 3)})


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more: Any) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, **more)


NORMALISED: dict[str, Case] = {
    "layer_norm": lambda q, g, **_: (F.layer_norm(q, (8,)), F.layer_norm(q, (8,), g, g, eps=0.1)),
    "layer_norm_2": lambda q, **_: F.layer_norm(q, tuple(q.shape[-2:])),
    "rms_norm": lambda q, g, **_: (F.rms_norm(q, (8,)), F.rms_norm(q, (8,), g, eps=0.1)),
    "plain": lambda q, k, v, **_: (_attention(q, k, v), _attention(q, k, v, scale=0.3)),
    "causal": lambda q, k, v, **_: (_attention(q, q, q, is_causal=True), _attention(q, k, v, is_causal=True)),
    "mask": lambda q, k, v, n, **_: (_attention(q, k, v, attn_mask=n), _attention(q, k, v, attn_mask=n[:, :1, :1])),
    "truth": lambda q, k, v, n, **_: _attention(q, k, v, attn_mask=n > 0),
    "hidden": lambda q, k, v, n, **_: _attention(q, k, v, attn_mask=n > 99),
    "three": lambda q, k, v, **_: _attention(q[:, 0], k[:, 0], v[:, 0]),
    "five": lambda q, k, v, n, **_: _attention(q[None], k[None], v[None], attn_mask=n),
    "grouped": lambda q, k, v, **_: _attention(q, k[:, :2], v[:, :2], enable_gqa=True),
}


@pytest.mark.parametrize("sizes", [(2, 3, 5), (1, 1, 1), (3, 7, 2)], ids=str)
def test_attention_and_norms(sizes: tuple[int, int, int]) -> None:
    batch, queries, keys = sizes
    q, k, v = floats(batch, 4, queries, 8), floats(batch, 4, keys, 8, seed=2), floats(batch, 4, keys, 8, seed=3)
    check(NORMALISED, {"q": q, "k": k, "v": v, "n": floats(batch, 4, queries, keys, seed=4), "g": floats(8)})


INDEXING: dict[str, Case] = {
    "embedding": lambda t, i, **_: F.embedding(i, t),
    "index_select": lambda t, i, **_: (t.index_select(0, i[0]), t.index_select(-1, i[0] % 3)),
    "rows": lambda t, i, **_: (t[i], t[i - 5], t[:, i % 3]),
    "pairs": lambda t, i, **_: (t[i, i % 3], t[i[:, :, None], i[0] % 3], t[torch.arange(2), i[:, 0] % 3]),
    "apart": lambda t, i, **_: (t[None][:, i, 1], t.view(5, 3, 1)[i[0], :, i[0] * 0]),
    "known": lambda t, **_: (
        t[torch.arange(5)],
        t[torch.arange(4, -1, -1)],
        t[torch.arange(2)[:, None], torch.arange(3)],
    ),
    "gather": lambda t, i, **_: (
        t.gather(0, i[:, :3]),
        t.gather(1, i[:, :3] % 3),
        t.gather(0, torch.zeros_like(i[:, :3])),
    ),
    "take_along": lambda t, i, **_: torch.take_along_dim(t[:2], i[:, :3] % 3, 1),
    "one_hot": lambda i, **_: F.one_hot(i, 6),
    "positions": lambda t, **_: torch.arange(8)[None].expand(2, 8)[:, :5] + t.sum().long() * 0,
}


@pytest.mark.parametrize("shape", [(2, 3), (2, 7)], ids=str)
def test_indexing(shape: tuple[int, ...]) -> None:
    check(INDEXING, {"t": floats(5, 3), "i": whole(*shape, low=0, high=5)})


SCATTERED: dict[str, Case] = {
    "topk": lambda t, **_: (*t.topk(2, 0), *t.topk(3, -1, largest=False), *t.sort(0), *t.sort(1, descending=True)),
    "argsort": lambda t, i, **_: (t.argsort(0), i.argsort(stable=True, dim=-1), *t.kthvalue(2, 1)),
    "scatter": lambda t, i, **_: (
        t.scatter(0, i[:1, :3], t + 1),
        t.scatter(0, i[:1, :3], 2.5),
        t.scatter_add(0, i[:, :3], t),
        t.scatter_reduce(0, i[:, :3], t, "amax"),
    ),
    "index_put": lambda t, i, **_: (
        t.index_put((torch.tensor([3, 0]),), t[:2] * 2),
        t.index_put((torch.tensor([3, -1]), torch.tensor([0, 2])), torch.tensor([7.0, 8.0])),
        t.index_put((i[0],), torch.ones(3), accumulate=True),
        t.index_put((t > 0,), torch.tensor(5.0)),
    ),
    "index_add": lambda t, i, **_: (
        t.index_add(0, i[0], t[: i.shape[1]], alpha=2),
        t.index_fill(0, torch.tensor([1, 3]), 4.0),
    ),
    "index_copy": lambda t, **_: t.index_copy(1, torch.tensor([2, 0]), t[:, :2]),
    "parts": lambda t, **_: (
        torch.slice_scatter(t, t[:2], 0, 1, 3),
        torch.select_scatter(t, t[0], 0, -1),
        torch.slice_scatter(t, t, 0),
    ),
    "assigned": lambda t, **_: _assigned(t),
}


def _assigned(t: torch.Tensor) -> torch.Tensor:
    t = t.clone()
    t[1:3] = 0.5
    t[:, -1] = t[:, 0]
    return t


def test_sorting_and_scattering() -> None:
    check(SCATTERED, {"t": floats(5, 3), "i": whole(2, 3, low=0, high=5)})


def test_experts() -> None:
    from stratac.compiler.frontends.torch.experts import experts

    x, up, down = floats(7, 4), floats(3, 10, 4), floats(3, 4, 5, seed=3)
    chosen, shares = torch.tensor([[0, 2]] * 4 + [[1, 0]] * 3), floats(7, 2).abs()
    cases = {name: (lambda name=name, **t: experts(*t.values(), name)) for name in ("silu", "relu", "gelu")}
    check(cases, {"x": x, "chosen": chosen, "shares": shares, "up": up, "down": down})


def test_named_axes() -> None:
    """The same operators where extents are known as names alone."""
    cases = {
        "views": lambda x, **_: (
            x.view(x.shape[0] * x.shape[1], 4),
            x.flatten(1),
            x.transpose(0, 1),
            x[:, -1],
            x[:, 1:],
        ),
        "joined": lambda x, y, **_: (torch.cat([x, y], 1), torch.stack([x, y]), F.pad(x, (0, 0, 1, 0))),
        "positions": lambda x, **_: torch.arange(x.shape[1]) + x.shape[0],
        "attention": lambda x, y, **_: _attention(x[:, None], y[:, None], y[:, None], is_causal=True),
        "causal": lambda x, **_: torch.ones(x.shape[1], x.shape[1]).tril(),
        "half": lambda x, **_: x[:, : x.shape[1] // 2],
        "norm": lambda x, **_: (x.mean(1), x.var(1), F.layer_norm(x, (4,)), x.softmax(1)),
        "linear": lambda x, **_: F.linear(x, torch.ones(3, 4)),
        "table": lambda x, **_: torch.ones(64, 4)[: x.shape[1]] + x,
        "expanded": lambda x, **_: x[:, :1].expand(-1, x.shape[1], -1),
        "rolled": lambda x, **_: x.roll(1, 1),
    }
    dynamic = {"x": {0: "batch", 1: "seq"}, "y": {0: "batch", 1: "seq"}}
    check(cases, {"x": floats(3, 6, 4), "y": floats(3, 6, 4)}, dynamic)


def test_every_rule_is_for_an_operator_that_exists() -> None:
    for name in RULES:
        space, operator, overload = name.split(".")
        assert hasattr(getattr(getattr(torch.ops, space), operator), overload), f"there is no {name}"
