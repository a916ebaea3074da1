"""The plan's own 64-bit digest, as in `csrc/digest.c`: made to find damage at memory speed, not to resist attack.

The bytes are little-endian 64-bit words w_i, zero padded. The sum of w_i times an odd multiplier of i, modulo 2**64,
changes with any single flipped bit (an odd number times a power of two is never zero), and so does a bijection of it.
The multiplier is the product of one for the word's place in its block and one for the block: numpy needs one table.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

BLOCK_WORDS = 8192
_BLOCK = BLOCK_WORDS * 8
_MASK = (1 << 64) - 1
_WORD = 0x9E3779B97F4A7C15
_BLOCKS = 0xD1B54A32D192ED03
_LENGTH = 0x8CB92BA72F3D8DD7


def _odd(number: int, factor: int) -> int:
    mixed = (number + 1) * factor & _MASK
    return (mixed ^ mixed >> 32) | 1


@functools.cache
def _table() -> np.ndarray:
    mixed = np.arange(1, BLOCK_WORDS + 1, dtype=np.uint64) * np.uint64(_WORD)
    return (mixed ^ mixed >> np.uint64(32)) | np.uint64(1)


class Digest64:
    """A digest over pieces of any size."""

    def __init__(self) -> None:
        self._table = _table()
        self._sum = self._blocks = self._length = 0
        self._pending = bytearray()

    def _add(self, data: memoryview | bytearray) -> None:
        words = np.frombuffer(data, dtype="<u8").reshape(-1, BLOCK_WORDS)
        for inner in (words @ self._table).tolist():
            self._sum = (self._sum + inner * _odd(self._blocks, _BLOCKS)) & _MASK
            self._blocks += 1

    def update(self, data: bytes | bytearray | memoryview | np.ndarray) -> None:
        """Add bytes, or the bytes of a contiguous array."""
        raw: memoryview[int] = data.data if isinstance(data, np.ndarray) else memoryview(data)
        view = raw.cast("B") if raw.nbytes else memoryview(b"")
        self._length += len(view)
        if self._pending:
            take = min(_BLOCK - len(self._pending), len(view))
            self._pending += view[:take]
            view = view[take:]
            if len(self._pending) < _BLOCK:
                return
            self._add(self._pending)
            self._pending = bytearray()
        whole = len(view) // _BLOCK * _BLOCK
        if whole:
            self._add(view[:whole])
        self._pending = bytearray(view[whole:])

    def value(self) -> int:
        """The digest of everything added so far."""
        total = self._sum
        if self._pending:
            words = np.frombuffer(bytes(self._pending) + bytes(-len(self._pending) % 8), dtype="<u8")
            total += int(words @ self._table[: len(words)]) * _odd(self._blocks, _BLOCKS)
        total = (total + self._length * _LENGTH) & _MASK
        total = (total ^ total >> 32) * _WORD & _MASK
        return total ^ total >> 29


def digest64(data: bytes | bytearray | memoryview | np.ndarray) -> int:
    """The digest of bytes."""
    digest = Digest64()
    digest.update(data)
    return digest.value()


def digest64_file(path: Path) -> int:
    """The digest of a file, read in chunks."""
    digest = Digest64()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.value()
