"""Meanings of the composites: computed in float64 throughout and rounded once."""

from __future__ import annotations

import numpy as np

from .registry import Array, meaning, rounded, wide


def softmax64(x: Array, axis: int) -> Array:
    """Softmax in float64."""
    shifted = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return np.asarray(shifted / np.sum(shifted, axis=axis, keepdims=True))


@meaning("softmax")
def softmax(x: Array, *, axis: int) -> Array:
    return rounded(softmax64(wide(x), axis), x)


@meaning("log_softmax")
def log_softmax(x: Array, *, axis: int) -> Array:
    shifted = wide(x) - np.max(wide(x), axis=axis, keepdims=True, initial=-np.inf)
    return rounded(shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)), x)


@meaning("layer_norm")
def layer_norm(x: Array, scale: Array, bias: Array | None = None, *, axis: int, epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on; Ba et al., 2016."""
    w, axes = wide(x), tuple(range(axis % x.ndim, x.ndim))
    centred = w - np.mean(w, axis=axes, keepdims=True)
    variance = np.mean(centred * centred, axis=axes, keepdims=True)
    result = centred / np.sqrt(variance + epsilon) * wide(scale)
    return rounded(result if bias is None else result + wide(bias), x)


@meaning("rms_norm")
def rms_norm(x: Array, scale: Array, *, axis: int, epsilon: float) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * scale over the axes from `axis` on; Zhang and Sennrich, 2019."""
    w, axes = wide(x), tuple(range(axis % x.ndim, x.ndim))
    return rounded(w / np.sqrt(np.mean(w * w, axis=axes, keepdims=True) + epsilon) * wide(scale), x)


@meaning("batch_norm")
def batch_norm(x: Array, scale: Array, bias: Array, mean: Array, variance: Array, *, epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias for each channel (axis 1); Ioffe and Szegedy, 2015."""
    s, b, m, v = (wide(a).reshape(-1, *(1 for _ in x.shape[2:])) for a in (scale, bias, mean, variance))
    return rounded((wide(x) - m) / np.sqrt(v + epsilon) * s + b, x)


@meaning("rotary")
def rotary(x: Array, cos: Array, sin: Array, *, interleaved: bool) -> Array:
    """Rotates the pairs (x[i], x[i + half]), or (x[2i], x[2i + 1]) if interleaved; Su et al., RoFormer, 2021."""
    w = wide(x)
    if interleaved:
        turned = np.stack([-w[..., 1::2], w[..., 0::2]], axis=-1).reshape(w.shape)
    else:
        half = x.shape[-1] // 2
        turned = np.concatenate([-w[..., half:], w[..., :half]], axis=-1)
    return rounded(w * wide(cos) + turned * wide(sin), x)
