"""The commands that only read plans: inspect, explain, diff. Nothing of a plan is executed here."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from ..ir.errors import EnvironmentProblem, StratacError
from ..runtime.manifest import read_manifest
from .report.difference import diff_plans, diff_text
from .report.explain import explain_text, find
from .report.ledger import compare, compare_text, read_ledger
from .report.read import read_report
from .report.text import inspect_text

# The page needs plotly and what-if the compiler: imported where they are used.


def inspect(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.plan)
    if args.level:
        print((args.plan / f"{args.level}.txt").read_text(encoding="utf-8"), end="")
        return 0
    report = read_report(args.plan)
    if args.compare is not None:
        found = compare(report, read_ledger(args.compare))
        print(_json(found) if args.json else compare_text(found, 0 if args.all else 20))
        return 0
    if args.html is not None:
        from .report.page import page

        write_whole(args.html, page(manifest, report))
        if not args.json:
            print(f"{args.html}: open it in a browser; it needs no network")
            return 0
    if args.json:
        print(_json({"manifest": manifest, "report": report}))
    else:
        print(inspect_text(manifest, report, 0 if args.all else 12))
    return 0


def explain(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.plan)
    report = read_report(args.plan)
    if args.node is None and not args.what_if:
        raise StratacError(
            "explain what?", hint="give a node, a weight or a regular expression; or --what-if ram=+1GiB"
        )
    found: dict[str, Any] = {}
    texts = []
    if args.node is not None:
        found["nodes"] = find(report, args.node)
        texts.append(explain_text(found["nodes"]))
    if args.what_if:
        from .bench import find_model
        from .what_if import what_if, what_if_text

        model = args.model or find_model(args.plan)
        _check_model(report, model)
        found["what_if"] = what_if(manifest, report, model, args.what_if)
        texts.append(what_if_text(found["what_if"]))
    print(_json(found) if args.json else "\n\n".join(texts))
    return 0


def _check_model(report: dict[str, Any], model: Path) -> None:
    from .source import OnnxFile

    if not model.is_file():
        raise StratacError(f"no model {model}", hint="give the .onnx file the plan was made from")
    if OnnxFile(model).facts()["sha256"] != report.get("model", {}).get("sha256"):
        raise StratacError(f"{model} is not the model this plan was made from: its digest differs")


def diff(args: argparse.Namespace) -> int:
    plans = [(read_manifest(plan), read_report(plan)) for plan in (args.plan, args.other)]
    found = diff_plans(plans[0], plans[1])
    print(_json(found) if args.json else diff_text(found, _labels(args.plan, args.other)))
    return 1 if args.exit_code and not found["same"] else 0


def _labels(one: Path, two: Path) -> tuple[str, str]:
    names = [path.resolve().name for path in (one, two)]
    return (names[0], names[1]) if names[0] != names[1] else ("first", "second")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1)


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears under its name only whole. Raises EnvironmentProblem."""
    target = path.resolve()  # a link stays a link
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        hint = "free disk space or choose another file"
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror or error}", hint=hint) from error
