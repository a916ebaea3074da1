"""Level three, *when* and at which byte: arenas, buffers, queues of instructions. Nothing symbolic is left but the declared dims.

This module needs only the standard library, `dims` and `types`: the runtime imports it where nothing else is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .dims import Bounds, Shape
from .types import TensorType

FORMAT_VERSION = 4
ALIGNMENT = 64  # bytes; every buffer and every packed weight starts at a multiple
REQUEST_BYTES = 1 << 20  # a read is split into requests of at most this many bytes ..
REQUEST_DEPTH = 4  # .. of which so many are in flight: enough for a disk, and little for a lookup to wait behind
READ_ALIGNMENT = (
    4096  # bytes; what direct reads need of file offsets, sizes and memory: the streamed part is laid out by it
)


@dataclass(frozen=True)
class Arena:
    """One block of memory taken at open.

    `kind`: `scratch` (activations), `workspace` (bytes for each thread), `weights` (the start of the resident part of weights.bin,
    read at open and never written again), `mapped` (the rest of that part, pages of the file: those that lookups touched are
    in memory, and the system may take them back), `ring` (where reads put streamed weights) or `state` (what stays between runs).
    """

    name: str
    kind: str
    tier: str
    bytes: int


@dataclass(frozen=True)
class Buffer:
    """A place in a scratch arena or the ring, live from call `first` to `last`, both inclusive. Bytes at the greatest dims.

    In the ring, `first` and `last` are the calls that use the streamed weight; its read puts it there before.
    """

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
    """Packed bytes in weights.bin.

    An entry that lies below `Plan.resident_bytes` is in memory at the same offset, read or mapped. The others stay in storage:
    their extents start at multiples of READ_ALIGNMENT and are padded to it; `Read`s stream them through the ring, or kernels
    read them by themselves (arguments of space `file`).
    """

    name: str
    offset: int
    bytes: int
    format: str
    label: str = ""


@dataclass(frozen=True)
class StateEntry:
    """What stays from one run to the next: a place in the arena of kind `state`, live from open to close. It starts as the bytes of
    the resident weight number `initial`, or as zeros."""

    name: str
    type: TensorType
    offset: int
    bytes: int
    initial: int | None = None


@dataclass(frozen=True)
class PlanPort:
    """An input or output: its public name and type. Its memory is the caller's, dense and row-major."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class Arg:
    """One kernel argument: `space` is input, output, buffer, weight, workspace, file, dim, state, next or carry; `index` counts
    within it.

    `weight` and `file` both count weights: the first is a pointer to resident bytes, the second to an `st_source` from which
    the kernel reads rows of a weight that stays in storage. `dim` is a pointer to the value of a symbol, which the call sets: such
    a run-time dim has no value before; all others follow from the inputs' extents. `state` and `next` both count states and are the
    same bytes: as the run finds them, and as it leaves them for the next. `carry` counts buffers, and is the bytes of one as a trip
    of a loop leaves them for the next trip: `buffer` is what the trip finds.
    """

    space: str
    index: int


@dataclass(frozen=True)
class Call:
    """Run kernel number `kernel` on `args`. With `barrier`, every thread first waits for all earlier instructions.

    `parts` caps the threads that take part (0: all). `needs` counts the reads of this run that must be complete before.
    The predictions are at the typical dims and planned threads, for all trips of the loops that the call lies in.
    """

    kernel: int
    args: tuple[Arg, ...]
    barrier: bool
    parts: int
    label: str
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    needs: int = 0


@dataclass(frozen=True)
class Read:
    """Copy `bytes` of weights.bin at `offset` to the buffer number `buffer`, which lies in the ring. Reads complete in order.

    With C calls in the plan, the read of run r starts once r * C + `after` calls are complete, counted over all runs: then
    the last user of the ring's bytes is done. `after` is negative where that user belongs to the run before, so that reads of
    the next run begin while this one ends. `seconds` is predicted.
    """

    offset: int
    bytes: int
    buffer: int
    after: int
    label: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Queue:
    """Instructions that run in order: calls on the queue `cpu`, reads on the queue `io`."""

    name: str
    calls: tuple[Call, ...] = ()
    reads: tuple[Read, ...] = ()


@dataclass(frozen=True)
class Region:
    """Calls `first` to `last`, both inclusive, which run only where `condition`, one bool, is `when`; else a run goes on behind
    them.

    Every thread looks at the condition behind the barrier of call `first`, which is waited at in any case. Regions nest; an outer
    one stands, and is asked, before those inside it.
    """

    first: int
    last: int
    condition: Arg
    when: bool


@dataclass(frozen=True)
class Loop:
    """Calls `first` to `last`, both inclusive, which run again and again: trip after trip, counted from 0 by symbol number `trip`,
    up to that symbol's greatest value, and no further than to a trip in front of which `condition`, one bool, is false.

    Every thread looks at the condition behind the barrier of call `first`, and another barrier follows; between the last call of a
    trip and the first of the next there is one more, behind which the symbol is counted up. Loops nest, and regions lie inside
    none; no call of a loop waits for reads. The typical value of the symbol is that of the last trip predicted.
    """

    first: int
    last: int
    trip: int
    condition: Arg | None


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
    weights_bytes: int  # of weights.bin
    resident_bytes: int  # how many of them, from its start, have addresses while the plan is open: read, then mapped
    kernels: tuple[str, ...]  # C symbol of each kernel
    queues: tuple[Queue, ...]
    seconds: float = 0.0  # predicted latency at the typical dims and planned threads, waits for reads included
    notes: Mapping[str, str] = field(default_factory=dict)  # decisions worth a line: lower bounds, algorithms
    states: tuple[StateEntry, ...] = ()
    regions: tuple[Region, ...] = ()  # of the calls: what only runs under a condition
    loops: tuple[Loop, ...] = ()  # of the calls, in order of `first`

    def peak_bytes(self, threads: int | None = None) -> int:
        """Bytes the runtime holds at most for this plan at `threads` threads: all arenas, with one workspace per thread."""
        count = threads or self.threads
        return sum(a.bytes * (count if a.kind == "workspace" else 1) for a in self.arenas)

    @property
    def mapped_bytes(self) -> int:
        """The last of the resident bytes: pages of weights.bin instead of memory of their own."""
        return sum(arena.bytes for arena in self.arenas if arena.kind == "mapped")

    @property
    def calls(self) -> tuple[Call, ...]:
        """Of all queues; one queue has calls."""
        return tuple(call for queue in self.queues for call in queue.calls)

    @property
    def setters(self) -> Mapping[int, int]:
        """The call that sets each run-time dim, by the numbers of call and symbol."""
        return {arg.index: number for number, call in enumerate(self.calls) for arg in call.args if arg.space == "dim"}

    @property
    def runtime_dims(self) -> frozenset[int]:
        """The numbers of symbols whose values are no caller's: calls set them, or they count trips."""
        return frozenset((*self.setters, *(loop.trip for loop in self.loops)))

    @property
    def reads(self) -> tuple[Read, ...]:
        """Of all queues; one queue has reads."""
        return tuple(read for queue in self.queues for read in queue.reads)


def shape_text(shape: Shape) -> str:
    return f"[{', '.join(str(d) for d in shape)}]"
