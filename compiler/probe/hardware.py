"""Arithmetic, caches and memory of this machine: small C loops, compiled for each ISA level this CPU has."""

from __future__ import annotations

import ctypes
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...codegen.toolchain import CSRC, ToolchainOptions, Unit, compile_library
from ...ir.machine import EXTENSIONS, ISA_LEVELS, KIB, MIB, Cache, isa_level
from ..profiles import cpu_features

CHAINS = 8  # of st_probe_fma
REPEATS = 7
WORTH_A_CACHE = 1.2  # times what memory gives
NEARLY = 0.9


@dataclass(frozen=True)
class Figure:
    """One measured quantity: the median of several takes, the least and the greatest."""

    name: str
    unit: str
    median: float
    least: float
    most: float

    @staticmethod
    def of(name: str, unit: str, takes: Sequence[float]) -> Figure:
        return Figure(name, unit, statistics.median(takes), min(takes), max(takes))

    def __str__(self) -> str:
        return f"{self.name}: {self.median:.4g} {self.unit} ({self.least:.4g} .. {self.most:.4g})"


class Loops:
    """The compiled loops of one ISA level."""

    def __init__(self, isa: str, folder: Path, options: ToolchainOptions, extensions: Sequence[str] = ()) -> None:
        flags = (
            *isa_level(isa).flags,
            *(flag for name in extensions for flag in EXTENSIONS[name][1]),
        )
        unit = Unit("csrc/probe/probe.c", path=CSRC / "probe" / "probe.c", flags=(*flags, "-O3"), includes=(CSRC,))
        output = folder / f"probe-{isa}.so"
        compile_library([unit], output, options=options)
        self.library = ctypes.CDLL(str(output))
        for name in (
            "st_probe_fma",
            "st_probe_dot2",
            "st_probe_dot4",
            "st_probe_tiles",
            "st_probe_read",
            "st_probe_read_threads",
        ):
            getattr(self.library, name).restype = ctypes.c_double
        self.isa, self.lanes = isa, int(self.library.st_probe_lanes())

    def flops(self, seconds: float = 0.02) -> Figure:
        """f32 operations per second of one core."""
        return self._rate("f32", 2 * CHAINS * self.lanes, self._fma, seconds)

    def pair_flops(self, seconds: float = 0.02) -> Figure:
        """Operations per second of one core in the mode bf16: operands in pairs, sums in f32."""
        return self._rate("bf16", 4 * CHAINS * self.lanes, self._dot2, seconds)

    def quad_flops(self, seconds: float = 0.02) -> Figure:
        """Operations per second of one core in the mode i8: whole numbers of 8 bits in quads, sums in i32."""
        return self._rate("i8", 8 * CHAINS * self.lanes, self._dot4, seconds)

    def tile_flops(self, seconds: float = 0.02, of_bytes: bool = False) -> Figure:
        """Operations per second of one core on tiles of bf16, sums in f32; or of bytes, sums in i32."""
        mode, depth = ("bytes", 64) if of_bytes else ("bf16", 32)
        return self._rate(
            f"{mode} in tiles", 4 * 2 * 16 * 16 * depth, lambda steps: self._tiles(steps, of_bytes), seconds
        )

    def _rate(self, mode: str, operations: int, run: Callable[[int], float], seconds: float) -> Figure:
        """`run(steps)` takes seconds for so many operations in each step."""
        steps = _enough(run, seconds, 1 << 8)
        each = operations * steps
        return Figure.of(f"{mode} {self.isa}, one core", "flop/s", [each / run(steps) for _ in range(REPEATS)])

    def steps(self, seconds: float) -> int:
        """Steps of multiply-adds that take about so long on one core."""
        steps = _enough(self._fma, min(seconds, 0.05))
        return int(steps * seconds / self._fma(steps))

    def busy(self, threads: int, steps: int) -> float:
        """Core seconds of so many steps on each of so many threads at once."""
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(self._fma, [steps] * threads))

    def _fma(self, steps: int) -> float:
        return float(self.library.st_probe_fma(ctypes.c_int64(steps)))

    def _dot2(self, steps: int) -> float:
        return float(self.library.st_probe_dot2(ctypes.c_int64(steps)))

    def _dot4(self, steps: int) -> float:
        return float(self.library.st_probe_dot4(ctypes.c_int64(steps)))

    def _tiles(self, steps: int, of_bytes: bool) -> float:
        return float(self.library.st_probe_tiles(ctypes.c_int64(steps), ctypes.c_int(of_bytes)))

    def bandwidth(self, nbytes: int, threads: int = 1, seconds: float = 0.02) -> Figure:
        """Bytes per second of reading `nbytes` on each of so many threads, together."""
        floats = nbytes // 4
        data = np.zeros(floats * threads + 16, np.float32)
        data += 1.0  # every page there
        start = data.ctypes.data + (-data.ctypes.data) % 64
        rounds = _enough(lambda count: self._read(start, floats, count, threads), seconds, 1, 1 << 24)
        each = 4.0 * floats * rounds * threads
        takes = [each / self._read(start, floats, rounds, threads) for _ in range(REPEATS)]
        name = f"reading {nbytes // KIB} KiB on {threads} thread{'s' if threads > 1 else ''}"
        return Figure.of(name, "B/s", takes)

    def _read(self, address: int, floats: int, rounds: int, threads: int) -> float:
        call = self.library.st_probe_read_threads
        return float(call(ctypes.c_void_p(address), ctypes.c_int64(floats), ctypes.c_int64(rounds), threads))


def _enough(run: Callable[[int], float], seconds: float, count: int = 1 << 16, most: int = 1 << 34) -> int:
    """A count for which `run(count)` takes at least so long, from `count` up."""
    while (taken := run(count)) < seconds and count < most:
        count = int(count * min(max(1.3 * seconds / max(taken, 1e-9), 2), 64))
    return count


def isa_levels() -> list[str]:
    """The levels this CPU has, best first."""
    features = cpu_features()
    return [level.name for level in ISA_LEVELS if level.features <= features]


def cache_sizes() -> dict[int, int]:
    """Bytes of each data cache level as the operating system tells; usual sizes where it does not."""
    found: dict[int, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[int(level)] = int(size[:-1]) * KIB
    return found or {1: 32 * KIB, 2: MIB, 3: 16 * MIB}


def memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def busy_seconds() -> float:
    """CPU time that all CPUs have spent on anything so far, time stolen by the hypervisor included; 0 where that is not told."""
    try:
        fields = Path("/proc/stat").read_text().split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Others:
    """The share of all CPU time that other programs take while something runs."""

    def __init__(self) -> None:
        self.started, self.busy, self.own = time.monotonic(), busy_seconds(), sum(os.times()[:4])

    def share(self) -> float:
        passed = (time.monotonic() - self.started) * (os.cpu_count() or 1)
        others = busy_seconds() - self.busy - (sum(os.times()[:4]) - self.own)
        return min(max(others / max(passed, 1e-9), 0.0), 1.0)


def measure_caches(loops: Loops, memory: float, tell: Callable[[Figure], None]) -> tuple[Cache, ...]:
    """Each level read at half its size: well inside it, well outside the one before. `memory` is what one core reads of memory, in
    bytes per second."""
    found: list[Cache] = []
    sizes = sorted(cache_sizes().items())
    for level, size in sizes:
        figure = loops.bandwidth(size // 2)
        tell(figure)
        if level == sizes[-1][0] and found and figure.median < WORTH_A_CACHE * memory:
            found.append(_share_of(Cache(level, size, figure.median), 4 * found[-1].bytes, loops, memory, tell))
        else:
            found.append(Cache(level, size, figure.median))
    return tuple(found)


def _share_of(cache: Cache, least: int, loops: Loops, memory: float, tell: Callable[[Figure], None]) -> Cache:
    """The part of a last cache that reads are faster from than from memory: the greatest array, of `least` bytes or more, that is
    read nearly as fast as any. Virtual machines are told the whole cache of the host, of which others take their shares."""
    rates: dict[int, float] = {}
    size = cache.bytes / 2
    while (size := size / math.sqrt(2)) >= least:
        figure = loops.bandwidth(int(size) // (64 * KIB) * (64 * KIB))
        tell(figure)
        rates[int(size)] = figure.median
    fastest = max(rates.values(), default=0.0)
    if fastest < WORTH_A_CACHE * memory:
        return cache
    usable = max(size for size, rate in rates.items() if rate > NEARLY * fastest)
    return Cache(cache.level, usable // MIB * MIB, rates[usable])


def measure_memory(loops: Loops, threads: Sequence[int], tell: Callable[[Figure], None]) -> dict[int, Figure]:
    """Bandwidth of memory by thread count, on arrays several times the last cache."""
    last = max(cache_sizes().values())
    found = {}
    for count in threads:
        each = max(min(4 * last, memory_bytes() // 8 // count), 8 * MIB)
        found[count] = loops.bandwidth(each, count, 0.05)
        tell(found[count])
    return found
