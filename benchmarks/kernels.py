"""How near each kernel family comes to what the machine can do: rate, share of the ceiling, error, by ISA level and numeric mode.

    python -m benchmarks.kernels [--families NAMES] [--isa NAMES] [--seconds 0.3] [-o FILE]

Each row is a kernel of a usual size, compiled as any model, timed on one core. The ceiling of what computes is the rate of
multiply-adds in registers in the same mode; of what streams, the bandwidth of reading memory. Errors are relative L2 against the
same in float64. A run of all rows is written to benchmarks/results/kernels-ISA.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stratac.codegen.toolchain import ToolchainOptions
from stratac.compiler.artifact import write_artifact
from stratac.compiler.options import CompileOptions, default_cache, environment_cc
from stratac.compiler.probe.hardware import Loops, isa_levels
from stratac.compiler.probe.kernels import F32, kinds_of, lower_samples
from stratac.compiler.probe.measure import measure_modes
from stratac.compiler.profiles import load_machine, native_extensions, native_isa
from stratac.ir.builder import GraphBuilder
from stratac.ir.candidate import MODE_ERRORS
from stratac.ir.graph import Graph, Port
from stratac.ir.machine import MIB, Machine
from stratac.ir.types import TensorType, f32, i8, i32, u8
from stratac.runtime.session import load

from .machine_facts import isa as best_isa
from .machine_facts import machine_facts, versions
from .subjects import RESULTS

Arrays = Mapping[str, np.ndarray]
#: modes that are another way to compute in the arithmetic of a mode whose ceiling is measured; operations are those of the
#: plain way
ARITHMETIC = {"winograd": "f32"}
METHOD = (
    "One thread, affinity as the system gives it. Each kernel is compiled alone, those that stream with weights beyond "
    "every cache, and run for {seconds} s at least; its time is the median over runs of what the plan's profile says of its calls. "
    "Ceilings are measured in the same run: chains of multiply-adds in registers, and reading an array of 128 MiB."
)


@dataclass(frozen=True)
class Case:
    """A kernel: its family, a label, whether memory binds it, its graph, its outputs in float64, and the part of its operations
    that must be done."""

    family: str
    label: str
    streams: bool
    make: Callable[[], Graph]
    wanted: Callable[[Graph, Arrays], dict[str, np.ndarray]]
    part: float = 1.0


@dataclass(frozen=True)
class Row:
    """One measurement. `rate` is operations per second, or bytes per second where `streams`; `share` is of the ceiling."""

    family: str
    label: str
    isa: str
    mode: str
    streams: bool
    seconds: float
    rate: float
    share: float
    error: float

    def __str__(self) -> str:
        unit = "GB/s" if self.streams else "Gflop/s"
        return (
            f"{self.family:<10} {self.label:<28} {self.isa:<9} {self.mode:<6} {self.seconds * 1e6:10.1f} us "
            f"{self.rate / 1e9:8.1f} {unit:<8} {self.share:6.1%}   error {self.error:.1e}"
        )


def _weight(graph: Graph, node: int = 0) -> np.ndarray:
    """The weight a node of the graph reads, in float64."""
    name = next(v for v in graph.nodes[node].inputs if v in graph.weights)
    content = graph.weights[name].content
    kind = graph.weights[name].type
    shape = tuple(int(str(d)) for d in kind.shape)
    return np.frombuffer(content.data, np.float32).reshape(shape).astype(np.float64)  # type: ignore[union-attr]


def matmul(m: int, k: int, n: int) -> Case:
    """Few rows stream the weight: then as many copies as make 256 MiB."""
    streams = m <= 8
    copies = max(256 * MIB // (4 * k * n), 1) if streams else 1

    def make() -> Graph:
        b, rng = GraphBuilder(name=f"matmul_{m}_{k}_{n}"), np.random.default_rng(0)
        outputs = []
        for number in range(copies):
            x = b.input(f"x{number}", TensorType(f32, (m, k)))
            outputs.append(b.op("matmul", x, b.constant(rng.standard_normal((k, n)).astype(np.float32))))
        return b.finish(Port(f"y{i}", value) for i, value in enumerate(outputs))

    def wanted(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
        return {"y0": inputs["x0"].astype(np.float64) @ _weight(graph)}

    return Case("matmul", f"{m} x {k} x {n}", streams, make, wanted)


def conv(inside: int, outside: int, side: int, kernel: int, stride: int = 1, groups: int = 1) -> Case:
    family = "depthwise" if groups == inside == outside else "conv"

    def make() -> Graph:
        b, rng = GraphBuilder(name="conv"), np.random.default_rng(0)
        x = b.input("x0", TensorType(f32, (1, side, side, inside)))
        weight = rng.standard_normal((outside, inside // groups, kernel, kernel)).astype(np.float32)
        y = b.op(
            "conv",
            x,
            b.constant(weight),
            strides=(stride,) * 2,
            pads=(kernel // 2,) * 4,
            dilations=(1, 1),
            groups=groups,
            channels_last=True,
        )
        return b.finish([Port("y0", y)])

    def wanted(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
        import torch

        x = torch.from_numpy(inputs["x0"].astype(np.float64)).permute(0, 3, 1, 2)
        y = torch.nn.functional.conv2d(x, torch.from_numpy(_weight(graph)), None, stride, kernel // 2, 1, groups)
        return {"y0": y.permute(0, 2, 3, 1).numpy()}

    return Case(family, f"{inside}-{outside}, {side}², {kernel}x{kernel}/{stride}", False, make, wanted)


def whole_matmul(m: int, k: int, n: int) -> Case:
    """Products of whole numbers; few rows stream the weight."""
    streams = m <= 8
    copies = max(256 * MIB // (k * n), 1) if streams else 1

    def make() -> Graph:
        b, rng = GraphBuilder(name=f"whole_{m}_{k}_{n}"), np.random.default_rng(0)
        outputs = []
        for number in range(copies):
            x = b.op("cast", b.input(f"x{number}", TensorType(u8, (m, k))), to=i32)
            w = b.constant(rng.integers(-127, 128, (k, n)).astype(np.int8))
            outputs.append(b.op("matmul", b.op("sub", x, b.constant(np.int32(2))), b.op("cast", w, to=i32)))
        return b.finish(Port(f"y{i}", value) for i, value in enumerate(outputs))

    def wanted(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
        return {"y0": (inputs["x0"].astype(np.float64) - 2) @ _whole_weight(graph)}

    return Case("matmul_i8", f"{m} x {k} x {n}", streams, make, wanted)


def whole_conv(inside: int, outside: int, side: int, kernel: int, stride: int = 1) -> Case:
    """Convolutions of whole numbers, requantised."""

    def make() -> Graph:
        b, rng = GraphBuilder(name="whole_conv"), np.random.default_rng(0)
        x = b.op("cast", b.input("x0", TensorType(u8, (1, side, side, inside))), to=i32)
        w = b.constant(rng.integers(-127, 128, (outside, inside, kernel, kernel)).astype(np.int8))
        window: dict[str, Any] = {"strides": (stride,) * 2, "pads": (kernel // 2,) * 4, "dilations": (1, 1)}
        sums = b.op("conv", x, b.op("cast", w, to=i32), **window, groups=1, channels_last=True)
        factor = b.constant(np.full(outside, 2.0**-8 / kernel, np.float32))
        value = b.op("round", b.op("mul", b.op("cast", sums, to=f32), factor))
        return b.finish([Port("y0", b.op("cast", b.op("clip", value, min=0.0, max=255.0), to=u8))])

    def wanted(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
        import torch

        x = torch.from_numpy(inputs["x0"].astype(np.float64)).permute(0, 3, 1, 2)
        y = torch.nn.functional.conv2d(x, torch.from_numpy(_whole_weight(graph)), None, stride, kernel // 2)
        return {"y0": np.rint(y.permute(0, 2, 3, 1).numpy() * np.float32(2.0**-8 / kernel)).clip(0, 255)}

    return Case("conv_i8", f"{inside}-{outside}, {side}², {kernel}x{kernel}/{stride}", False, make, wanted)


def _whole_weight(graph: Graph) -> np.ndarray:
    """The first weight of bytes, in float64."""
    weight = next(w for w in graph.weights.values() if w.type.dtype == i8)
    shape = tuple(int(str(d)) for d in weight.type.shape)
    return np.frombuffer(weight.content.data, np.int8).reshape(shape).astype(np.float64)  # type: ignore[union-attr]


def attention(
    heads: int, rows: int, width: int, causal: bool = False, *, kv_heads: int | None = None, keys: int | None = None
) -> Case:
    """One query streams the keys: then as many copies as make 64 MiB. Of causal attention what must be computed counts."""
    held, seen = kv_heads or heads, keys or rows
    streams = rows == 1
    copies = max(64 * MIB // (8 * held * seen * width), 1) if streams else 1

    def make() -> Graph:
        b, outputs = GraphBuilder(name="attention"), []
        for number in range(copies):
            shapes = ((1, heads, rows, width), *((1, held, seen, width),) * 2)
            q, k, v = (b.input(f"x{3 * number + i}", TensorType(f32, shape)) for i, shape in enumerate(shapes))
            outputs.append(b.op("attention", q, k, v, scale=width**-0.5, causal=causal))
        return b.finish(Port(f"y{i}", value) for i, value in enumerate(outputs))

    def wanted(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
        q, k, v = (inputs[f"x{i}"].astype(np.float64) for i in range(3))
        k, v = (np.repeat(x, heads // held, axis=1) for x in (k, v))
        scores = q @ k.transpose(0, 1, 3, 2) * width**-0.5
        if causal:
            scores = np.where(np.tri(rows, seen, seen - rows, dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        return {"y0": scores / scores.sum(-1, keepdims=True) @ v}

    whose, which = (
        f"{heads}" if held == heads else f"{heads}/{held}",
        f"{rows}" if seen == rows else f"{rows} of {seen}",
    )
    label = f"{whose} x {which} x {width}" + (", causal" if causal else "")
    return Case("attention", label, streams, make, wanted, (seen - (rows - 1) / 2) / seen if causal else 1.0)


def elementwise(
    label: str,
    build: Callable[[GraphBuilder, str], str],
    exact: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int] = (4096, 1024),
    copies: int = 16,
) -> Case:
    """Usually out of every cache: 16 arrays of 16 MiB."""

    def make() -> Graph:
        b = GraphBuilder(name=label)
        xs = [b.input(f"x{i}", TensorType(f32, shape)) for i in range(copies)]
        return b.finish(Port(f"y{i}", build(b, x)) for i, x in enumerate(xs))

    def wanted(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
        return {"y0": exact(inputs["x0"].astype(np.float64))}

    return Case("loops", label, True, make, wanted)


def _gelu(x: np.ndarray) -> np.ndarray:
    import torch

    return np.asarray(torch.nn.functional.gelu(torch.from_numpy(x)).numpy())


PRODUCTS = ((16, 768, 3072), (128, 768, 768), (512, 512, 512), (1024, 1024, 1024))


def cases() -> list[Case]:
    return [
        *(matmul(m, 2048, 2048) for m in (1, 4, 8)),
        *(matmul(*size) for size in (*PRODUCTS, (128, 3072, 768))),
        conv(64, 64, 56, 3),
        conv(256, 256, 14, 3),
        conv(256, 64, 56, 1),
        conv(128, 256, 28, 3, 2),
        conv(3, 64, 224, 7, 2),
        conv(96, 96, 112, 3, 1, 96),
        conv(384, 384, 14, 7, 1, 384),
        *(whole_matmul(*size) for size in ((1, 2048, 2048), *PRODUCTS)),
        whole_conv(64, 64, 56, 3),
        whole_conv(256, 256, 14, 3),
        whole_conv(256, 64, 56, 1),
        whole_conv(128, 256, 28, 3, 2),
        whole_conv(3, 64, 224, 7, 2),
        attention(12, 128, 64),
        attention(12, 1024, 64, True),
        attention(12, 197, 64),
        attention(16, 197, 80),
        attention(8, 1500, 64),
        attention(32, 512, 64, True, kv_heads=8),
        attention(12, 1, 64, keys=2048),
        attention(32, 1, 128, kv_heads=8, keys=2048),
        elementwise("relu", lambda b, x: b.op("relu", x), lambda x: np.maximum(x, 0)),
        elementwise("gelu", lambda b, x: b.op("gelu", x), _gelu),
        elementwise("transpose", lambda b, x: b.op("transpose", x, perm=(1, 0)), lambda x: x.T),
    ]


def machine_of(isa: str) -> Machine:
    """This machine as if it had nothing beyond an ISA level; the best level with its extensions."""
    machine = load_machine("native")
    extensions = native_extensions() if isa == native_isa() else ()
    devices = tuple(replace(d, isa=isa, extensions=extensions) for d in machine.devices)
    return replace(machine, devices=devices)


def measure(case: Case, isa: str, mode: str, ceilings: Mapping[str, float], seconds: float) -> Row | None:
    """None where the family has no kernel in that mode."""
    graph = case.make()
    machine = machine_of(isa)
    kinds = [kind for kind in (F32, *kinds_of(machine)) if kind[0] == mode]
    if not kinds:
        return None
    levels = lower_samples(graph, machine, 1, kinds[-1])  # of two, that on matrix units
    chosen = {c.chosen.candidate.mode for c in levels.placed.choices.values() if c.chosen.candidate.family != "loops"}
    if mode not in chosen and (mode != "f32" or chosen):
        return None
    rng = np.random.default_rng(1)
    inputs = {}
    for port in graph.inputs:
        kind = graph.types[port.value]
        shape = tuple(int(str(d)) for d in kind.shape)
        drawn = rng.standard_normal(shape) if kind.dtype.is_float else rng.integers(0, 256, shape)
        inputs[port.name] = drawn.astype(kind.dtype.np)
    options = CompileOptions(cc=environment_cc(), cache=default_cache())
    with tempfile.TemporaryDirectory(prefix="stratac-kernels-") as name:
        folder = write_artifact(levels, {}, Path(name) / "kernel.plan", options, None).folder
        with load(folder, threads=1, verify=False) as session:
            names = [port.name for port in session.get_outputs()]
            found = dict(zip(names, session.run(None, inputs), strict=True))
            taken: list[float] = []
            until = time.perf_counter() + seconds
            while len(taken) < 5 or time.perf_counter() < until:
                session.reset_profile()
                session.run_into(outputs=found, inputs=inputs)
                taken.append(sum(row.seconds for row in session.profile()))
    total = statistics.median(taken)
    work = [c.chosen.candidate.work for c in levels.placed.choices.values()]
    amount = sum(w.bytes for w in work) if case.streams else sum(w.flops for w in work) * case.part
    ceiling = ceilings["memory" if case.streams else ARITHMETIC.get(mode, mode)]
    error = max(
        float(np.linalg.norm(found[key] - exact) / np.linalg.norm(exact))
        for key, exact in case.wanted(graph, inputs).items()
    )
    rate = amount / total
    return Row(case.family, case.label, isa, mode, case.streams, total, rate, rate / ceiling, error)


def ceilings_of(isa: str, folder: Path) -> dict[str, float]:
    """Operations per second of one core by mode, and bytes per second of reading memory."""
    extensions = native_extensions() if isa == native_isa() else ()
    loops = Loops(isa, folder, ToolchainOptions(cc=environment_cc(), cache=default_cache()), extensions)
    return {
        "f32": loops.flops().most,
        **measure_modes(loops, extensions, lambda figure: None),
        "memory": loops.bandwidth(128 * MIB, 1, 0.05).median,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--families", default="", help="matmul, conv, depthwise, matmul_i8, conv_i8, attention, loops (default all)"
    )
    parser.add_argument("--isa", default="", help=f"levels, separated by commas (default {','.join(isa_levels())})")
    parser.add_argument("--seconds", type=float, default=0.3, help="least seconds of runs of each kernel (default 0.3)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of the results")
    arguments = parser.parse_args(argv)
    wanted = set(filter(None, arguments.families.split(",")))
    levels = list(filter(None, arguments.isa.split(","))) or isa_levels()
    rows: list[Row] = []
    ceilings: dict[str, dict[str, float]] = {}
    for isa in levels:
        with tempfile.TemporaryDirectory(prefix="stratac-kernels-") as folder:
            ceilings[isa] = ceilings_of(isa, Path(folder))
        print(f"{isa}: " + ", ".join(f"{name} {value / 1e9:.1f}e9/s" for name, value in ceilings[isa].items()))
        for case in cases():
            for mode in MODE_ERRORS:
                if not wanted or case.family in wanted:
                    row = measure(case, isa, mode, ceilings[isa], arguments.seconds)
                    if row is not None:
                        rows.append(row)
                        print(row, flush=True)
    output: Path | None = arguments.output
    if output is None and not wanted and not arguments.isa:
        output = RESULTS / f"kernels-{best_isa()}.json"
    if output is not None:
        results = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine_facts(),
            "versions": versions(),
            "method": METHOD.format(seconds=arguments.seconds),
            "ceilings": ceilings,
            "rows": [asdict(row) for row in rows],
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written to {output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
