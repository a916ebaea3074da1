"""Two small models that pass through every level: what the goldens and the tests of texts and verifiers look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stratac.codegen.library import Library
from stratac.compiler.profiles import load_machine
from stratac.ir.builder import GraphBuilder
from stratac.ir.dims import Bounds, Dim, symbol
from stratac.ir.graph import FileBytes, Graph, Port, Weight
from stratac.ir.kernel import Kernel
from stratac.ir.machine import Machine
from stratac.ir.placed import Placed
from stratac.ir.plan import Plan
from stratac.ir.types import TensorType, f32
from stratac.passes.base import run_passes
from stratac.passes.pipelines import CLUSTER_PASSES, GRAPH_PASSES
from stratac.passes.place.place import place
from stratac.passes.place.request import PlaceRequest
from stratac.passes.schedule.schedule import schedule

THREADS = 4


@dataclass(frozen=True)
class Lowered:
    """One model at every level; `kernels` are all lowerings of all clusters, each with the elements of its operands."""

    machine: Machine
    graph: Graph
    clusters: Graph
    placed: Placed
    kernels: tuple[tuple[Kernel, tuple[Dim, ...]], ...]
    plan: Plan


def lower_graph(graph: Graph) -> Lowered:
    """Every level for the shipped AVX-512 profile; kernels are named by family and number."""
    machine, library = load_machine("generic-x86_64-avx512"), Library()
    graph = run_passes(graph, GRAPH_PASSES)
    clusters = run_passes(graph, CLUSTER_PASSES)
    placed = place(clusters, library, machine, PlaceRequest(THREADS))
    kernels: list[tuple[Kernel, tuple[Dim, ...]]] = []
    names: dict[str, str] = {}
    numbers: dict[Kernel, int] = {}
    for node in clusters.nodes:
        sizes = tuple(clusters.types[value].elements for value in (*node.used, *node.outputs))
        kernels += [(kernel, sizes) for kernel in library.kernels(node, clusters)]
        family = placed.choices[node.outputs[0]].chosen.candidate.family
        kernel = library.kernel_for(node, clusters, family, machine.device("cpu"))
        names[node.outputs[0]] = f"k_{family}_{numbers.setdefault(kernel, len(numbers))}"
    return Lowered(machine, graph, clusters, placed, tuple(kernels), schedule(placed, machine, names, THREADS))


class _Weights:
    """Weights of one file, side by side; the file is written, with random numbers, by `write`."""

    def __init__(self, builder: GraphBuilder, folder: Path) -> None:
        self.builder, self.top = builder, 0
        builder.folder = str(folder)

    def write(self) -> None:
        numbers = np.random.default_rng(0).standard_normal(self.top // 4, dtype=np.float32)
        numbers.tofile(Path(self.builder.folder, "weights.bin"))

    def __call__(self, name: str, *shape: int) -> str:
        kind = TensorType(f32, shape)
        nbytes = kind.nbytes
        assert isinstance(nbytes, int)
        weight = Weight(self.builder.fresh("w"), kind, FileBytes("weights.bin", self.top, nbytes), name)
        self.top += nbytes
        return self.builder.weight(weight)


def transformer_block(folder: Path) -> Graph:
    """Attention and a feed-forward layer, each behind a layer norm, over (batch, seq, 64)."""
    b = GraphBuilder(name="transformer_block", symbols={"batch": Bounds(1, 2, 4), "seq": Bounds(1, 16, 64)})
    weight = _Weights(b, folder)
    batch, seq = symbol("batch"), symbol("seq")
    x = b.input("x", TensorType(f32, (batch, seq, 64)))
    normal = b.op("layer_norm", x, weight("norm1.scale", 64), weight("norm1.bias", 64), axis=-1, epsilon=1e-5)

    def heads(name: str) -> str:
        rows = b.op("add", b.op("matmul", normal, weight(f"{name}.weight", 64, 64)), weight(f"{name}.bias", 64))
        return b.op("transpose", b.op("reshape", rows, shape=(batch, seq, 4, 16)), perm=(0, 2, 1, 3))

    q, k, v = heads("q"), heads("k"), heads("v")
    mixed = b.op("transpose", b.op("attention", q, k, v, scale=0.25, causal=True), perm=(0, 2, 1, 3))
    rows = b.op("reshape", mixed, shape=(batch, seq, 64))
    out = b.op("add", b.op("matmul", rows, weight("out.weight", 64, 64)), weight("out.bias", 64))
    x = b.op("add", x, out)
    normal = b.op("layer_norm", x, weight("norm2.scale", 64), weight("norm2.bias", 64), axis=-1, epsilon=1e-5)
    wide = b.op("gelu", b.op("add", b.op("matmul", normal, weight("up.weight", 64, 256)), weight("up.bias", 256)))
    down = b.op("add", b.op("matmul", wide, weight("down.weight", 256, 64)), weight("down.bias", 64))
    weight.write()
    return b.finish([Port("y", b.op("add", x, down))])


def conv_block(folder: Path) -> Graph:
    """A convolution, a depthwise one with a residual, a pooling and a classifier with softmax."""
    b = GraphBuilder(name="conv_block", symbols={"batch": Bounds(1, 1, 4)})
    weight = _Weights(b, folder)
    x = b.input("image", TensorType(f32, (symbol("batch"), 3, 32, 32)))

    def conv(x: str, name: str, *shape: int, stride: int = 1, groups: int = 1) -> str:
        options = {"strides": (stride, stride), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": groups}
        y = b.op("conv", x, weight(f"{name}.weight", *shape), **options)
        return b.op("add", y, b.op("reshape", weight(f"{name}.bias", shape[0]), shape=(1, shape[0], 1, 1)))

    x = b.op("relu", conv(x, "stem", 16, 3, 3, 3, stride=2))
    x = b.op("add", x, b.op("clip", conv(x, "depthwise", 16, 1, 3, 3, groups=16), min=0.0, max=6.0))
    x = b.op("max_pool", x, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1))
    x = b.op("reduce_mean", x, axes=(2, 3), keepdims=False)
    x = b.op("mul", b.op("matmul", x, weight("head.weight", 16, 10)), b.constant(np.float32(0.5)))
    weight.write()
    return b.finish([Port("scores", b.op("softmax", x, axis=-1))])


BLOCKS = {"transformer_block": transformer_block, "conv_block": conv_block}
