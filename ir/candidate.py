"""A candidate: one way to run one cluster. Kernel families make them, the cost model prices them, placement chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .dims import Bounds
from .graph import Graph, Node
from .machine import Machine

#: the one term that is no quantity of work: the number of equal pieces it can be split into
UNITS = "units"


#: numeric modes of kernels, and the relative error (L2) of a product in each beyond that of f32. bf16x6 takes operands as sums of
#: three bfloat16, and the six products of parts that matter: no worse than a chain of f32 multiply-adds. bf16x3 takes sums of two,
#: each off by at most 2**-17, and three products. bf16 rounds both operands to eight bits: off by at most 2**-8 of the power of two
#: below a value, in the root mean square by about 1.65e-3 of the value, and a sum of products by sqrt(2) times as much; the rest is
#: for operands whose values are spread unluckily. bfp24 rounds operands to 24 bits below the greatest of their row or column in a
#: block of k, which loses no more than a chain of f32 multiply-adds against the norms of both (csrc/kernels/tile_bfp.h); bfp16 to
#: 16 bits, which loses at most 8e-5 where the values of each row are spread as far as it goes. winograd is no worse
#: than such a chain against the largest values of a window, as tests measure
MODE_ERRORS: Mapping[str, float] = {
    "f32": 0.0,
    "bf16x6": 0.0,
    "bf16x3": 1e-5,
    "bf16": 2.5e-3,
    "bfp24": 0.0,
    "bfp16": 8e-5,
    "winograd": 0.0,
    "i8": 0.0,
}
#: modes that compute what the graph says, no more and no less: i8 is that of products of whole numbers
EXACT_MODES = frozenset({"f32", "i8"})


@dataclass(frozen=True)
class Work:
    """What a candidate does at the typical sizes, before any machine is asked: the roofline's inputs.

    `bytes` is what has to come from or go to memory at least once; `workspace` is private to each thread. `terms` are the
    family's own quantities (panels packed, rows swept, ..), which a profile's kernel table prices one by one.
    """

    flops: float
    bytes: float
    workspace: int
    vector: bool = True
    terms: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One way to run one cluster: device, kernel family, numeric mode and weight format, with what it does."""

    device: str
    family: str
    mode: str
    work: Work
    formats: tuple[tuple[str, str], ...] = ()  # weight value -> packing format
    error: float = 0.0  # expected relative error beyond that of f32
    direct: tuple[str, ...] = ()  # weight values whose rows the kernel reads from storage by itself
    sparse: tuple[str, ...] = ()  # large weight values of which a run reads few rows, those that indices name
    executable: bool = True  # False: only priced, since no code is generated for its device yet
    #: of its kernel at the typical sizes, see `measured_as`; follows from the rest, so text does not carry it
    key: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return f"{self.device}/{self.family}/{self.mode}"

    def measured_as(self, threads: int) -> str:
        """What a profile's `measured` calls it on so many threads."""
        return f"{self.family}/{threads}/{self.key}"


@dataclass(frozen=True)
class Priced:
    """A candidate with its predicted seconds and the resource that binds it."""

    candidate: Candidate
    seconds: float
    bound: str  # "compute", "memory" or "launch"


class KernelLibrary(Protocol):
    """All that passes may know about kernels; handed in by the driver as a value."""

    def candidates(self, cluster: Node, graph: Graph, machine: Machine) -> Sequence[Candidate]:
        """Every way this library can run `cluster` on `machine`; at least one for a legal cluster."""
        ...

    def packed_bytes(self, graph: Graph, weight: str, format: str, machine: Machine) -> int:
        """Bytes of a weight once packed in `format`."""
        ...


#: Symbol bounds by name, as graphs carry them.
Symbols = Mapping[str, Bounds]
