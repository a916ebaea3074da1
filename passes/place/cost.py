"""The price of a candidate: a roofline over arithmetic and memory, scaled by each family's measured efficiency, plus launch.

time = max(flops / (rate * share), bytes / bandwidth) / threads + launch, with the bandwidth of the smallest memory that holds
the candidate's bytes.
"""

from __future__ import annotations

from ...ir.candidate import Candidate, Priced
from ...ir.machine import Device, Machine, Tier

#: the share of peak arithmetic a family reaches when a profile does not say
DEFAULT_EFFICIENCY = 0.5
#: seconds one barrier costs each thread
BARRIER_S = 0.5e-6


def bandwidth(device: Device, tier: Tier, working_set: float, threads: int) -> float:
    """Bytes per second that `threads` cores reach together on a working set of this many bytes."""
    for cache in device.caches:
        if working_set <= cache.bytes:
            return cache.bandwidth * threads
    return min(tier.core_bandwidth * threads, tier.bandwidth)


def price(candidate: Candidate, machine: Machine, threads: int) -> Priced:
    """Predicted seconds at the typical sizes and what binds them."""
    device = machine.device(candidate.device)
    work = candidate.work
    share = machine.efficiency.get(candidate.family, DEFAULT_EFFICIENCY)
    compute = work.flops / (device.peak_flops * share * threads)
    memory = work.bytes / bandwidth(device, machine.tier("ram"), work.bytes, threads)
    launch = device.launch_s + (BARRIER_S if threads > 1 else 0.0)
    seconds = max(compute, memory) + launch
    bound = "launch" if launch >= max(compute, memory) else "compute" if compute >= memory else "memory"
    return Priced(candidate, seconds, bound)
