"""Products, windows and composites for random graphs; see random_values and random_ops."""

from __future__ import annotations

import math

from stratac.ir.dims import Expr, product

from .random_ops import builder
from .random_values import UNIT, Maker, Value, is_float


def _product_error(count: int, a: Value, b: Value) -> float:
    """The error of a sum of `count` products, whatever the order of summation."""
    return count * (a.size * b.err + b.size * a.err + math.sqrt(count) * UNIT * a.size * b.size)


@builder
def matmul(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.rank > 0)
    if x is None:
        return None
    inner, count = x.shape[-1], m.most(x.shape[-1])
    scale = 1 / max(1.0, math.sqrt(count))
    if isinstance(inner, Expr) or (x.rank > 1 and m.integer(0, 3) == 3):
        # a Gram matrix x @ x^T, or x times another value
        other = m.pick(lambda v: is_float(v) and v.rank > 1 and v.shape[-2] == inner and v is not x)
        if other is None or m.flag():
            if x.rank < 2:
                return None
            perm = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
            other = m.add("transpose", x, lo=x.lo, hi=x.hi, err=x.err, perm=perm)
            if other is None:
                return None
    else:
        batch = [d for d in x.shape[:-2] if isinstance(d, int)] if x.rank > 2 and m.flag() else []
        columns = m.choice((1, 3, 8, 17))
        shape = ([*batch] if len(batch) == x.rank - 2 else []) + [inner, columns]
        if x.rank > 1 and m.integer(0, 7) == 7:
            shape = [inner]
        if len(shape) == 2 and m.flag():
            other = m.transposed(shape, (1, 0), -scale, scale)
        else:
            other = m.constant(shape, -scale, scale)
    total = count * x.size * other.size
    return m.try_add("matmul", x, other, lo=-total, hi=total, err=_product_error(count, x, other))


def _image(m: Maker, channels_last: bool) -> Value | None:
    """A value that can pass for images or signals: rank 3 or 4, constant channels."""
    axis = -1 if channels_last else 1
    return m.pick(lambda v: is_float(v) and v.rank in (3, 4) and isinstance(v.shape[axis], int))


def _window(m: Maker, x: Value, channels_last: bool, kernels: tuple[int, ...]) -> dict[str, tuple[int, ...]] | None:
    """Kernel, strides, pads and dilations that fit at the least extents."""
    spatial = x.shape[1:-1] if channels_last else x.shape[2:]
    kernel = tuple(m.choice(kernels) for _ in spatial)
    dilations = tuple(2 if m.integer(0, 3) == 3 else 1 for _ in spatial)
    pads = tuple(m.integer(0, min(1, k - 1)) for k in kernel * 2)
    n = len(spatial)
    for i, extent in enumerate(spatial):
        least = m.least(extent)
        if least + pads[i] + pads[i + n] < dilations[i] * (kernel[i] - 1) + 1:
            return None
        if dilations[i] > least:
            return None  # a window could step over the whole input and see padding only: minus infinity for max_pool
    return {
        "kernel": kernel,
        "strides": tuple(m.choice((1, 2)) for _ in spatial),
        "pads": pads,
        "dilations": dilations,
    }


@builder
def conv(m: Maker) -> Value | None:
    channels_last = m.integer(0, 3) == 3
    x = _image(m, channels_last)
    window = _window(m, x, channels_last, (1, 2, 3)) if x else None
    if x is None or window is None:
        return None
    kernel, channels = window.pop("kernel"), x.shape[-1] if channels_last else x.shape[1]
    assert isinstance(channels, int)
    groups = m.choice([g for g in (1, 2, channels) if channels % g == 0])
    outputs = groups * m.choice((1, 2, 4) if groups > 1 else (1, 3, 8))
    count = channels // groups * math.prod(kernel)
    scale = 1 / math.sqrt(count)
    shape = (outputs, channels // groups, *kernel)
    if m.flag():
        w = m.constant(shape, -scale, scale)
    else:
        w = m.transposed(shape, (1, 0, *range(2, len(shape))), -scale, scale)
    bias = m.constant((outputs,)) if m.flag() else None
    total = count * x.size * w.size + (bias.size if bias else 0)
    inputs = (x, w, bias) if bias else (x, w)
    facts = {**window, "groups": groups, "channels_last": channels_last}
    return m.rounded("conv", *inputs, lo=-total, hi=total, err=_product_error(count, x, w), **facts)


@builder
def pool(m: Maker) -> Value | None:
    channels_last = m.integer(0, 3) == 3
    x = _image(m, channels_last)
    window = _window(m, x, channels_last, (2, 3)) if x else None
    if x is None or window is None:
        return None
    if m.flag():
        return m.add("max_pool", x, lo=x.lo, hi=x.hi, err=x.err, channels_last=channels_last, **window)
    lo, hi = min(x.lo, 0), max(x.hi, 0)
    facts = {**window, "channels_last": channels_last, "count_include_pad": m.flag()}
    return m.rounded("avg_pool", x, lo=lo, hi=hi, err=x.err + 9 * UNIT * x.size, **facts)


@builder
def softmax(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.rank > 0)
    if x is None:
        return None
    axis = m.integer(-x.rank, x.rank - 1)
    count = m.most(x.shape[axis])
    err = 2 * x.err + 2 * UNIT * (x.hi - x.lo) + count * UNIT
    if m.flag():
        return m.rounded("softmax", x, lo=0, hi=1, err=err, axis=axis)
    return m.rounded("log_softmax", x, lo=-(x.hi - x.lo) - math.log(count), hi=0, err=err, axis=axis)


@builder
def norm(m: Maker) -> Value | None:
    """layer_norm and rms_norm; the large epsilon keeps the slope below 2 * scale / sqrt(epsilon)."""
    x = m.pick(lambda v: is_float(v) and v.rank > 0)
    if x is None:
        return None
    axis = m.integer(0, x.rank - 1)
    count = m.most(product(x.shape[axis:]))
    scale = m.constant(m.fitting(x.shape[axis:]), 0.5, 1.5)
    top = 1.5 * min(math.sqrt(count), 2 * x.size / math.sqrt(0.05))
    err = 1.5 * 2 / math.sqrt(0.05) * (x.err + math.sqrt(count) * UNIT * x.size) * 2
    facts = {"axis": axis - x.rank if m.flag() else axis, "epsilon": 0.05}
    if m.flag():
        return m.rounded("rms_norm", x, scale, lo=-top, hi=top, err=err, **facts)
    if m.flag():
        return m.rounded("layer_norm", x, scale, lo=-top, hi=top, err=err, **facts)
    bias = m.constant(m.fitting(x.shape[axis:]))
    return m.rounded("layer_norm", x, scale, bias, lo=-top - 1, hi=top + 1, err=err, **facts)


@builder
def batch_norm(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.rank > 1 and isinstance(v.shape[1], int))
    if x is None or not isinstance(x.shape[1], int):
        return None
    channels = (x.shape[1],)
    scale, variance = m.constant(channels, 0.5, 1.5), m.constant(channels, 0.5, 1.5)
    bias, mean = m.constant(channels), m.constant(channels)
    top = (x.size + 1) * 1.5 / math.sqrt(0.5) + 1
    err = 2.2 * x.err + 4 * UNIT * top
    return m.rounded("batch_norm", x, scale, bias, mean, variance, lo=-top, hi=top, err=err, epsilon=1e-5)


@builder
def rotary(m: Maker) -> Value | None:
    x = m.pick(lambda v: is_float(v) and v.rank > 0 and isinstance(v.shape[-1], int) and v.shape[-1] % 2 == 0)
    if x is None:
        return None
    shape = m.fitting(x.shape)
    cos, sin = m.constant(shape), m.constant(shape)
    return m.rounded("rotary", x, cos, sin, lo=-2 * x.size, hi=2 * x.size, err=2 * x.err, interleaved=m.flag())


@builder
def attention(m: Maker) -> Value | None:
    """Queries from a value; keys and values the same value, or constants with fewer heads."""
    q = m.pick(lambda v: is_float(v) and v.rank == 4 and isinstance(v.shape[1], int) and v.size <= 8)
    if q is None or not isinstance(q.shape[1], int):
        return None
    batch, heads, queries, width = q.shape
    k = v = q
    if isinstance(batch, int) and isinstance(width, int) and m.flag():
        groups = m.choice([g for g in (1, heads) if heads % g == 0])
        keys = m.integer(1, 5)
        k, v = m.constant((batch, groups, keys, width)), m.constant((batch, groups, keys, m.choice((width, 3))))
    causal = m.flag() and k is q
    mask = m.constant(m.fitting((batch, heads, queries, k.shape[2])), -2, 2) if m.flag() else None
    deep = m.most(width)
    scale = 0.5 / math.sqrt(deep)
    scores = scale * _product_error(deep, q, k) + UNIT * (scale * deep * q.size * k.size + 2)
    err = 2 * scores * v.size + v.err + m.most(k.shape[2]) * UNIT * v.size
    inputs = (q, k, v, mask) if mask else (q, k, v)
    return m.rounded("attention", *inputs, lo=v.lo, hi=v.hi, err=err, scale=scale, causal=causal)
