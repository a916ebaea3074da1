"""Lookups that read rows from storage: which clusters they can run, and that the generated C copies the right rows."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stratac.codegen.compilers import find_compiler
from stratac.codegen.families.rows import RowsFamily, lookup_of, storage_bytes
from stratac.codegen.library import Library
from stratac.codegen.toolchain import CSRC
from stratac.ir.builder import GraphBuilder
from stratac.ir.candidate import Candidate
from stratac.ir.dims import Bounds, symbol
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.machine import Tier
from stratac.ir.plan import READ_ALIGNMENT, REQUEST_BYTES, REQUEST_DEPTH
from stratac.ir.types import DType, TensorType, f32, f64, i8, i32, i64
from stratac.passes.base import run_passes
from stratac.passes.graph.fuse import fuse
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES, storage_passes
from stratac.passes.place.cost import lookup_seconds, price
from stratac.tests.codegen.harness import ISAS, machine_for

B, S = symbol("b"), symbol("s")
SYMBOLS = {"b": Bounds(1, 2, 4), "s": Bounds(1, 3, 9)}

STORAGE = """
#include <string.h>
#include "include/kernel_abi.h"
#include "kernels/scalar_ops.h"
struct st_source {{ const char *bytes; uint64_t size, reads; }};
const int64_t st_plan_workspace = {workspace};
void st_source_rows(const st_source *source, const st_row *rows, int count, uint64_t bytes, void *bounce, int part)
{{
    (void)part;
    memset(bounce, 1, ST_SOURCE_BATCH * st_source_bounce(bytes));
    for (int i = 0; i < count; i++) {{
        ((st_source *)source)->reads++;
        if (rows[i].offset <= source->size && bytes <= source->size - rows[i].offset)
            memcpy(rows[i].to, source->bytes + rows[i].offset, bytes);
    }}
}}
{text}
"""


class Source(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_void_p), ("size", ctypes.c_uint64), ("reads", ctypes.c_uint64))


def lookup(shape: tuple[int, ...], kind: DType = f32, ids: DType = i64, axis: int = 0, after: str = "") -> Graph:
    """Rows of a table by ids of shape [b, s]."""
    b = GraphBuilder(symbols=SYMBOLS)
    x = b.input("ids", TensorType(ids, (B, S)))
    table = b.constant(np.random.default_rng(0).uniform(-99, 99, shape).astype(kind.np))
    y = b.op("gather", table, x, axis=axis)
    return b.finish([Port("y", b.op(after, y) if after else y)])


def clusters(graph: Graph, lookup_bytes: int = 0) -> Graph:
    return fuse(run_passes(graph, GRAPH_PASSES), lookup_bytes=lookup_bytes)


def rows_candidates(graph: Graph, storage: bool = True, disk: bool = True) -> list[Candidate]:
    """Of a machine with a disk, or without."""
    library, machine = Library(storage=storage), machine_for(ISAS[0])
    tiers = [t for t in machine.tiers if t.kind != "disk"] + [Tier("disk", 1 << 40, 1e9, 1e9, "disk", 1e-4)] * disk
    machine = replace(machine, tiers=tuple(tiers))
    found = [c for node in graph.nodes for c in library.candidates(node, graph, machine)]
    return [c for c in found if c.family == "rows"]


def execute(graph: Graph, ids: np.ndarray, folder: Path, parts: int) -> np.ndarray:
    """Compile the only cluster's C against a storage that is memory, and run it in parts."""
    (node,) = graph.nodes
    device = machine_for(ISAS[0]).device("cpu")
    kernel = Library().kernels(node, graph)[0]
    family = RowsFamily()
    emitted = family.emit(kernel, "lookup", frozenset(), graph.symbols, device)
    share = emitted.workspace
    (folder / "k.c").write_text(STORAGE.format(workspace=share, text=emitted.text))
    flags = ["-std=c11", "-O1", "-fPIC", "-shared", "-fsanitize=undefined", "-Wall", "-Werror", f"-I{CSRC}"]
    command = [find_compiler().path, *flags, "-o", folder / "k.so", folder / "k.c", "-Wno-unused-function"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(folder / "k.so"))
    (table,) = (np.frombuffer(w.content.data, w.type.dtype.np) for w in graph.weights.values())
    shape = (*ids.shape, *next(iter(graph.weights.values())).type.shape[1:])
    out = np.full(shape, 77, table.dtype)
    source = Source(table.ctypes.data, table.nbytes, 0)
    workspace = np.full(share * parts + 64, 7, np.uint8)  # the end is looked at below
    places: dict[str, int] = {v: ctypes.addressof(source) for v in graph.weights}
    places |= {graph.inputs[0].value: ids.ctypes.data, graph.outputs[0].value: out.ctypes.data}
    values = [workspace.ctypes.data, *(places[v] for v in (*node.used, *node.outputs))]
    args = (ctypes.c_void_p * len(values))(*values)
    dims = (ctypes.c_int64 * 2)(*ids.shape)
    for part in range(parts):
        library.lookup(args, dims, part, parts)
    assert source.reads == ids.size
    assert (workspace[-64:] == 7).all(), "the kernel lends more than its share of the workspace"
    return out


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "shape, kind, ids",
    [
        ((100, 16), f32, i64),
        ((500, 1600), f32, i32),
        ((9, 5000), f64, i64),
        ((40, 3, 7), f32, i64),
        ((300, 5), i8, i64),
    ],
)
def test_rows_are_those_of_the_interpreter(
    tmp_path: Path, shape: tuple[int, ...], kind: DType, ids: DType, parts: int
) -> None:
    graph = clusters(lookup(shape, kind, ids))
    rng = np.random.default_rng(1)
    numbers = rng.integers(-shape[0], shape[0], (4, 9)).astype(ids.np)
    numbers[0, :3] = (0, shape[0] - 1, -shape[0])
    got = execute(graph, numbers, tmp_path, parts)
    assert got.tobytes() == run(graph, {"ids": numbers})["y"].tobytes()


def test_a_wrong_number_never_leaves_the_table(tmp_path: Path) -> None:
    graph = clusters(lookup((50, 8)))
    numbers = np.array([[10**12, -(10**12), 50, -51]], np.int64)
    got = execute(graph, numbers, tmp_path, 1)
    table = np.frombuffer(next(iter(graph.weights.values())).content.data, "f4").reshape(50, 8)
    assert np.array_equal(got[0], table[[49, 0, 49, 0]])


def test_the_candidate_says_what_it_reads() -> None:
    graph = clusters(lookup((1000, 1600)))
    (found,) = rows_candidates(graph)
    assert found.direct == tuple(graph.weights) and found.formats == ()
    terms = dict(found.work.terms)
    assert terms["rows_read"] == 6 and terms["row_bytes"] == 8192 + READ_ALIGNMENT == storage_bytes(6400)
    assert found.work.workspace >= storage_bytes(6400) + READ_ALIGNMENT
    assert rows_candidates(graph, disk=False) == [], "nothing is read from storage there"
    assert rows_candidates(graph, storage=False) == [], "only plans that keep weights in storage are offered it"


def test_lookups_cost_a_wait_for_each_batch() -> None:
    """Each thread waits for its rows one after the other; many threads share the disk's bandwidth."""
    (found,) = rows_candidates(clusters(lookup((1000, 1600))))
    machine = machine_for(ISAS[0])
    tiers = [t for t in machine.tiers if t.kind != "disk"] + [Tier("disk", 1 << 40, 1e9, 1e9, "disk", 1e-4)]
    machine = replace(machine, tiers=tuple(tiers))
    disk = 6 * storage_bytes(6400) / 1e9
    wait = 1e-4 + REQUEST_DEPTH * REQUEST_BYTES / 1e9
    assert lookup_seconds(found, machine, 1) == lookup_seconds(found, machine, 4) == pytest.approx(wait + disk)
    many = replace(found, work=replace(found.work, terms=(*found.work.terms, ("rows_read", 320.0))))
    assert lookup_seconds(many, machine, 1) == pytest.approx(5 * wait + disk * 320 / 6)
    assert lookup_seconds(many, machine, 4) == pytest.approx(2 * wait + disk * 320 / 6)
    assert price(found, machine, 1).seconds >= 1e-4
    graph = clusters(lookup((1000, 1600)))
    (plain,) = Library().candidates(graph.nodes[0], graph, machine)
    assert price(plain, machine, 1).seconds < 1e-4, "from memory"


@pytest.mark.parametrize(
    "make",
    [
        lambda: lookup((64, 100), axis=1),  # columns, not rows
        lambda: lookup((1000,)),  # no rows
        lambda: lookup((1000, 16), after="neg"),  # computes with what it reads
    ],
)
def test_what_is_no_lookup_of_rows(make: Any) -> None:
    fused = run_passes(run_passes(make(), GRAPH_PASSES), CLUSTER_PASSES)
    assert rows_candidates(fused) == []


def test_a_table_that_is_computed_stays_in_memory() -> None:
    b = GraphBuilder(symbols=SYMBOLS)
    table, ids = b.input("table", TensorType(f32, (100, 16))), b.input("ids", TensorType(i64, (B, S)))
    graph = clusters(b.finish([Port("y", b.op("gather", table, ids, axis=0))]))
    assert lookup_of(Library().kernels(graph.nodes[0], graph)[0]) is not None
    assert rows_candidates(graph) == []


def test_large_lookups_are_kept_apart_and_only_they() -> None:
    b = GraphBuilder(symbols=SYMBOLS)
    ids = b.input("ids", TensorType(i64, (B, S)))
    rng = np.random.default_rng(0)
    large, small = (b.constant(rng.standard_normal((n, 32)).astype("f4")) for n in (1000, 10))
    total = b.op("add", b.op("gather", large, ids, axis=0), b.op("gather", small, ids, axis=0))
    gain = b.constant(np.ones(32, "f4"))
    graph = run_passes(b.finish([Port("y", b.op("layer_norm", total, gain, axis=-1, epsilon=1e-5))]), GRAPH_PASSES)

    def ops(limit: int) -> list[list[str]]:
        _, passes = storage_passes(limit)
        return [[n.op for n in c.body] for c in run_passes(graph, passes).nodes]

    assert ops(100_000) == [["gather"], ["gather", "add", "layer_norm"]]
    assert ops(1000) == [["gather"], ["gather"], ["add", "layer_norm"]]
    assert ops(1 << 20) == [[n.op for n in c.body] for c in run_passes(graph, CLUSTER_PASSES).nodes]
