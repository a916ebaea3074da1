"""Cold reads of a disk: bandwidth over request size and depth, and the time of one small read.

A temporary file is written, dropped from the page cache and read with direct I/O, so many requests in flight as threads.
Where direct I/O is refused, reads are buffered and the file dropped from the cache before each take; the note says so.
"""

from __future__ import annotations

import mmap
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...ir.errors import EnvironmentProblem
from ...ir.machine import KIB, MIB, Reading
from ...ir.plan import READ_ALIGNMENT, REQUEST_BYTES, REQUEST_DEPTH
from .hardware import Figure

REQUESTS = (64 * KIB, 256 * KIB, MIB, 2 * MIB, 8 * MIB)
DEPTHS = (1, 2, 4, 8, 16)
SMALL_READS = 64
HUGE_PAGE = 2 * MIB
BESIDE_S = 0.25


@dataclass(frozen=True)
class DiskFigures:
    """The curve, one small read's latency in seconds, what a byte's reading takes from one core while all compute, what else to
    know (empty: direct reads), and bytes free on the disk."""

    curve: tuple[Reading, ...]
    latency: Figure
    core_s_per_byte: float
    note: str
    free_bytes: int
    figures: tuple[Figure, ...]


def huge_buffer(size: int) -> memoryview:
    """`size` bytes of memory like the runtime's ring: private, in huge pages where the kernel agrees, every page present.

    What a disk gives depends on it: a request whose memory is in one piece takes one descriptor, a scattered one hundreds.
    """
    whole = mmap.mmap(-1, size + 2 * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        whole.madvise(mmap.MADV_HUGEPAGE)
    pages = np.frombuffer(whole, np.uint8)
    pages[::READ_ALIGNMENT] = 0
    start = -pages.ctypes.data % HUGE_PAGE
    return memoryview(whole)[start : start + size]


class _File:
    """A file to be read cold: direct where the file system allows it."""

    def __init__(self, path: Path, direct: bool) -> None:
        self.handle = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
        self.bytes = os.fstat(self.handle).st_size

    def forget(self) -> None:
        """Drop the file's pages from the cache."""
        os.posix_fadvise(self.handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self, buffer: memoryview, offset: int) -> int:
        return os.preadv(self.handle, [buffer], offset)

    def close(self) -> None:
        os.close(self.handle)


def _write(folder: Path, size: int) -> Path:
    """A file of random bytes, on the disk and not only in the cache. Raises EnvironmentProblem."""
    piece = random.Random(0).randbytes(MIB)
    path = ""
    try:
        handle, path = tempfile.mkstemp(prefix=".stratac-probe-", dir=folder)
        with os.fdopen(handle, "wb") as file:
            for number in range(size // MIB):
                file.write(number.to_bytes(8, "little") + piece[8:])  # no two pieces alike: nothing to deduplicate
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError):
            hint = "name another folder with --disk"
            raise EnvironmentProblem(f"cannot measure the disk of {folder}: {error.strerror}", hint=hint) from error
        raise
    return Path(path)


def _can_be_direct(path: Path) -> bool:
    try:
        file = _File(path, direct=True)
    except OSError:
        return False
    try:
        return file.read(huge_buffer(READ_ALIGNMENT), 0) == READ_ALIGNMENT
    except OSError:
        return False
    finally:
        file.close()


def read_in_flight(handle: int, offsets: Sequence[int], request: int, depth: int) -> float:
    """Seconds of reading `request` bytes at each offset, `depth` threads taking the next one each into memory of their own.

    Raises OSError for a read that fails or is short.
    """
    memory = huge_buffer(request * depth)
    lock, following, failed = threading.Lock(), iter(offsets), list[OSError]()

    def work(own: int) -> None:
        buffer = memory[own * request : (own + 1) * request]
        while not failed:
            with lock:
                offset = next(following, None)
            if offset is None:
                return
            try:
                got = os.preadv(handle, [buffer], offset)
                if got != request:
                    raise OSError(f"the file ends early: {got} of {request} bytes at {offset}")
            except OSError as error:
                failed.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in range(depth)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if failed:
        raise failed[0]
    return seconds


def _stream(file: _File, request: int, depth: int, start: int, total: int) -> float:
    """Bytes per second of sequential requests, from the file's start again where it ends."""
    count = max(total // request, 1)
    places = ((start + number * request) % (file.bytes - request + 1) for number in range(count))
    offsets = [place // READ_ALIGNMENT * READ_ALIGNMENT for place in places]
    return count * request / read_in_flight(file.handle, offsets, request, depth)


def _latency(file: _File) -> Figure:
    """Seconds of one aligned read of READ_ALIGNMENT bytes at scattered places."""
    places = random.Random(1).sample(range(file.bytes // READ_ALIGNMENT), SMALL_READS)
    taken = []
    buffer = huge_buffer(READ_ALIGNMENT)
    for place in places:
        begin = time.perf_counter()
        file.read(buffer, place * READ_ALIGNMENT)
        taken.append(time.perf_counter() - begin)
    return Figure("reading 4 KiB", "s", statistics.median(taken), min(taken), max(taken))


def measure_disk(
    folder: Path,
    compute: Callable[[], float],
    *,
    quick: bool = False,
    size: int = 256 * MIB,
    seconds: float = 0.25,
) -> DiskFigures:
    """The disk under `folder`: a file of `size` bytes is written there and removed. Raises EnvironmentProblem.

    `compute()` keeps all cores busy with the same arithmetic each time, about BESIDE_S, and says how many core seconds it took.
    """
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    size = min(size, max(free // 4 // MIB, 16) * MIB)
    path = _write(folder, size)
    try:
        direct = _can_be_direct(path)
        file = _File(path, direct)
        note = (
            ""
            if direct
            else "buffered reads, dropped from the page cache before each: the file system refuses direct I/O"
        )
        try:
            file.forget()
            latency = _latency(file)
            curve, figures = [], []
            for request in REQUESTS[::2] if quick else REQUESTS:
                for depth in DEPTHS:
                    # the point plans read at is measured longer than those that only say what else there is
                    longer = 3 if (request, depth) == (REQUEST_BYTES, REQUEST_DEPTH) else 1
                    takes = longer * (2 if quick else 3)
                    figure = _point(file, request, depth, takes, longer * seconds / (2 if quick else 1), direct)
                    curve.append(Reading(request, depth, figure.median))
                    figures.append(figure)
            lost = _lost(file, compute, at(curve, REQUEST_BYTES, REQUEST_DEPTH), 3 if quick else 11)
            figures.append(lost)
        finally:
            file.close()
    finally:
        os.unlink(path)
    return DiskFigures(tuple(curve), latency, max(lost.median, 0.0), note, free, tuple(figures))


def _point(file: _File, request: int, depth: int, takes: int, seconds: float, direct: bool) -> Figure:
    found: list[float] = []
    total, start = max(4 * request * depth, 4 * MIB), 0
    for _ in range(takes):
        total = min(total, file.bytes)
        if not direct:
            file.forget()
        rate = _stream(file, request, depth, start, total)
        start = (start + total) % file.bytes
        found.append(rate)
        total = int(max(rate * seconds / takes, 2 * request * depth))
    return Figure.of(f"reading by {request // KIB} KiB, {depth} in flight", "B/s", found)


def _lost(file: _File, compute: Callable[[], float], bandwidth: float, takes: int) -> Figure:
    """Core seconds that a byte's reading takes from arithmetic on all cores: by how much longer that takes beside reads."""
    found: list[float] = []
    total = int(0.8 * BESIDE_S * bandwidth)
    with ThreadPoolExecutor(1) as reader:
        for _ in range(takes):
            file.forget()
            alone = compute()
            reads = reader.submit(_stream, file, REQUEST_BYTES, REQUEST_DEPTH, 0, total)
            beside = compute()
            reads.result()
            found.append((beside - alone) / total)
    return Figure.of("reading beside arithmetic on all cores", "core s/B", found)


def at(curve: Sequence[Reading], request: int, depth: int) -> float:
    """The measured bandwidth of one point."""
    return next(point.bandwidth for point in curve if (point.request_bytes, point.depth) == (request, depth))
