"""Level three, *when* and at which byte: arenas, buffers, queues of instructions. Nothing symbolic is left but the declared dims.

This module needs only the standard library, `dims` and `types`: the runtime imports it where nothing else is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .dims import Bounds, Shape
from .types import TensorType

FORMAT_VERSION = 1
ALIGNMENT = 64  # bytes; every buffer and every packed weight starts at a multiple


@dataclass(frozen=True)
class Arena:
    """One block of memory taken at open. `kind`: `scratch` (activations) or `workspace` (bytes for each thread)."""

    name: str
    kind: str
    tier: str
    bytes: int


@dataclass(frozen=True)
class Buffer:
    """A place in an arena, live from instruction `first` to `last`, both inclusive. Bytes at the greatest dims."""

    name: str
    arena: int
    offset: int
    bytes: int
    first: int
    last: int
    type: TensorType
    why: str = ""


@dataclass(frozen=True)
class WeightEntry:
    """Packed bytes in weights.bin: read-only, used in place."""

    name: str
    offset: int
    bytes: int
    format: str
    label: str = ""


@dataclass(frozen=True)
class PlanPort:
    """An input or output: its public name and type. Its memory is the caller's, dense and row-major."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class Arg:
    """One kernel argument: `space` is input, output, buffer, weight or workspace; `index` counts within it."""

    space: str
    index: int


@dataclass(frozen=True)
class Call:
    """Run kernel number `kernel` on `args`. With `barrier`, every thread first waits for all earlier instructions.

    `parts` caps the threads that take part (0: all). The predictions are at the typical dims and planned threads.
    """

    kernel: int
    args: tuple[Arg, ...]
    barrier: bool
    parts: int
    label: str
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Queue:
    """Instructions that run in order on one worker: `cpu` today."""

    name: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Plan:
    """Everything the runtime needs, and the ledger's predictions (bytes per tier, seconds) it must keep."""

    name: str
    target: str
    features: tuple[str, ...]  # CPU features the kernels need
    threads: int  # planned thread count
    symbols: Mapping[str, Bounds]
    inputs: tuple[PlanPort, ...]
    outputs: tuple[PlanPort, ...]
    arenas: tuple[Arena, ...]
    buffers: tuple[Buffer, ...]
    weights: tuple[WeightEntry, ...]
    weights_bytes: int
    kernels: tuple[str, ...]  # C symbol of each kernel
    queues: tuple[Queue, ...]
    notes: Mapping[str, str] = field(default_factory=dict)  # decisions worth a line: lower bounds, algorithms

    def peak_bytes(self, threads: int | None = None) -> int:
        """Bytes the runtime holds for this plan at `threads` threads: weights, arenas, one workspace per thread."""
        count = threads or self.threads
        scratch = sum(a.bytes for a in self.arenas if a.kind == "scratch")
        return self.weights_bytes + scratch + count * sum(a.bytes for a in self.arenas if a.kind == "workspace")

    @property
    def seconds(self) -> float:
        """Predicted latency at the typical dims and planned threads."""
        return sum(call.seconds for queue in self.queues for call in queue.calls)


def shape_text(shape: Shape) -> str:
    return f"[{', '.join(str(d) for d in shape)}]"
