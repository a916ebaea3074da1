"""Machine profiles: shipped TOML files, a user's file, or this machine (`native`) as the operating system describes it."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import tomllib
from dataclasses import replace
from pathlib import Path

from ..ir.errors import StratacError
from ..ir.machine import EXTENSIONS, ISA_LEVELS, Machine, machine_from_table
from .options import user_profile

FOLDER = Path(__file__).parent / "machines"


def shipped() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_machine(target: str) -> Machine:
    """`native`, a shipped name or a path to a TOML file. Raises StratacError."""
    if target == "native":
        return native()
    path = FOLDER / f"{target}.toml" if target in shipped() else Path(target)
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        if path.suffix == ".toml":
            raise StratacError(f"cannot read the machine profile {path}: {error.strerror}") from error
        names = ", ".join(["native", *shipped()])
        raise StratacError(f"no machine {target!r}", hint=f"use one of {names}, or the path of a TOML file") from error
    except ValueError as error:  # of TOML or of UTF-8
        hint = f"see {FOLDER / 'generic-portable.toml'}"
        raise StratacError(f"{path} is not valid TOML: {error}", hint=hint) from error
    except StratacError as error:
        raise StratacError(f"{path}: {error.what}", hint=error.hint) from error


@functools.lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> Machine:
    """The machine of a file, which was last changed then: `native` looks at all that are shipped, at every compilation."""
    with open(path, "rb") as file:
        return machine_from_table(tomllib.load(file))


def target_arch(machine: Machine) -> str:
    """The architecture that a machine's kernels are compiled for; empty where any does: the compiler's own."""
    arch = machine.device("cpu").arch
    return "" if arch == "any" else arch


def cpu_features() -> frozenset[str]:
    """Feature names as the kernel lists them; empty where it does not."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def native_isa() -> str:
    """The best ISA level this CPU has."""
    features = cpu_features()
    return next(level.name for level in ISA_LEVELS if level.features <= features)


def native_extensions() -> tuple[str, ...]:
    """What this CPU has beyond its ISA level."""
    features = cpu_features()
    return tuple(
        name
        for name, (needed, _, _) in EXTENSIONS.items()
        if needed <= features and ("amx_tile" not in needed or tiles_granted())
    )


def tiles_granted() -> bool:
    """Whether Linux lets this process use AMX tiles: it asks, as every process must, for itself and all its threads."""
    ask = ctypes.CDLL(None).syscall
    return (
        int(ask(ctypes.c_long(158), ctypes.c_long(0x1023), ctypes.c_long(18))) == 0
    )  # arch_prctl: permission for tile data


def _cpuinfo() -> dict[str, str]:
    """The first processor's fields, as the kernel lists them."""
    found: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return found
    for line in text.split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def cpu_model() -> str:
    """The processor's make: vendor, family and model number, which tell microarchitectures apart where names do not."""
    fields = _cpuinfo()
    x86 = [fields.get(key, "") for key in ("vendor_id", "cpu family", "model")]
    arm = [fields.get(key, "") for key in ("CPU implementer", "CPU part")]
    return f"{x86[0]} {x86[1]}/{x86[2]}" if all(x86) else " ".join(arm).strip()


def cpu_name() -> str:
    """What the processor calls itself."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_clock() -> float:
    """The nominal clock in Hz; a round figure where the kernel does not tell."""
    try:
        return float(_cpuinfo().get("cpu MHz", "")) * 1e6 or 2.5e9
    except ValueError:
        return 2.5e9


def native(profile: Path | None = None) -> Machine:
    """This machine: `profile` (by default the user's own, written by `stratac probe`) if it was measured on a CPU like this, see
    `misfit`; else a shipped profile that was; else the generic one of the ISA level. Cores and memory are this machine's.

    Costs never come from live timing: the same profile gives the same plan.
    """
    machine = _measured(user_profile() if profile is None else profile)
    arch, isa = platform.machine(), native_isa()
    if machine is None:
        levels = [*(["amx"] if "amx_bf16" in native_extensions() else []), isa]
        names = [f"generic-{arch}-{level}" for level in levels]
        machine = load_machine(next((name for name in names if name in shipped()), "generic-portable"))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    tiers = tuple(replace(t, bytes=memory) if t.name == "ram" else t for t in machine.tiers)
    cores = len(os.sched_getaffinity(0))
    extensions = native_extensions()
    devices = tuple(
        replace(d, cores=cores, arch=arch, extensions=extensions) if d.kind == "cpu" else d for d in machine.devices
    )
    return replace(machine, devices=devices, tiers=tiers)


def _measured(profile: Path) -> Machine | None:
    """The user's profile or a shipped one that was measured on a CPU like this one."""
    found = [load_machine(str(profile))] if profile.is_file() else []
    found += [load_machine(name) for name in shipped()]
    return next((machine for machine in found if not misfit(machine)), None)


def misfit(machine: Machine) -> str:
    """Why the figures of a profile do not hold for this CPU, as the end of a sentence about it; empty where they do.

    Hypervisors mask model numbers and instructions, so the same number may stand for processors with and without AMX: make, ISA
    level and extensions must all be those that the profile was measured with.
    """
    model, isa, extensions = cpu_model(), native_isa(), native_extensions()
    reason = "is of no one processor"
    for device in machine.devices:
        if device.kind != "cpu" or not device.model:
            continue
        if device.model != model:
            reason = f"was measured on {device.model}, and this is {model or 'a CPU that does not say what it is'}"
        elif device.isa != isa:
            reason = f"was measured with {device.isa}, and this CPU has {isa}"
        elif {*device.extensions} != {*extensions}:
            lost = sorted({*device.extensions} - {*extensions})
            new = sorted({*extensions} - {*device.extensions})
            parts = [f"with {' '.join(lost)}, which this CPU lacks"] if lost else []
            parts += [f"without {' '.join(new)}, which this CPU has"] if new else []
            reason = "was measured " + ", and ".join(parts)
        else:
            return ""
    return reason
