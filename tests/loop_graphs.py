"""Random graphs with loops: values carried, swapped, kept as they are, rows put and looked up by the number of the trip, conditions,
branches and loops inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Node, Port, make_attrs
from stratac.ir.types import TensorType, bool_, f32, i64

WIDTH = 20
ROWS = symbol("lines")
KIND = TensorType(f32, (ROWS, WIDTH))
MOST = 9


@dataclass
class Loops:
    """Grows a graph over values of type f32[lines, 20], and `long`, f32[9, 20], which loops look rows up in."""

    rng: np.random.Generator
    builder: GraphBuilder
    long: str
    flag: str
    name: str

    def work(self, value: str, other: str) -> str:
        emit, kind = self.builder.op, self.rng.integers(5)
        if kind == 0:
            return emit("tanh", emit("add", value, other))
        if kind == 1:
            return emit("softmax", emit("sub", value, other), axis=1)
        if kind == 2:
            total = emit("reduce_sum", value, axes=(0, 1), keepdims=False)
            return emit("where", emit("gt", total, self.number(0.0)), self.product(other), emit("sin", value))
        return emit("tanh", self.product(value)) if kind == 3 else emit("mul", value, emit("cos", other))

    def product(self, value: str) -> str:
        weight = (self.rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32)
        return self.builder.op("matmul", value, self.builder.constant(weight))

    def number(self, value: float) -> str:
        return self.builder.constant(np.float32(value))

    def pick(self, pool: list[str]) -> str:
        return pool[int(self.rng.integers(len(pool)))]

    def value(self, pool: list[str], depth: int) -> str:
        pool = list(pool)
        for _ in range(self.rng.integers(1, 4)):
            if depth and self.rng.integers(2):
                pool += self.loop(pool, depth - 1)
            else:
                pool.append(self.work(self.pick(pool), self.pick(pool)))
        return pool[-1]

    def loop(self, pool: list[str], depth: int) -> list[str]:
        """What a loop carried in the end; rows that it put are added up."""
        trips, asks = int(self.rng.integers(1, MOST + 1)), bool(self.rng.integers(2))
        self.name += "i"
        trip = f"trip_{self.name}"
        inner = GraphBuilder(name="body", symbols={**self.builder.symbols, trip: Bounds(0, trips - 1, trips - 1)})
        inside = Loops(self.rng, inner, "", "", self.name)
        count = int(self.rng.integers(1, 4))
        kinds = ([TensorType(bool_, ())] if asks else []) + [KIND] * count + [TensorType(f32, (MOST, WIDTH))]
        found = [inner.state(f"{k}", kind) for k, kind in enumerate(kinds)]
        outside = [self.pick(pool) for _ in range(int(self.rng.integers(0, 3)))]
        given = [inner.input(f"in{k}", KIND) for k in range(len(outside))]
        inside.long = inner.input("long", TensorType(f32, (MOST, WIDTH)))
        inside.flag = inner.input("flag", TensorType(bool_, ()))
        carried = found[len(kinds) - count - 1 : -1]
        row = inner.op("slice", inside.long, axis=0, start=symbol(trip), extent=1)
        values = [*carried, *given, inner.op("expand", row, shape=KIND.shape)]
        made = [inside.value(values, depth) for _ in range(count)]
        swaps = self.rng.integers(4)
        if swaps == 0 and count > 1:
            made = [*carried[1:], carried[0]]
        elif swaps == 1:
            made[0] = carried[0]
        elif swaps == 2 and given:
            made[-1] = given[0]
        self.name = inside.name
        total = inner.op("reduce_sum", made[-1], axes=(0,), keepdims=True)
        index = inner.op("reshape", inner.op("dim", value=symbol(trip), dtype=i64), shape=(1,))
        made.append(inner.op("scatter", found[-1], index, total))
        if asks:
            size = inner.op("reduce_sum", inner.op("mul", made[0], made[0]), axes=(0, 1), keepdims=False)
            made.insert(0, inner.op("lt", size, inner.constant(np.float32(self.rng.uniform(5, 40)))))
        body = inner.finish([], {f"{k}": value for k, value in enumerate(made)})
        starts = [self.flag] if asks else []
        starts += [self.pick(pool) for _ in range(count)]
        starts.append(self.builder.op("expand", self.number(0.0), shape=(MOST, WIDTH)))
        names = tuple(self.builder.fresh() for _ in starts)
        attrs = make_attrs({"trip": trip, "while": asks or None})
        node = Node("loop", (*starts, *outside, self.long, self.flag), names, attrs, graph=body)
        self.builder.add(node)
        sums = self.builder.op("reduce_sum", names[-1], axes=(0,), keepdims=True)
        return [*names[len(kinds) - count - 1 : -1], self.builder.op("expand", sums, shape=KIND.shape)]


def loops(seed: int, depth: int = 2) -> Graph:
    """One graph of inputs x: f32[lines, 20], long: f32[9, 20] and flag: bool[]."""
    builder = GraphBuilder(name=f"loops_{seed}", symbols={"lines": Bounds(1, 5, 7)})
    x, long = builder.input("x", KIND), builder.input("long", TensorType(f32, (MOST, WIDTH)))
    flag = builder.input("flag", TensorType(bool_, ()))
    grower = Loops(np.random.default_rng(seed), builder, long, flag, f"{seed}")
    first = grower.loop([x], depth)
    return builder.finish([Port("y", grower.value([x, *first], depth)), Port("z", first[0])])


def loop_inputs(seed: int, rows: int, flag: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, long = (rng.standard_normal((n, WIDTH)).astype(np.float32) for n in (rows, MOST))
    return {"x": x, "long": long, "flag": np.array(flag)}
