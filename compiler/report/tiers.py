"""Bytes of each tier: what it has, what the plan may take, what takes how much, and when; and what opening the plan costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ...ir.machine import Machine, Tier
from ...ir.placed import Placed
from ...ir.plan import REQUEST_BYTES, REQUEST_DEPTH, Plan
from ...passes.place.cost import read_bandwidth

#: kinds of arenas as reports call them, in the order they are stacked
KINDS = {
    "weights": "weights",
    "mapped": "mapped",
    "ring": "ring",
    "workspace": "workspace",
    "scratch": "activations",
    "state": "states",
}
PROCESS = "process floor"


def tier_rows(plan: Plan, placed: Placed, machine: Machine, floor: int) -> list[dict[str, Any]]:
    """One row for each tier of the machine. `parts` add up to `used`; `live` are the activation bytes in use during each call,
    a part of the arena that is reserved for them."""
    budgets: Mapping[str, int] = placed.solution.budgets if placed.solution else {}
    rows = []
    for tier in machine.tiers:
        parts = _stored(plan) if tier.kind == "disk" else _held(plan, machine, tier.name, floor)
        rows.append(
            {
                "name": tier.name,
                "kind": tier.kind,
                "capacity": tier.bytes,
                "budget": budgets.get(tier.name, tier.bytes),
                "limited": budgets.get(tier.name, tier.bytes) < tier.bytes,
                "used": sum(parts.values()),
                "parts": parts,
                "live": live_bytes(plan, tier.name) if tier.kind == "memory" else [],
            }
        )
    return rows


def _held(plan: Plan, machine: Machine, tier: str, floor: int) -> dict[str, int]:
    parts = {PROCESS: floor} if tier == machine.device("cpu").memory else {}
    for kind, name in KINDS.items():
        size = sum(a.bytes for a in plan.arenas if a.kind == kind and a.tier == tier)
        if size:
            parts[name] = size * (plan.threads if kind == "workspace" else 1)
    return parts


def _stored(plan: Plan) -> dict[str, int]:
    parts = {
        "read at open": plan.resident_bytes - plan.mapped_bytes,
        "mapped": plan.mapped_bytes,
        "stays in storage": plan.weights_bytes - plan.resident_bytes,
    }
    return {name: size for name, size in parts.items() if size}


def live_bytes(plan: Plan, tier: str) -> list[int]:
    """Activation bytes in use during each call of the plan, at the greatest dims."""
    change = [0] * (len(plan.calls) + 1)
    for buffer in plan.buffers:
        arena = plan.arenas[buffer.arena]
        if arena.kind == "scratch" and arena.tier == tier:
            change[buffer.first] += buffer.bytes
            change[buffer.last + 1] -= buffer.bytes
    return list(accumulate(change))[:-1]


def load_facts(plan: Plan, machine: Machine, tiers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Opening: the resident weights go straight from storage into their arena, so that the peak is what the plan holds. Mapped ones
    are read too, since their digest is checked, but not kept.

    `seconds` is None for a machine whose profile has no disk; then nothing is known of where the weights come from.
    """
    disk: Tier | None = next((tier for tier in machine.tiers if tier.kind == "disk"), None)
    memory = machine.device("cpu").memory
    bandwidth = read_bandwidth(disk, REQUEST_BYTES, REQUEST_DEPTH) if disk else None
    return {
        "bytes": plan.resident_bytes,
        "from": disk.name if disk else None,
        "bandwidth": bandwidth,
        "seconds": None if bandwidth is None or disk is None else disk.latency_s + plan.resident_bytes / bandwidth,
        "peak_bytes": next((row["used"] for row in tiers if row["name"] == memory), 0),
    }
