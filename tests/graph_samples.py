"""Many random graphs as a plain list, the same for the same seed: for tests that check a batch of them at once."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from .random_graphs import Sample, random_graphs


def draw_samples(count: int, start: int = 0, **options: Any) -> list[Sample]:
    """`count` samples of `random_graphs(**options)` drawn from seed `start`."""
    found: list[Sample] = []

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(random_graphs(**options))
    def take(sample: Sample) -> None:
        found.append(sample)

    take()
    return found[:count]
