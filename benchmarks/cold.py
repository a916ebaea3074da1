"""Files read cold: the system's cache emptied of one file, and the sequential bandwidth of the disk below it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stratac.compiler.probe.disk import read_in_flight
from stratac.ir.plan import READ_ALIGNMENT, REQUEST_BYTES, REQUEST_DEPTH


def drop_cache(path: Path) -> None:
    """Let the system's cache forget a file. Pages that some process has mapped stay."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # what is not written yet would stay
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class ReadResult:
    """A sequential read: bytes, seconds, and whether it went around the system's cache."""

    bytes: int
    seconds: float
    direct: bool

    @property
    def bandwidth(self) -> float:
        """Bytes per second."""
        return self.bytes / self.seconds


def read_sequentially(
    path: Path,
    offset: int = 0,
    length: int | None = None,
    *,
    request_bytes: int = REQUEST_BYTES,
    depth: int = REQUEST_DEPTH,
) -> ReadResult:
    """Read part of a file in order, `depth` requests of `request_bytes` in flight, with direct I/O where the file system has it
    (else after `drop_cache`). `offset` is rounded down to READ_ALIGNMENT, and what is less than one request at the end is left out.
    """
    size = path.stat().st_size
    offset -= offset % READ_ALIGNMENT
    total = min(length or size, size - offset) // request_bytes
    try:
        descriptor, direct = os.open(path, os.O_RDONLY | os.O_DIRECT), True
    except OSError:
        descriptor, direct = os.open(path, os.O_RDONLY), False
        drop_cache(path)
    try:
        offsets = range(offset, offset + total * request_bytes, request_bytes)
        seconds = read_in_flight(descriptor, offsets, request_bytes, depth)
    finally:
        os.close(descriptor)
    return ReadResult(total * request_bytes, seconds, direct)
