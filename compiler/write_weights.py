"""Writes weights.bin: every weight packed piece by piece, in file order, each byte hashed on its way and never read again."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.pack import pack_pieces
from ..ir.interp import evaluate_weight
from ..ir.placed import Placed
from ..ir.plan import READ_ALIGNMENT, Plan
from ..ir.plan_binary import WeightDigests
from ..ir.plan_digest import Digest64

#: called with the bytes done and all bytes, now and then
Tell = Callable[[int, int], None]
_TELL_BYTES = 64 << 20
_ZEROS = bytes(1 << 16)


@dataclass
class _Range:
    """A part of the file that has a digest of its own."""

    start: int
    end: int
    digest: Digest64 | None = None  # while bytes of the part pass
    value: int = 0

    def update(self, data: memoryview) -> None:
        self.digest = self.digest or Digest64()
        self.digest.update(data)

    def close(self) -> None:
        if self.digest is not None:
            self.value, self.digest = self.digest.value(), None


class WeightHashes:
    """sha256 of a file, and the runtime's digests of the parts of it that a plan names, over pieces in file order.

    Parts may overlap or be equal; equal ones are computed once.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.top, self.sha = plan, 0, hashlib.sha256()
        self.resident = _Range(0, plan.resident_bytes)
        self.streamed: dict[tuple[int, int], _Range] = {}
        for start, end in sorted({*self._reads(), *self._files().values()}):
            self.streamed[start, end] = _Range(start, end)
        self._waiting = [self.resident, *self.streamed.values()]

    def _reads(self) -> list[tuple[int, int]]:
        return [(read.offset, read.offset + read.bytes) for read in self.plan.reads]

    def _files(self) -> dict[int, tuple[int, int]]:
        """The extents, with their padding, of weights that kernels read by themselves."""
        numbers = sorted({a.index for call in self.plan.calls for a in call.args if a.space == "file"})
        found = {}
        for number in numbers:
            entry = self.plan.weights[number]
            end = entry.offset + entry.bytes
            found[number] = (entry.offset, min(end + -end % READ_ALIGNMENT, self.plan.weights_bytes))
        return found

    def update(self, data: memoryview) -> None:
        """The next bytes of the file."""
        end = self.top + len(data)
        for part in self._waiting:  # by start
            if part.start >= end:
                break
            part.update(data[max(part.start - self.top, 0) : part.end - self.top])
            if part.end <= end:
                part.close()
        self._waiting = [part for part in self._waiting if part.end > end]
        self.sha.update(data)
        self.top = end

    def digests(self) -> WeightDigests:
        """Of the whole file, once all of it has passed."""
        reads = tuple(self.streamed[span].value for span in self._reads())
        files = {number: self.streamed[span].value for number, span in self._files().items()}
        return WeightDigests(self.resident.value, reads, files)


def write_weights(placed: Placed, plan: Plan, path: Path, tell: Tell | None = None) -> tuple[str, WeightDigests]:
    """Write weights.bin; returns its sha256 and the digests plan.bin holds. Raises OSError, and StratacError for weights
    that cannot be read.

    Held at a time: one weight (pages of its file, or an array where it is derived by computing) and a few pieces of it. While
    a piece is hashed the next one is packed.
    """
    hashes = WeightHashes(plan)
    told = top = 0
    with open(path, "wb") as file, ThreadPoolExecutor(1) as worker:
        hashed: Future[None] | None = None

        def put(data: Any) -> None:
            nonlocal top, told, hashed
            view = memoryview(data).cast("B")
            if hashed is not None:
                hashed.result()
            hashed = worker.submit(hashes.update, view)
            file.write(view)
            top += len(view)
            if tell is not None and (top - told >= _TELL_BYTES or top == plan.weights_bytes):
                tell(top, plan.weights_bytes)
                told = top

        def pad(end: int) -> None:
            while top < end:
                put(_ZEROS[: end - top])

        for entry in plan.weights:
            pad(entry.offset)
            array = evaluate_weight(placed.graph, placed.homes[entry.name].weight)
            for piece in pack_pieces(array, entry.format):
                if piece.size:
                    put(piece.view("u1"))
                _drop_pages(array)
            if hashed is not None:
                hashed.result()  # it may still refer to the weight's own bytes
            done = entry.offset + entry.bytes
            assert top == done, f"{entry.name}: {top - entry.offset} bytes packed, {entry.bytes} planned"
        pad(plan.weights_bytes)
        if hashed is not None:
            hashed.result()
    return hashes.sha.hexdigest(), hashes.digests()


def _drop_pages(array: np.ndarray) -> None:
    """Let go of the pages of the file an array is mapped from; they stay in the system's cache and can be read again."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
