"""Prices: positive, monotone, the same every time; reads and transfers by their curves and links."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from stratac.ir.candidate import UNITS, Candidate, Work
from stratac.ir.errors import StratacError
from stratac.ir.machine import Cache, Device, Link, Machine, Reading, Tier
from stratac.ir.plan import REQUEST_BYTES, REQUEST_DEPTH
from stratac.passes.place.cost import (
    WORTH_SHARING_S,
    price,
    read_bandwidth,
    read_seconds,
    reading_cores,
    transfer_seconds,
    worth_sharing,
)

CPU = Device("cpu", "cpu", "x86_64", "avx2", 4, 2e9, 32.0, (Cache(1, 1 << 15, 1e11), Cache(2, 1 << 20, 5e10)), 1e-7)
GPU = Device("gpu0", "gpu", "cuda", "sm_90", 1, 1e9, 1e5, (), 5e-6, "vram", {"bf16": 9e14})
CURVE = tuple(
    Reading(size, depth, 1e8 * depth**0.5 * (size / 65536) ** 0.25) for size in (65536, 1 << 20) for depth in (1, 8)
)
TIERS = (
    Tier("ram", 1 << 34, 2e10, 1e10),
    Tier("vram", 1 << 34, 2e12, 2e12),
    Tier("disk", 1 << 40, 1e9, 1e9, "disk", 1e-4, CURVE),
)
LINKS = (Link("ram", "vram", 1e10, 1e-5), Link("vram", "ram", 2e10, 1e-5))
TABLES = {"matmul": {"fma": 1e-10, "tile": 5e-9, "ram": 1e-11}, "loops": {"op": 2e-10, "to_ram": 1e-11}}
MACHINE = Machine("made", (CPU, GPU), TIERS, {"matmul": 0.6}, links=LINKS, kernels=TABLES)
PLAIN = replace(MACHINE, kernels={})


def candidate(
    family: str = "matmul", flops: float = 1e9, nbytes: float = 1e6, device: str = "cpu", **terms: float
) -> Candidate:
    return Candidate(device, family, "f32", Work(flops, nbytes, 0, True, tuple(sorted(terms.items()))))


def seconds(machine: Machine, threads: int = 1, **what: float) -> float:
    return price(candidate(**what), machine, threads).seconds


def test_a_table_prices_term_by_term() -> None:
    one = seconds(MACHINE, fma=1e6, tile=100, op=1000)
    assert one == pytest.approx(1e-7 + 1e6 * 1e-10 + 100 * 5e-9 + 1000 * 2e-10)
    assert seconds(MACHINE, fma=1e6, unheard_of=1e9) == seconds(MACHINE, fma=1e6)


def test_work_is_shared_in_whole_pieces() -> None:
    alone = seconds(MACHINE, 1, fma=1e7, units=3) - CPU.launch_s
    shared = price(candidate(fma=1e7, units=3), MACHINE, 2).seconds - CPU.launch_s - CPU.barrier_s
    assert shared == pytest.approx(alone * 2 / 3)
    assert seconds(MACHINE, 4, fma=1e7, units=1) > alone


def test_no_faster_than_memory_delivers() -> None:
    found = price(candidate(fma=10, ram=1e9), MACHINE, 4)
    assert found.seconds >= 1e9 / 2e10 and found.bound == "memory"
    assert price(candidate(fma=1e9, ram=10), MACHINE, 4).bound == "compute"
    assert price(candidate(fma=1), MACHINE, 4).bound == "launch"


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("machine", [MACHINE, PLAIN], ids=["tables", "roofline"])
def test_more_work_never_costs_less(seed: int, machine: Machine) -> None:
    rng = random.Random(seed)
    terms = {name: 10 ** rng.uniform(0, 9) for name in ("fma", "tile", "op", "ram", "to_ram", "l2")}
    base = {"flops": 10 ** rng.uniform(3, 10), "nbytes": 10 ** rng.uniform(2, 9), **terms}
    threads = rng.choice((1, 2, 4))
    before = seconds(machine, threads, units=8, **base)
    assert before > 0
    for name in base:
        grown = {**base, name: base[name] * rng.uniform(1, 10)}
        assert seconds(machine, threads, units=8, **grown) >= before * (1 - 1e-12), name
    slower = replace(machine, tiers=(replace(TIERS[0], bandwidth=1e9, core_bandwidth=5e8), *TIERS[1:]))
    assert seconds(slower, threads, units=8, **base) >= before


def test_a_gpu_is_priced_by_its_modes() -> None:
    work = Work(9e12, 1e6, 0)
    f32, bf16 = (price(Candidate("gpu0", "matmul", mode, work), MACHINE, 1).seconds for mode in ("f32", "bf16"))
    assert bf16 == pytest.approx(5e-6 + 9e12 / (9e14 * 0.6))
    assert f32 == pytest.approx(5e-6 + 9e12 / (1e14 * 0.6))


def test_small_work_is_not_shared() -> None:
    small = candidate(fma=WORTH_SHARING_S / 1e-10 * 0.9, **{UNITS: 64.0})
    large = candidate(fma=WORTH_SHARING_S / 1e-10 * 1.1, **{UNITS: 64.0})
    assert not worth_sharing(small, MACHINE) and worth_sharing(large, MACHINE)
    assert price(small, MACHINE, 4).seconds > price(small, MACHINE, 1).seconds


def test_reads() -> None:
    disk = MACHINE.tier("disk")
    assert read_bandwidth(disk, 1 << 20, 8) == pytest.approx(1e8 * 8**0.5 * 16**0.25)
    at = read_bandwidth(disk, REQUEST_BYTES, REQUEST_DEPTH)
    assert read_seconds(MACHINE, "disk", 1 << 26) == pytest.approx(1e-4 + (1 << 26) / at)
    assert read_seconds(MACHINE, "disk", 0) == 0.0
    assert read_seconds(MACHINE, "ram", 1 << 20) == pytest.approx((1 << 20) / 2e10)  # no curve: the tier's bandwidth


@pytest.mark.parametrize("seed", range(20))
def test_curves_between_their_points(seed: int) -> None:
    rng = random.Random(seed)
    disk = MACHINE.tier("disk")
    rates = [p.bandwidth for p in CURVE]
    size, depth = rng.randrange(1, 1 << 24), rng.randrange(1, 64)
    found = read_bandwidth(disk, size, depth)
    assert min(rates) <= found <= max(rates) * (1 + 1e-12)
    assert read_bandwidth(disk, size + rng.randrange(1 << 20), depth + 1) >= found * (1 - 1e-12)
    assert read_seconds(MACHINE, "disk", size) <= read_seconds(MACHINE, "disk", size + 1)


def test_transfers_follow_links() -> None:
    size = 1 << 30
    assert transfer_seconds(MACHINE, "ram", "vram", size) == pytest.approx(1e-5 + size / 1e10)
    assert transfer_seconds(MACHINE, "vram", "ram", size) == pytest.approx(1e-5 + size / 2e10)
    assert transfer_seconds(MACHINE, "ram", "ram", size) == 0.0
    both = read_seconds(MACHINE, "disk", size) + 1e-5 + size / 1e10
    assert transfer_seconds(MACHINE, "disk", "vram", size) == pytest.approx(both)
    with pytest.raises(StratacError, match=r"no link from ram to disk.*add \[\[links\]\]"):
        transfer_seconds(MACHINE, "ram", "disk", size)
    with pytest.raises(StratacError, match="has no tier 'moon'"):
        transfer_seconds(MACHINE, "ram", "moon", size)


def test_reading_takes_from_the_cores_where_all_compute() -> None:
    """The GPU's one core is none that could read."""
    assert reading_cores(MACHINE, "disk", 1 << 20, CPU.cores) == 0.0
    busy = replace(MACHINE, tiers=(*TIERS[:2], replace(TIERS[2], core_s_per_byte=3e-11)))
    taken = [reading_cores(busy, "disk", 1 << 20, threads) for threads in range(1, CPU.cores + 3)]
    assert taken == [0.0] * (CPU.cores - 1) + [pytest.approx((1 << 20) * 3e-11)] * 3
    assert reading_cores(busy, "disk", 0, CPU.cores) == reading_cores(busy, "ram", 1 << 20, CPU.cores) == 0.0
