"""Plans for the reports: a chain of products, once all in memory and once with most weights in storage; and plans by hand."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from stratac.compiler.artifact import PROCESS_FLOOR
from stratac.compiler.driver import Levels, lower_model
from stratac.compiler.options import CompileOptions, version
from stratac.compiler.report.summary import build_report
from stratac.ir.dims import Bounds
from stratac.ir.plan import Arena, Buffer, Call, Plan, Queue, Read, WeightEntry
from stratac.ir.types import TensorType, f32, u8
from stratac.passes.schedule.stream_weights import lay_ring
from stratac.runtime.manifest import plan_fields
from stratac.tests.cli.models import N, model, save, value, weight

WIDTH, LAYERS = 256, 6
TARGET = "generic-x86_64-avx2"
#: less than the six weights of 256 KiB need
BUDGET = PROCESS_FLOOR + (1 << 20)


def chain(prefix: str = "") -> onnx.ModelProto:
    """Six products with relu and a shortcut from the first to the last."""
    nodes, at = [], "x"
    for k in range(LAYERS):
        nodes += [
            N("MatMul", [at, f"w{k}"], [f"p{k}"], name=f"{prefix}product_{k}"),
            N("Relu", [f"p{k}"], [f"r{k}"], name=f"{prefix}relu_{k}"),
        ]
        at = f"r{k}"
    nodes.append(N("Add", [at, "r0"], ["y"], name=f"{prefix}shortcut"))
    weights = [weight(f"w{k}", WIDTH, WIDTH, scale=0.05) for k in range(LAYERS)]
    return model(nodes, [value("x", ["n", WIDTH])], ["y"], weights)


def lower(folder: Path, budget: int | None = None, prefix: str = "", **options: Any) -> tuple[Levels, Path]:
    path = save(chain(prefix), folder / "chain.onnx")
    budgets = {} if budget is None else {"ram": budget}
    wanted = CompileOptions(target=TARGET, dims={"n": Bounds(1, 8, 16)}, budgets=budgets, **options)
    return lower_model(path, wanted), path


@cache
def levels(streamed: bool) -> Levels:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return lower(Path(folder), BUDGET if streamed else None)[0]


def report(streamed: bool) -> dict[str, Any]:
    found = levels(streamed)
    return build_report(found.plan, found.placed, found.machine)


def manifest(streamed: bool) -> dict[str, Any]:
    return plan_fields(levels(streamed).plan, stratac_version=version(), process_floor=PROCESS_FLOOR)


def random_plan(seed: int) -> Plan:
    """Calls and reads of random lengths, with a ring that works: what `simulate_plan` needs and no more."""
    rng = random.Random(seed)
    count = rng.randint(1, 12)
    users = sorted(rng.randrange(count) for _ in range(rng.randint(1, 15)))
    sizes = [4096 * rng.randint(1, 4) for _ in users]
    most = max(sum(s for u, s in zip(users, sizes, strict=True) if u == user) for user in users)
    ring = most + 4096 * rng.randint(0, 8)
    layout = lay_ring(users, sizes, count, ring)
    assert layout is not None
    needs = {user: number + 1 for number, user in enumerate(users)}
    scratch = TensorType(f32, (16,))
    buffers = [Buffer(f"v{k}", 1, 64 * k, 64, k, min(k + rng.randint(0, 3), count - 1), scratch) for k in range(count)]
    reads, entries, top = [], [], 0
    for number, (user, size) in enumerate(zip(users, sizes, strict=True)):
        buffers.append(Buffer(f"ring {number}", 3, layout.offsets[number], size, user, user, TensorType(u8, (size,))))
        reads.append(Read(top, size, count + number, layout.after[number], f"w{number}", rng.random()))
        entries.append(WeightEntry(f"w{number}", top, size, "dense", f"weight {number}"))
        top += size
    calls = tuple(Call(0, (), False, 0, f"call {k}", rng.random(), needs=needs.get(k, 0)) for k in range(count))
    arenas = (
        Arena("weights", "weights", "ram", 0),
        Arena("activations", "scratch", "ram", 64 * count),
        Arena("workspace", "workspace", "ram", 128),
        Arena("ring", "ring", "ram", ring),
    )
    queues = (Queue("cpu", calls), Queue("io", (), tuple(reads)))
    return Plan(
        "made", "hand", (), 2, {}, (), (), arenas, tuple(buffers), tuple(entries), top, 0, ("k",), queues, 0.0, {}
    )
