"""Control flow of exported programs: conditions, loops and scans, held against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stratac.ir.errors import ModelError
from stratac.tests.frontends.torch.programs import compare, evaluated, imported
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

rng = torch.Generator().manual_seed(5)


class Of(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = torch.nn.Parameter(torch.randn(4, 4, generator=rng))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, self.weight)


def check(function: Callable[..., Any], *xs: torch.Tensor) -> Any:
    """The function of x and a parameter gives what torch gives, for every x; the last graph."""
    module = Of(function)
    graph = imported(module, (xs[0],))
    for x in xs:
        with torch.no_grad():
            expected = module(x)
        named = dict(
            zip(
                [port.name for port in graph.outputs],
                expected if isinstance(expected, tuple) else [expected],
                strict=True,
            )
        )
        compare(evaluated(graph, {"x": x}), named)
    return graph


def some(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=rng)


def test_a_condition_on_the_data_chooses() -> None:
    def branch(x: torch.Tensor, w: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x, w: (x @ w, x + 1), lambda x, w: (x - w, x * 2), (x, w))

    graph = check(branch, some(4, 4).abs(), -some(4, 4).abs())
    assert sum(node.op == "where" for node in graph.nodes) == 2


def test_conditions_nest() -> None:
    def inner(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x[0, 0] > 0, torch.sin, torch.cos, (x,))

    check(
        lambda x, w: torch.cond(x.sum() > 0, inner, torch.tanh, (x,)), some(4, 4), -some(4, 4).abs(), some(4, 4).abs()
    )


def test_a_known_condition_takes_one_branch() -> None:
    def branch(x: torch.Tensor, w: torch.Tensor) -> Any:
        return torch.cond(torch.tensor(True), lambda x: x.exp(), lambda x: x.sin(), (x,))

    graph = check(branch, some(2, 3))
    assert [node.op for node in graph.nodes] == ["exp"]


def test_a_counted_loop_is_unrolled() -> None:
    def loop(x: torch.Tensor, w: torch.Tensor) -> Any:
        return while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, (x @ w).tanh()), (torch.tensor(0), x))

    graph = check(loop, some(4, 4))
    assert sum(node.op == "matmul" for node in graph.nodes) == 3


def test_a_scan_is_unrolled() -> None:
    def recurrence(x: torch.Tensor, w: torch.Tensor) -> Any:
        def step(carry: torch.Tensor, row: torch.Tensor) -> Any:
            new = (carry @ w + row).tanh()
            return new, new * 2

        return scan(step, torch.zeros(4), x)

    check(recurrence, some(5, 4))


def test_a_map_is_unrolled() -> None:
    check(lambda x, w: torch_map(lambda row, w: row @ w, x, w), some(3, 4))


def test_a_loop_that_ends_by_its_data_is_refused() -> None:
    def loop(x: torch.Tensor, w: torch.Tensor) -> Any:
        return while_loop(lambda x: x.sum() < 10, lambda x: (x + 1,), (x,))

    with pytest.raises(ModelError, match=r"while_loop.*depends on the data"):
        imported(Of(loop), (some(4, 4),))


def test_problems_inside_are_reported_once() -> None:
    def loop(x: torch.Tensor, w: torch.Tensor) -> Any:
        return scan(lambda c, row: (c + torch.special.i1(row), c.clone()), torch.zeros(4), x)

    with pytest.raises(ModelError) as caught:
        imported(Of(loop), (some(5, 4),))
    assert len(caught.value.problems) == 1 and "special_i1" in str(caught.value)


def test_numpy_sees_the_same() -> None:
    graph = check(lambda x, w: torch.cond((x > 0).all(), lambda x: x.sqrt(), lambda x: x * 1.0, (x,)), some(2, 2))
    with np.errstate(all="ignore"):
        compare(evaluated(graph, {"x": -torch.ones(2, 2)}), {graph.outputs[0].name: -torch.ones(2, 2)})
