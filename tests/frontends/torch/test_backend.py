"""torch.compile with the stratac backend: sizes that vary, parameters that are part of the plan, and errors that name what is missing."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import stratac


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


def test_sizes_that_vary() -> None:
    """One plan for the first size, one for a range, and one more beyond that range."""
    net = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6), torch.nn.GELU()).eval()
    fast = torch.compile(net, backend=stratac.torch_backend)
    with torch.no_grad():
        for batch in (3, 5, 2, 40):
            x = torch.randn(batch, 6)
            assert torch.allclose(fast(x), net(x), atol=1e-6)


def test_several_outputs_and_whole_numbers() -> None:
    def function(x: torch.Tensor, i: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x[i], (x > 0).any(), i + 1, x.t().contiguous()

    x, i = torch.randn(4, 3), torch.tensor([2, 0, 3])
    found = torch.compile(function, backend=stratac.torch_backend, options={"threads": 1})(x, i)
    for have, want in zip(found, function(x, i), strict=True):
        assert have.dtype == want.dtype and torch.equal(have, want)


def test_strided_inputs_and_bfloat16() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x * 2 + 1

    fast = torch.compile(function, backend=stratac.torch_backend)
    x = torch.randn(4, 6).t()[::2]
    assert torch.equal(fast(x), function(x))
    half = torch.arange(8.0).to(torch.bfloat16)
    assert torch.equal(fast(half), function(half))


def test_an_operator_without_a_rule_is_an_error() -> None:
    fast = torch.compile(lambda x: torch.lgamma(x), backend=stratac.torch_backend)
    with pytest.raises(Exception, match=r"aten\.lgamma\.default is not supported"):
        fast(torch.ones(3))


def test_gradients_are_an_error() -> None:
    fast = torch.compile(torch.nn.Linear(3, 3), backend=stratac.torch_backend)
    with pytest.raises(Exception, match="computes no gradients"):
        fast(torch.ones(2, 3))


def test_entry_point() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    points = tomllib.loads(text)["project"]["entry-points"]["torch_dynamo_backends"]
    module, _, name = points["stratac"].partition(":")
    assert getattr(__import__(module, fromlist=[name]), name) is stratac.torch_backend


def test_what_a_module_changes_is_changed_in_torch() -> None:
    """Buffers and inputs that the graph writes to: the module's own, whoever changes them between calls."""

    class Caching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
            self.total += x
            row[0] = x[1]
            return self.total * 2 + row

    module, plain = Caching(), Caching()
    compiled = torch.compile(module, backend=stratac.torch_backend)
    rows = torch.zeros(3), torch.zeros(3)
    for step in range(4):
        x = torch.arange(3.0) + step
        with torch.no_grad():
            assert torch.equal(compiled(x, rows[0]), plain(x, rows[1]))
        assert torch.equal(module.total, plain.total) and torch.equal(*rows)
        if step == 1:
            module.total.fill_(7), plain.total.fill_(7)
