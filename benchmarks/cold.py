"""Files read cold: the system's cache emptied of one file, and the sequential bandwidth of the disk below it."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stratac.compiler.probe.disk import huge_buffer
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
    failures: list[OSError] = []
    numbers = iter(range(total))
    lock = threading.Lock()

    memory = huge_buffer(request_bytes * depth)

    def work(own: int) -> None:
        buffer = memory[own * request_bytes : (own + 1) * request_bytes]
        while not failures:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                got = os.preadv(descriptor, [buffer], offset + number * request_bytes)
                if got != request_bytes:
                    raise OSError(f"{path} ends early: {got} of {request_bytes} bytes of request {number}")
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in range(depth)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    os.close(descriptor)
    if failures:
        raise failures[0]
    return ReadResult(total * request_bytes, seconds, direct)
