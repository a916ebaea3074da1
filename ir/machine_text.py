"""A machine profile as TOML. What `profile_text` writes, `machine_from_table` reads back to an equal machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from .machine import Device, Link, Machine, Network, Reading, Tier

MEASURED = "[measured]"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def profile_text(machine: Machine, comment: str = "") -> str:
    """The profile's TOML, one order for equal machines; `comment` becomes lines that start with #."""
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [f"{key} = {_value(getattr(machine, key))}" for key in ("name", "source", "watts", "price_per_hour")
              if getattr(machine, key) or key == "name"]  # fmt: skip
    for device in machine.devices:
        lines += _section("[[devices]]", _plain(device), machine.sources.get(f"devices.{device.name}"))
        for cache in device.caches:
            lines += _section("[[devices.caches]]", _plain(cache))
    for tier in machine.tiers:
        lines += _section("[[tiers]]", _plain(tier), machine.sources.get(f"tiers.{tier.name}"))
        for point in tier.curve:
            lines += _section("[[tiers.curve]]", _plain(point))
    for link in machine.links:
        # a link's own source is a tier, so its figures have none of their own
        lines += _section("[[links]]", _plain(link))
    if machine.network is not None:
        lines += _section("[network]", _plain(machine.network), machine.sources.get("network"))
    if machine.efficiency or "efficiency" in machine.sources:
        lines += _section("[efficiency]", machine.efficiency.items(), machine.sources.get("efficiency"))
    for family, row in machine.kernels.items():
        name = f"kernels.{family}"
        lines += _section(f"[kernels.{_key(family)}]", row.items(), machine.sources.get(name))
    return "\n".join([*lines, *measured_lines(machine.measured)]) + "\n"


def measured_lines(measured: Mapping[str, float]) -> list[str]:
    """The section `measured`; nothing where nothing was."""
    return _section(MEASURED, sorted(measured.items())) if measured else []


def with_measured(text: str, measured: Mapping[str, float]) -> str:
    """A profile's text with other measurements; all else in it, comments too, stays as it is."""
    lines = text.splitlines()
    if MEASURED in lines:
        start = lines.index(MEASURED)
        end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("[")), len(lines))
        del lines[start:end]
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join([*lines, *measured_lines(measured)]) + "\n"


def _plain(value: Device | Tier | Reading | Link | Network | Any) -> Iterable[tuple[str, Any]]:
    """The fields of a row that are no rows themselves, without those at their default."""
    for field in fields(value):
        found = getattr(value, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        rows = isinstance(found, tuple) and not all(isinstance(one, str) for one in found)  # tables of their own
        if not rows and found != default:
            yield field.name, found


def _section(header: str, items: Iterable[tuple[str, Any]], source: str | None = None) -> list[str]:
    rows = [*items, *([("source", source)] if source is not None else [])]
    return ["", header, *(f"{_key(key)} = {_value(value)}" for key, value in rows)]


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _value(value: Any) -> str:
    """A TOML value. Floats are written so that they read back exactly; JSON's strings are TOML's too."""
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return str(value)
