"""The results of the zoo as a page, docs/benchmarks.md: every mode on every machine, with the promises that were not kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .modes import MODES, Mode
from .subjects import RESULTS
from .tables import (
    accuracy_table,
    broken_promises,
    caption,
    memory_table,
    opening_table,
    plural,
    speed_table,
    targets_table,
)
from .verdicts import Result

Modes = dict[str, dict[str, Any]]  # results by mode, in the order of MODES

_HEAD = """# Benchmarks

Made by `make bench` from the files in `benchmarks/results`; `python -m benchmarks.readme_table` writes this page from them.
Ratios are the peer's time over stratac's: above 1 stratac is faster. The fastest of the peers that a row is held against is bold.

| system | how it runs |
| --- | --- |
| stratac | a plan whose dims stay open, from 1 to the greatest of the model's shapes, for the machine's measured profile |
| onnxruntime | CPU provider, every graph optimization, symbolic dims fixed to the shape |
| openvino | CPU plugin, latency hint, shapes fixed, inference precision f32 |
| openvino-default | the same in the precision that OpenVINO chooses itself: bf16 where the CPU has instructions for it |
| aotinductor | the exported torch module compiled by AOTInductor for one shape and one thread count, weights frozen |
| inductor-bf16 | the exported torch module with bf16 weights under torch.compile, frozen; it compiles in its first run |
| iree | the ONNX file compiled by IREE (llvm-cpu, O3, this CPU's features named) for one shape; workers as threads |

Masked rows: stratac's plan is compiled for a target without the features. oneDNN (in OpenVINO and torch), MKL and torch are told by
`ONEDNN_MAX_CPU_ISA`, `MKL_ENABLE_INSTRUCTIONS` and `ATEN_CPU_CAPABILITY`, the compilers of AOTInductor and IREE by their options.
"""


def machines(group: str, results: Path = RESULTS) -> dict[str, Modes]:
    """By machine (its ISA), the one measured last first: the whole results of each mode. `group`: models or heldout."""
    found: dict[str, Modes] = {}
    for folder in sorted((results / group).glob("*/")):
        files = {name: folder / f"{name}.json" for name in MODES}
        found[folder.name] = {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}
    return dict(sorted(((k, v) for k, v in found.items() if v), key=lambda item: latest(item[1]), reverse=True))


def latest(modes: Modes) -> str:
    """The date of the newest results."""
    return max(str(results["date"]) for results in modes.values())


def measured(modes: Mapping[str, Result]) -> list[tuple[Mode, Result]]:
    """The modes that were run, not taken over from their twin."""
    return [(MODES[name], results) for name, results in modes.items() if "same_as" not in results]


def mode_text(mode: Mode, results: Result) -> str:
    """Everything about one mode: speed, errors, opening, memory, and the promises that were not kept."""
    first, last = (plural(results["threads"][at]) for at in (0, -1))
    same = [result["name"] for result in results["models"] if "same_plan_as" in result]
    parts = [
        f"### {mode.title}",
        "Median time of one inference in ms, and its ratio to stratac's:",
        speed_table(mode, results),
    ]
    if same:
        other = next(result["same_plan_as"] for result in results["models"] if "same_plan_as" in result)
        parts.append(f"The plan is that of {MODES[other].title}, and so are the figures: {', '.join(same)}.")
    if mode.mask.unmasked:
        known = ", ".join(name for name in mode.mask.unmasked if name in results["systems"])
        parts += [f"Not masked, as no switch of it is known: {known}."] if known else []
    parts += [
        "Relative L2 error against the model in float64, at the shape above:",
        accuracy_table(mode, results),
        f"Seconds to open + to run for the first time, {first}; where a peer compiles ahead of time, after how many seconds:",
        opening_table(results),
        f"Peak RSS in MiB, {last}, and what the plan promised to take beside Python at its greatest dims:",
        memory_table(results),
    ]
    broken = broken_promises(mode, results)
    parts.append(
        "Every promise was kept." if not broken else "Promises not kept:\n\n" + "\n".join(f"- {b}" for b in broken)
    )
    return "\n\n".join(parts)


def chart_name(isa: str, mode: str) -> str:
    """The chart's file in docs/."""
    return f"benchmarks-{isa}-{mode}.svg"


def page(results: Path = RESULTS) -> str:
    """docs/benchmarks.md."""
    parts = [_HEAD]
    for group, title in (("models", "The zoo"), ("heldout", "Models held out, never looked at while developing")):
        for isa, modes in machines(group, results).items():
            ran = measured(modes)
            parts += [f"## {title}, {isa}\n", targets_table(modes) + "\n"]
            for mode, found in ran:
                picture = f"![{mode.title}]({chart_name(isa, mode.name)})\n\n" if group == "models" else ""
                parts.append(f"{mode_text(mode, found)}\n\n{picture}{caption(found)}\n")
            parts += [f"How: {ran[-1][1]['method']}\n"] if ran else []
    return "\n".join(parts if len(parts) > 1 else [*parts, "Nothing was measured yet.\n"])
