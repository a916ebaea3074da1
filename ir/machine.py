"""Machine profiles: what a target has, as data. Costs are computed from a frozen profile, never from live timing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import StratacError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

#: ISA levels of a CPU, best first: name, CPU features needed, float lanes of a vector, compiler flags.
ISA_LEVELS: tuple[tuple[str, frozenset[str], int, tuple[str, ...]], ...] = (
    (
        "avx512",
        frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}),
        16,
        ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
    ),
    ("avx2", frozenset({"avx2", "fma"}), 8, ("-mavx2", "-mfma")),
    ("portable", frozenset(), 4, ()),
)


@dataclass(frozen=True)
class Cache:
    """One cache level seen by one core: capacity in bytes and bandwidth in bytes per second."""

    level: int
    bytes: int
    bandwidth: float


@dataclass(frozen=True)
class Device:
    """Something that executes kernels. Rates are per core; `isa` names a row of ISA_LEVELS for a CPU."""

    name: str
    kind: str
    arch: str
    isa: str
    cores: int
    clock_hz: float
    flops_per_cycle: float
    caches: tuple[Cache, ...]
    launch_s: float

    @property
    def peak_flops(self) -> float:
        """f32 operations per second of one core."""
        return self.clock_hz * self.flops_per_cycle

    @property
    def lanes(self) -> int:
        return next(lanes for name, _, lanes, _ in ISA_LEVELS if name == self.isa)

    @property
    def features(self) -> frozenset[str]:
        """CPU features a plan for this device needs."""
        return next(features for name, features, _, _ in ISA_LEVELS if name == self.isa)

    @property
    def compiler_flags(self) -> tuple[str, ...]:
        return next(flags for name, _, _, flags in ISA_LEVELS if name == self.isa)


@dataclass(frozen=True)
class Tier:
    """A place for bytes: capacity, and the bandwidth one core and all cores together reach, in bytes per second."""

    name: str
    bytes: int
    bandwidth: float
    core_bandwidth: float


@dataclass(frozen=True)
class Machine:
    """A target. `efficiency` is the share of the roofline each kernel family reaches, by family name."""

    name: str
    devices: tuple[Device, ...]
    tiers: tuple[Tier, ...]
    efficiency: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    def device(self, name: str) -> Device:
        for device in self.devices:
            if device.name == name:
                return device
        raise StratacError(
            f"machine {self.name} has no device {name!r}", hint=f"it has {', '.join(d.name for d in self.devices)}"
        )

    def tier(self, name: str) -> Tier:
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise StratacError(f"machine {self.name} has no tier {name!r}", hint=f"it has {', '.join(t.name for t in self.tiers)}")


def machine_from_table(table: Mapping[str, Any]) -> Machine:
    """A machine from parsed TOML. Raises StratacError that names the missing or wrong key."""
    try:
        devices = tuple(
            Device(
                **{k: v for k, v in row.items() if k != "caches"},
                caches=tuple(Cache(**cache) for cache in row.get("caches", ())),
            )
            for row in table["devices"]
        )
        tiers = tuple(Tier(**row) for row in table["tiers"])
        machine = Machine(table["name"], devices, tiers, dict(table.get("efficiency", {})), table.get("source", ""))
    except (KeyError, TypeError) as error:
        raise StratacError(f"the machine profile is incomplete: {error}", hint="see compiler/machines/*.toml") from error
    known = [row[0] for row in ISA_LEVELS]
    for device in machine.devices:
        if device.isa not in known:
            raise StratacError(f"unknown isa {device.isa!r} of device {device.name}", hint=f"known: {', '.join(known)}")
    return machine
