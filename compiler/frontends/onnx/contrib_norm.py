"""Rules of normalisations of the com.microsoft domain: with what comes in front of them inside."""

from __future__ import annotations

from ....ir.types import i32, i64
from ..norms import group_norm
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


def _normalised(site: Site, total: str, op: str, *extra: str) -> list[Result]:
    """The norm over the last axis of `total`, and as the fourth output `total` itself."""
    if site.used(1) or site.used(2):
        raise Unsupported("its mean and standard deviation are outputs of training only")
    epsilon = site.get_float("epsilon", 1e-12)
    value = site.emit(op, total, *extra, axis=site.type_of(total).rank - 1, epsilon=epsilon)
    return [value, value, value, total]


@rule("SkipLayerNormalization", domain="com.microsoft")
def skip_layer_normalization(site: Site) -> list[Result]:
    """layer_norm(x + skip + bias) with gamma and beta; inputs: x, skip, gamma, beta, bias."""
    total = site.chain("add", [site.x(i) for i in (0, 1, 4) if i < 2 or site.has(i)])
    return _normalised(site, total, "layer_norm", *(site.x(i) for i in (2, 3) if site.has(i)))


@rule("SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_rms_normalization(site: Site) -> list[Result]:
    """rms_norm(x + skip + bias) with gamma; inputs: x, skip, gamma, bias."""
    total = site.chain("add", [site.x(i) for i in (0, 1, 3) if i < 2 or site.has(i)])
    return _normalised(site, total, "rms_norm", site.x(2))


@rule("EmbedLayerNormalization", domain="com.microsoft")
def embed_layer_normalization(site: Site) -> list[Result]:
    """layer_norm(words + positions + segments); inputs: words, segments, their three tables, gamma, beta, mask, positions. Then the
    number of tokens in each row of the mask, and the sum."""
    batch, length = site.shape(0, 2)
    words = site.emit("gather", site.x(2), site.x(0), axis=0)
    if site.has(8):
        places = site.emit("gather", site.x(3), site.x(8), axis=0)
    else:
        places = site.slice(site.x(3), 0, 0, length)
    parts = [words, places]
    if site.has(1) and site.has(4):
        parts.append(site.emit("gather", site.x(4), site.x(1), axis=0))
    total = site.chain("add", parts)
    epsilon = site.get_float("epsilon", 1e-12)
    results: list[Result] = [site.emit("layer_norm", total, site.x(5), site.x(6), axis=2, epsilon=epsilon)]
    site.attribute("mask_index_type")
    if site.has(7):
        tokens = site.emit("reduce_sum", site.cast(site.x(7), i64), axes=(1,), keepdims=False)
        tokens = site.cast(tokens, i32)
    else:
        tokens = site.expand(site.scalar(0, i32), (batch,))
    return [*results, tokens, total]


def _normalised_groups(site: Site, x: str, gamma: int, beta: int) -> str:
    """x [batch, *extents, channels] (or channels second), each group of channels normalised, then perhaps silu."""
    rank = site.type_of(x).rank
    last = bool(site.get_int("channels_last", 1))
    shape, groups = site.type_of(x).shape, site.get_int("groups")
    if rank < 2:
        raise Unsupported(f"needs channels, got {site.type_of(x)}")
    if last:
        x = site.transpose(x, (0, rank - 1, *range(1, rank - 1)))
    channels = site.type_of(x).shape[1]
    value = group_norm(site, x, groups, site.get_float("epsilon", 1e-5))
    if last:
        value = site.transpose(value, (0, *range(2, rank), 1))
    each = (1,) * (rank - 1) if last else (1,)
    behind = () if last else (1,) * (rank - 2)
    for op, index in (("mul", gamma), ("add", beta)):
        factor = site.reshape(site.cast(site.x(index), site.type().dtype), (*each, channels, *behind))
        value = site.emit(op, value, factor)
    assert site.type_of(value).shape == shape
    return site.emit("silu", value) if site.get_int("activation") else value


@rule("GroupNorm", domain="com.microsoft")
def normalised_groups(site: Site) -> Result:
    return _normalised_groups(site, site.x(), 1, 2)


@rule("SkipGroupNorm", domain="com.microsoft")
def skip_group_norm(site: Site) -> list[Result]:
    """GroupNorm of x + skip + bias, and the sum; inputs: x, gamma, beta, skip [batch, channels] or as x, bias [channels]."""
    shape, last = site.type(0).shape, bool(site.get_int("channels_last", 1))
    skip = site.x(3)
    if site.type(3).rank == 2:
        batch, channels = site.type(3).shape
        ones = (1,) * (len(shape) - 2)
        skip = site.reshape(skip, (batch, *ones, channels) if last else (batch, channels, *ones))
    total = site.emit("add", site.x(0), skip)
    if site.has(4):
        bias = site.x(4) if last else site.reshape(site.x(4), (*site.type(4).shape, *(1,) * (len(shape) - 2)))
        total = site.emit("add", total, bias)
    return [_normalised_groups(site, total, 1, 2), total]
