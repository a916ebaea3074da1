"""Machine profiles: shipped TOML files, a user's file, or this machine (`native`) as the operating system describes it."""

from __future__ import annotations

import os
import platform
import tomllib
from dataclasses import replace
from pathlib import Path

from ..ir.errors import StratacError
from ..ir.machine import ISA_LEVELS, Machine, Tier, machine_from_table

FOLDER = Path(__file__).parent / "machines"


def shipped() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_machine(target: str) -> Machine:
    """`native`, a shipped name or a path to a TOML file. Raises StratacError."""
    if target == "native":
        return native()
    path = FOLDER / f"{target}.toml" if target in shipped() else Path(target)
    try:
        with open(path, "rb") as file:
            return machine_from_table(tomllib.load(file))
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
    return next(name for name, needed, _, _ in ISA_LEVELS if needed <= features)


def native() -> Machine:
    """The generic profile of this CPU's ISA level with this machine's cores and memory.

    Rates stay the profile's: costs never come from live timing, and the same machine gives the same plan.
    """
    isa = native_isa()
    arch = platform.machine()
    name = f"generic-{arch}-{isa}" if (FOLDER / f"generic-{arch}-{isa}.toml").is_file() else "generic-portable"
    machine = load_machine(name)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    tiers = tuple(replace(t, bytes=memory) if t.name == "ram" else t for t in machine.tiers)
    assert all(isinstance(t, Tier) for t in tiers)
    devices = tuple(replace(d, cores=len(os.sched_getaffinity(0)), arch=arch) for d in machine.devices)
    return replace(machine, devices=devices, tiers=tiers)
