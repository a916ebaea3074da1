"""Options of a compilation: one frozen value made by the command line or the caller. Nothing else reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.candidate import MODE_ERRORS
from ..ir.dims import Bounds
from ..ir.errors import StratacError
from ..passes.place.request import Pin
from .constants import constants_from_facts, constants_to_facts
from .layout import Layout, layout_from_facts

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}

#: The greatest extent of a dim the command line takes: beyond it, byte counts stop fitting into 64 bits.
MAX_EXTENT = (1 << 31) - 1


@dataclass(frozen=True)
class CompileOptions:
    """What shapes a plan. `dims` bounds the model's symbolic dims; `target` is `native`, a shipped name or a TOML file.

    `constants` gives values of inputs: they are compiled in, and the plan's signature does not have them. `layout` says how long
    sequences and strings are.
    `threads` is the planned thread count (0: the target's cores). `budgets` maps a tier to the bytes the plan may take there,
    the process floor included for `ram`. `objective` and `pins`: see `passes.place.request.PlaceRequest`. `max_error` is how far
    a product's numeric mode may be from f32, in relative L2 (`ir.candidate.MODE_ERRORS`); EXACT allows f32 itself alone. `ragged`
    names the input that is the mask of valid tokens, which lets outputs at padded positions be zeros (`passes.graph.pack_rows`).
    `cache` holds compiled objects; None switches it off.
    """

    target: str = "native"
    dims: Mapping[str, Bounds] = field(default_factory=dict)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    threads: int = 0
    budgets: Mapping[str, int] = field(default_factory=dict)
    objective: str = "latency"
    pins: tuple[Pin, ...] = ()
    max_error: float = 0.0
    ragged: str = ""
    cc: str | None = None
    cache: Path | None = None
    jobs: int = 0
    keep_source: bool = True

    def facts(self) -> dict[str, Any]:
        """What shapes the plan, as plain data: part of report.json, so that a plan can be made again or changed."""
        return {
            "target": self.target,
            "dims": {name: [b.min, b.typical, b.max] for name, b in self.dims.items()},
            **({"constants": constants_to_facts(self.constants)} if self.constants else {}),
            **self.layout.facts(),
            "threads": self.threads,
            "budgets": dict(self.budgets),
            "objective": self.objective,
            "pins": [[pin.pattern, pin.where] for pin in self.pins],
            "max_error": self.max_error,
            "ragged": self.ragged,
        }


def options_from_facts(facts: Mapping[str, Any]) -> CompileOptions:
    """The options whose `facts` these are; compiler and cache are the caller's."""
    return CompileOptions(
        target=facts["target"],
        dims={name: Bounds(*numbers) for name, numbers in facts["dims"].items()},
        constants=constants_from_facts(facts.get("constants", {})),
        layout=layout_from_facts(facts),
        threads=facts["threads"],
        budgets=dict(facts["budgets"]),
        objective=facts["objective"],
        pins=tuple(Pin(pattern, where) for pattern, where in facts["pins"]),
        max_error=facts.get("max_error", 0.0),
        ragged=facts.get("ragged", ""),
    )


def version() -> str:
    """Of this stratac, as plans record it."""
    try:
        return metadata.version("stratac")
    except metadata.PackageNotFoundError:
        return "0+source"


def default_cache() -> Path | None:
    """`$STRATAC_CACHE` (empty: no cache), else the user's cache folder."""
    named = os.environ.get("STRATAC_CACHE")
    if named is not None:
        return Path(named) if named else None
    import platformdirs

    return Path(platformdirs.user_cache_dir("stratac"))


def user_profile() -> Path:
    """Where `stratac probe` puts this machine's profile and `--target native` looks for it."""
    import platformdirs

    return Path(platformdirs.user_config_dir("stratac")) / "machines" / "native.toml"


def environment_cc() -> str | None:
    return os.environ.get("CC") or None


def plan_path(model: Path) -> Path:
    """Where a model's plan goes unless the user says: beside it."""
    return model.with_suffix(".plan") if model.name else Path("model.plan")


def parse_dim(text: str) -> tuple[str, Bounds]:
    """`batch=1:8:32` (min:typical:max), `batch=1:32` (min:max, typical is max) or `batch=4`."""
    match = re.fullmatch(r"([^=\s]+)=(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        raise StratacError(
            f"--dim {text!r} is not understood", hint="write NAME=N, NAME=MIN:MAX or NAME=MIN:TYPICAL:MAX"
        )
    name, *parts = match.groups()
    numbers = [int(p) for p in parts if p is not None]
    if max(numbers) > MAX_EXTENT:
        raise StratacError(f"--dim {text}: {max(numbers)} is more than {MAX_EXTENT}, the greatest extent of a dim")
    low, usual, high = {1: numbers * 3, 2: [*numbers, numbers[-1]], 3: numbers}[len(numbers)][:3]
    try:
        return name, Bounds(low, usual, high)
    except ValueError as error:
        raise StratacError(f"--dim {text}: {error}", hint="order them MIN:TYPICAL:MAX") from error


def parse_cache(text: str) -> tuple[int, int]:
    """Batch and length from `512` (a batch of 1) or `4x512`."""
    match = re.fullmatch(r"\s*(?:(\d+)\s*x\s*)?(\d+)\s*", text)
    batch, length = (int(part or 1) for part in match.groups()) if match else (0, 0)
    if not 0 < batch * length <= MAX_EXTENT:
        raise StratacError(f"--cache {text!r} is not understood", hint="write LENGTH or BATCHxLENGTH, such as 4x512")
    return batch, length


def parse_size(text: str) -> int:
    """Bytes from `4GiB`, `512MB`, `1.5 GiB`, `4096`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match.group(2).upper() not in _UNITS:
        raise StratacError(f"{text!r} is not a size", hint="write 4096, 512MiB or 1.5GiB")
    return int(Fraction(match.group(1)) * _UNITS[match.group(2).upper()])


def parse_budgets(text: str) -> dict[str, int]:
    """Bytes by tier from `ram=2GiB,disk=100GB`."""
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, size = (piece.strip() for piece in part.partition("="))
        if not re.fullmatch(r"[A-Za-z]\w*", name) or not size or name in found:
            raise StratacError(f"--budget {part!r} is not understood", hint="write ram=2GiB,disk=20GB, each tier once")
        found[name] = parse_size(size)
    return found


def parse_pin(text: str) -> Pin:
    """`REGEX=cpu`, `REGEX=disk`, `REGEX=!disk`: clusters and weights that match go there, or not there."""
    pattern, found, where = text.rpartition("=")
    if not found or not pattern or not re.fullmatch(r"!?[A-Za-z]\w*", where.strip()):
        hint = "write REGEX=DEVICE or REGEX=TIER, such as 'layers.0=ram'; ! forbids"
        raise StratacError(f"--place {text!r} is not understood", hint=hint)
    try:
        re.compile(pattern)
    except re.error as error:
        raise StratacError(f"--place {text!r}: {pattern!r} is no regular expression: {error}") from error
    return Pin(pattern, where.strip())


#: as an error: products are chains of f32 multiply-adds and nothing else
EXACT = -1.0
#: names of --precision, and the error each lets a product's numeric mode have
PRECISIONS = {"faithful": 0.0, "exact": EXACT, "bf16x3": MODE_ERRORS["bf16x3"], "bf16": MODE_ERRORS["bf16"]}


def precision_error(precision: str, max_error: float | None) -> float:
    """The greatest error of a mode: a number, or what the name of a precision stands for. Raises StratacError."""
    if max_error is not None:
        if not 0 <= max_error < 1:
            raise StratacError(
                f"a greatest error of {max_error:g} is not understood", hint="write 1e-3, or 0 for none worse than f32"
            )
        return max_error
    if precision not in PRECISIONS:
        raise StratacError(f"unknown precision {precision!r}", hint=f"one of {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def size_text(count: float) -> str:
    """Bytes for people: 1.50 GiB, 12.0 MiB, 512 B."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"
