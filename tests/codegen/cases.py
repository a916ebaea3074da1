"""Directed cases: small graphs with their inputs, registered under a name, all compiled into one plan for each ISA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, Dim, evaluate_shape, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.types import TensorType, from_numpy

#: Symbols of all cases; `n` may be zero.
SYMBOLS = {"n": Bounds(0, 4, 9), "m": Bounds(1, 8, 40)}
N, M = (symbol(name) for name in SYMBOLS)
SIZES = ({"n": 0, "m": 5}, {"n": 1, "m": 1}, {"n": 3, "m": 17}, {"n": 9, "m": 40})


@dataclass
class Net:
    """A graph under construction that makes its own inputs: a shape with symbols, or an array as it is."""

    builder: GraphBuilder = field(default_factory=lambda: GraphBuilder(name="case", symbols=SYMBOLS))
    specs: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def input(
        self, shape: Sequence[Dim] | np.ndarray, dtype: str = "float32", lo: float = -2.0, hi: float = 2.0
    ) -> str:
        name = f"x{len(self.specs)}"
        if isinstance(shape, np.ndarray):
            self.specs[name] = (shape, None)
            return self.builder.input(name, TensorType(from_numpy(shape.dtype), shape.shape))
        self.specs[name] = (tuple(shape), (dtype, lo, hi))
        return self.builder.input(name, TensorType(from_numpy(np.dtype(dtype)), tuple(shape)))

    def constant(self, shape: Sequence[int], dtype: str = "float32", lo: float = -1.0, hi: float = 1.0) -> str:
        rng = np.random.default_rng(len(self.builder.weights) + 100)
        return self.builder.constant(_random(rng, tuple(shape), dtype, lo, hi))

    def array(self, value: Any, dtype: str = "float32") -> str:
        return self.builder.constant(np.asarray(value, dtype))

    def many(self, op: str, *inputs: str, outputs: int, **attrs: Any) -> tuple[str, ...]:
        return self.builder.all(op, *inputs, outputs=outputs, **attrs)

    def __getattr__(self, op: str) -> Callable[..., str]:
        return lambda *inputs, **attrs: self.builder.op(op.rstrip("_"), *inputs, **attrs)


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, lo: float, hi: float) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind == np.bool_:
        return rng.integers(0, 2, shape).astype(kind)
    if kind.kind in "iu":
        return rng.integers(int(lo), int(hi) + 1, shape).astype(kind)
    return np.asarray(rng.uniform(lo, hi, shape), kind)


@dataclass(frozen=True)
class Case:
    """`tolerance` is absolute and relative; `family` is what the case is expected to use, if that matters."""

    name: str
    graph: Graph
    specs: dict[str, tuple[Any, Any]]
    tolerance: float
    family: str

    def inputs(self, seed: int, sizes: dict[str, int]) -> dict[str, Any]:
        rng = np.random.default_rng(seed)

        return {
            name: shape if facts is None else _random(rng, evaluate_shape(shape, sizes), *facts)
            for name, (shape, facts) in self.specs.items()
        }


CASES: list[Case] = []


def case(
    *options: Any, tolerance: float = 2e-6, family: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of (net, *option) -> output value(s), once for each option (a tuple is several arguments)."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in options or ((),):
            net = Net()
            arguments = option if isinstance(option, tuple) else (option,)
            result = function(net, *arguments)
            outputs = (result,) if isinstance(result, str) else tuple(result)
            graph = net.builder.finish([Port(f"y{i}", v) for i, v in enumerate(outputs)])
            label = "-".join(str(a).replace(" ", "") for a in arguments)
            name = function.__name__ + (f"[{label}]" if label else "")
            CASES.append(Case(name, graph, net.specs, tolerance, family))
        return function

    return register
