"""The price of a candidate, of a read from storage and of a transfer: seconds from a machine's profile and nothing else.

Where the profile has a kernel table for the family, a candidate costs the sum over its terms (what the code does, counted by
codegen) of count x measured price, shared by the threads in whole pieces; but never less than its bytes from memory need at
the bandwidth all threads have together:

    busy    = max(arithmetic, traffic) + OVERLAP_LOSS x min(arithmetic, traffic)    (each a sum of terms x prices)
    seconds = max(busy / threads x imbalance, bytes from ram / bandwidth) + launch + barrier

Elsewhere it is the roofline, scaled by the share of it the family reaches. A kernel that the profile has `measured` by itself
costs what that took.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ...ir.candidate import UNITS, Candidate, Priced
from ...ir.errors import StratacError
from ...ir.machine import Device, Machine, Reading, Tier
from ...ir.plan import REQUEST_BYTES, REQUEST_DEPTH

#: the share of peak arithmetic a family reaches when a profile does not say
DEFAULT_EFFICIENCY = 0.5
#: below this many seconds on one thread, sharing the work costs more than it saves
WORTH_SHARING_S = 2e-6
#: what of the lesser of arithmetic and traffic is not hidden behind the greater
OVERLAP_LOSS = 0.3
#: the table that prices a term its family's own table lacks: callbacks of heavy kernels are loop bodies
COMMON = "loops"
#: terms that count bytes from or to a cache or memory
TRAFFIC = ("l1", "l2", "l3", "l4", "ram", "to_l1", "to_l2", "to_l3", "to_l4", "to_ram", "a_again", "b_again")


def price(candidate: Candidate, machine: Machine, threads: int, trips: int = 1) -> Priced:
    """Predicted seconds at the typical sizes, of all trips of a loop together, and what binds them. Never negative; more of any
    term never costs less."""
    device = machine.device(candidate.device)
    threads = threads if device.kind == "cpu" else 1  # a GPU is one core
    compute, memory, floor = _seconds(candidate, machine, device, threads)
    launch = device.launch_s + (device.barrier_s if threads > 1 else 0.0)
    busy = max(overlapped(compute, memory), floor)
    if candidate.direct:  # beside its bytes in memory, which such a kernel moves while no read is under way
        lookups = lookup_seconds(candidate, machine, threads)
        busy, floor = busy + lookups, floor + lookups
    known = machine.measured.get(candidate.measured_as(threads)) if candidate.key else None
    if known is not None:
        busy = max(known - launch, 0.0)
    bound = "launch" if launch >= busy else "memory" if floor >= busy or memory > compute else "compute"
    return Priced(candidate, (busy + launch) * trips, bound)


def lookup_seconds(candidate: Candidate, machine: Machine, threads: int) -> float:
    """Rows that a kernel reads from storage by itself: each thread waits for one batch after the other, and all share the disk.

    A plan that looks rows up in storage streams weights too: a batch waits behind the requests of theirs under way.
    """
    tier = next((tier for tier in machine.tiers if tier.kind == "disk"), None)
    if tier is None:
        return 0.0
    terms = dict(candidate.work.terms)
    rows, row_bytes = terms.get("rows_read", 0.0), terms.get("row_bytes", 0.0)
    bandwidth = read_bandwidth(tier, REQUEST_BYTES, REQUEST_DEPTH)
    waits = math.ceil(rows / (threads * max(terms.get("rows_at_once", 1.0), 1.0)))
    return waits * (tier.latency_s + REQUEST_DEPTH * REQUEST_BYTES / bandwidth) + rows * row_bytes / bandwidth


def worth_sharing(candidate: Candidate, machine: Machine) -> bool:
    """Whether more than one thread should work on it."""
    if candidate.direct:
        return True
    compute, memory, floor = _seconds(candidate, machine, machine.device(candidate.device), 1)
    return max(overlapped(compute, memory), floor) >= WORTH_SHARING_S


def overlapped(compute: float, memory: float) -> float:
    """Seconds of arithmetic and traffic side by side."""
    return max(compute, memory) + OVERLAP_LOSS * min(compute, memory)


def _seconds(candidate: Candidate, machine: Machine, device: Device, threads: int) -> tuple[float, float, float]:
    """(arithmetic, traffic, least for the bytes from memory), without launch and barrier."""
    work, tier = candidate.work, machine.tier(device.memory)
    table = machine.kernels.get(candidate.family)
    common = machine.kernels.get(COMMON, {})
    if table is None and {name for name, _ in work.terms} <= {*common, UNITS, *TRAFFIC}:
        table = common  # a family without heavy loops of its own
    if device.kind != "cpu" or table is None or not work.terms:
        share = machine.efficiency.get(candidate.family, DEFAULT_EFFICIENCY)
        rate = device.modes.get(candidate.mode, device.peak_flops)
        return work.flops / (rate * share * threads), 0.0, work.bytes / bandwidth(device, tier, work.bytes, threads)
    terms = dict(work.terms)
    units = max(terms.pop(UNITS, 1.0), 1.0)
    prices: Mapping[str, float] = {**common, **table}
    memory = sum(prices.get(name, 0.0) * terms.pop(name) for name in TRAFFIC if name in terms)
    compute = sum(prices.get(name, 0.0) * count for name, count in terms.items())
    moved = dict(work.terms)
    least = (moved.get("ram", 0.0) + moved.get("to_ram", 0.0)) / memory_bandwidth(tier, threads)
    if overlapped(compute, memory) < WORTH_SHARING_S:
        threads = 1
    share = math.ceil(units / threads) / units
    return compute * share, memory * share, least


def memory_bandwidth(tier: Tier, threads: int) -> float:
    """Bytes per second that so many cores reach together."""
    return min(tier.core_bandwidth * threads, tier.bandwidth)


def bandwidth(device: Device, tier: Tier, working_set: float, threads: int) -> float:
    """Bytes per second that `threads` cores reach together on a working set of this many bytes."""
    for cache in device.caches:
        if working_set <= cache.bytes:
            return cache.bandwidth * threads
    return memory_bandwidth(tier, threads)


# -- storage and links ---------------------------------------------------------------------------------------------


def read_seconds(machine: Machine, tier: str, nbytes: int) -> float:
    """One `Read` of the plan: so many bytes in requests of REQUEST_BYTES, REQUEST_DEPTH of them in flight."""
    if nbytes <= 0:
        return 0.0
    row = machine.tier(tier)
    return row.latency_s + nbytes / read_bandwidth(row, REQUEST_BYTES, REQUEST_DEPTH)


def reading_cores(machine: Machine, tier: str, nbytes: int, threads: int) -> float:
    """Seconds by which a `Read` delays the call it is for, all cores of which compute: system calls and interrupts take one of
    them away, and the others wait for it. Nothing where a core is free."""
    cores = max((device.cores for device in machine.devices if device.kind == "cpu"), default=1)
    return nbytes * machine.tier(tier).core_s_per_byte if threads >= cores else 0.0


def read_bandwidth(tier: Tier, request_bytes: int, depth: int) -> float:
    """Bytes per second of a disk's reads, between the points of its curve along both axes (logarithms of each); beyond the
    curve its nearest point counts. Without a curve, the tier's bandwidth."""
    if not tier.curve:
        return tier.bandwidth
    by_size: dict[int, list[Reading]] = {}
    for point in tier.curve:
        by_size.setdefault(point.request_bytes, []).append(point)
    sizes = []
    for size, points in sorted(by_size.items()):
        rates = sorted((float(p.depth), p.bandwidth) for p in points)
        sizes.append((float(size), _between(rates, depth)))
    return _between(sizes, request_bytes)


def _between(points: Sequence[tuple[float, float]], at: float) -> float:
    """The curve through the points at `at`, straight in logarithms."""
    if at <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if at <= x1:
            part = math.log(at / x0) / math.log(x1 / x0)
            return math.exp(math.log(y0) + part * (math.log(y1) - math.log(y0)))
    return points[-1][1]


def transfer_seconds(machine: Machine, source_tier: str, target_tier: str, nbytes: int) -> float:
    """Bytes from one tier to another over the fastest way; each link of it carries all bytes before the next begins.

    A disk without a link of its own is read into the `ram` tier. Raises StratacError where there is no way.
    """
    machine.tier(source_tier), machine.tier(target_tier)
    if source_tier == target_tier or nbytes <= 0:
        return 0.0
    ways: dict[str, list[tuple[str, float]]] = {}
    for link in machine.links:
        ways.setdefault(link.source, []).append((link.target, link.latency_s + nbytes / link.bandwidth))
    for tier in machine.tiers:
        if tier.kind == "disk" and tier.name not in ways and any(t.name == "ram" for t in machine.tiers):
            ways[tier.name] = [("ram", read_seconds(machine, tier.name, nbytes))]
    queue, done = [(0.0, source_tier)], set[str]()
    while queue:
        seconds, at = heapq.heappop(queue)
        if at == target_tier:
            return seconds
        if at not in done:
            done.add(at)
            for target, step in ways.get(at, []):
                heapq.heappush(queue, (seconds + step, target))
    raise StratacError(
        f"machine {machine.name} has no link from {source_tier} to {target_tier}",
        hint="add [[links]] to the profile: source, target, bandwidth, latency_s",
    )
