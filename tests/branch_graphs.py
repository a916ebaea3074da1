"""Random graphs of branches: values chosen by bools that are found while the graph runs, nested, with work that only one side needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.types import TensorType, bool_, f32

WIDTH = 48
ROWS = symbol("rows")


@dataclass
class Branches:
    """Grows a graph over values of one type, f32[rows, 48]. What it asks is whether sums of values are positive, or an input."""

    rng: np.random.Generator
    builder: GraphBuilder
    flag: str

    def work(self, value: str) -> str:
        """A product, or something cheap."""
        emit, kind = self.builder.op, self.rng.integers(4)
        if kind == 0:
            return emit("tanh", value)
        if kind == 1:
            return emit("softmax", value, axis=1)
        weight = (self.rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32)
        return emit("matmul", value, self.builder.constant(weight))

    def condition(self, value: str) -> str:
        if self.rng.integers(4) == 0:
            return self.flag
        total = self.builder.op("reduce_sum", value, axes=(0, 1), keepdims=False)
        return self.builder.op("gt", total, self.builder.constant(np.float32(0)))

    def value(self, pool: list[str], depth: int) -> str:
        """A value made of those of the pool, which the branches read as well."""
        pool = list(pool)
        for _ in range(self.rng.integers(1, 4)):
            source = pool[self.rng.integers(len(pool))]
            if depth and self.rng.integers(2):
                condition = self.condition(source)
                sides = [self.value(pool, depth - 1) for _ in range(2)]
                if self.rng.integers(3) == 0:
                    sides[self.rng.integers(2)] = source
                pool.append(self.builder.op("where", condition, *sides))
            else:
                pool.append(self.work(source))
        return self.builder.op("add", pool[-1], pool[self.rng.integers(len(pool))])


def branches(seed: int, depth: int = 3) -> Graph:
    """One graph of inputs x: f32[rows, 48] and flag: bool[]."""
    builder = GraphBuilder(name=f"branches_{seed}", symbols={"rows": Bounds(1, 16, 24)})
    x, flag = builder.input("x", TensorType(f32, (ROWS, WIDTH))), builder.input("flag", TensorType(bool_, ()))
    grower = Branches(np.random.default_rng(seed), builder, flag)
    return builder.finish([Port("y", grower.value([x], depth)), Port("z", grower.value([x], depth - 1))])


def branch_inputs(seed: int, rows: int, flag: bool) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).standard_normal((rows, WIDTH)).astype(np.float32)
    return {"x": x, "flag": np.array(flag)}
