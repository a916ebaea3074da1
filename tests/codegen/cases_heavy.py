"""Directed cases with products, convolutions, pooling and attention; each heavy kernel is also checked against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
from stratac.ir.types import DTYPES

from .cases import M, N, Net, case

LOOSE = 2e-5


@case((True,), (False,), tolerance=LOOSE, family="matmul")
def linear(net: Net, stored_by_column: bool) -> tuple[str, ...]:
    x = net.input((N, M, 20))
    w = net.transpose(net.constant((33, 20)), perm=(1, 0)) if stored_by_column else net.constant((20, 33))
    y = net.matmul(x, w)
    return y, net.gelu(net.add(y, net.constant((33,))))


@case(tolerance=LOOSE, family="matmul")
def linear_with_residual(net: Net) -> str:
    x = net.input((N, 32))
    y = net.add(net.matmul(x, net.constant((32, 32))), net.constant((32,)))
    return net.add(net.mul(y, net.sigmoid(y)), x)


@case(tolerance=LOOSE, family="matmul")
def split_heads(net: Net) -> tuple[str, ...]:
    x = net.input((N, M, 24))
    heads = net.reshape(net.add(net.matmul(x, net.constant((24, 24))), net.constant((24,))), shape=(N, M, 4, 6))
    return net.transpose(heads, perm=(0, 2, 1, 3)), net.transpose(heads, perm=(0, 2, 3, 1))


@case(tolerance=LOOSE, family="matmul")
def merge_heads(net: Net) -> str:
    x = net.input((N, 4, M, 6))
    rows = net.reshape(net.transpose(x, perm=(0, 2, 1, 3)), shape=(N, M, 24))
    return net.relu(net.matmul(rows, net.constant((24, 10))))


@case(tolerance=LOOSE, family="matmul")
def products_of_activations(net: Net) -> tuple[str, ...]:
    a, b = net.input((N, 3, M, 8)), net.input((N, 3, 8, 5))
    wide = net.input((1, 3, 8, 5))
    return (
        net.matmul(a, b),
        net.matmul(a, wide),
        net.matmul(net.input((M, 8)), b),
        net.matmul(a, net.input((8, 5))),
        net.matmul(a, net.transpose(a, perm=(0, 1, 3, 2))),
        net.matmul(net.transpose(a, perm=(0, 1, 3, 2)), a),
    )


@case(tolerance=LOOSE, family="matmul")
def strided_operands(net: Net) -> tuple[str, ...]:
    x, y = net.input((N, 3, 10, 16)), net.input((6, 9))
    a = net.slice(x, axis=2, start=1, extent=4, step=2)
    b = net.transpose(net.slice(x, axis=3, start=0, extent=8, step=2), perm=(0, 1, 3, 2))
    reverse = net.slice(x, axis=2, start=9, extent=10, step=-1)
    return (
        net.matmul(a, net.constant((16, 7))),
        net.matmul(net.slice(x, axis=3, start=4, extent=8), b),
        net.matmul(reverse, net.constant((16, 5))),
        net.matmul(net.transpose(y, perm=(1, 0)), net.expand(net.constant((6, 1)), shape=(6, 4))),
        net.matmul(net.expand(net.input((N, 1, 6)), shape=(N, 3, 6)), y),
        net.matmul(net.slice(net.constant((12, 9)), axis=0, start=11, extent=6, step=-2), net.constant((9, 2))),
        net.matmul(net.input((N, 6)), net.slice(net.constant((6, 9)), axis=1, start=8, extent=9, step=-1)),
    )


@case(tolerance=LOOSE, family="matmul")
def batches_that_no_stride_covers(net: Net) -> tuple[str, ...]:
    a, b = net.input((2, N, 3, 4, 8)), net.input((2, 1, 3, 8, 5))
    return (
        net.matmul(a, b),
        net.relu(net.matmul(a, net.constant((2, 1, 3, 8, 5)))),
        net.matmul(a, net.constant((1, 3, 8, 5))),
    )


@case(tolerance=LOOSE, family="matmul")
def prologues(net: Net) -> tuple[str, ...]:
    x, g = net.input((N, M, 20)), net.input((N, M, 20))
    w = net.constant((20, 9))
    return (
        net.matmul(net.mul(x, net.sigmoid(g)), w),
        net.relu(net.matmul(net.mul(net.input((N, 20)), net.constant((20,))), w)),
        net.matmul(net.where(net.lt(x, g), x, net.array(0.0)), w),
        net.matmul(net.cast(net.input((M, 20), "int64", -3, 3), to=DTYPES["f32"]), w),
    )


@case(tolerance=LOOSE, family="matmul")
def epilogues(net: Net) -> tuple[str, ...]:
    x, ids = net.input((N, M, 16)), net.input((N, M), "int64", 0, 9)
    y = net.matmul(x, net.constant((16, 24)))
    table = net.gather(net.constant((10, 24)), ids, axis=0)
    row = net.input((M, 1))
    added = net.add(net.add(y, table), row)
    big = net.gt(net.matmul(x, net.constant((16, 24))), net.array(0.5))
    masked = net.where(
        net.lt(net.iota(extent=24), net.array(7, "int64")), net.matmul(x, net.constant((16, 24))), net.array(0.0)
    )
    return net.add(added, net.transpose(net.input((N, 24, M)), perm=(0, 2, 1))), net.cast(big, to=DTYPES["i64"]), masked


@case(tolerance=LOOSE, family="matmul")
def results_of_one_product(net: Net) -> tuple[str, ...]:
    y = net.matmul(net.input((N, 16)), net.constant((16, 40)))
    return y, net.tanh(y), net.transpose(y, perm=(1, 0)), net.floor(net.mul(net.relu(y), net.array(0.0)))


@case("float64", "int64", "int32", "uint8", tolerance=1e-9)
def products_of_other_types(net: Net, dtype: str) -> tuple[str, ...]:
    x = net.input((N, 3, 7), dtype, 0, 5)
    return net.matmul(x, net.constant((7, 5), dtype, 0, 9)), net.matmul(x, net.transpose(x, perm=(0, 2, 1)))


@case(tolerance=LOOSE)
def vectors(net: Net) -> tuple[str, ...]:
    x, y = net.input((M,)), net.input((M,))
    return net.matmul(x, y), net.matmul(x, net.input((M, 4))), net.matmul(net.input((N, 4, M)), y)


@case((1, 1), (17, 5), (300, 40), (1500, 3), tolerance=1e-4, family="matmul")
def deep(net: Net, depth: int, columns: int) -> tuple[str, ...]:
    """Inner sizes around and beyond the k-block."""
    x = net.input((M, depth), lo=-0.2, hi=0.2)
    other = net.input((depth, columns), lo=-0.2, hi=0.2)
    return net.relu(net.matmul(x, net.constant((depth, columns)))), net.matmul(x, other), net.matmul(net.neg(x), other)


# -- convolutions and pooling ----------------------------------------------------------------------------------------

_WINDOWS = (
    ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    ((3, 2), (2, 1), (0, 1, 2, 0), (1, 2)),
    ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((5, 1), (1, 3), (2, 0, 2, 0), (2, 1)),
)


@case(*itertools.product(range(len(_WINDOWS)), (1, 2, 6), (True, False)), tolerance=LOOSE)
def conv(net: Net, window: int, groups: int, last: bool) -> tuple[str, ...]:
    kernel, strides, pads, dilations = _WINDOWS[window]
    x = net.input((N, 10, 11, 6) if last else (N, 6, 10, 11))
    attrs = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups, "channels_last": last}
    y = net.conv(x, net.constant((12 if groups != 6 else 6, 6 // groups, *kernel)), **attrs)
    z = net.relu(net.conv(x, net.constant((6, 6 // groups, *kernel)), net.constant((6,)), **attrs))
    return y, z


@case(*itertools.product((1, 4), (1, 3), (True, False)), tolerance=LOOSE)
def conv_of_signals(net: Net, groups: int, stride: int, last: bool) -> tuple[str, ...]:
    x = net.input((N, 23, 4) if last else (N, 4, 23))
    attrs = {"strides": (stride,), "pads": (2, 1), "dilations": (2,), "groups": groups, "channels_last": last}
    return (net.silu(net.conv(x, net.constant((8, 4 // groups, 3)), net.constant((8,)), **attrs)),)


@case(tolerance=LOOSE)
def conv_of_volumes(net: Net) -> str:
    x = net.input((N, 2, 4, 5, 6))
    attrs = {"strides": (1, 2, 1), "pads": (1, 0, 1, 1, 0, 1), "dilations": (1, 1, 1), "groups": 1}
    return net.conv(x, net.constant((3, 2, 3, 2, 3)), **attrs)


@case(tolerance=LOOSE)
def conv_with_symbolic_pictures(net: Net) -> tuple[str, ...]:
    x = net.input((N, 3, M + 4, M + 5))
    attrs = {"strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    y = net.relu(net.conv(x, net.constant((16, 3, 3, 3)), net.constant((16,)), **attrs))
    deep = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    z = net.conv(y, net.constant((16, 1, 3, 3)), net.constant((16,)), groups=16, **deep)
    return net.add(z, y), net.reduce_mean(z, axes=(2, 3))


@case(tolerance=LOOSE)
def residual_block(net: Net) -> tuple[str, ...]:
    x = net.input((N, 8, 9, 9))
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    y = net.conv(x, net.constant((8, 8, 3, 3)), net.constant((8,)), **attrs)
    one, two = net.constant((8,)), net.constant((8,), lo=0.5, hi=1.5)
    y = net.relu(net.batch_norm(y, one, one, one, two, epsilon=1e-5))
    y = net.add(net.conv(y, net.constant((8, 8, 3, 3)), **attrs), x)
    pooled = net.max_pool(net.relu(y), kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1))
    flat = net.reshape(net.reduce_mean(pooled, axes=(2, 3)), shape=(N, 8))
    return pooled, net.matmul(flat, net.constant((8, 5))), net.concat(x, y, axis=1)


@case(*itertools.product((1, 2, 20), (0, 1), (True, False)), tolerance=LOOSE)
def conv_within_bounds(net: Net, groups: int, pad: int, residual: bool) -> tuple[str, ...]:
    x = net.input((N, 9, 8, 20))
    attrs = {"strides": (1, 1), "pads": (pad,) * 4, "dilations": (1, 1), "groups": groups, "channels_last": True}
    weights = net.constant((20, 20 // groups, 1 + 2 * pad, 1 + 2 * pad))
    y = net.conv(x, weights, net.constant((20,)), **attrs)
    if residual:
        y = net.add(y, net.input((N, 9, 8, 20)))
    return (net.clip(y, min=-0.5, max=1.5),)


@case(tolerance=LOOSE)
def filter_from_an_input(net: Net) -> str:
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    return net.conv(net.input((N, 3, 6, 6)), net.input((4, 3, 3, 3)), **attrs)


@case(tolerance=LOOSE)
def squeeze_and_excite(net: Net) -> str:
    x = net.input((N, 8, 7, 7))
    attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    gate = net.relu(net.conv(net.reduce_mean(x, axes=(2, 3)), net.constant((2, 8, 1, 1)), net.constant((2,)), **attrs))
    gate = net.hard_sigmoid(net.conv(gate, net.constant((8, 2, 1, 1)), **attrs), alpha=0.2, beta=0.5)
    return net.conv(net.mul(x, gate), net.constant((4, 8, 1, 1)), **attrs)


@case(*itertools.product(range(2), (True, False)), tolerance=LOOSE)
def conv_f64(net: Net, window: int, last: bool) -> str:
    kernel, strides, pads, dilations = _WINDOWS[window]
    x = net.input((N, 6, 7, 4) if last else (N, 4, 6, 7), "float64")
    attrs = {"strides": strides, "pads": pads, "dilations": dilations, "groups": 2, "channels_last": last}
    return net.conv(x, net.constant((6, 2, *kernel), "float64"), net.constant((6,), "float64"), **attrs)


@case(
    *itertools.product(("max_pool", "avg_pool", "avg_pool_padded"), range(2), (True, False), ("float32", "float64")),
    tolerance=3e-6,
)
def pools(net: Net, op: str, window: int, last: bool, dtype: str) -> tuple[str, ...]:
    kernel, strides, pads, dilations = _WINDOWS[window]
    x = net.input((N, 10, 11, 20) if last else (N, 20, 10, 11), dtype)
    attrs = {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations, "channels_last": last}
    if op == "avg_pool_padded":
        y = net.avg_pool(x, count_include_pad=True, **attrs)
    else:
        y = getattr(net, op)(x, **attrs)
    return y, net.sigmoid(y)


@case("int64", "uint8", "int8")
def integer_max_pool(net: Net, dtype: str) -> str:
    attrs = {"kernel": (2,), "strides": (1,), "pads": (1, 0), "dilations": (1,)}
    return net.max_pool(net.input((N, 3, 9), dtype, 0, 9), **attrs)


@case()
def max_pool_hands_nan_on(net: Net) -> str:
    x = np.arange(24, dtype="f4").reshape(1, 1, 24)
    x[0, 0, 5], x[0, 0, 11] = np.nan, -np.inf
    return net.max_pool(net.input(x), kernel=(3,), strides=(1,), pads=(1, 1), dilations=(1,))


# -- attention -------------------------------------------------------------------------------------------------------

_MASKS = tuple(itertools.product((1, "n"), (1, 4), (1, "m"), (1, "k"))) + ((1, "m", "k"), ("m", "k"), ("k",), ())


def _qkv(net: Net, keys: object, groups: int = 4, v: int = 10) -> tuple[str, str, str]:
    return net.input((N, 4, M, 8)), net.input((N, groups, keys, 8)), net.input((N, groups, keys, v))


@case(*((m,) for m in _MASKS), tolerance=LOOSE, family="attention")
def masked_attention(net: Net, mask: tuple[object, ...]) -> str:
    sizes = {"n": N, "m": M, "k": M + 3}
    given = net.input(tuple(sizes.get(d, d) for d in mask))  # type: ignore[call-overload]
    return net.attention(*_qkv(net, M + 3), given, scale=0.35)


@case(*itertools.product((1, 2, 4), (True, False), (True, False)), tolerance=LOOSE, family="attention")
def grouped_attention(net: Net, groups: int, causal: bool, more_keys: bool) -> tuple[str, ...]:
    q, k, v = _qkv(net, M + 5 if more_keys else M, groups)
    y = net.attention(q, k, v, scale=0.35, causal=causal)
    return y, net.reshape(net.transpose(y, perm=(0, 2, 1, 3)), shape=(N, M, 40))


@case(True, False, tolerance=1e-4, family="attention")
def attention_from_products(net: Net, causal: bool) -> str:
    x = net.input((N, M, 32))

    def heads(w: str) -> str:
        return net.transpose(
            net.reshape(net.add(net.matmul(x, w), net.constant((32,))), shape=(N, M, 4, 8)), perm=(0, 2, 1, 3)
        )

    q, k, v = (heads(net.constant((32, 32))) for _ in range(3))
    mask = net.where(
        net.cast(net.input((N, 1, 1, M), "int64", 1, 3), to=DTYPES["bool"]), net.array(0.0), net.array(-1e9)
    )
    y = net.attention(q, k, v, mask, scale=0.35, causal=causal)
    y = net.reshape(net.transpose(y, perm=(0, 2, 1, 3)), shape=(N, M, 32))
    return net.add(net.matmul(y, net.constant((32, 32))), x)


@case(*itertools.product((True, False), (True, False)), tolerance=LOOSE, family="attention")
def capped_attention(net: Net, causal: bool, masked: bool) -> str:
    mask = (net.input((N, 1, M, M + 3)),) if masked else ()
    return net.attention(*_qkv(net, M + 3, 2), *mask, scale=0.9, causal=causal, softcap=1.5)


@case(tolerance=LOOSE, family="attention")
def attention_with_epilogue(net: Net) -> tuple[str, ...]:
    q, k, v = _qkv(net, M)
    bias = net.reshape(net.cast(net.iota(extent=M), to=DTYPES["f32"]), shape=(M,))
    y = net.attention(q, k, v, net.neg(net.abs(net.sub(bias, net.reshape(bias, shape=(M, 1))))), scale=0.35)
    return net.mul(y, net.constant((10,))), net.relu(y)


_LOW = float(np.finfo(np.float32).min)


def _padding(batch: int, keys: int, where: str, value: float) -> np.ndarray:
    """[batch, 1, 1, keys]: one sequence whole, one with few keys left, one with none."""
    mask, place = np.zeros((batch, 1, 1, keys), np.float32), np.arange(keys)
    few = {"left": place < keys - 5, "right": place >= 5, "middle": (place >= 5) & (place < keys - 5)}[where]
    mask[1, ..., few] = value
    mask[2] = value
    return mask


_SIDES = ("left", "right", "middle")
_COARSE = 1e-3  # adding a thousand rounds scores that much


@case(*itertools.product(_SIDES, (-np.inf, _LOW), (1, 9)), tolerance=LOOSE, family="attention")
@case(*itertools.product(_SIDES, (-1e4, -1001.0, -999.0), (1, 9)), tolerance=_COARSE, family="attention")
def masked_attention_padded(net: Net, where: str, value: float, queries: int) -> tuple[str, ...]:
    """Two tiles of keys, hidden from all queries alike, or by a mask that could differ between them."""
    q, k, v = (net.input((3, heads, rows, 17)) for heads, rows in ((4, queries), (2, 1030), (2, 1030)))
    mask = net.input(_padding(3, 1030, where, value))
    wide = net.add(mask, net.constant((queries, 1), lo=0.0, hi=0.0))
    return (
        net.attention(q, k, v, mask, scale=0.35),
        net.attention(q, k, v, wide, scale=0.35),
        net.attention(q, k, v, mask, scale=0.35, causal=True),
    )


@case(1.0, -np.inf, np.inf, np.nan, 3e38, 1e-41, tolerance=_COARSE, family="attention")
def masked_attention_meets_odd_keys(net: Net, value: float) -> tuple[str, ...]:
    """What a hidden key holds counts as far as the interpreter lets it: a finite mask hides no infinity and no NaN."""
    k = np.random.default_rng(1).uniform(-1, 1, (3, 2, 600, 8)).astype(np.float32)
    k[1, 1, 590, 3] = k[0, 0, 3, 1] = value
    q, v = net.input((3, 4, 9, 8)), net.input((3, 2, 600, 32))
    mask = net.input(_padding(3, 600, "right", -1e4))
    return net.attention(q, net.input(k), v, mask, scale=0.35), net.attention(q, net.input(k), v, scale=0.35)


@case(32, 80, 96, 112, 128, 256, 1, 3, tolerance=LOOSE, family="attention")
def attention_of_width(net: Net, width: int) -> tuple[str, ...]:
    q, k, v = net.input((N, 6, M, width)), net.input((N, 2, M + 3, width)), net.input((N, 2, M + 3, width))
    one = net.input((N, 6, 1, width))
    return net.attention(q, k, v, scale=width**-0.5), net.attention(one, k, v, scale=width**-0.5)


@case("float64", tolerance=1e-9)
def attention_of_other_types(net: Net, dtype: str) -> str:
    q, k, v = net.input((N, 4, M, 8), dtype), net.input((N, 2, M, 8), dtype), net.input((N, 2, M, 8), dtype)
    return net.attention(q, k, v, net.input((M, M), dtype), scale=0.35, causal=True)


@case(*itertools.product((True, False), (16, 6)), tolerance=LOOSE)
def rotary(net: Net, interleaved: bool, width: int) -> tuple[str, ...]:
    x, cos, sin = net.input((N, 3, M, width)), net.input((M, width)), net.input((1, 1, M, width))
    y = net.rotary(x, cos, sin, interleaved=interleaved)
    turned = net.slice(net.clip(y, min=-1.0, max=1.0), axis=3, start=width - 2, extent=width - 1, step=-1)
    return y, net.matmul(y, net.transpose(y, perm=(0, 1, 3, 2))), turned
