"""A measured system alone in a memory control group: opened and run with no more than a budget beside what its process holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stratac.compiler.peer import Peer, PeerError

from .memory_group import MemoryGroup, NoMemoryGroup
from .subjects import say

KERNEL_BYTES = 8 << 20  # page tables, stacks and files of a process are charged to its group as well
#: name of a row: system, how (see `compiler.peer.Peer`)
SYSTEMS = {
    "streamed": ("stratac", ""),
    "mmap": ("stratac", "mmap"),
    "onnxruntime": ("onnxruntime", ""),
    "onnxruntime, mapped": ("onnxruntime", "mapped"),
}


class Confined:
    """A peer in a memory group of its own, or in none. Opened, with inputs; `outcome` is empty until something ends it."""

    def __init__(self, name: str, threads: int, limit: bool) -> None:
        system, how = SYSTEMS[name]
        self.name, self.outcome = name, ""
        self.group = MemoryGroup() if limit else None
        try:
            self.peer = Peer(system, threads, how=how, enter=self.group.enter if self.group else None)
        except BaseException:
            self.close()
            raise
        self.base = self.allowed = 0
        self.open_seconds = 0.0

    def open(self, path: Path, inputs: Path, budget: int, output_bytes: int) -> None:
        self.peer.set_inputs(inputs)
        self.peer.begin()
        if self.group is not None:
            self.base = self.group.used()
            self.allowed = self.base + budget + output_bytes + KERNEL_BYTES
            self.group.limit(self.allowed)
            self.group.reset_peak()
        self.attempt(lambda: setattr(self, "open_seconds", self.peer.open(path)))

    def attempt(self, action: Callable[[], Any]) -> Any:
        """The action's result; where the peer fails or is killed, None, and `outcome` says so from then on."""
        if self.outcome:
            return None
        try:
            return action()
        except PeerError as error:
            killed = self.group is not None and self.group.kills() > 0
            self.outcome = "killed: beyond the memory limit" if killed else str(error)
            say(f"    {self.name}: {self.outcome}")
            return None

    def close(self) -> None:
        if hasattr(self, "peer"):
            self.peer.close()
        if self.group is not None:
            self.group.close()


@contextmanager
def confined(name: str, threads: int, limit: bool) -> Iterator[Confined]:
    one = Confined(name, threads, limit)
    try:
        yield one
    finally:
        one.close()


def group_reason() -> str:
    """Why no memory group can be made here; empty where one can."""
    try:
        MemoryGroup().close()
        return ""
    except NoMemoryGroup as error:
        return str(error)
