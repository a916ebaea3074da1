"""`explain --what-if`: a plan made again from its recorded options with one or more of them changed, and what each budget is worth.

The machine is the recorded profile, not this one, and the passes are those of a compilation, so the answer is what
`stratac compile` with the changed options would say.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..ir.errors import StratacError
from ..passes.place.infeasible import Infeasible
from ..runtime.manifest import plan_fields
from .artifact import PROCESS_FLOOR
from .driver import Levels, lower_model
from .options import CompileOptions, options_from_facts, parse_pin, parse_size, precision_error, size_text, version
from .report.difference import diff_plans, diff_text
from .report.summary import build_report
from .report.words import counted, signed_time, time_text

#: a budget is worth what this share more of it saves ..
STEP = 16
#: .. but at least so many bytes
LEAST_STEP = 1 << 20

Progress = Callable[[str, float], None]


def recorded_options(report: Mapping[str, Any], profile: Path) -> CompileOptions:
    """The options a plan was made with, its machine profile written to `profile`."""
    facts = report.get("options")
    if facts is None:
        raise StratacError("report.json does not record the plan's options", hint="compile the plan again")
    profile.write_text(report["profile"], encoding="utf-8")
    options = options_from_facts(facts)
    budgets = dict(options.budgets)
    if (
        options.objective != "memory" and report["solution"] is not None
    ):  # the limit of a control group counted as a budget
        budgets = {**report["solution"]["budgets"], **budgets}
    return replace(options, target=str(profile), budgets=budgets, threads=report["threads"])


def change(options: CompileOptions, report: Mapping[str, Any], text: str) -> CompileOptions:
    """Options after one `--what-if`: `ram=+1GiB`, `ram=-512MiB`, `disk=10GiB`, `threads=4`, `threads=+2`, `objective=memory`,
    `precision=bf16`, `max_error=1e-2`, `ragged=attention_mask` or `place=REGEX=WHERE`. Raises StratacError."""
    name, found, value = (part.strip() for part in text.partition("="))
    tiers = {tier["name"]: tier for tier in report["tiers"]}
    if not found or not value:
        raise StratacError(
            f"--what-if {text!r} is not understood", hint="write ram=+1GiB, threads=4 or objective=memory"
        )
    if name == "threads":
        match = re.fullmatch(r"([+-]?)(\d+)", value)
        if match is None:
            raise StratacError(
                f"--what-if {text!r}: {value!r} is no number of threads", hint="write threads=4 or threads=+2"
            )
        number = int(match[2]) if not match[1] else options.threads + int(value)
        if not 1 <= number <= 1024:
            raise StratacError(
                f"--what-if {text!r} would be {counted(number, 'thread')}", hint="1 to 1024 are possible"
            )
        return replace(options, threads=number)
    if name == "objective":
        return replace(options, objective=value)
    if name in ("precision", "max_error"):
        try:
            limit = precision_error(value, None) if name == "precision" else precision_error("", float(value))
        except ValueError as error:
            raise StratacError(f"--what-if {text!r}: {value!r} is no number", hint="write max_error=1e-2") from error
        return replace(options, max_error=limit)
    if name == "ragged":
        return replace(options, ragged=value)
    if name == "place":
        return replace(options, pins=(*options.pins, parse_pin(value)))
    if name in tiers:
        now = options.budgets.get(name, tiers[name]["capacity"])
        size = parse_size(value.lstrip("+-"))
        number = now + size if value[0] == "+" else now - size if value[0] == "-" else size
        if number < 0:
            raise StratacError(f"--what-if {text!r} leaves less than nothing of {size_text(now)}")
        return replace(options, budgets={**options.budgets, name: number})
    known = ", ".join([*tiers, "threads", "objective", "precision", "max_error", "ragged", "place"])
    raise StratacError(f"--what-if {text!r}: the plan has no {name!r}", hint=f"what can change: {known}")


def what_if(
    manifest: Mapping[str, Any],
    report: Mapping[str, Any],
    model: Path,
    changes: list[str],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Before, after and what moved; and for each budget of the plan the seconds that more of it saves.

    Raises StratacError for a change that is not understood, Infeasible for one that no plan keeps.
    """
    with tempfile.TemporaryDirectory(prefix="stratac-what-if-") as folder:
        options = recorded_options(report, Path(folder) / "machine.toml")
        changed = options
        for text in changes:
            changed = change(changed, report, text)
        found: dict[str, Any] = {"changes": list(changes)}
        if changes:
            levels = lower_model(model, changed, progress)
            after = build_report(levels.plan, levels.placed, levels.machine)
            difference = diff_plans(
                (manifest, dict(report)), (_manifest(manifest, levels), {**after, **_given(report)})
            )
            found |= {"before": _figures(report), "after": _figures(after), "difference": difference}
        found["marginal"] = [_marginal(report, options, tier, model, progress) for tier in _budgeted(report)]
    return found


def _manifest(manifest: Mapping[str, Any], levels: Levels) -> dict[str, Any]:
    return {**manifest, **plan_fields(levels.plan, stratac_version=version(), process_floor=PROCESS_FLOOR)}


def _given(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report has from its model and command line: not compared here."""
    return {key: report[key] for key in ("model", "options") if key in report}


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    solution = report["solution"] or {}
    return {
        "seconds": report["predicted_seconds"],
        "lower_bound": solution.get("lower_bound"),
        "budgets": solution.get("budgets", {}),
        "used": {tier["name"]: tier["used"] for tier in report["tiers"]},
        "read_bytes": sum(row["bytes"] for row in report["crossings"] if row["kind"] == "read"),
    }


def _budgeted(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [tier for tier in report["tiers"] if tier["used"]]


def _marginal(
    report: Mapping[str, Any], options: CompileOptions, tier: Mapping[str, Any], model: Path, progress: Progress | None
) -> dict[str, Any]:
    """Seconds that one step more of a tier saves, by planning again; 0 without that where nothing stays away for want of it."""
    name, budget = tier["name"], options.budgets.get(tier["name"], tier["capacity"])
    step = max(budget // STEP, LEAST_STEP)
    row = {"tier": name, "budget": budget, "step": step, "saved": 0.0, "per_gib": 0.0, "why": ""}
    waits = any(weight["how"] != "resident" for weight in report["weights"])
    if tier["kind"] == "memory" and not waits:
        return {**row, "why": "every weight is in memory already"}
    if tier["kind"] == "disk":
        return {**row, "why": f"{size_text(budget - tier['used'])} of it are free"}
    try:
        levels = lower_model(model, replace(options, budgets={**options.budgets, name: budget + step}), progress)
    except Infeasible:  # cannot be: what fits less fits more
        return row
    saved = max(float(report["predicted_seconds"]) - levels.plan.seconds, 0.0)
    return {**row, "saved": saved, "per_gib": saved / step * (1 << 30)}


def what_if_text(found: Mapping[str, Any]) -> str:
    """For people."""
    lines: list[str] = []
    if found["changes"]:
        before, after = found["before"]["seconds"], found["after"]["seconds"]
        lines = [f"what if {', '.join(found['changes'])}"]
        if found["difference"]["same"]:
            lines += ["  nothing would change", ""]
        else:
            share = f" ({(after / before - 1) * 100:+.1f} %)" if before else ""
            lines += [
                f"  one run would take {time_text(after)}, {signed_time(after - before)}{share}",
                "",
                diff_text(found["difference"], ("now", "then")),
                "",
            ]
    lines.append("what a budget is worth")
    for row in found["marginal"]:
        text = (
            f"{size_text(row['step'])} more save {time_text(row['saved'])}, {row['per_gib'] * 1e3:.3g} ms per GiB"
            if row["saved"] > 0
            else f"more of it saves nothing: {row['why']}"
            if row["why"]
            else f"{size_text(row['step'])} more save nothing"
        )
        lines.append(f"  {row['tier']:6} {size_text(row['budget']):>12}  {text}")
    return "\n".join(lines)
