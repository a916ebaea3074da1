"""Products and convolutions on tiles, of bf16 and in block floating point, with the instructions emulated: as exact as their modes say, with the same bits at
any number of threads, right about what is not finite, and offered only where a machine has the instructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stratac.codegen.facts import BFP_BYTES, BFP_MODES, PRODUCT_TILES, tile_blocks, tile_extension, tile_least_depth
from stratac.codegen.library import FAMILIES, Library
from stratac.codegen.pack import Layout, narrowed, pack, pack_pieces, packed_bytes, split_bf16
from stratac.compiler.options import EXACT
from stratac.ir.builder import GraphBuilder
from stratac.ir.candidate import MODE_ERRORS, Candidate
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.machine import Machine
from stratac.ir.types import TensorType, f32
from stratac.passes.base import run_passes
from stratac.passes.graph.fuse import fuse
from stratac.passes.pipelines import GRAPH_PASSES

from .harness import ISAS, Compiled, check_bits, check_instructions, machine_for, tiled, with_tiles

MODES = tuple(PRODUCT_TILES)
#: relative L2 distance to the exact product that tests hold a mode to
WITHIN = {"bf16": 1e-2, "bf16x3": 2e-5, "bf16x6": 1e-6, "bfp24": 1e-6, "bfp16": 3e-4}


class Tiles(Library):
    """Offers one mode, in tiles, wherever there is any."""

    def __init__(self, mode: str) -> None:
        super().__init__(max_error=max(MODE_ERRORS.values()))
        extension = tile_extension(PRODUCT_TILES[mode])
        self.names = {row.name for row in FAMILIES if row.mode == mode and row.extension == extension}

    def candidates(self, cluster: Any, graph: Graph, machine: Machine) -> Sequence[Candidate]:
        found = super().candidates(cluster, graph, machine)
        return [c for c in found if c.family in self.names] or [c for c in found if c.mode == "f32"]


def products(depths: Sequence[int], columns: Sequence[int], values: Any) -> tuple[Graph, dict[str, np.ndarray]]:
    """Products over a dim of rows: plain, with an epilogue, with a prologue, and of a left operand that lies the other way round."""
    b = GraphBuilder(name="products", symbols={"rows": Bounds(1, 30, 200)})
    weights, outputs = {}, []
    for depth in depths:
        x = b.input(f"x{depth}", TensorType(f32, (symbol("rows"), depth)))
        turned = b.input(f"t{depth}", TensorType(f32, (depth, symbol("rows"))))
        for wide in columns:
            name = f"{depth}_{wide}"
            weights[name] = values(depth, wide).astype(np.float32)
            weight = b.constant(weights[name])
            y = b.op("matmul", x, weight)
            outputs.append(Port(f"y{name}", b.op("add", y, b.constant(np.float32(0.25))) if wide > 16 else y))
            outputs.append(Port(f"t{name}", b.op("matmul", b.op("transpose", turned, perm=(1, 0)), weight)))
            doubled = b.op("mul", x, b.constant(np.float32(2.0)))
            outputs.append(Port(f"p{name}", b.op("matmul", doubled, weight)))
    return b.finish(outputs), weights


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("isa", ISAS)
def test_products(isa: str, mode: str) -> None:
    rng = np.random.default_rng(3)
    depths = (128, 300, 513, 1025) if mode in BFP_MODES else (16, 31, 33, 200, 800)
    graph, weights = products(depths, (1, 16, 17, 150), lambda *shape: rng.standard_normal(shape))
    plan = tiled(graph, isa, library=Tiles(mode))
    assert plan.families() == {f"matmul_tiles_{mode}"} | (plan.families() & {"loops"})
    for rows in (1, 7, 61, 200):
        inputs = {}
        for port in graph.inputs:
            if port.name.startswith("x"):
                inputs[port.name] = rng.standard_normal((rows, int(port.name[1:]))).astype(np.float32)
                inputs[f"t{port.name[1:]}"] = np.ascontiguousarray(inputs[port.name].T)
        one = plan.run(inputs, 1)
        for threads in (2, 3):
            check_bits(one, plan.run(inputs, threads), f"{threads} threads give other bits than one")
        for name, weight in weights.items():
            x = inputs[f"x{len(weight)}"]
            exact = x.astype(np.float64) @ weight.astype(np.float64)
            scale = np.linalg.norm(x) * np.linalg.norm(weight) / np.sqrt(len(weight))  # usually that of the product
            for kind, wanted in (("y", exact + (0.25 if weight.shape[1] > 16 else 0)), ("t", exact), ("p", 2 * exact)):
                assert np.linalg.norm(one[kind + name] - wanted) / scale < WITHIN[mode], (kind, name, rows)


#: channels in and out, kernel, stride, padding, groups
CONVOLUTIONS = [
    (3, 17, 3, 2, 1, 1),
    (16, 40, 1, 1, 0, 1),
    (33, 16, 1, 1, 0, 1),
    (24, 96, 3, 1, 1, 4),
    (100, 20, 3, 1, 1, 1),
    (64, 40, 3, 1, 1, 1),
    (96, 33, 5, 2, 2, 3),
    (24, 12, 4, 4, 0, 2),
]


def convolution(b: GraphBuilder, rng: Any, x: str, case: tuple[int, ...], dilation: int = 1) -> str:
    """A case of CONVOLUTIONS with filters drawn for it."""
    inside, outside, kernel, stride, pad, groups = case
    weight = b.constant(rng.standard_normal((outside, inside // groups, kernel, kernel)).astype(np.float32))
    sizes = {"strides": (stride,) * 2, "pads": (pad,) * 4, "dilations": (dilation,) * 2, "groups": groups}
    return b.op("conv", x, weight, channels_last=False, **sizes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("isa", ISAS)
def test_convolutions(isa: str, mode: str) -> None:
    b, rng, outputs = GraphBuilder(name="c", symbols={"side": Bounds(7, 9, 20)}), np.random.default_rng(5), []
    side = symbol("side")
    for number, case in enumerate(CONVOLUTIONS):
        x = b.input(f"x{number}", TensorType(f32, (2, case[0], side, side)))
        y = convolution(b, rng, x, case)
        outputs.append(Port(f"y{number}", b.op("relu", y) if number % 2 else y))
    graph = b.finish(outputs)
    plan = tiled(graph, isa, library=Tiles(mode))
    assert f"conv_tiles_{mode}" in plan.families() and (mode in BFP_MODES or "conv" not in plan.families())
    for size in (7, 12, 20):
        inputs = {
            p.name: rng.standard_normal((2, int(str(graph.types[p.value].shape[1])), size, size)).astype("f4")
            for p in graph.inputs
        }
        one, wanted = plan.run(inputs, 1), run(graph, inputs)
        check_bits(one, plan.run(inputs, 3), "three threads give other bits than one")
        for name, array in wanted.items():
            assert np.linalg.norm(one[name] - array) < WITHIN[mode] * np.linalg.norm(array), (name, size)


def plain(depths: Sequence[int], weights: dict[int, np.ndarray], rows: int) -> Graph:
    b = GraphBuilder(name="plain")
    made = []
    for depth in depths:
        x = b.input(f"x{depth}", TensorType(f32, (rows, depth)))
        made.append(Port(f"y{depth}", b.op("matmul", x, b.constant(weights[depth]))))
    return b.finish(made)


def one_chain(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A product whose every sum is one chain of fused multiply-adds in f32, in which a step rounds once."""
    total = np.zeros((len(x), weights.shape[1]), np.float32)
    for column, row in zip(x.T.astype(np.float64), weights.astype(np.float64), strict=True):
        total = (total + np.outer(column, row)).astype(np.float32)
    return total


@pytest.mark.parametrize("spread", ["normal", "positive"])
def test_six_products_are_no_worse_than_multiply_adds(spread: str) -> None:
    """In one chain, that is; and three products are as far off as stated, whatever the depth."""
    rng = np.random.default_rng(11)
    draw = rng.standard_normal if spread == "normal" else rng.random
    depths = (16, 32, 100, 128, 768, 2048, 4096)
    weights = {depth: draw((depth, 48)).astype(np.float32) for depth in depths}
    graph = plain(depths, weights, 40)
    inputs = {f"x{depth}": draw((40, depth)).astype(np.float32) for depth in depths}
    found = {mode: tiled(graph, library=Tiles(mode)).run(inputs) for mode in MODES}
    found["f32"] = {f"y{depth}": one_chain(inputs[f"x{depth}"], weights[depth]) for depth in depths}
    for depth in depths:
        exact = inputs[f"x{depth}"].astype(np.float64) @ weights[depth].astype(np.float64)
        error = {m: np.linalg.norm(y[f"y{depth}"] - exact) / np.linalg.norm(exact) for m, y in found.items()}
        assert error["bf16x6"] < error["f32"], depth
        assert error["bfp24"] < error["f32"] or depth < tile_least_depth(BFP_MODES["bfp24"]), (depth, error)
        assert error["bfp16"] < MODE_ERRORS["bfp16"], (depth, error)
        assert error["bf16x3"] < MODE_ERRORS["bf16x3"] and error["bf16"] < MODE_ERRORS["bf16"], (depth, error)


@pytest.mark.skipif(ISAS[0] != "avx512", reason="tiles come with avx512")
def test_the_instructions_give_the_bits_of_their_emulation(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    depths = (40, 600)
    weights = {depth: rng.standard_normal((depth, 100)).astype(np.float32) for depth in depths}
    inputs = {f"x{depth}": rng.standard_normal((50, depth)).astype(np.float32) for depth in depths}
    inputs["x600"][3, 7] = 1e4
    check_instructions(plain(depths, weights, 50), inputs, {mode: Tiles(mode) for mode in MODES}, tmp_path)


def odd_values(plan: Compiled, weight: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the plan makes of rows, and what f32 does, in double precision and rounded."""
    with np.errstate(all="ignore"):
        wanted = (rows.astype(np.float64) @ weight.astype(np.float64)).astype(np.float32)
    return plan.run({f"x{len(weight)}": rows})[f"y{len(weight)}"], wanted


@pytest.mark.parametrize("mode", ["bf16x3", "bf16x6"])
@pytest.mark.parametrize("isa", ISAS)
def test_what_is_not_finite(isa: str, mode: str) -> None:
    """Infinities, NaN and the greatest floats, on either side and also where they meet zeros, give what they give in f32."""
    rng = np.random.default_rng(1)
    rows, depth = 37, 300
    values = rng.standard_normal((rows, depth)).astype(np.float32)
    weight = rng.standard_normal((depth, 40)).astype(np.float32)
    greatest = np.finfo(np.float32).max
    values[1, 7], values[2, 299], values[3, 0] = np.inf, -np.inf, np.nan
    values[4, 5] = greatest  # its nearest bfloat16 is infinite
    values[5], values[5, 9] = 0.0, greatest
    values[6, :2] = np.inf, -np.inf
    weight[11], weight[12] = 0.0, 0.0
    values[7, 11] = np.inf  # times nothing but zeros
    weight[20, 3], weight[21, 4], weight[22, 5] = np.inf, greatest, np.nan
    values[8], values[8, 21] = 0.0, 1.0  # the greatest float itself
    plan = tiled(plain([depth], {depth: weight}, rows), isa, library=Tiles(mode))
    got, wanted = odd_values(plan, weight, values)
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~finite], wanted[~finite])
    exact = values[8:9].astype(np.float64)[:, 21] * weight[21, 4]
    assert got[8, 4] == np.float32(exact[0]) if mode == "bf16x6" else abs(got[8, 4] / exact[0] - 1) < 2**-15
    with np.errstate(all="ignore"):
        scale = np.abs(values.astype(np.float64)) @ np.where(np.isfinite(weight), np.abs(weight), 0).astype(np.float64)
        off = np.abs(got.astype(np.float64) - wanted)
    assert (off[finite] <= {"bf16x3": 6e-5, "bf16x6": 1e-6}[mode] * scale[finite]).all()
    check_bits({"y": got}, {"y": plan.run({f"x{depth}": values}, 3)[f"y{depth}"]}, "three threads")


@pytest.mark.parametrize("mode", MODES)
def test_the_smallest_values(mode: str) -> None:
    """Denormals are zero; below 2**-110 an operand loses its last parts or bits, but never more than bf16 does."""
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((256, 16)).astype(np.float32)
    plan = tiled(plain([256], {256: weight}, 3), library=Tiles(mode))
    rows = rng.standard_normal((3, 256)) * np.array([[2.0**-100], [2.0**-120], [2.0**-140]])
    got, wanted = odd_values(plan, weight, rows.astype(np.float32))
    errors = [np.linalg.norm(g.astype(np.float64) - w) / np.linalg.norm(w.astype(np.float64)) for g, w in zip(got, wanted, strict=True)]  # fmt: skip
    assert errors[0] < WITHIN[mode] and errors[1] < 6e-3 and not got[2].any()


def test_offered_only_with_the_instructions_and_within_the_error() -> None:
    rng = np.random.default_rng(0)
    graph = plain([32], {32: rng.standard_normal((32, 32)).astype(np.float32)}, 8)
    clusters, machine = fuse(run_passes(graph, GRAPH_PASSES)), machine_for(ISAS[0])
    tiles = with_tiles(machine)
    names = {
        (place.name, bool(place.device("cpu").extensions), error): [
            c.mode for c in Library(max_error=error).candidates(clusters.nodes[0], clusters, place)
        ]
        for place in (machine, tiles)
        for error in (EXACT, 0.0, 1e-5, 1e-2)
    }
    assert all("bf16x6" not in modes for (_, offered, _), modes in names.items() if not offered)
    found = [set(names[(machine.name, True, error)]) for error in (EXACT, 0.0, 1e-5, 1e-2)]
    assert found == [{"f32"}, {"f32", "bf16x6"}, {"f32", "bf16x6", "bf16x3"}, {"f32", "bf16x6", "bf16x3", "bf16"}]
    device = tiles.device("cpu")
    assert {"amx_tile", "amx_bf16"} <= device.features(["bf16x6"]) and "amx_tile" not in device.features(["f32"])
    assert "-mamx-bf16" in device.compiler_flags(["bf16x6"])
    assert {"amx_tile", "amx_int8"} <= device.features(["bfp24"]) and "-mamx-int8" in device.compiler_flags(["bfp16"])
    deep = fuse(run_passes(plain([128], {128: rng.standard_normal((128, 32)).astype(np.float32)}, 8), GRAPH_PASSES))
    for error, offered in (
        (EXACT, {"f32"}),
        (0.0, {"f32", "bf16x6", "bfp24"}),
        (1e-5, {"f32", "bf16x6", "bfp24", "bf16x3"}),
    ):
        assert {c.mode for c in Library(max_error=error).candidates(deep.nodes[0], deep, tiles)} == offered


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("dims", [(1, 7, 33), (2, 32, 32), (3, 70, 100)])
def test_packing(dims: tuple[int, int, int], parts: int) -> None:
    """Element (k, column) stands where csrc/kernels/kernels.h says, and pieces are the whole."""
    array = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
    layout = Layout(32, 0, dims, (dims[1] * dims[2], dims[2], 1), tiles=parts)
    text = str(layout)
    assert Layout.parse(text) == layout and narrowed(text) == min(parts, 2) / 2
    whole = pack(array, text)
    assert whole.size == layout.elements and packed_bytes(text, array.nbytes, 4) == whole.nbytes
    assert np.concatenate(list(pack_pieces(array, text, 256))).tobytes() == whole.tobytes()
    steps, panels = -(-dims[1] // 32), -(-dims[2] // 32)
    chosen = [(0, 0, 0), (dims[0] - 1, dims[1] - 1, dims[2] - 1), (0, 5, 31)]
    if parts == 3:
        floats = whole.reshape(dims[0], panels, steps, 16, 2, 2, 16)
        for matrix, k, column in chosen:
            at = floats[matrix, column // 32, k // 32, k % 32 // 2, column % 32 // 16, k % 2, column % 16]
            assert at == array[matrix, k, column]
        assert np.count_nonzero(floats) == np.count_nonzero(array)
        return
    words = whole.view(np.uint16).reshape(dims[0], panels, steps, parts, 16, 32, 2)
    wanted = split_bf16(array, parts)
    for matrix, k, column in chosen:
        for part in range(parts):
            at = words[matrix, column // 32, k // 32, part, k % 32 // 2, column % 32, k % 2]
            assert at == wanted[part][matrix, k, column]
    assert np.count_nonzero(words) <= parts * array.size


@pytest.mark.parametrize("parts", [1, 3])
def test_packing_of_runs(parts: int) -> None:
    """Each run of K begins with a step: the panels are those of filters with zeros between the runs."""
    filters = np.random.default_rng(0).standard_normal((3, 21, 40)).astype(np.float32)
    layout = Layout(32, 0, (1, 3, 7, 3, 40), (0, 840, 120, 40, 1), tiles=parts, run=21)
    assert Layout.parse(str(layout)) == layout
    apart = np.zeros((3, 32, 40), np.float32)
    apart[:, :21] = filters
    wanted = pack(apart, str(Layout(32, 0, (1, 96, 40), (0, 40, 1), tiles=parts)))
    found = pack(filters, str(layout))
    assert found.size == layout.elements and found.tobytes() == wanted.tobytes()


def test_three_parts_are_the_value() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 100_000, np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = values[np.isnan(values) | (np.abs(values) > 2.0**-110)]
    values = np.concatenate([values, np.array([np.inf, -np.inf, np.nan, 3.4028235e38, -3.4028235e38, 0.0], np.float32)])
    parts = [(p.astype(np.uint32) << np.uint32(16)).view(np.float32) for p in split_bf16(values, 3)]
    np.testing.assert_array_equal((parts[2] + parts[1]) + parts[0], values)
    assert all(np.isfinite(p).all() for p in parts[1:]) and np.isfinite(parts[0]).sum() == np.isfinite(values).sum()


@pytest.mark.parametrize("tiles", BFP_BYTES)
@pytest.mark.parametrize("dims", [(1, 0, 5), (1, 300, 33), (2, 512, 32), (1, 800, 20), (1, 600, 900)])
def test_packing_in_block_floating_point(dims: tuple[int, int, int], tiles: int) -> None:
    """Bytes and units stand where csrc/kernels/kernels.h says and make the elements, and pieces are the whole."""
    rng, slices = np.random.default_rng(0), BFP_BYTES[tiles]
    array = (rng.standard_normal(dims) * 2.0 ** rng.integers(-20, 20, (1, 1, dims[2]))).astype(np.float32)
    if array.size:
        array[0, 3, 1], array[0, 4, 1], array[0, 5, 2] = np.inf, -np.inf, np.nan
        array[0, 6, 0], array[0, :, 3] = 1e-30, np.arange(dims[1])
    layout = Layout(32, 0, dims, (dims[1] * dims[2], dims[2], 1), tiles=tiles)
    text = str(layout)
    assert Layout.parse(text) == layout and narrowed(text) == slices / 4
    whole = pack(array, text)
    assert whole.size == layout.elements and packed_bytes(text, array.nbytes, 4) == whole.nbytes
    assert np.concatenate(list(pack_pieces(array, text, 256))).tobytes() == whole.tobytes()
    each = tile_blocks(1, dims[1], tiles).depth
    panels = whole.view(np.uint8).reshape(dims[0], -(-dims[2] // 32) * 2, -1)
    found, at = np.zeros((dims[0], dims[1], panels.shape[1] * 16)), 0
    for k in range(0, dims[1], each):
        count = min(each, dims[1] - k)
        steps = -(-count // 64)
        block = panels[:, :, at : at + steps * slices * 1024].view(np.int8).astype(np.int32)
        block = block.reshape(*panels.shape[:2], steps, slices, 16, 16, 4)
        q = sum(block[:, :, :, s] << 8 * (slices - 1 - s) for s in range(slices))
        stored = panels[:, :, at + steps * slices * 1024 : at + steps * slices * 1024 + 64].copy().view(np.float32)
        elements = q.transpose(0, 2, 5, 3, 1, 4).reshape(dims[0], steps * 64, -1)[:, :count]
        odd = elements < -sum(127 << 8 * s for s in range(slices))
        assert np.array_equal(odd.any(1), (stored < 0).reshape(dims[0], -1))
        values = np.where(
            odd, np.nan, elements * (np.abs(stored).astype(np.float64) / 256 ** (slices - 1)).reshape(dims[0], 1, -1)
        )
        found[:, k : k + count] = values
        at += steps * slices * 1024 + 64
    assert array.size == 0 or at == panels.shape[2]
    finite, near = np.isfinite(array), found[:, :, : dims[2]]
    assert array.size == 0 or np.array_equal(near[0, :, 3], array[0, :, 3])  # whole numbers
    assert np.isnan(near[~finite]).all() and not found[:, :, dims[2] :].any()
    greatest = np.abs(np.where(finite, array, 0)).max(axis=1, keepdims=True, initial=0.0)
    off = np.abs(np.where(finite, near - array, 0.0))
    assert (off <= greatest * 2.0 ** (2 - 8 * slices)).all() and (near[finite & (array != 0)] != 0).all()


@pytest.mark.parametrize("mode", BFP_MODES)
@pytest.mark.parametrize("isa", ISAS)
def test_rows_with_spikes_in_block_floating_point(isa: str, mode: str) -> None:
    """Elements far above the others of their row take nothing from these, however many there are, and what is not finite gives what it
    gives in f32; a weight is rounded to the greatest of its column in a block."""
    rng = np.random.default_rng(4)
    rows, depth = 40, 700
    values = rng.standard_normal((rows, depth)).astype(np.float32)
    weight = rng.standard_normal((depth, 40)).astype(np.float32)
    for row in range(1, 12):  # a few, on to more than there is room for
        values[row, rng.permutation(depth)[: row * row]] *= 10.0 ** rng.integers(2, 9)
    values[12] = 2.0 ** rng.uniform(-60, 60, depth)
    values[13], values[13, 600] = 0.0, 3.0
    values[14, ::2] = 0.0
    values[15, ::8], values[16] = 0.0, np.where(rng.random(depth) < 0.02, values[16], 0)
    weight[:, 7] = 0.0
    weight[5], values[:20, 5] = 0.0, 1e30  # what is far above the others meets zeros alone
    values[20, 9], values[21, 650], values[22, 0], values[23, 5] = np.inf, -np.inf, np.nan, np.inf
    weight[20, 3], weight[650, 4], weight[22, 5] = np.inf, -np.inf, np.nan
    plan = tiled(plain([depth], {depth: weight}, rows), isa, library=Tiles(mode))
    assert plan.families() == {f"matmul_tiles_{mode}"}
    got, wanted = odd_values(plan, weight, values)
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~finite], wanted[~finite])
    held = np.where(np.isfinite(weight) & finite.any(0), weight, 0).astype(np.float64)
    given = np.where(np.isfinite(values), values, 0).astype(np.float64)
    with np.errstate(all="ignore"):
        off = np.abs(got.astype(np.float64) - wanted)
    bound = (np.abs(given) * (np.abs(given) < 1e29)) @ np.abs(held) + np.linalg.norm(
        given * (np.abs(given) < 1e29), axis=1
    )[:, None] * 4
    assert (off[finite] <= WITHIN[mode] * bound[finite]).all(), (off / bound)[finite].max()
    check_bits({"y": got}, {"y": plan.run({f"x{depth}": values}, 3)[f"y{depth}"]}, "three threads")


@pytest.mark.parametrize("mode", BFP_MODES)
def test_whole_numbers_stay_whole_in_block_floating_point(mode: str) -> None:
    rng = np.random.default_rng(6)
    values, weight = (rng.integers(-100, 101, shape).astype(np.float32) for shape in ((20, 600), (600, 40)))
    got, wanted = odd_values(tiled(plain([600], {600: weight}, 20), library=Tiles(mode)), weight, values)
    np.testing.assert_array_equal(got, wanted)
