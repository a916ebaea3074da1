"""Graphs of clusters with weights of any size, a machine with a disk, and a library that makes up candidates: for placement."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stratac.ir.candidate import Candidate, Work
from stratac.ir.graph import Graph, Inline, Node, Port, Weight
from stratac.ir.machine import Device, Link, Machine, Reading, Tier
from stratac.ir.types import TensorType, f32

KIB = 1 << 10


def machine(disk: bool = True, disk_bandwidth: float = 1e9) -> Machine:
    """One core of 1 GFLOP/s that loses nothing to launches, and a disk with hardly any latency, whose reads take a little from the core."""
    cpu = Device("cpu", "cpu", "x86_64", "portable", 1, 1e9, 1.0, (), 1e-9)
    tiers = [Tier("ram", 1 << 40, 1e15, 1e15)]
    if disk:
        curve = (Reading(1 << 20, 8, disk_bandwidth),)
        tiers.append(Tier("disk", 1 << 50, disk_bandwidth, disk_bandwidth, "disk", 1e-6, curve, 1e-10))
    return Machine("made", (cpu,), tuple(tiers), {"made": 1.0, "slow": 1.0})


def with_gpu(base: Machine, memory: int = 1 << 34, speed: float = 20.0, link: float = 4e9) -> Machine:
    """The machine and a device with a memory of its own."""
    gpu = Device("gpu0", "gpu", "sm_90", "portable", 1, 1e9 * speed, 1.0, (), 5e-6, "gpu0")
    links = (Link("ram", "gpu0", link, 1e-5), Link("gpu0", "ram", link, 1e-5))
    tier = Tier("gpu0", memory, 1e15, 1e15)
    return replace(base, devices=(*base.devices, gpu), tiers=(*base.tiers, tier), links=links)


@dataclass
class Made:
    """Implements `KernelLibrary`: candidates by cluster; formats change a weight's bytes by what stands behind their `x`."""

    rows: dict[str, list[Candidate]]

    def candidates(self, cluster: Node, graph: Graph, machine: Machine) -> Sequence[Candidate]:
        return self.rows[cluster.outputs[0]]

    def packed_bytes(self, graph: Graph, weight: str, format: str, machine: Machine) -> int:
        dense = graph.weights[weight].type.nbytes
        assert isinstance(dense, int)
        return dense * int(format.removeprefix("x")) // 100 if format.startswith("x") else dense


def chain(
    rng: random.Random, count: int, *, sizes: Sequence[int], options: int = 1, shared: float = 0.0, workspace: int = 0
) -> tuple[Graph, Made]:
    """`count` clusters in a row, with side branches, each with up to two weights of the sizes given in KiB."""
    weights: dict[str, Weight] = {}
    types = {"x": TensorType(f32, (16,))}
    nodes: list[Node] = []
    rows: dict[str, list[Candidate]] = {}
    for number in range(count):
        used = []
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            if weights and rng.random() < shared:
                used.append(rng.choice(list(weights)))
                continue
            name = f"w{len(weights)}"
            kind = TensorType(f32, (rng.choice(sizes) * KIB // 4 + rng.randrange(2),))
            weights[name] = Weight(name, kind, Inline(b""), f"layer{number}.{name}")
            types[name] = kind
            used.append(name)
        known = ["x", *(n.outputs[0] for n in nodes)]
        inputs = (known[-1], *([rng.choice(known)] if rng.random() < 0.3 else []), *dict.fromkeys(used))
        value = f"v{number}"
        types[value] = TensorType(f32, (rng.choice((16, 64, 256)),))
        nodes.append(Node("cluster", tuple(inputs), (value,)))
        found = []
        for option in range(rng.randint(1, options)):
            seconds = rng.choice((20e-6, 100e-6, 400e-6)) * rng.uniform(0.5, 1.5)
            formats = tuple((w, f"x{rng.choice((50, 100, 110))}") for w in dict.fromkeys(used)) if option else ()
            work = Work(seconds * 1e9, 1.0, rng.choice((0, 64, workspace)))
            found.append(Candidate("cpu", "made", f"m{option}", work, formats))
        rows[value] = found
    graph = Graph("made", {}, (Port("x", "x"),), (Port("y", nodes[-1].outputs[0]),), weights, tuple(nodes), types)
    return graph, Made(rows)
