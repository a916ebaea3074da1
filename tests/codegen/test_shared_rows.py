"""Rows that several threads need in tiles are split once for all of them: the bits stay those of one thread, whatever the rows hold, and
only such kernels wait for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stratac.codegen.facts import BFP_MODES, may_share_rows
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.types import TensorType, f32

from .harness import check_bits, check_instructions, tiled
from .test_tiles import MODES, Tiles, convolution, plain

#: blocks of k of every mode: one, two, as many as are shared, and more
DEPTHS = (140, 900, 3072, 3100)


def odd_rows(rng: Any, rows: int, depth: int) -> np.ndarray:
    """Rows with spikes, zeros and what is not finite among them."""
    x = rng.standard_normal((rows, depth)).astype(np.float32)
    x[1, :20] *= 1e6
    x[rows // 2, 3], x[rows - 1, depth - 1] = np.inf, np.nan
    x[rows - 2], x[rows - 3, depth // 2] = 0, 1e30
    return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [33, 100, 150, 256])
def test_products_have_the_bits_of_one_thread(rows: int, mode: str) -> None:
    rng = np.random.default_rng(rows)
    weights = {depth: rng.standard_normal((depth, 200)).astype(np.float32) for depth in DEPTHS}
    inputs = {f"x{depth}": odd_rows(rng, rows, depth) for depth in DEPTHS}
    plan = tiled(plain(DEPTHS, weights, rows), library=Tiles(mode))
    assert plan.levels.kernels.before == set(plan.levels.plan.kernels)
    one = plan.run(inputs, 1)
    for threads in (2, 3, 4, 7):
        check_bits(one, plan.run(inputs, threads), f"{threads} threads give other bits than one")


@pytest.mark.parametrize("mode", MODES)
def test_blocks_of_columns_that_go_out_late_have_the_bits_of_one_thread(mode: str) -> None:
    """With several blocks of the depth, whose rows one thread would split for each block of columns again."""
    rng, rows = np.random.default_rng(3), 70
    weights = {depth: rng.standard_normal((depth, 1100)).astype(np.float32) for depth in (380, 1600)}
    inputs = {f"x{depth}": odd_rows(rng, rows, depth) for depth in weights}
    plan = tiled(plain(list(weights), weights, rows), library=Tiles(mode))
    one = plan.run(inputs, 1)
    check_bits(one, plan.run(inputs, 2), "two threads give other bits than one")


@pytest.mark.parametrize("mode", MODES)
def test_convolutions_have_the_bits_of_one_thread(mode: str) -> None:
    """Of pixels as they lie, and of windows that are gathered."""
    b, rng, outputs, inputs = GraphBuilder(name="c", symbols={}), np.random.default_rng(1), [], {}
    for number, case in enumerate([(200, 200, 1, 1, 0, 1), (150, 200, 1, 2, 0, 1), (40, 200, 3, 2, 1, 1)]):
        inputs[f"x{number}"] = rng.standard_normal((1, case[0], 14, 14)).astype(np.float32)
        outputs.append(
            Port(f"y{number}", convolution(b, rng, b.input(f"x{number}", TensorType(f32, (1, case[0], 14, 14))), case))
        )
    plan = tiled(b.finish(outputs), library=Tiles(mode))
    assert len(plan.levels.kernels.before) == 2 + (mode in BFP_MODES)
    one = plan.run(inputs, 1)
    for threads in (2, 3, 4):
        check_bits(one, plan.run(inputs, threads), f"{threads} threads give other bits than one")


def test_the_instructions_give_the_bits_of_their_emulation(tmp_path: Any) -> None:
    rng = np.random.default_rng(2)
    weights = {depth: rng.standard_normal((depth, 130)).astype(np.float32) for depth in (140, 900)}
    inputs = {f"x{depth}": odd_rows(rng, 70, depth) for depth in weights}
    libraries = {mode: Tiles(mode) for mode in ("bf16", "bfp16")}
    check_instructions(plain(list(weights), weights, 70), inputs, libraries, tmp_path)


def before(graph: Graph, mode: str = "bfp16") -> bool:
    return bool(tiled(graph, library=Tiles(mode)).levels.kernels.before)


def test_kernels_that_share_nothing_do_not_wait() -> None:
    weights = {900: np.ones((900, 64), np.float32)}
    assert [before(plain([900], weights, rows)) for rows in (32, 33, 256, 257)] == [False, True, True, False]
    b = GraphBuilder(name="g", symbols={"rows": Bounds(1, 30, 200)})
    x, weight = b.input("x", TensorType(f32, (symbol("rows"), 900))), b.constant(weights[900])
    assert may_share_rows(symbol("rows")) and before(b.finish([Port("y", b.op("matmul", x, weight))]))
    b = GraphBuilder(name="g", symbols={})  # of a prologue every thread makes its own rows
    x, weight = b.input("x", TensorType(f32, (100, 900))), b.constant(weights[900])
    assert not before(b.finish([Port("y", b.op("matmul", b.op("mul", x, b.constant(np.float32(2))), weight))]))
    b = GraphBuilder(name="g", symbols={})  # several matrices are shared out among threads
    x, weight = b.input("x", TensorType(f32, (3, 100, 900))), b.constant(np.ones((3, 900, 64), np.float32))
    assert not before(b.finish([Port("y", b.op("matmul", x, weight))]))
