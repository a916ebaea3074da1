"""Machine profiles: what a target has, as data. Costs are computed from a frozen profile, never from live timing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
    """Something that executes kernels. Rates are per core (a GPU counts as one); `isa` names a row of ISA_LEVELS for a CPU.

    `memory` is the tier its kernels read and write. `modes` gives operations per second by numeric mode where they differ from
    what clock and width say (f32).
    """

    name: str
    kind: str
    arch: str
    isa: str
    cores: int
    clock_hz: float
    flops_per_cycle: float
    caches: tuple[Cache, ...]
    launch_s: float
    memory: str = "ram"
    modes: Mapping[str, float] = field(default_factory=dict)

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
class Reading:
    """One point of a disk's read curve: requests of this many bytes, this many in flight, cold: bytes per second."""

    request_bytes: int
    depth: int
    bandwidth: float


@dataclass(frozen=True)
class Tier:
    """A place for bytes: capacity, and the bandwidth one core and all cores together reach, in bytes per second.

    `kind` is `memory` (addressable by the devices that name it) or `disk` (read by requests; `curve` holds cold sequential
    direct reads, `latency_s` is one small request's).
    """

    name: str
    bytes: int
    bandwidth: float
    core_bandwidth: float
    kind: str = "memory"
    latency_s: float = 0.0
    curve: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class Link:
    """A way from one tier to another: bytes per second and seconds before the first byte arrives."""

    source: str
    target: str
    bandwidth: float
    latency_s: float


@dataclass(frozen=True)
class Network:
    """What joins equal hosts: `hosts` machines like this one behind a switch; bandwidth of one host's link, per direction."""

    hosts: int
    bandwidth: float
    latency_s: float


@dataclass(frozen=True)
class Machine:
    """A target. `efficiency` is the share of the roofline each kernel family reaches, by family name.

    `kernels` holds measured tables: family -> term -> seconds per unit of the term on one core (see `Work.terms`).
    """

    name: str
    devices: tuple[Device, ...]
    tiers: tuple[Tier, ...]
    efficiency: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    links: tuple[Link, ...] = ()
    network: Network | None = None
    kernels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    watts: float = 0.0  # of the whole machine under load; 0: unknown
    price_per_hour: float = 0.0  # US dollars; 0: unknown

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
        raise StratacError(
            f"machine {self.name} has no tier {name!r}", hint=f"it has {', '.join(t.name for t in self.tiers)}"
        )


_SHIPPED = "see compiler/machines/generic-portable.toml"


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _rows(table: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = table.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise StratacError(f"the machine profile's {key} must be a list of tables", hint=f"write [[{key}]]")
    return rows


def _fields(kind: type, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a row, all there, none unknown, each of its type; counts are at least 1 and rates positive."""
    types = {f.name: f.type for f in fields(kind)}
    for key in (*types, *row):
        if key not in row:
            raise StratacError(f"the machine profile lacks {key!r} in {where}", hint=_SHIPPED)
        if key not in types:
            raise StratacError(f"the machine profile has an unknown key {key!r} in {where}", hint=_SHIPPED)
        value, wanted = row[key], types[key]
        fine = {
            "str": isinstance(value, str) and value,
            "int": _number(value) and isinstance(value, int) and value >= 1,
            "float": _number(value) and (value > 0 or (key == "launch_s" and value == 0)),
        }.get(str(wanted), True)
        if not fine:
            what = {"str": "text", "int": "a whole number, at least 1", "float": "a positive number"}[str(wanted)]
            raise StratacError(f"the machine profile's {key} in {where} must be {what}, got {value!r}", hint=_SHIPPED)
    return dict(row)


def machine_from_table(table: Mapping[str, Any]) -> Machine:
    """A machine from parsed TOML. Raises StratacError that names the missing or wrong key."""
    devices = []
    for row in _rows(table, "devices"):
        caches = tuple(Cache(**_fields(Cache, cache, "caches")) for cache in _rows(row, "caches"))
        devices.append(Device(**_fields(Device, {**row, "caches": caches}, "devices")))
    tiers = tuple(Tier(**_fields(Tier, row, "tiers")) for row in _rows(table, "tiers"))
    efficiency = table.get("efficiency", {})
    if not isinstance(efficiency, Mapping) or not all(_number(v) and 0 < v <= 1 for v in efficiency.values()):
        raise StratacError("the machine profile's efficiency must be shares above 0 and up to 1", hint=_SHIPPED)
    names = {key: table.get(key, "") for key in ("name", "source")}
    if not all(isinstance(text, str) for text in names.values()) or not names["name"]:
        raise StratacError("the machine profile needs a name, as text", hint=_SHIPPED)
    machine = Machine(names["name"], tuple(devices), tiers, dict(efficiency), names["source"])
    known = [row[0] for row in ISA_LEVELS]
    for device in machine.devices:
        if device.isa not in known:
            raise StratacError(f"unknown isa {device.isa!r} of device {device.name}", hint=f"known: {', '.join(known)}")
    return machine
