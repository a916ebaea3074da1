"""The limits of the machine that a roofline chart shows: arithmetic and the bandwidth of each cache, memory and disk."""

from __future__ import annotations

from typing import Any

from ...ir.machine import Machine
from ...ir.placed import Placed
from ...ir.plan import REQUEST_BYTES, REQUEST_DEPTH
from ...passes.place.cost import memory_bandwidth, read_bandwidth


def device_roofs(placed: Placed, machine: Machine, threads: int) -> list[dict[str, Any]]:
    """For each device that runs a cluster: operations per second, and bytes per second of each level, nearest first, as all
    planned threads reach them together."""
    used = dict.fromkeys(choice.chosen.candidate.device for choice in placed.choices.values())
    rows = []
    for name in used:
        device = machine.device(name)
        count = threads if device.kind == "cpu" else 1
        modes = dict.fromkeys(
            choice.chosen.candidate.mode for choice in placed.choices.values() if choice.chosen.candidate.device == name
        )
        levels = [{"name": f"L{cache.level}", "bandwidth": cache.bandwidth * count} for cache in device.caches]
        tier = machine.tier(device.memory)
        levels.append({"name": tier.name, "bandwidth": memory_bandwidth(tier, count)})
        disks = [tier for tier in machine.tiers if tier.kind == "disk"]
        levels += [{"name": d.name, "bandwidth": read_bandwidth(d, REQUEST_BYTES, REQUEST_DEPTH)} for d in disks]
        rows.append(
            {
                "device": name,
                "threads": count,
                "flops": {mode: device.modes.get(mode, device.peak_flops) * count for mode in modes},
                "levels": levels,
            }
        )
    return rows
