"""Many random graphs as a plain list, the same for the same seed: for tests that check a batch of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from .random_graphs import Sample, random_graphs

_SHAPES = ("transpose", "reshape", "expand", "slice", "concat", "pad", "gather")
_POINTWISE = ("exact_unary", "unary", "guarded_unary", "binary", "where")
#: Themes: kinds of ops that meet often enough to be fused with each other.
THEMES: Mapping[str, Mapping[str, Any]] = {
    "anything": {},
    "pictures": {"kinds": ("conv", "pool", "batch_norm", "reduce", *_SHAPES, *_POINTWISE)},
    "products": {"kinds": ("matmul", "attention", "softmax", "norm", "rotary", *_SHAPES[:4], *_POINTWISE)},
    "rows": {"kinds": ("reduce", "softmax", "norm", "arg_reduce", "cumsum", "cast", *_SHAPES[:3], *_POINTWISE)},
    "routines": {
        "kinds": (
            "topk",
            "scatter",
            "scatter_elements",
            "narrowed",
            "library",
            "cumprod",
            "reduce",
            "arg_reduce",
            "cast",
            "compare",
            *_SHAPES,
            *_POINTWISE,
        )
    },
    "copies": {"kinds": (*_SHAPES, "source", "cast", "binary", "compare", "logic", "where", "division")},
}


def draw_samples(count: int, start: int = 0, least: int = 1, **options: Any) -> list[Sample]:
    """`count` samples of `random_graphs(**options)` with `least` nodes or more, drawn from seed `start`."""
    found: list[Sample] = []

    @seed(start)
    @settings(
        max_examples=4 * count + 20,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(random_graphs(**options))
    def take(sample: Sample) -> None:
        if len(found) < count and len(sample.graph.nodes) >= least:
            found.append(sample)

    take()
    return found


def theme_samples(theme: str, count: int, start: int = 0) -> list[Sample]:
    """Samples of one row of THEMES, mostly of more than a few nodes."""
    return draw_samples(count, start, 5, max_nodes=40, **THEMES[theme])
