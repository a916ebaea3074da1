"""Mixtures of experts stay whole: the experts of transformers' models are exported as one operator, which has a rule.

Taken apart they are loops over the experts that some token chose, which no exporter can follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ....ir.types import i64
from .. import contents
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

#: classes of activations -> what `moe` calls them
_ACTIVATIONS = {
    **dict.fromkeys(("SiLU", "SiLUActivation"), "silu"),
    **dict.fromkeys(("ReLU", "ReLUActivation"), "relu"),
    **dict.fromkeys(("GELUTanh", "PytorchGELUTanh"), "gelu"),
}


@torch.library.custom_op("stratac::experts", mutates_args=())  # type: ignore[untyped-decorator]
def experts(
    x: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor, up: torch.Tensor, down: torch.Tensor, activation: str
) -> torch.Tensor:
    """x [T, H], the experts chosen for each row [T, k] and their shares [T, k], up [E, 2 F, H] (gate first), down [E, H, F]."""
    function = {"silu": torch.nn.functional.silu, "relu": torch.relu, "gelu": _gelu}[activation]
    rows = torch.einsum("th,efh->tef", x, up)
    gate, linear = rows.chunk(2, -1)
    all_of_them = torch.einsum("tef,ehf->teh", function(gate) * linear, down)
    weights = torch.zeros(len(x), len(up), dtype=x.dtype).scatter(1, chosen, shares.to(x.dtype))
    return torch.einsum("te,teh->th", weights, all_of_them)


def _gelu(x: Any) -> Any:
    return torch.nn.functional.gelu(x, approximate="tanh")


@experts.register_fake  # type: ignore[untyped-decorator]
def _experts_shape(x: Any, chosen: Any, shares: Any, up: Any, down: Any, activation: str) -> Any:
    return torch.empty_like(x)


@contextmanager
def whole_experts(module: Any) -> Iterator[None]:
    """Within, the experts of `module` that the operator can express call it."""
    changed = []
    for part in module.modules():
        activation = _ACTIVATIONS.get(type(getattr(part, "act_fn", None)).__name__)
        plain = getattr(part, "is_concatenated", False) and getattr(part, "has_gate", False)
        odd = any(getattr(part, name, True) for name in ("has_bias", "is_transposed", "has_post_expert_norm"))
        gated = getattr(type(part), "_apply_gate", None)
        if activation and plain and not odd and getattr(gated, "__name__", "") == "_default_apply_gate":
            part.forward = partial(_call, part, activation)
            changed.append(part)
    try:
        yield
    finally:
        for part in changed:
            del part.forward


def _call(part: Any, activation: str, hidden_states: Any, top_k_index: Any, top_k_weights: Any) -> Any:
    return torch.ops.stratac.experts(
        hidden_states, top_k_index, top_k_weights, part.gate_up_proj, part.down_proj, activation
    )


@rule("stratac.experts.default")
def moe(site: Site) -> Result:
    """The shares are spread over all experts; the greatest of them are then those that were chosen."""
    kind, chosen, up = site.type("x"), site.type("chosen"), site.type("up")
    count, both = up.shape[0], up.shape[1]
    top_k = chosen.shape[-1]
    if not isinstance(both, int) or not isinstance(top_k, int):
        raise Unsupported(f"of {up} by {chosen} is not supported")
    index = site.reshape(site.x("chosen", i64), (*chosen.shape, 1))
    share = site.reshape(site.x("shares", kind.dtype), (*chosen.shape, 1))
    here = site.emit("eq", index, site.data(contents.arange(i64, 0, 1, count)))
    spread = site.emit("where", here, share, site.scalar(0.0, kind.dtype))
    spread = site.emit("reduce_sum", spread, axes=(1,), keepdims=False)
    gate = site.slice(site.x("up"), 1, 0, both // 2)
    linear = site.slice(site.x("up"), 1, both // 2, both // 2)
    matrices = (gate, site.x("down"), linear)
    activation = str(site.get("activation"))
    return site.emit("moe", site.x("x"), spread, *matrices, top_k=top_k, activation=activation, normalize=False)
