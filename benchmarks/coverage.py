"""Which models of transformers compile, through both front ends, and how exactly they compute.

    python -m benchmarks.coverage [NAME ...]

Small models of each family (coverage_models.py) are exported by torch.export, and that program is compiled as it is. They are
exported to ONNX by torch.onnx.export with dynamo=True, where that fails with dynamo=False, and compiled once more; both plans run
beside torch on the same inputs. A time is the median of one inference on one thread, the plan of the exported program and
onnxruntime on the ONNX file in turns: at these sizes mostly what a call costs.
When all models are done the results are written to benchmarks/results/coverage-ISA.json and docs/coverage.md; until then a run goes
on where the last one was cut off. The packages that build the models: pip install -e '.[peers]'.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import stratac
import torch
from stratac.compiler.frontends.torch import export_module
from stratac.ir.errors import ModelError, StratacError, grouped

from .coverage_models import SUBJECTS, Fields, Subject
from .exact import distance
from .machine_facts import isa, machine_facts, versions
from .subjects import ROOT
from .tables import milliseconds, table
from .zoo import _enliven

THREADS = 1
ROUNDS = 25
#: a model whose outputs are further from torch's than this does not count as computed
TOLERANCE = 1e-4
PAGE = ROOT / "docs" / "coverage.md"
WAYS = ("exported", "onnx")
Arrays = Mapping[str, np.ndarray]


def measure(subject: Subject) -> dict[str, Any]:
    """Both ways of one model: its error against torch, or why there is none; and times in seconds."""
    started = time.perf_counter()
    row: dict[str, Any] = {"name": subject.name}
    try:
        made, inputs = subject.make()
        module = Fields(_enliven(made, 5), subject.outputs) if subject.outputs else made
        with torch.no_grad():
            results = module(**inputs)
            program, _ = export_module(module, (), inputs)
    except Exception as error:  # whatever a model or torch raises is the finding
        return {**row, **{way: {"reason": f"torch cannot export it: {_short(error)}"} for way in WAYS}}
    expected = [tensor.numpy() for tensor in _tensors(results)]
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    row["parameters"] = sum(p.numel() for p in module.parameters())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        row["exported"] = _tried(lambda: _compiled(program, path / "exported.plan", arrays, expected))
        row["onnx"] = _tried(lambda: _through_onnx(module, inputs, path, expected))
        if "error" in row["exported"] and (path / "model.onnx").is_file():
            row |= _times(path / "exported.plan", path / "model.onnx", arrays)
    row["seconds"] = time.perf_counter() - started
    return row


def _tensors(results: Any) -> list[torch.Tensor]:
    if isinstance(results, torch.Tensor):
        return [results]
    return list(results if isinstance(results, tuple) else results.values())


def _tried(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return make()
    except ModelError as error:
        return {"reason": "; ".join(_operator(str(group[0])) for group in grouped(error.problems)[:3]) or error.what}
    except StratacError as error:
        return {"reason": str(error)}
    except Exception as error:  # a defect, shown as such
        return {"reason": _short(error), "defect": True}


def _operator(problem: str) -> str:
    return problem.partition(" at ")[0].partition("; ")[0][:120]


def _short(error: Exception) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch colours its messages
    lines = [line for line in plain.splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0].strip()[:120]}"


def _compiled(model: Any, plan: Path, arrays: Arrays, expected: list[np.ndarray]) -> dict[str, Any]:
    started = time.perf_counter()
    stratac.compile(model, plan, threads=THREADS)
    seconds = time.perf_counter() - started
    with stratac.load(plan) as session:
        found = session.run(None, {port.name: arrays[port.name] for port in session.get_inputs()})
    error, _ = distance(found, expected)
    return {"error": error, "compile_seconds": seconds}


def _through_onnx(
    module: Any, inputs: Mapping[str, torch.Tensor], folder: Path, expected: list[np.ndarray]
) -> dict[str, Any]:
    path = folder / "model.onnx"
    for part in module.modules():
        if hasattr(part, "set_experts_implementation"):  # the one of transformers that consists of operators of ONNX
            part.set_experts_implementation("batched_mm")
    exporter = "dynamo"
    try:
        torch.onnx.export(module, (), path, kwargs=dict(inputs), dynamo=True, verbose=False)
    except Exception as error:  # whatever the exporter raises is the finding
        exporter = "TorchScript"
        try:
            _export_traced(module, inputs, path)
        except Exception:
            return {"reason": f"torch.onnx.export fails: {_short(error)}"}
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    return _compiled(path, folder / "onnx.plan", arrays, expected) | {"exporter": exporter}


def _export_traced(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], path: Path) -> None:
    """By the older exporter, which takes inputs by position."""

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(_tensors(self.inner(**dict(zip(inputs, values, strict=True)))))

    torch.onnx.export(Positional().eval(), tuple(inputs.values()), path, input_names=list(inputs), dynamo=False)


def _times(plan: Path, model: Path, arrays: Arrays) -> dict[str, float]:
    """Median seconds of one inference, the two in turns."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    try:
        peer = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        given = {port.name: arrays[port.name] for port in peer.get_inputs()}
        with stratac.load(plan) as session:
            ours = {port.name: arrays[port.name] for port in session.get_inputs()}
            taken: dict[str, list[float]] = {"stratac": [], "onnxruntime": []}
            for round_ in range(ROUNDS + 2):
                for name, run in (
                    ("stratac", lambda: session.run(None, ours)),
                    ("onnxruntime", lambda: peer.run(None, given)),
                ):
                    started = time.perf_counter()
                    run()
                    if round_ >= 2:
                        taken[name].append(time.perf_counter() - started)
    except Exception as error:  # onnxruntime's own errors have no common type
        return {"peer": _short(error)}  # type: ignore[dict-item]
    return {f"{name}_seconds": statistics.median(values) for name, values in taken.items()}


def page(results: Mapping[str, Any]) -> str:
    """docs/coverage.md."""
    rows = results["rows"]
    counts = {way: sum(_computed(row[way]) for row in rows) for way in WAYS}
    lines = [[row["name"], _cell(row["exported"]), _cell(row["onnx"]), *_speed(row)] for row in rows]
    facts, used = results["machine"], results["versions"]
    head = ["model", "exported program", "by way of ONNX", "stratac (ms)", "onnxruntime (ms)"]
    found = f"{counts['exported']} compute through the exported program and {counts['onnx']} through ONNX"
    software = ", ".join(f"{name} {used.get(name, '')}" for name in ("torch", "transformers", "onnxruntime", "stratac"))
    return f"""# Coverage

Written by `python -m benchmarks.coverage`: small models of each family, configured by transformers with few narrow layers and
seeded weights, exported by torch and compiled through both front ends. A figure is the relative L2 error over all outputs
against torch in float32; text is what an exporter or importer says is missing. TorchScript: torch's exporter of programs fails
on it, the older one does not. Of {len(rows)} models,
{found}, within {TOLERANCE:g}.
Times are of one inference on one thread, the two in turns; at these sizes they are mostly what a call costs.

{table(head, lines, 3)}

{facts["cpu"]} ({results["isa"]}); {software} ({used.get("revision", "")}).
"""


def _computed(result: Mapping[str, Any]) -> bool:
    return "error" in result and result["error"] <= TOLERANCE


def _cell(result: Mapping[str, Any]) -> str:
    if "error" in result:
        traced = " (TorchScript)" if result.get("exporter") == "TorchScript" else ""
        return f"{result['error']:.1e}" + ("" if _computed(result) else " (wrong)") + traced
    return str(result["reason"]).replace("|", "\\|")


def _speed(row: Mapping[str, Any]) -> list[str]:
    if "stratac_seconds" not in row:
        return ["", ""]
    return [milliseconds(row["stratac_seconds"]), milliseconds(row["onnxruntime_seconds"])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models (default: all)")
    parser.add_argument("--page", action="store_true", help="only write the page anew from the results")
    args = parser.parse_args()
    target = ROOT / "benchmarks" / "results" / f"coverage-{isa()}.json"
    if args.page:
        PAGE.write_text(page(json.loads(target.read_text())))
        return 0
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    known = [subject.name for subject in SUBJECTS]
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no model {unknown[0]!r}; there are {', '.join(known)}")
    partial = target.with_suffix(".partial.json")
    rows = json.loads(partial.read_text()) if partial.is_file() else {}
    chosen = [s for s in SUBJECTS if s.name in args.names or (not args.names and s.name not in rows)]
    for subject in chosen:
        if importlib.util.find_spec(subject.wants) is None:
            parser.error(f"{subject.name} is built by {subject.wants}: pip install -e '.[peers]', or name other models")
    for subject in chosen:
        row = measure(subject)
        rows[subject.name] = row
        partial.write_text(json.dumps(rows))
        speed = " / ".join(_speed(row))
        print(f"{subject.name:16} {_cell(row['exported']):12} {_cell(row['onnx'])}  {speed} ms", flush=True)
    if all(name in rows for name in known):
        listed = [rows[name] for name in known]
        results = {"isa": isa(), "machine": machine_facts(), "versions": versions(), "rows": listed}
        target.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page(results))
        partial.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
