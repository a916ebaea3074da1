"""Whole modules through `stratac.compile`: names of inputs and outputs, named axes, state, and what cannot be compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import stratac
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, StratacError
from stratac.tests.frontends.torch.programs import imported

rng = torch.Generator().manual_seed(7)


class Net(torch.nn.Module):
    """Two inputs, one of them nested, and a nested result."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
        self.table = torch.nn.Parameter(torch.randn(1, 16, 8, generator=rng))
        self.drop = torch.nn.Dropout()

    def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor]) -> dict[str, object]:
        hidden = self.drop(self.linear(x)) + self.table[:, : x.shape[1]]
        return {"hidden": hidden, "pair": (hidden.mean(1), hidden * more["scale"].unsqueeze(-1)), "none": None}


def relative(found: np.ndarray, expected: torch.Tensor) -> float:
    want = expected.detach().numpy()
    return float(np.linalg.norm(found - want) / np.linalg.norm(want))


def test_module_with_named_axes(tmp_path: Path) -> None:
    """One plan for all sizes; the range that the table gives `seq` holds without a bound from the user."""
    net, x, scale = Net(), torch.randn(2, 5, 8, generator=rng), torch.randn(2, 5, generator=rng)
    shapes = {"x": {0: "batch", 1: "seq"}, "more": {"scale": {0: "batch", 1: "seq"}}}
    plan = stratac.compile(
        net, tmp_path / "net.plan", args=(x, {"scale": scale}), dynamic_shapes=shapes, dims={"batch": "1:2:4"}
    )
    assert net.training and net.drop.training  # as it was before
    assert [path.name for path in tmp_path.iterdir()] == ["net.plan"]  # the file of parameters is gone
    net.eval()
    with stratac.load(plan) as session:
        assert [port.name for port in session.get_inputs()] == ["x", "more_scale"]
        assert [port.name for port in session.get_outputs()] == ["hidden", "pair_0", "pair_1"]
        assert session.symbols == {"batch": Bounds(1, 2, 4), "seq": Bounds(1, 16, 16)}
        for batch, seq in ((1, 1), (2, 5), (4, 16)):
            x, scale = torch.randn(batch, seq, 8, generator=rng), torch.randn(batch, seq, generator=rng)
            hidden, mean, scaled = session.run(None, {"x": x.numpy(), "more_scale": scale.numpy()})
            want = net(x, {"scale": scale})
            for found, expected in zip((hidden, mean, scaled), (want["hidden"], *want["pair"]), strict=True):
                assert relative(found, expected) < 1e-6


def test_exported_program(tmp_path: Path) -> None:
    """A program with ranges of its own; a dim is called after the first input that has it."""
    batch = torch.export.Dim("batch", min=2, max=6)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.GELU()).eval()
    program = torch.export.export(net, (torch.randn(2, 4),), dynamic_shapes=({0: batch},))
    plan = stratac.compile(program, tmp_path / "p.plan")
    with stratac.load(plan) as session:
        (port,) = session.get_inputs()
        assert session.symbols == {f"{port.name}_0": Bounds(1, 6, 6)}
        x = torch.randn(5, 4, generator=rng)
        assert relative(session.run(None, {port.name: x.numpy()})[0], net(x)) < 1e-6
    with pytest.raises(StratacError, match="already"):
        stratac.compile(program, tmp_path / "q.plan", args=(torch.randn(2, 4),))


def test_large_parameters_are_written_once(tmp_path: Path) -> None:
    """Tied parameters are one weight of the graph; large ones are references into one file."""

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(300, 64)
            self.head = torch.nn.Linear(64, 300, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids))

    from stratac.compiler.frontends.torch import open_program
    from stratac.ir.graph import FileBytes

    graph = open_program(Tied(), (torch.ones(2, 3, dtype=torch.int64),), None, None, tmp_path).graph({}, {})
    (weight,) = graph.weights.values()
    assert isinstance(weight.content, FileBytes) and weight.content.nbytes == 300 * 64 * 4
    assert (tmp_path / weight.content.file).stat().st_size == weight.content.nbytes


class Counter(torch.nn.Module):
    """A running sum from `first` on, and how often it was called."""

    def __init__(self, first: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("total", torch.full((3,), first))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x)
        self.calls += 1
        return self.total * 2


@pytest.mark.parametrize("first", [0.0, 1.5])
def test_changed_buffers_are_state(tmp_path: Path, first: float) -> None:
    module = Counter(first)
    plan = stratac.compile(module, tmp_path / "c.plan", args=(torch.ones(3),))
    with stratac.load(plan) as session:
        assert [port.name for port in session.get_inputs()] == ["x"]
        assert [port.name for port in session.get_outputs()] == ["output"]
        assert [str(port) for port in session.get_states()] == ["total: f32[3]", "calls: i64[]"]
        assert (module.total == first).all()
        for _ in range(2):
            module.load_state_dict({"total": torch.full((3,), first)})
            module.calls.zero_()
            for step in range(1, 4):
                x = np.array([step, 0.25, -1.0], np.float32)
                np.testing.assert_array_equal(session.run(None, {"x": x})[0], module(torch.from_numpy(x)).numpy())
                state = session.state()
                np.testing.assert_array_equal(state["total"], module.total.numpy())
                assert state["calls"] == module.calls == step
            session.reset()


def test_changed_inputs_are_outputs_too(tmp_path: Path) -> None:
    class Appending(torch.nn.Module):
        def forward(self, cache: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            cache[0] = x
            return cache.sum()

    plan = stratac.compile(Appending(), tmp_path / "a.plan", args=(torch.zeros(2, 3), torch.ones(3)))
    with stratac.load(plan) as session:
        assert [port.name for port in session.get_outputs()] == ["output", "cache"]
        total, cache = session.run(None, {"cache": np.ones((2, 3), np.float32), "x": np.full(3, 2.0, np.float32)})
        assert total == 9 and cache.tolist() == [[2.0] * 3, [1.0] * 3]


def test_inputs_tied_to_outputs_are_state(tmp_path: Path) -> None:
    class Step(torch.nn.Module):
        def forward(self, past: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
            present = torch.cat([past[1:], x[None]])
            return {"present": present, "mean": present.mean(0)}

    args = (torch.zeros(4, 2), torch.ones(2))
    plan = stratac.compile(Step(), tmp_path / "s.plan", args=args, states={"past": "present"})
    with stratac.load(plan) as session:
        window = torch.zeros(4, 2)
        for step in range(6):
            x = torch.tensor([float(step), 1.0])
            window = torch.cat([window[1:], x[None]])
            np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], window.mean(0).numpy(), rtol=1e-6)
        np.testing.assert_array_equal(session.state()["past"], window.numpy())
    with pytest.raises(ModelError, match="did you mean 'present'"):
        stratac.compile(Step(), tmp_path / "t.plan", args=args, states={"past": "presen"})


def test_constants_are_compiled_in(tmp_path: Path) -> None:
    class Scaled(torch.nn.Module):
        def forward(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
            return x * factor

    args = (torch.ones(3), torch.ones(1))
    plan = stratac.compile(Scaled(), tmp_path / "s.plan", args=args, constants={"factor": [3.0]})
    with stratac.load(plan) as session:
        assert [port.name for port in session.get_inputs()] == ["x"]
        assert session.run(None, {"x": np.full(3, 2.0, np.float32)})[0].tolist() == [6.0, 6.0, 6.0]


def test_every_problem_is_reported_at_once() -> None:
    """By operator, types and count, with the nearest one that is supported; what only follows is not."""

    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.linalg.svd(x)[1] + torch.linalg.svd(x + 1)[1]
            return torch.nn.functional.relu(y) + torch.lgamma(x).sum()

    with pytest.raises(ModelError) as caught:
        imported(Odd(), (torch.ones(3, 3),))
    text = str(caught.value)
    assert "cannot be imported: 2 problems" in text and caught.value.exit_code == 2
    assert "aten._linalg_svd.default is not supported: (float32[3, 3]) -> 3 outputs at 2 nodes" in text
    assert [problem["count"] for problem in caught.value.facts()["problems"]] == [2, 1]
    assert "aten.lgamma.default is not supported: (float32[3, 3]) -> float32[3, 3]" in text


@pytest.mark.parametrize(
    ("dims", "text"),
    [
        ({}, "dim 'rows' (axis 0 of 'x') is dynamic and has no bounds"),
        ({"rows": Bounds(1, 2, 9), "row": Bounds(1, 2, 9)}, "no dim 'row' at model; did you mean 'rows'?"),
        ({"rows": Bounds(1, 2, 99)}, "the program holds for 0 to 16"),
    ],
)
def test_bounds_that_do_not_fit(dims: dict[str, Bounds], text: str) -> None:
    class Rows(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.ones(16)[: x.shape[0]] if "99" in text or "16" in text else x + 1

    with pytest.raises(ModelError) as caught:
        imported(Rows(), (torch.ones(3),), None, {"x": {0: "rows"}}, dims)
    assert text in str(caught.value)


def test_what_is_no_model() -> None:
    with pytest.raises(StratacError, match="a int is no model"):
        stratac.compile(3)


def test_what_torch_cannot_export() -> None:
    class Branch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match="torch cannot export Branch"):
        imported(Branch(), (torch.ones(3),))


class Parts(dict):  # type: ignore[type-arg]
    """A result whose class says how it is taken apart, but not what its parts are called."""


class GivesParts(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Parts:
        return Parts(first=x + 1, rest=[x * 2, x * 3])


def test_results_of_a_class_without_names_of_parts(tmp_path: Path) -> None:
    pytree = torch.utils._pytree
    pytree.register_pytree_node(
        Parts,
        lambda parts: (list(parts.values()), list(parts)),
        lambda values, keys: Parts(zip(keys, values, strict=True)),
    )
    plan = stratac.compile(GivesParts(), tmp_path / "parts.plan", args=(torch.ones(3),))
    with stratac.load(plan) as session:
        assert [port.name for port in session.get_outputs()] == ["first", "rest_0", "rest_1"]


def test_assertions_hold_or_the_run_fails(tmp_path: Path) -> None:
    class Checked(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._assert_async((x >= 0).all(), "none_below_zero")
            return x * 2

    plan = stratac.compile(Checked(), tmp_path / "checked.plan", args=(torch.ones(4),))
    x = np.arange(4, dtype=np.float32)
    with stratac.load(plan) as session:
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], x * 2)
        with pytest.raises(StratacError, match="none_below_zero"):
            session.run(None, {"x": x - 1})
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], x * 2)


def test_an_assertion_that_never_holds_is_refused() -> None:
    class Wrong(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._assert_async(torch.zeros(()), "one_is_zero")
            return x * 2

    with pytest.raises(ModelError, match="never holds: one_is_zero"):
        imported(Wrong(), (torch.ones(4),))
