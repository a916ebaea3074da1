"""Batch norms and channel factors end up in the convolution before them, or as a product and a sum; global pooling reduces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from stratac.tests.passes.test_recompose import S, Sketch, rebuilt

_WINDOW: dict[str, Any] = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}


def _norm(s: Sketch, x: str, channels: int = 4) -> str:
    vectors = [s.weight(channels) for _ in range(3)]
    return s.batch_norm(x, *vectors, s.weight(channels, low=0.5), epsilon=1e-3)


CONVOLUTIONS: dict[str, Callable[[Sketch, str], str]] = {
    "norm": lambda s, x: _norm(s, s.conv(x, s.weight(4, 2, 3, 3), **_WINDOW)),
    "norm after a bias": lambda s, x: _norm(s, s.conv(x, s.weight(4, 2, 3, 3), s.weight(4), **_WINDOW)),
    "norm after a sum": lambda s, x: _norm(s, s.add(s.weight(4, 1, 1), s.conv(x, s.weight(4, 2, 3, 3), **_WINDOW))),
    "factor and sum": lambda s, x: s.add(
        s.mul(s.conv(x, s.weight(4, 1, 3, 3), **_WINDOW, groups=2), s.weight(1, 4, 1, 1)), s.weight(4, 1, 1)
    ),
    "number, sum twice": lambda s, x: s.add(
        s.add(s.div(s.conv(x, s.weight(4, 2, 3, 3), **_WINDOW), 3.0), s.weight(4, 1, 1)), s.weight(1, 4, 1, 1)
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    s = Sketch()
    ops = rebuilt(s.finish(CONVOLUTIONS[name](s, s.input(S, 2, 6, 6))), 1e-5)
    ops.pop("transpose", None)
    assert ops == Counter({"conv": 1, "add": 1})


def test_a_batch_norm_alone_is_a_product_and_a_sum() -> None:
    s = Sketch()
    assert rebuilt(s.finish(_norm(s, s.relu(s.input(S, 4, 6)))), 1e-5) == Counter({"relu": 1, "mul": 1, "add": 1})


def test_a_convolution_with_two_readers_keeps_its_filter() -> None:
    s = Sketch()
    y = s.conv(s.input(S, 2, 6, 6), s.weight(4, 2, 3, 3), **_WINDOW)
    ops = rebuilt(s.finish(_norm(s, y), y), 1e-5)
    assert (ops["conv"], ops["mul"]) == (1, 1)


def test_a_factor_along_another_axis_stays() -> None:
    s = Sketch()
    ops = rebuilt(s.finish(s.mul(s.conv(s.input(S, 2, 6, 6), s.weight(4, 2, 3, 3), **_WINDOW), s.weight(6))), 1e-5)
    assert ops["mul"] == 1


@pytest.mark.parametrize("kernel, pads", [((6, 5), (0, 0, 0, 0)), ((20, 20), (0, 0, 14, 15)), ((9, 6), (2, 1, 1, 0))])
@pytest.mark.parametrize("op, reduction", [("avg_pool", "reduce_mean"), ("max_pool", "reduce_max")])
def test_a_window_over_everything(kernel: tuple[int, ...], pads: tuple[int, ...], op: str, reduction: str) -> None:
    s = Sketch()
    x = s.input(S, 2, 6, 5)
    y = getattr(s, op)(x, kernel=kernel, strides=kernel, pads=pads, dilations=(1, 1))
    assert rebuilt(s.finish(y)) == Counter({reduction: 1})


def test_a_window_over_less_stays() -> None:
    s = Sketch()
    y = s.avg_pool(s.input(S, 2, 6, 5), kernel=(5, 5), strides=(5, 5), pads=(0, 0, 0, 0), dilations=(1, 1))
    z = s.avg_pool(
        s.input(S, 2, 6, 5), kernel=(7, 6), strides=(1, 1), pads=(1, 1, 0, 0), dilations=(1, 1), count_include_pad=True
    )
    assert rebuilt(s.finish(y, z))["avg_pool"] == 2
