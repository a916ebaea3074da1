"""Rules of linear attention and of the causal convolution that stands in front of it, each with a state from step to step."""

from __future__ import annotations

import math

from ....ir.dims import exact_div
from ....ir.types import f32
from .. import contents
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

#: Which inputs an update rule has: a decay, a rate.
_RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}


def _heads(site: Site, index: int, heads: int) -> str:
    """[batch, steps, heads * size] as [batch, steps, heads, size], in f32."""
    type = site.type(index)
    size = exact_div(type.shape[2], heads) if type.rank == 3 and heads > 0 else None
    if size is None:
        raise Unsupported(f"input {index} of type {type} does not split into {heads} heads")
    return site.cast(site.reshape(site.x(index), (*type.shape[:2], heads, size)), f32)


@rule("LinearAttention")
@rule("LinearAttention", domain="com.microsoft")
def linear_attention(site: Site) -> list[Result]:
    """Inputs: query, key, value, state, decay (whose exponential the state is multiplied by), rate; computed in f32."""
    name = site.get_str("update_rule", "gated_delta")
    if name not in _RULES or (site.has(4), site.has(5)) != _RULES[name]:
        raise Unsupported(f"update_rule {name!r} does not go with the inputs there are")
    if site.get_int("state_window"):
        raise Unsupported("state_window is not supported yet")
    site.attribute("chunk_size")  # a hint
    heads, groups = site.get_int("q_num_heads"), site.get_int("kv_num_heads")
    q, k, v = _heads(site, 0, heads), _heads(site, 1, groups), _heads(site, 2, groups)
    scale, size = site.get_float("scale"), site.type_of(q).shape[3]
    if not scale:
        if not isinstance(size, int) or size < 1:
            raise Unsupported(f"the head size {size} must be constant and positive")
        scale = 1.0 / math.sqrt(size)
    state = site.cast(site.x(3), f32) if site.has(3) else ""
    factor = site.emit("exp", _heads(site, 4, groups)) if site.has(4) else ""
    rate = site.cast(site.x(5), f32) if site.has(5) else ""
    inputs = [q, k, v, factor, rate, state]
    while not inputs[-1]:
        inputs.pop()
    value, after = site.emit_all("linear_attention", *inputs, outputs=2, scale=scale)
    batch, steps, most, width = site.type_of(value).shape
    value = site.cast(site.reshape(value, (batch, steps, most * width)), site.type().dtype)
    return [value, site.cast(after, site.type(3 if site.has(3) else 0).dtype)]


@rule("CausalConvWithState")
@rule("CausalConvWithState", domain="com.microsoft")
def causal_conv(site: Site) -> list[Result]:
    """Inputs: x [batch, channels, length], filter [channels, 1, taps], bias, and what came before, [batch, channels, reach]."""
    if site.get_int("channels_last") or site.get_int("state_window") or site.get_int("ndim", 1) != 1:
        raise Unsupported("channels_last, state_window and more axes than one are not supported yet")
    activation, dilation = site.get_str("activation", "none"), site.get_int("dilation", 1)
    if activation not in ("none", "silu", "swish", ""):
        raise Unsupported(f"activation {activation!r} is not supported")
    x, (batch, channels, length), taps = site.x(), site.shape(0, 3), site.shape(1, 3)[2]
    if not isinstance(taps, int) or not isinstance(channels, int) or taps < 1 or dilation < 1:
        raise Unsupported(f"{taps} taps {dilation} apart and {channels} channels must be constant and positive")
    reach, pads = (taps - 1) * dilation, 0
    if site.has(3):
        x = site.emit("concat", site.x(3), x, axis=2)
    elif site.used(1):
        zeros = site.data(contents.full(site.type().dtype, (batch, channels, reach), 0))
        x = site.emit("concat", zeros, x, axis=2)
    else:
        pads = reach
    inputs = [x, site.x(1), *([site.x(2)] if site.has(2) else [])]
    value = site.emit("conv", *inputs, strides=(1,), pads=(pads, 0), dilations=(dilation,), groups=channels)
    if activation in ("silu", "swish"):
        value = site.emit("silu", value)
    if not site.used(1):
        return [value]
    return [value, site.slice(x, 2, length, reach)]
