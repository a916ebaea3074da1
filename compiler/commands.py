"""What each command does. The command line parses; these work and print."""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.dims import Bounds
from ..ir.errors import EnvironmentProblem, ModelError, StratacError
from ..runtime.manifest import read_manifest
from ..runtime.session import load
from . import checks
from .commands_report import diff, explain, inspect, write_whole
from .constants import parse_constants
from .layout import make_layout, parse_sequences, parse_states
from .measure import Watch
from .options import (
    CompileOptions,
    default_cache,
    environment_cc,
    parse_budgets,
    parse_cache,
    parse_dim,
    parse_pin,
    precision_error,
    size_text,
)
from .options import version as package_version
from .report.ledger import ledger_text, make_ledger
from .report.read import read_report
from .report.trace import chrome_trace
from .report.words import counted, time_text

__all__ = ["diff", "explain", "inspect"]  # beside those defined here

# Commands that compile import the compiler themselves: the others work where onnx and jinja2 are not installed.


def version(args: argparse.Namespace) -> int:
    print(f"stratac {package_version()}")
    return 0


def _options(args: argparse.Namespace) -> CompileOptions:
    return CompileOptions(
        target=args.target,
        dims=dict(parse_dim(text) for text in args.dim),
        constants=parse_constants(args.constant),
        layout=make_layout(parse_sequences(args.sequence), args.string_bytes, parse_states(args.state), args.trips),
        threads=args.threads,
        budgets=parse_budgets(args.budget),
        objective=args.objective,
        pins=tuple(parse_pin(text) for text in args.place),
        max_error=precision_error(args.precision, args.max_error),
        ragged=args.ragged,
        cc=args.cc or environment_cc(),
        cache=None if args.no_cache else default_cache(),
        jobs=args.jobs,
    )


_TELL_S = 5.0


class _Progress:
    """One line that rewrites itself on a terminal; elsewhere a line now and then where a compilation takes long."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.terminal = quiet or sys.stderr is None, sys.stderr is not None and sys.stderr.isatty()
        self.started = self.told = time.monotonic()

    def __call__(self, step: str, seconds: float) -> None:
        if self.quiet:
            return
        text = f"[{time.monotonic() - self.started:6.1f} s] {step}"
        if self.terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.told >= _TELL_S:
            self.told = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.terminal and not self.quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def compile(args: argparse.Namespace) -> int:
    from .api import opened
    from .bench import remember_model
    from .driver import compile_model

    progress = _Progress(args.quiet)
    started = time.monotonic()
    tuned: dict[str, Any] = {}
    try:
        with opened(args.model, args.output, cache=parse_cache(args.cache) if args.cache else None) as (source, output):
            if args.tune:
                from .tune import tune

                profile, count = tune(source, _options(args), args.tune, progress)
                tuned = {"profile": str(profile), "kernels": count}
            report = compile_model(source, output, _options(args), progress)
            if isinstance(source, Path):
                remember_model(source)
    except ModelError as error:
        if not args.json:
            raise
        print(json.dumps(error.facts(), indent=1))
        return error.exit_code
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
            "notes": dict(plan.notes),
            "tuned": tuned or None,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_rss_bytes_of_cc": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        }
        print(json.dumps(facts, indent=1))
        return 0
    clusters = counted(len(plan.calls), "cluster")
    print(f"{output}: {clusters}, {counted(len(plan.kernels), 'kernel')} for {plan.target}")
    print(
        f"  peak memory {size_text(plan.peak_bytes())} (weights {size_text(plan.weights_bytes)}), predicted time "
        f"{time_text(plan.seconds)} on {counted(plan.threads, 'thread')}"
    )
    for key in ("dims", "constants", "devices", "split"):
        if key in plan.notes:
            print(f"  note: {plan.notes[key]}")
    if tuned:
        print(f"  {counted(tuned['kernels'], 'kernel')} timed, kept in {tuned['profile']}")
    files = f"{counted(built.compiled, 'C file')} compiled, {built.cached} from the cache"
    print(f"  done in {seconds:.1f} s ({files}){_note(built.note)}")
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
    if args.dim and args.random is None:
        raise StratacError("--dim sizes random inputs", hint="add --random SEED, or leave --dim out")
    profiled = args.profile is not None or args.trace is not None
    watch = Watch() if profiled else None
    with load(args.plan, threads=args.threads) as session:
        if watch is not None:
            watch.opened()
        if args.inputs is not None:
            inputs = _read(args.inputs)
        elif args.random is not None:
            inputs = checks.random_inputs(args.plan, _sizes(args.dim, session.symbols), args.random)
        else:
            wanted = ", ".join(str(p) for p in session.get_inputs())
            raise StratacError("no inputs", hint=f"give -i FILE.npz with {wanted}; or --random SEED")
        names = [port.name for port in session.get_outputs()]
        outputs = session.run(names, inputs) if watch is None else watch.first(session, inputs)
        outputs = [array.astype(np.str_) if array.dtype == object else array for array in outputs]
        if args.outputs is not None:
            _save(args.outputs, dict(zip(names, outputs, strict=True)))
        for name, array in zip(names, outputs, strict=True):
            print(f"{name}: {array.dtype}{list(array.shape)}  {_figures(array)}")
        if watch is not None:
            report = read_report(args.plan)
            ledger = make_ledger(report, watch.rest(session, inputs, args.runs))
            _tell_profile(args, report, ledger)
    return 0


def _figures(array: np.ndarray) -> str:
    """What an output is like."""
    if array.size == 0:
        return "empty"
    return "strings" if array.dtype.kind == "U" else f"mean {array.mean():.6g}  std {array.std():.6g}"


def _tell_profile(args: argparse.Namespace, report: dict[str, Any], ledger: dict[str, Any]) -> None:
    if args.profile is not None:
        print(f"\n{ledger_text(ledger)}")
        if args.profile != "-":
            write_whole(Path(args.profile), json.dumps(ledger, indent=1) + "\n")
            print(f"ledger written to {args.profile}; see `stratac inspect {args.plan} --compare {args.profile}`")
    if args.trace is not None:
        write_whole(args.trace, json.dumps(chrome_trace(report, ledger)) + "\n")
        print(f"trace written to {args.trace}; open it in https://ui.perfetto.dev or chrome://tracing")


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise StratacError(f"{path} is not an .npz file, or is cut off", hint="write it with numpy.savez")
        with np.load(path) as found:
            return {name: found[name] for name in found.files}
    except OSError as error:
        raise StratacError(f"cannot read {path}: {error.strerror or error}", hint="give an .npz file") from error
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise StratacError(
            f"cannot read {path}: {error}", hint="write it with numpy.savez, plain arrays only"
        ) from error


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz that appears under its name only whole; a device or pipe is written as it is."""
    try:
        if path.exists() and not path.is_file():
            whole = io.BytesIO()
            _write_npz(whole, arrays)
            path.write_bytes(whole.getbuffer())
            return
        target = path.resolve()  # a link stays a link
        part = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            _write_npz(part, arrays)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        hint = "free disk space or choose another file"
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def _write_npz(file: Path | io.BytesIO, arrays: dict[str, np.ndarray]) -> None:
    """What numpy.savez writes, but for outputs of any name, and the same bytes at any time of day."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def verify(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.plan, parts=True, weights=True)
    parts = f"{len(manifest['parts'])} parts"
    findings: list[dict[str, Any]] = [{"check": "every byte matches its digest", "ok": True, "detail": parts}]
    if not args.static:
        findings += checks.check_bits(args.plan)
        if args.against is not None:
            tolerance = checks.usual_tolerance(args.plan) if args.tolerance is None else args.tolerance
            findings += checks.check_results(args.plan, args.against, tolerance)
    if args.json:
        print(json.dumps(findings, indent=1))
    else:
        for row in findings:
            print(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['check']}: {row['detail']}")
    return 0 if all(row["ok"] for row in findings) else 2


def bench(args: argparse.Namespace) -> int:
    from . import bench as measure
    from .driver import compile_model

    peers = [name for name in args.against.split(",") if name]
    measure.check_peers(peers)
    if args.model is not None and not args.model.is_file():
        raise StratacError(f"no model {args.model}", hint="give the .onnx file the plan was made from")
    if args.rounds < 1:
        raise StratacError(f"--rounds must be at least 1, got {args.rounds}")
    with tempfile.TemporaryDirectory(prefix="stratac-bench-") as folder:
        plan, model = args.plan, args.model
        sizes = args.dim
        if plan.is_file():
            dims = dict(parse_dim(text) for text in args.dim)
            options = CompileOptions(dims=dims, cc=environment_cc(), cache=default_cache())
            plan, model, sizes = compile_model(args.plan, Path(folder) / "bench.plan", options).folder, args.plan, []
        read_manifest(plan)
        if peers and model is None:
            model = measure.find_model(plan)
        counts = measure.threads_of(args.threads, plan)
        chosen = _sizes(sizes, dict(checks.read_plan(plan).symbols))
        found = measure.compare(plan, model, peers, counts, chosen, args.rounds)
    print(json.dumps(found, indent=1) if args.json else measure.bench_text(found))
    return 0


def estimate(args: argparse.Namespace) -> int:
    from .estimate.run import estimate_model
    from .estimate.text import estimate_text, summary_table
    from .profiles import shipped

    targets = shipped() if args.all_targets else [name.strip() for name in args.target.split(",") if name.strip()]
    if not targets:
        raise StratacError("--target names no machine", hint="use native, a shipped name or a TOML file")
    options = CompileOptions(
        dims=dict(parse_dim(text) for text in args.dim),
        layout=make_layout(parse_sequences(args.sequence), args.string_bytes, parse_states(args.state), args.trips),
        threads=args.threads,
        budgets=parse_budgets(args.budget),
    )
    answers = estimate_model(args.model, options, targets, args.hosts)
    if args.json:
        print(json.dumps(answers, indent=1))
    else:
        pages = [] if args.all_targets else [estimate_text(answer) for answer in answers]
        if len(answers) > 1:
            pages.append("\n".join(summary_table(answers)))
        print("\n\n".join(pages))
    return 0 if all(answer["fits"] for answer in answers) else 2


def ops(args: argparse.Namespace) -> int:
    from .frontends.onnx.operators import operators
    from .operators import operators_text, rows_json

    rows = operators()
    print(json.dumps(rows_json(rows), indent=1) if args.json else operators_text(rows))
    return 0


def doctor(args: argparse.Namespace) -> int:
    from . import machine_report

    rows, healthy = machine_report.examine(default_cache(), environment_cc())
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        width = max(len(row["what"]) for row in rows)
        for row in rows:
            print(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['what']:{width}}  {row['detail']}")
    return 0 if healthy else 3


def probe(args: argparse.Namespace) -> int:
    from .probe.command import run_probe

    return run_probe(args.output, args.disk, quick=args.quick, quiet=args.quiet, as_json=args.json)
