"""What a session says of itself: its signature, its memory, its measurements."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.types import DType


@dataclass(frozen=True)
class Port:
    """An input or output: name, element type and shape as text with symbols, e.g. `[batch, 128]`."""

    name: str
    dtype: DType
    shape: str
    rank: int

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{self.shape}"


@dataclass(frozen=True)
class Info:
    """What is open: threads used and planned, instructions and reads of a run, its predicted seconds.

    `io` says how weights that stay in storage are read and why: `io_uring, direct, registered`, `4 threads, buffered
    (...)`, `mmap`, `lookups mapped`, or `none` where all weights are in memory.
    """

    name: str
    target: str
    threads: int
    planned_threads: int
    instructions: int
    reads: int
    predicted_seconds: float
    io: str


@dataclass(frozen=True)
class ProfileRow:
    """One instruction: mean measured seconds over `count` runs beside the plan's prediction.

    `waited` are mean seconds before it in which reads were not complete yet; they are not in `seconds`.
    """

    label: str
    count: int
    seconds: float
    predicted_seconds: float
    flops: float
    bytes: float
    waited: float = 0.0


@dataclass(frozen=True)
class ReadRow:
    """One read of a weight that stays in storage: mean seconds from its first request to its last answer.

    Reads overlap, so their seconds do not add up; `Traffic` has the bandwidth.
    """

    label: str
    count: int
    seconds: float
    predicted_seconds: float
    bytes: int


@dataclass(frozen=True)
class Traffic:
    """Bytes read from storage since opening or `reset_profile`.

    `streamed` by the queue of reads, which had requests under way for `busy` seconds; `lookups` by kernels themselves.
    """

    streamed: int
    busy: float
    lookups: int

    @property
    def bandwidth(self) -> float:
        """Bytes a second of the queue while it had anything to do."""
        return self.streamed / self.busy if self.busy else 0.0


@dataclass(frozen=True)
class Memory:
    """Bytes held by a session, of `mapped` ones at most: those pages of them that lookups touched. `arenas` gives (name, tier,
    bytes), a workspace's bytes being those of one thread."""

    weights: int
    scratch: int
    workspace_per_thread: int
    threads: int
    session: int
    total: int
    stacks: int
    ring: int
    states: int
    mapped: int
    arenas: tuple[tuple[str, str, int], ...]
