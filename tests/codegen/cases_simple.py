"""Directed cases without products: elementwise code over all dtypes, reductions, views, copies."""

from __future__ import annotations

import itertools

import numpy as np
from stratac.ir.types import DTYPES

from .cases import M, N, Net, case

NAN, INF = np.nan, np.inf
SPECIAL = np.array(
    [0.0, -0.0, 1.5, -2.5, INF, -INF, NAN, 1e-30, -3e38, 0.5, 7.0, NAN, 2.0, -1.0, 3.0, 4.0, 5.0, INF, 9.0], "f4"
)
INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")


@case(*itertools.product(("div", "mod", "fmod", "pow", "add", "sub", "mul", "min", "max"), INTEGERS))
def integer(net: Net, op: str, dtype: str) -> str:
    info = np.iinfo(dtype)
    edge = [info.min, info.max, 0, 1, 7, info.max // 2]
    edge += [-1, -7, -8] if info.min < 0 else [2, 8, 9]
    # numpy's own remainder of the least integer by -1 and of anything by 0 is what the interpreter gives too
    pairs = [(a, b) for a in edge for b in edge if not (op == "pow" and not 0 <= b <= 20)]
    a, b = (net.input(np.array(side, dtype)) for side in zip(*pairs, strict=True))
    return net.mod(a, b, fmod=True) if op == "fmod" else getattr(net, op)(a, b)


@case(*itertools.product(("shift_left", "shift_right"), INTEGERS))
def shifts(net: Net, op: str, dtype: str) -> str:
    """By every distance that leaves a bit, by all bits, by more, and by negative distances."""
    info = np.iinfo(dtype)
    by = [0, 1, info.bits - 1, info.bits, info.bits + 3, *([-1, -9] if info.min < 0 else [])]
    pairs = [(a, b) for a in (info.min, info.max, 0, 1, 93, info.max // 3, info.min // 5) for b in by]
    a, b = (net.input(np.array(side, dtype)) for side in zip(*pairs, strict=True))
    return getattr(net, op)(a, b)


@case(*INTEGERS)
def bits(net: Net, dtype: str) -> tuple[str, ...]:
    info = np.iinfo(dtype)
    a, b = net.input(np.array([info.min, info.max, 0, 85, 7], dtype)), net.input(np.array([51], dtype))
    return net.and_(a, b), net.or_(a, b), net.xor(a, b), net.not_(a)


_LIBRARY = ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")


@case(*itertools.product(_LIBRARY, ("float32", "float64")))
def functions_of_the_library(net: Net, op: str, dtype: str) -> tuple[str, ...]:
    """At special values, outside of the domain, and close to 0, where a formula of logarithms would lose its digits."""
    x = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 1e-7, -3e-5, 1.5, -80.0, 7e4, INF, -INF, NAN], dtype)
    return getattr(net, op)(net.input(x)), getattr(net, op)(net.input((N, M), dtype, -1, 1))


@case(*itertools.product(("neg", "abs", "sign", "relu", "not_", "floor"), ("int64", "int8", "uint8", "int32")))
def integer_unary(net: Net, op: str, dtype: str) -> str:
    info = np.iinfo(dtype)
    return getattr(net, op)(net.input(np.array([info.min, info.max, 0, 1, 5, info.max // 3], dtype)))


@case(*itertools.product(("int64", "uint8", "int8"), ((0.5, 3.5), (-0.5, 1e12), (-INF, 2.0), (-3.0, -0.5))))
def integer_clip(net: Net, dtype: str, bounds: tuple[float, float]) -> str:
    if dtype == "uint8" and bounds[1] < 0:
        bounds = (0.0, 9.0)
    values = np.array(
        [0, 1, 2, 3, 4, 5, 100, 127] if dtype == "uint8" else [0, 1, -1, -3, -4, 2, 3, 4, 100, -128], dtype
    )
    return net.clip(net.input(values), min=bounds[0], max=bounds[1])


@case(*itertools.product((True, False), ("float32", "float64")))
def float_mod(net: Net, fmod: bool, dtype: str) -> str:
    a = np.array([5.5, -5.5, 5.5, -5.5, 6.0, -6.0, 0.0, 1e9], dtype)
    b = np.array([2.0, 2.0, -2.0, -2.0, 3.0, 3.0, 2.0, 3.0], dtype)
    return net.mod(net.input(a), net.input(b), fmod=fmod)


_UNARY = ("neg", "abs", "relu", "floor", "ceil", "round", "sign", "sqrt", "rsqrt", "reciprocal", "exp", "log", "tanh")
_UNARY += ("sigmoid", "erf", "softplus", "silu", "gelu", "hard_swish", "isnan", "isinf")


@case(*itertools.product(_UNARY, ("float32", "float64")))
def special_unary(net: Net, op: str, dtype: str) -> str:
    x = SPECIAL if op != "gelu" else SPECIAL[np.isfinite(SPECIAL)]
    return getattr(net, op)(net.input(x.astype(dtype)))


@case(*itertools.product(("add", "sub", "mul", "div", "min", "max", "eq", "ne", "lt", "le", "gt", "ge"), ("f4", "f8")))
def special_binary(net: Net, op: str, dtype: str) -> str:
    a, b = (side.ravel().astype(dtype) for side in np.meshgrid(SPECIAL, SPECIAL))
    return getattr(net, op)(net.input(a), net.input(b))


@case(True, False)
def argmax_of_long_rows(net: Net, last: bool) -> tuple[str, ...]:
    x = np.random.default_rng(1).integers(0, 50, (3, 1000)).astype("f4")
    x[1, [7, 600]] = NAN
    y = net.input(x)
    return tuple(getattr(net, op)(y, axis=1, select_last=last) for op in ("argmax", "argmin"))


@case("f4", "f8")
def special_clip(net: Net, dtype: str) -> tuple[str, ...]:
    x = net.input(SPECIAL.astype(dtype))
    return net.clip(x, min=-1.0, max=6.0), net.clip(x, min=-1.0), net.clip(x, max=2.0), net.leaky_relu(x, alpha=0.1)


@case(
    *itertools.product(("reduce_max", "reduce_min", "reduce_sum", "argmax", "argmin", "softmax"), (0, 1), ("f4", "f8"))
)
def special_rows(net: Net, op: str, axis: int, dtype: str) -> str:
    rows = np.stack([SPECIAL, SPECIAL[::-1], np.where(np.isnan(SPECIAL), 1, SPECIAL), np.arange(19), np.full(19, -INF)])
    rows[2][np.isinf(rows[2])] = 3
    x = net.input(np.ascontiguousarray(rows if axis == 1 else rows.T).astype(dtype))
    if op == "softmax" or op.startswith("arg"):
        return getattr(net, op)(x, axis=axis)
    return getattr(net, op)(x, axes=(axis,))


@case(*itertools.product(("argmax", "argmin"), (True, False), (0, 1, 2), ("f4", "i8", "f8")))
def ties(net: Net, op: str, last: bool, axis: int, dtype: str) -> str:
    x = np.random.default_rng(0).integers(0, 3, (5, 19, 4)).astype(dtype)
    return getattr(net, op)(net.input(x), axis=axis, select_last=last, keepdims=axis != 1)


@case("bool", "uint8", "int32", "int64", "float32", "float64", "int8", "uint16")
def casts(net: Net, source: str) -> tuple[str, ...]:
    x = net.input((N, 7), source, 0, 100)
    return tuple(
        net.cast(x, to=DTYPES[t]) for t in ("bool", "u8", "i32", "i64", "f32", "f64", "i8", "u64") if t != source
    )


@case()
def cast_of_fractions(net: Net) -> tuple[str, ...]:
    x = net.input(np.array([1.9, -1.9, 0.0, -0.4, 100.7, NAN], "f4"))
    y = net.input(np.array([1.9, -1.9, 0.0, -0.4, 100.7], "f4"))
    return (net.cast(x, to=DTYPES["bool"]), *(net.cast(y, to=DTYPES[t]) for t in ("i64", "i32", "i8", "f64")))


@case()
def booleans(net: Net) -> tuple[str, ...]:
    a, b = net.input((N, M), "bool"), net.input((M,), "bool")
    x, y = net.input((N, M)), net.input((N, 1))
    mask = net.and_(net.xor(a, b), net.or_(net.not_(a), net.lt(x, y)))
    return mask, net.where(mask, x, y), net.eq(a, b), net.where(b, a, mask), net.cast(mask, to=DTYPES["f32"])


@case(
    *itertools.product(("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"), (True, False)),
    tolerance=3e-5,
)
def reductions(net: Net, op: str, keep: bool) -> tuple[str, ...]:
    x = net.input((N, 3, M, 5), lo=0.8, hi=1.1)
    subsets = [s for count in range(1, 5) for s in itertools.combinations(range(4), count)]
    return tuple(getattr(net, op)(x, axes=axes, keepdims=keep) for axes in subsets)


@case(
    *itertools.product(
        ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"),
        ("int64", "int32", "uint8", "int8", "bool"),
    )
)
def integer_reductions(net: Net, op: str, dtype: str) -> tuple[str, ...]:
    if dtype == "bool" and op not in ("reduce_max", "reduce_min"):
        dtype = "uint16"
    x = net.input((N, 6, M), dtype, 0, 40)
    return getattr(net, op)(x, axes=(1,)), getattr(net, op)(x, axes=(0, 2), keepdims=False)


@case(*itertools.product((0, 1, 2), (True, False), (True, False), ("float32", "int64", "float64")), tolerance=1e-5)
def cumsum(net: Net, axis: int, exclusive: bool, reverse: bool, dtype: str) -> str:
    return net.cumsum(net.input((N, 5, 9), dtype, -3, 3), axis=axis, exclusive=exclusive, reverse=reverse)


@case(*itertools.product((0, 1, 2), (True, False), (True, False), ("float32", "int32", "float64")), tolerance=1e-5)
def cumprod(net: Net, axis: int, exclusive: bool, reverse: bool, dtype: str) -> str:
    return net.cumprod(net.input((N, 5, 9), dtype, -2, 2), axis=axis, exclusive=exclusive, reverse=reverse)


@case(tolerance=1e-5)
def cumsum_long(net: Net) -> tuple[str, ...]:
    x = net.input((2, M, 3))
    return net.cumsum(x, axis=1), net.neg(net.cumsum(net.relu(x), axis=1, reverse=True))


@case(*itertools.product((0, 1), (True, False)))
def cumsum_of_one(net: Net, axis: int, exclusive: bool) -> tuple[str, ...]:
    x = net.input((1, 1, 5))
    return net.neg(net.cumsum(x, axis=axis, exclusive=exclusive)), net.cumsum(
        net.input((7,)), axis=0, exclusive=exclusive
    )


@case("softmax", "log_softmax")
def softmaxes(net: Net, op: str) -> tuple[str, ...]:
    x = net.input((N, 5, M))
    return tuple(getattr(net, op)(x, axis=axis) for axis in (0, 1, 2, -1))


@case("float32", "float64", tolerance=1e-5)
def norms(net: Net, dtype: str) -> tuple[str, ...]:
    x, y = net.input((N, 5, 48), dtype), net.input((N, M), dtype)
    scale, bias, wide = net.constant((48,), dtype), net.constant((48,), dtype), net.constant((5, 48), dtype)
    return (
        net.layer_norm(x, scale, bias, axis=-1, epsilon=1e-5),
        net.relu(net.layer_norm(net.add(x, bias), wide, axis=1, epsilon=1e-5)),
        net.rms_norm(x, scale, axis=2, epsilon=1e-6),
        net.rms_norm(y, net.array(1.5, dtype), axis=1, epsilon=1e-6),
    )


@case("float32", "float64")
def everything_f64(net: Net, dtype: str) -> tuple[str, ...]:
    x = net.input((2, N, 6), dtype)
    y = net.tanh(net.mul(x, net.constant((6,), dtype)))
    z = net.pow(net.add(net.abs(y), net.array(1.0, dtype)), net.array(2.5, dtype))
    return y, z, net.sin(net.cos(net.erf(z))), net.gelu(x), net.gelu(x, approximate="tanh"), net.elu(x, alpha=0.5)


# -- views and copies ------------------------------------------------------------------------------------------------


@case(*itertools.permutations(range(3)))
def transposes(net: Net, *perm: int) -> tuple[str, ...]:
    x, y = net.input((N, 4, M)), net.input((N, 4, M), "int32", -9, 9)
    return net.transpose(x, perm=perm), net.neg(net.transpose(net.relu(y), perm=perm))


@case()
def turned_on_the_way(net: Net) -> tuple[str, ...]:
    """Elementwise work whose reads walk another axis than its stores: in tiles, whole and ragged, and where they cannot be."""
    x, wide = net.input((N, 40, 35)), net.input((2, 16, M, 50))
    last = net.transpose(x, perm=(0, 2, 1))
    scaled = net.tanh(net.add(net.mul(last, net.constant((40,))), net.constant((35, 1))))
    both = net.add(net.transpose(wide, perm=(0, 2, 3, 1)), net.input((2, M, 50, 16)))
    twice = net.mul(last, net.transpose(net.input((40, 35)), perm=(1, 0)))
    guarded = net.transpose(net.pad(x, pads=(0, 2, 3, 0, 1, 2), mode="constant", value=1.5), perm=(0, 2, 1))
    picked = net.transpose(net.gather(wide, net.array([3, 0, -1, 20] * 5, "int64"), axis=3), perm=(0, 3, 2, 1))
    apart = net.transpose(net.slice(x, axis=2, start=1, extent=17, step=2), perm=(2, 0, 1))
    square = net.add(net.transpose(net.input((33, 33)), perm=(1, 0)), net.input((33, 33)))
    large = net.relu(net.transpose(net.input((290, 70)), perm=(1, 0)))  # more than one tile, and unit of work, each way
    larger = net.transpose(net.input((530, 500)), perm=(1, 0))  # than a cache
    return scaled, both, twice, guarded, picked, apart, square, large, larger, net.gt(last, net.array(0.0))


@case()
def reshapes_of_transposes(net: Net) -> tuple[str, ...]:
    x = net.input((6, N, 4))
    t = net.transpose(x, perm=(2, 1, 0))
    flat = net.reshape(t, shape=(4, 6 * N))
    odd = net.reshape(net.transpose(net.input((4, 6)), perm=(1, 0)), shape=(8, 3))
    return flat, net.relu(flat), net.reshape(t, shape=(2, 2, N, 3, 2)), odd, net.add(odd, net.constant((8, 3)))


@case()
def slices(net: Net) -> tuple[str, ...]:
    x = net.input((N, 9, M))
    return (
        net.slice(x, axis=1, start=1, extent=4, step=2),
        net.slice(x, axis=1, start=8, extent=9, step=-1),
        net.neg(net.slice(x, axis=2, start=M - 1, extent=1)),
        net.slice(net.slice(x, axis=1, start=7, extent=3, step=-2), axis=2, start=0, extent=1),
        net.slice(net.input((M, N)), axis=0, start=M - 1, extent=M, step=-1),
    )


@case()
def expands(net: Net) -> tuple[str, ...]:
    x, s = net.input((N, 1, 5)), net.input(np.array(3.5, "f4"))
    y = net.input((M, 1))
    return (
        net.expand(x, shape=(4, N, M, 5)),
        net.mul(y, x),
        net.expand(s, shape=(3, M)),
        net.add(net.expand(s, shape=(2, 1)), x),
    )


@case(0, 1, 2, -1)
def concats(net: Net, axis: int) -> tuple[str, ...]:
    x, y = net.input((N, 4, M)), net.input((N, 4, M))
    joined = net.concat(x, net.relu(y), net.transpose(net.transpose(x, perm=(2, 1, 0)), perm=(2, 1, 0)), axis=axis)
    return joined, net.neg(joined), net.reduce_sum(net.concat(x, y, axis=axis), axes=(1,))


@case(*itertools.product(("constant", "edge", "reflect"), ("float32", "int64", "bool")))
def pads(net: Net, mode: str, dtype: str) -> tuple[str, ...]:
    x = net.input((N, 5, 17), dtype, 0, 9)
    some = net.pad(x, pads=(0, 2, 3, 0, 1, 4), mode=mode, value=1.0)
    ends = net.pad(x, pads=(0, 0, 0, 0, 4, 0), mode=mode)
    return (
        some,
        ends,
        net.concat(some, some, axis=0),
        net.pad(net.pad(x, pads=(0, 0, 1, 0, 0, 1), mode=mode), pads=(0, 1, 0, 0, 1, 0)),
    )


@case(*itertools.product((0, 1, 2, -1), ("int64", "int32", "int8")))
def gathers(net: Net, axis: int, dtype: str) -> tuple[str, ...]:
    x = net.input((5, 7, 6))
    index, scalar = net.input((N, 3), dtype, -5, 4), net.array(-2, dtype)
    found = net.gather(x, index, axis=axis)
    one = net.gather(x, net.input(np.array(-1, dtype)), axis=axis)
    return (
        found,
        net.relu(found),
        net.gather(net.tanh(x), net.array([0, -1, 2], dtype), axis=axis),
        net.gather(x, scalar, axis=axis),
        one,
    )


@case()
def embedding(net: Net) -> tuple[str, ...]:
    table, place = net.constant((50, 24)), net.constant((40, 24))
    words = net.gather(table, net.input((N, M), "int64", -50, 49), axis=0)
    summed = net.add(words, net.slice(place, axis=0, start=0, extent=M))
    scale, bias = net.constant((24,)), net.constant((24,))
    return (net.layer_norm(summed, scale, bias, axis=-1, epsilon=1e-5),)


@case()
def gather_of_gather(net: Net) -> str:
    inner = net.gather(net.input((9,), "int64", 0, 4), net.input((M,), "int64", -9, 8), axis=0)
    return net.gather(net.input((5, N)), inner, axis=0)


@case()
def sources(net: Net) -> tuple[str, ...]:
    row = net.iota(extent=M)
    x = net.input((N, M))
    causal = net.le(row, net.reshape(net.iota(extent=N), shape=(N, 1)))
    count = net.dim(value=N * M, dtype=DTYPES["f32"])
    return row, net.where(causal, x, net.array(-INF)), net.div(x, count), net.iota(extent=5, dtype=DTYPES["f32"])


@case()
def scalars(net: Net) -> tuple[str, ...]:
    s, t = net.input(np.array(2.5, "f4")), net.input(np.array(-3, "i8"))
    x = net.input((N,))
    total = net.reduce_sum(x, axes=(0,), keepdims=False)
    return (
        net.exp(s),
        net.mul(t, t),
        net.mul(total, s),
        net.reshape(total, shape=(1, 1)),
        net.concat(net.reshape(s, shape=(1,)), x, axis=0),
    )


@case()
def outputs_of_all_sorts(net: Net) -> tuple[str, ...]:
    """An input, a weight, a view, a repeat and a value that others use as well."""
    x, w = net.input((N, 6)), net.constant((3, 4))
    y = net.relu(x)
    flipped = net.transpose(x, perm=(1, 0))
    return x, w, y, y, x, net.neg(y), flipped, net.reshape(y, shape=(6 * N,)), net.exp(flipped), w


@case()
def two_results_of_one_kernel(net: Net) -> tuple[str, ...]:
    x = net.input((N, 33))
    mean = net.reduce_mean(x, axes=(1,))
    centred = net.sub(x, mean)
    return mean, centred, net.relu(centred), net.reduce_max(centred, axes=(1,), keepdims=False)
