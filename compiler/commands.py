"""What each command does. The command line parses; these work and print."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.dims import Bounds
from ..ir.errors import EnvironmentProblem, StratacError
from ..runtime.manifest import read_manifest
from ..runtime.session import load
from . import artifact, checks, machine_report
from .driver import compile_model
from .options import CompileOptions, default_cache, environment_cc, parse_dim, parse_size, size_text
from .report.text import inspect_text, table, time_text


def version(args: argparse.Namespace) -> int:
    print(f"stratac {artifact.version()}")
    return 0


def _budgets(text: str) -> dict[str, int]:
    found = {}
    for part in filter(None, text.split(",")):
        name, _, size = part.partition("=")
        if name != "ram" or not size:
            raise StratacError(f"--budget {part!r} is not understood", hint="write ram=2GiB")
        found[name] = parse_size(size)
    return found


def _options(args: argparse.Namespace) -> CompileOptions:
    return CompileOptions(
        target=args.target,
        dims=dict(parse_dim(text) for text in args.dim),
        threads=args.threads,
        budgets=_budgets(args.budget),
        cc=environment_cc(),
        cache=None if args.no_cache else default_cache(),
        jobs=args.jobs,
    )


class _Progress:
    """One line that rewrites itself on a terminal, silence elsewhere unless a step takes long."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.terminal = quiet, sys.stderr.isatty()
        self.started = time.monotonic()

    def __call__(self, step: str, seconds: float) -> None:
        if self.quiet:
            return
        text = f"[{time.monotonic() - self.started:6.1f} s] {step}"
        if self.terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.terminal and not self.quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def compile(args: argparse.Namespace) -> int:
    output = args.output or args.model.with_suffix(".plan")
    progress = _Progress(args.quiet)
    started = time.monotonic()
    try:
        report = compile_model(args.model, output, _options(args), progress)
    finally:
        progress.finish()
    seconds = time.monotonic() - started
    plan, built = report.plan, report.toolchain
    if args.json:
        facts = {
            "plan": str(report.folder),
            "seconds": seconds,
            "steps": report.seconds,
            "compiled": built.compiled,
            "cached": built.cached,
            "compiler": built.compiler,
            "note": built.note,
            "peak_bytes": plan.peak_bytes(),
            "predicted_seconds": plan.seconds,
        }
        print(json.dumps(facts, indent=1))
        return 0
    print(f"{output}: {len(plan.queues[0].calls)} clusters, {len(plan.kernels)} kernels for {plan.target}")
    print(
        f"  peak memory {size_text(plan.peak_bytes())} (weights {size_text(plan.weights_bytes)}), predicted time "
        f"{time_text(plan.seconds)} on {plan.threads} threads"
    )
    if "dims" in plan.notes:
        print(f"  note: {plan.notes['dims']}")
    print(f"  compiled in {seconds:.1f} s ({built.compiled} files, {built.cached} from the cache){_note(built.note)}")
    return 0


def _note(note: str) -> str:
    return f"; {note}" if note else ""


def _sizes(texts: list[str], symbols: dict[str, Bounds]) -> dict[str, int]:
    """Values of the symbols: typical unless given."""
    sizes = {name: bounds.typical for name, bounds in symbols.items()}
    for text in texts:
        name, bounds = parse_dim(text)
        if name not in sizes:
            raise StratacError(f"the plan has no dim {name!r}", hint=f"it has {', '.join(sizes) or 'none'}")
        sizes[name] = bounds.typical
    return sizes


def run(args: argparse.Namespace) -> int:
    with load(args.plan, threads=args.threads) as session:
        if args.inputs is not None:
            try:
                with np.load(args.inputs) as file:
                    inputs = {name: file[name] for name in file.files}
            except (OSError, ValueError) as error:
                raise StratacError(f"cannot read {args.inputs}: {error}", hint="give an .npz file") from error
        elif args.random is not None:
            inputs = checks.random_inputs(args.plan, _sizes(args.dim, session.symbols), args.random)
        else:
            wanted = ", ".join(str(p) for p in session.get_inputs())
            raise StratacError("no inputs", hint=f"give -i FILE.npz with {wanted}; or --random SEED")
        outputs = session.run(None, inputs)
        names = [port.name for port in session.get_outputs()]
        if args.outputs is not None:
            _save(args.outputs, dict(zip(names, outputs, strict=True)))
        for name, array in zip(names, outputs, strict=True):
            print(f"{name}: {array.dtype}{list(array.shape)}  mean {array.mean():.6g}  std {array.std():.6g}")
        if args.profile:
            _print_profile(session)
    return 0


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz under its name only when it is whole."""
    part = path.with_name(f".{path.name}.part.npz")
    try:
        np.savez(part, **arrays)  # type: ignore[arg-type]
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}", hint="free disk space or choose another file") from error


def _print_profile(session: Any) -> None:
    rows = sorted(session.profile(), key=lambda r: -r.seconds)
    total = sum(r.seconds for r in rows)
    predicted = sum(r.predicted_seconds for r in rows)
    cells = [(time_text(r.seconds), time_text(r.predicted_seconds), r.label) for r in rows]
    print()
    print("\n".join(table(cells, ("measured", "predicted", "cluster"), frozenset({0, 1}))))
    print(f"measured {time_text(total)}, predicted {time_text(predicted)} in total")


def verify(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.plan, parts=True, weights=True)
    parts = f"{len(manifest['parts'])} parts"
    findings: list[dict[str, Any]] = [{"check": "every byte matches its digest", "ok": True, "detail": parts}]
    if not args.static:
        findings += checks.check_bits(args.plan)
        if args.against is not None:
            findings += checks.check_results(args.plan, args.against, args.tolerance)
    if args.json:
        print(json.dumps(findings, indent=1))
    else:
        for row in findings:
            print(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['check']}: {row['detail']}")
    return 0 if all(row["ok"] for row in findings) else 2


def inspect(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.plan)
    if args.level:
        print((args.plan / f"{args.level}.txt").read_text(), end="")
        return 0
    report = json.loads((args.plan / "report.json").read_text())
    if args.json:
        print(json.dumps({"manifest": manifest, "report": report}, indent=1))
    else:
        print(inspect_text(manifest, report, 0 if args.all else 12))
    return 0


def bench(args: argparse.Namespace) -> int:
    raise NotImplementedError


def doctor(args: argparse.Namespace) -> int:
    rows, healthy = machine_report.examine(default_cache(), environment_cc())
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        width = max(len(row["what"]) for row in rows)
        for row in rows:
            print(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['what']:{width}}  {row['detail']}")
    return 0 if healthy else 3
