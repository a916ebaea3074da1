"""Rules of mixtures of experts."""

from __future__ import annotations

from ....ir.dims import product
from ....ir.rules import MOE_ACTIVATIONS
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


@rule("MoE", domain="com.microsoft")
def moe(site: Site) -> Result:
    """x [.., hidden], router logits [rows, experts], fc1 [E, inner (twice for swiglu), hidden], bias, fc2 [E, hidden, inner], bias,
    optional fc3 as fc1. The runtime that defines it takes a softmax of the logits first."""
    if any(site.has(index) for index in (3, 5, 7)):
        raise Unsupported("biases of experts are not supported yet")
    activation, fused = site.get_str("activation_type", "relu"), site.get_int("swiglu_fusion")
    if activation == "swiglu":
        if (
            site.get_float("swiglu_limit", float("inf")) != float("inf")
            or site.get_float("activation_alpha", 1.0) != 1.0
        ):
            raise Unsupported("swiglu with a limit or an alpha is not supported yet")
        activation = "silu"
    elif fused:
        raise Unsupported(f"swiglu_fusion = {fused} with the activation {activation!r}")
    if activation not in MOE_ACTIVATIONS:
        raise Unsupported(
            f"activation_type {activation!r} is not supported", f"use {', '.join(MOE_ACTIVATIONS)} or swiglu"
        )
    if site.get_int("use_sparse_mixer"):
        raise Unsupported("use_sparse_mixer = 1 is not supported yet")
    shape = site.shape_from(0, 1)
    x = site.reshape(site.x(0), (product(shape[:-1]), shape[-1]))
    shares = site.emit("softmax", site.x(1), axis=1)
    up, down = site.x(2), site.x(4)
    matrices = [up, down, *([site.x(6)] if site.has(6) else [])]
    if fused:
        gate, linear = _halves(site, up, fused)
        matrices = [gate, down, linear]
    value = site.emit(
        "moe",
        x,
        shares,
        *matrices,
        top_k=site.get_int("k", 1),
        activation=activation,
        normalize=bool(site.get_int("normalize_routing_weights")),
    )
    return site.reshape(value, shape)


def _halves(site: Site, up: str, fused: int) -> tuple[str, str]:
    """Gate and linear matrices out of one: rows in turn (1), or one after the other (2)."""
    experts, both, width = site.shape(2, 3)
    if not isinstance(both, int) or both % 2 or fused not in (1, 2):
        raise Unsupported(f"swiglu_fusion = {fused} of {site.type_of(up)}")
    half = both // 2
    if fused == 2:
        return site.slice(up, 1, 0, half), site.slice(up, 1, half, half)
    pairs = site.reshape(up, (experts, half, 2, width))
    parts = [site.reshape(site.slice(pairs, 2, at, 1), (experts, half, width)) for at in (0, 1)]
    return parts[0], parts[1]
