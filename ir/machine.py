"""Machine profiles: what a target has, as data. Costs are computed from a frozen profile, never from live timing.

`docs/machines.md` describes the TOML form key by key; `machine_text.profile_text` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NamedTuple

from .errors import StratacError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class IsaLevel(NamedTuple):
    """What kernels are compiled for: `arch` (empty: any), CPU features needed, float lanes of a vector, compiler flags."""

    name: str
    arch: str
    features: frozenset[str]
    lanes: int
    flags: tuple[str, ...]


#: ISA levels of a CPU, of each architecture best first.
ISA_LEVELS: tuple[IsaLevel, ...] = (
    IsaLevel(
        "avx512",
        "x86_64",
        frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}),
        16,
        ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
    ),
    IsaLevel("avx2", "x86_64", frozenset({"avx2", "fma", "f16c"}), 8, ("-mavx2", "-mfma", "-mf16c")),
    IsaLevel("neon", "aarch64", frozenset({"asimd"}), 4, ("-march=armv8-a",)),
    IsaLevel("portable", "", frozenset(), 4, ("-DSIMD_PORTABLE",)),
)


def isa_level(name: str) -> IsaLevel:
    return next(level for level in ISA_LEVELS if level.name == name)


#: Instructions beyond an ISA level: CPU features needed, compiler flags, and the numeric modes that use them.
EXTENSIONS: Mapping[str, tuple[frozenset[str], tuple[str, ...], frozenset[str]]] = {
    "avx512_bf16": (frozenset({"avx512_bf16"}), ("-mavx512bf16",), frozenset({"bf16", "bf16x3", "bf16x6"})),
    "amx_bf16": (
        frozenset({"amx_tile", "amx_bf16"}),
        ("-mamx-tile", "-mamx-bf16"),
        frozenset({"bf16", "bf16x3", "bf16x6"}),
    ),
    "amx_int8": (frozenset({"amx_tile", "amx_int8"}), ("-mamx-tile", "-mamx-int8"), frozenset({"bfp24", "bfp16"})),
    "arm_bf16": (frozenset({"bf16"}), ("-march=armv8.2-a+bf16",), frozenset({"bf16"})),
    "avx512_vnni": (frozenset({"avx512_vnni"}), ("-mavx512vnni",), frozenset({"i8"})),
    "avx_vnni": (frozenset({"avx_vnni"}), ("-mavxvnni",), frozenset({"i8"})),
    "arm_dotprod": (frozenset({"asimddp"}), ("-march=armv8.2-a+dotprod",), frozenset({"i8"})),
}


#: extensions that kernels of one ISA level alone use: the others have their own, or none, for the same
OF_ONE_LEVEL: Mapping[str, str] = {"avx_vnni": "avx2"}


def merged_flags(flags: Iterable[str]) -> tuple[str, ...]:
    """Compiler flags as they are meant: of several -march the last one counts, so that one has the additions of all."""
    given = list(flags)
    marches = [flag for flag in given if flag.startswith("-march=")]
    if len(marches) < 2:
        return tuple(given)
    base = max(flag.partition("+")[0] for flag in marches)
    added = dict.fromkeys(part for flag in marches for part in flag.split("+")[1:])
    return (*(flag for flag in given if flag not in marches), "+".join((base, *added)))


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
    what clock and width say (f32). `launch_s` is the cost of one call, `barrier_s` what threads lose at one barrier, `run_s`
    what a run takes beside its calls (binding arrays, waking threads). `model` is the processor the figures were measured
    on, as `compiler.profiles.cpu_model` names it; empty for a class of machines. `extensions` names rows of EXTENSIONS.
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
    barrier_s: float = 0.5e-6
    run_s: float = 0.0
    model: str = ""
    extensions: tuple[str, ...] = ()

    @property
    def peak_flops(self) -> float:
        """f32 operations per second of one core."""
        return self.clock_hz * self.flops_per_cycle

    @property
    def lanes(self) -> int:
        return isa_level(self.isa).lanes

    def features(self, modes: Iterable[str] = ("f32",)) -> frozenset[str]:
        """CPU features that a plan for this device needs, whose kernels run in these numeric modes."""
        return isa_level(self.isa).features.union(*(EXTENSIONS[name][0] for name in self.used(modes)))

    def compiler_flags(self, modes: Iterable[str] = ("f32",)) -> tuple[str, ...]:
        return merged_flags(
            (*isa_level(self.isa).flags, *(f for name in self.used(modes) for f in EXTENSIONS[name][1]))
        )

    def used(self, modes: Iterable[str]) -> tuple[str, ...]:
        """The extensions that numeric modes use in kernels of this ISA level."""
        wanted = frozenset(modes)
        own = [name for name in sorted(self.extensions) if OF_ONE_LEVEL.get(name, self.isa) == self.isa]
        return tuple(name for name in own if EXTENSIONS[name][2] & wanted)


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
    direct reads, `latency_s` is one small request's, `core_s_per_byte` the seconds that reading a byte takes from one core).
    """

    name: str
    bytes: int
    bandwidth: float
    core_bandwidth: float
    kind: str = "memory"
    latency_s: float = 0.0
    curve: tuple[Reading, ...] = ()
    core_s_per_byte: float = 0.0


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

    `kernels` holds measured tables: family -> term -> seconds per unit of the term on one core (see `Work.terms`). `sources`
    says where the figures of a section come from, by its name: `devices.cpu`, `tiers.disk`, `kernels.matmul`, `efficiency`.
    `measured` has the seconds of single kernels that were timed by themselves, by `Candidate.measured_as`: they go before tables.
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
    sources: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)

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


_HINT = "docs/machines.md lists every key; compiler/machines/generic-portable.toml is an example"
_MAY_BE_ZERO = frozenset({"launch_s", "barrier_s", "run_s", "latency_s", "core_s_per_byte", "watts", "price_per_hour"})
_TOP = frozenset({"devices", "tiers", "links", "network", "kernels", "efficiency", "measured"})
_WANTED = {"str": "text", "int": "a whole number, at least 1", "float": "a positive number"}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(text: str) -> StratacError:
    return StratacError(f"the machine profile{text}", hint=_HINT)


class _Table:
    """A table of a profile on its way to a value; `sources` collects where its figures come from."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources

    def rows(self, table: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
        rows = table.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise StratacError(f"the machine profile's {key} must be a list of tables", hint=f"write [[{key}]]")
        return rows

    def table(self, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        found = table.get(key, {})
        if not isinstance(found, Mapping):
            raise StratacError(f"the machine profile's {key} must be a table", hint=f"write [{key}]")
        return found

    def fields(self, kind: type, row: Mapping[str, Any], where: str, label: str = "") -> dict[str, Any]:
        """The fields of a row: all there that have no default, none unknown, each of its type."""
        known = {f.name: f for f in fields(kind)}
        row = dict(row)
        self.source(row, label)
        for key in known.keys() - row.keys():
            if known[key].default is MISSING and known[key].default_factory is MISSING:
                raise _wrong(f" lacks {key!r} in {where}")
        for key, value in row.items():
            if key not in known:
                raise _wrong(f" has an unknown key {key!r} in {where}")
            wanted = str(known[key].type)
            fine = {
                "str": isinstance(value, str) and (value or known[key].default == ""),
                "int": isinstance(value, int) and _number(value) and value >= 1,
                "float": _number(value) and (value > 0 or (value == 0 and key in _MAY_BE_ZERO)),
            }.get(wanted, True)
            if not fine:
                raise _wrong(f"'s {key} in {where} must be {_WANTED[wanted]}, got {value!r}")
        return row

    def source(self, row: dict[str, Any], label: str) -> None:
        """Take `source` out of a section and keep it under the section's name."""
        if label and "source" in row:
            text = row.pop("source")
            if not isinstance(text, str):
                raise _wrong(f"'s source of {label} must be text, got {text!r}")
            self.sources[label] = text

    def rates(self, row: Any, where: str, least: float, label: str = "") -> dict[str, float]:
        """Numbers by name, each at least `least`."""
        if not isinstance(row, Mapping):
            raise _wrong(f"'s {where} must be a table of numbers, got {row!r}")
        row = dict(row)
        self.source(row, label)
        for key, value in row.items():
            if not _number(value) or value < least:
                raise _wrong(f"'s {key} in {where} must be a number, at least {least:g}, got {value!r}")
        return {key: float(value) for key, value in row.items()}

    def shares(self, row: Mapping[str, Any]) -> dict[str, float]:
        """The section `efficiency`."""
        row = dict(row)
        self.source(row, "efficiency")
        if not all(_number(value) and 0 < value <= 1 for value in row.values()):
            raise _wrong("'s efficiency must be shares above 0 and up to 1")
        return {key: float(value) for key, value in row.items()}

    def device(self, row: Mapping[str, Any]) -> Device:
        caches = tuple(Cache(**self.fields(Cache, cache, "caches")) for cache in self.rows(row, "caches"))
        modes = self.rates(row.get("modes", {}), "modes", 1.0)
        extensions = row.get("extensions", [])
        if not isinstance(extensions, list) or any(name not in EXTENSIONS for name in extensions):
            raise _wrong(f"'s extensions in devices must be a list of {', '.join(EXTENSIONS)}, got {extensions!r}")
        row = {**row, "caches": caches, "modes": modes, "extensions": tuple(extensions)}
        return Device(**self.fields(Device, row, "devices", f"devices.{row.get('name', '')}"))

    def tier(self, row: Mapping[str, Any]) -> Tier:
        curve = tuple(Reading(**self.fields(Reading, point, "tiers.curve")) for point in self.rows(row, "curve"))
        row = {"core_bandwidth": row.get("bandwidth"), **row, "curve": curve}
        return Tier(**self.fields(Tier, row, "tiers", f"tiers.{row.get('name', '')}"))

    def link(self, row: Mapping[str, Any]) -> Link:
        return Link(**self.fields(Link, row, "links"))


def machine_from_table(table: Mapping[str, Any]) -> Machine:
    """A machine from parsed TOML. Raises StratacError that names the missing or wrong key."""
    sources: dict[str, str] = {}
    read = _Table(sources)
    plain = {f.name for f in fields(Machine)} - _TOP - {"sources"}
    for key in table.keys() - plain - _TOP:
        raise _wrong(f" has an unknown key {key!r}")
    if not isinstance(table.get("name"), str) or not table["name"]:
        raise _wrong(" needs a name, as text")
    own = {"devices": (), "tiers": (), **{k: v for k, v in table.items() if k in plain}}
    kernels = {
        family: read.rates(row, f"kernels.{family}", 0.0, label=f"kernels.{family}")
        for family, row in read.table(table, "kernels").items()
    }
    machine = Machine(
        **{
            **read.fields(Machine, own, "the profile"),
            "devices": tuple(read.device(row) for row in read.rows(table, "devices")),
            "tiers": tuple(read.tier(row) for row in read.rows(table, "tiers")),
            "efficiency": read.shares(read.table(table, "efficiency")),
            "links": tuple(read.link(row) for row in read.rows(table, "links")),
            "network": Network(**read.fields(Network, read.table(table, "network"), "network", "network"))
            if "network" in table
            else None,
            "kernels": kernels,
            "measured": read.rates(read.table(table, "measured"), "measured", 0.0),
            "sources": sources,
        }
    )
    _check(machine)
    return machine


def _check(machine: Machine) -> None:
    """What no single row can tell: names that must be known, and known once."""
    isas = [level.name for level in ISA_LEVELS]
    tiers = [tier.name for tier in machine.tiers]
    for what, names in (("device", [d.name for d in machine.devices]), ("tier", tiers)):
        for name in names:
            if names.count(name) > 1:
                raise _wrong(f" has two {what}s called {name!r}")
    for device in machine.devices:
        if device.kind not in ("cpu", "gpu"):
            raise StratacError(f"unknown kind {device.kind!r} of device {device.name}", hint="known: cpu, gpu")
        if device.kind == "cpu" and device.isa not in isas:
            raise StratacError(f"unknown isa {device.isa!r} of device {device.name}", hint=f"known: {', '.join(isas)}")
        if device.kind == "cpu" and isa_level(device.isa).arch not in ("", device.arch):
            fits = [level.name for level in ISA_LEVELS if level.arch in ("", device.arch)]
            raise StratacError(
                f"device {device.name} is {device.arch}, which has no isa {device.isa!r}",
                hint=f"it may have {', '.join(fits)}",
            )
        if device.memory not in tiers:
            hint = f"it has {', '.join(tiers) or 'none'}"
            raise StratacError(f"the memory of device {device.name}, {device.memory!r}, is no tier", hint=hint)
    for tier in machine.tiers:
        if tier.kind not in ("memory", "disk"):
            raise StratacError(f"unknown kind {tier.kind!r} of tier {tier.name}", hint="known: memory, disk")
    for link in machine.links:
        for name in (link.source, link.target):
            if name not in tiers:
                raise StratacError(f"a link names {name!r}, which is no tier", hint=f"it has {', '.join(tiers)}")
