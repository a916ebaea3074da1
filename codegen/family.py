"""The interface of a kernel family: which clusters it can run, what that costs, and the C of one cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..ir.dims import Bounds
from ..ir.kernel import Kernel
from ..ir.machine import Device
from .terms import Terms

Symbols = Mapping[str, Bounds]


@dataclass(frozen=True)
class Emitted:
    """C text of one kernel function and the workspace bytes one thread needs at the greatest dims; `before`: there is another
    function, of its name and `_before`, which several threads call and meet behind first (st_plan_before)."""

    text: str
    workspace: int
    before: bool = False


@dataclass(frozen=True)
class Packing:
    """How a family wants a weight's bytes. `format` is parsed by `pack`; `operand` numbers the kernel's operand."""

    operand: int
    format: str


class Plain:
    """What most families are: in f32, on any device, and able to run with every operand as it is."""

    mode = "f32"
    extension = ""
    packed_only = False
    products = 1

    def past(self, kernel: Kernel, symbols: Symbols, device: Device) -> frozenset[int]:
        return frozenset()

    def narrow(self, kernel: Kernel) -> frozenset[int]:
        return frozenset()


class Family(Protocol):
    """One way of running kernels of a certain shape."""

    name: str
    mode: str  # the numeric mode it computes in
    extension: str  # row of ir.machine.EXTENSIONS that a device must have to be offered it, or ""
    packed_only: bool  # whether it runs only where a weight is packed for it
    products: int  # how many follow each other in it, each as far off as the mode says

    def accepts(self, kernel: Kernel, device: Device) -> bool:
        """Whether this family can run the kernel."""
        ...

    def packings(self, kernel: Kernel, weights: frozenset[int], device: Device) -> tuple[Packing, ...]:
        """How weights among the operands (numbered by `weights`) are to be laid out."""
        ...

    def workspace(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> int:
        """Bytes of scratch one thread needs at the greatest dims."""
        ...

    def terms(self, kernel: Kernel, packed: frozenset[int], symbols: Symbols, device: Device) -> Terms:
        """What it does at the typical sizes, counted by name (see `terms`)."""
        ...

    def past(self, kernel: Kernel, symbols: Symbols, device: Device) -> frozenset[int]:
        """The operands that are written past the caches at the typical sizes."""
        ...

    def narrow(self, kernel: Kernel) -> frozenset[int]:
        """The operands that it reads as bf16 at no cost, be they so or not."""
        ...

    def emit(self, kernel: Kernel, name: str, packed: frozenset[int], symbols: Symbols, device: Device) -> Emitted:
        """The C function `name`; operands in `packed` arrive in the packing asked for."""
        ...


def align64(count: int) -> int:
    """Rounded up to whole cache lines."""
    return -(-count // 64) * 64
