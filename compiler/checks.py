"""What `verify` checks by running: bits over runs and thread counts, results against the model's own semantics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.dims import Bounds, evaluate_shape
from ..ir.errors import EnvironmentProblem, StratacError
from ..ir.interface import Interface, interface_from_data
from ..ir.narrow import FORMATS, narrowed, widened
from ..ir.plan import Plan
from ..ir.plan_binary import decode
from ..ir.types import ML_NAMES
from ..runtime.manifest import MANIFEST, PLAN
from ..runtime.session import load
from .options import CompileOptions, options_from_facts
from .report.read import read_report

THREADS = (1, 2, 3, 4)


def read_plan(folder: Path) -> Plan:
    """The plan of a folder whose digests have been checked."""
    return decode((folder / PLAN).read_bytes())


def random_inputs(folder: Path, sizes: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """Arrays for every input at these sizes: floats standard normal, integers in the range the model can look up."""
    plan = read_plan(folder)
    ranges = json.loads((folder / "report.json").read_text())["input_ranges"]
    texts = _string_ports(folder)
    rng = np.random.default_rng(seed)
    found = {}
    for port in plan.inputs:
        shape = evaluate_shape(port.type.shape, sizes)
        kind = port.type.dtype.np
        if port.name in texts:  # letters, zeros behind them
            lengths = rng.integers(0, shape[-1] + 1, shape[:-1])
            letters = rng.integers(ord("a"), ord("z") + 1, shape)
            found[port.name] = (letters * (np.arange(shape[-1]) < lengths[..., None])).astype(kind)
        elif port.type.dtype.is_float:
            found[port.name] = narrowed(rng.standard_normal(shape), port.type.dtype).astype(kind)
        elif "mask" in port.name and len(shape) >= 2:
            # a mask keeps a prefix of each row, never nothing
            kept = rng.integers(1, shape[-1] + 1, size=shape[:-1])
            found[port.name] = (np.arange(shape[-1]) < kept[..., None]).astype(kind)
        else:
            found[port.name] = rng.integers(0, ranges.get(port.name, 2), size=shape).astype(kind)
    return found


def _interface(folder: Path) -> Interface | None:
    """How ports make up the model's values, where they are more than tensors of numbers."""
    data = json.loads((folder / MANIFEST).read_text()).get("interface")
    return None if data is None else interface_from_data(data)


def _string_ports(folder: Path) -> set[str]:
    """The inputs that are slots of strings."""
    interface = _interface(folder)
    forms = [form for _, form in interface.inputs] if interface is not None else []
    return {leaf.port for form in forms for leaf in form.leaves() if leaf.kind == "strings"}


def _typical(plan: Plan) -> dict[str, int]:
    return {name: bounds.typical for name, bounds in plan.symbols.items()}


def check_bits(folder: Path) -> list[dict[str, Any]]:
    """The same inputs give the same bits in every run and at every thread count."""
    plan = read_plan(folder)
    inputs = random_inputs(folder, _typical(plan), 0)
    first: list[bytes] | None = None
    counts = []
    for threads in THREADS:
        with load(folder, threads=threads) as session:
            counts.append(session.threads)
            for _ in range(2):
                session.reset()
                bits = [array.tobytes() for array in session.run_ports(None, inputs)]
                first = first or bits
                if bits != first:
                    return [
                        {"check": "same bits", "ok": False, "detail": f"{threads} threads differ from {THREADS[0]}"}
                    ]
    ran = ", ".join(str(c) for c in dict.fromkeys(counts))
    return [
        {
            "check": "same bits in every run and at every thread count",
            "ok": True,
            "detail": f"{ran} threads, 2 runs each",
        }
    ]


def _reference(model: Path, plan: Plan, options: CompileOptions, plain: bool) -> tuple[str, Any]:
    """A function from inputs to outputs that is not ours: onnxruntime, or our interpreter where it is not installed or values are
    more than `plain` tensors of numbers that numpy has."""
    constants = options.constants
    bits = any(port.type.dtype in ML_NAMES.values() for port in (*plan.inputs, *plan.outputs))
    try:
        if not plain or bits:
            raise ImportError
        import onnxruntime
    except ImportError:
        from ..ir.interp import run
        from .frontends.onnx import batch_dims, import_onnx

        assumed = dict.fromkeys(batch_dims(model, constants, options.layout), Bounds(1, 1, 1))
        graph = import_onnx(model, {**assumed, **options.dims}, constants, layout=options.layout)

        def interpret(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            found = run(graph, inputs)
            return [found[p.name] for p in plan.outputs]

        return "the interpreter", interpret
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # its errors are raised; its warnings are about the model file, not the plan
    try:
        session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own family of exceptions
        raise StratacError(f"onnxruntime cannot load {model}: {str(error).splitlines()[0]}") from error
    names = [p.name for p in plan.outputs]
    states = options.layout.states
    first = {s.name: np.zeros(evaluate_shape(s.type.shape, {}), s.type.dtype.np) for s in plan.states}
    given = {p.name for p in plan.inputs} | constants.keys() | states.keys()
    for kind, ours, theirs in (
        ("inputs", given, {p.name for p in session.get_inputs()}),
        ("outputs", {*names, *states.values()}, {p.name for p in session.get_outputs()}),
    ):
        if ours != theirs:
            what = f"{model} has the {kind} {', '.join(sorted(theirs))}, the plan has {', '.join(sorted(ours))}"
            raise StratacError(what, hint="give the model the plan was made from")
    return f"onnxruntime {onnxruntime.__version__}", lambda inputs: session.run(names, {**inputs, **constants, **first})


def sizes_to_try(plan: Plan) -> list[dict[str, int]]:
    """Typical, least, and a size between: every dim takes an odd value somewhere."""
    middle = {n: min(b.max, max(b.min, (b.typical + b.max) // 2 | 1)) for n, b in plan.symbols.items()}
    least = {n: b.min for n, b in plan.symbols.items()}
    found: list[dict[str, int]] = []
    for sizes in (_typical(plan), least, middle):
        if sizes not in found:
            found.append(sizes)
    return found


def _valid(output: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The rows of valid tokens, where an output has one for each element of the mask: the others are zeros by agreement."""
    fits = mask is not None and mask.ndim == 2 and output.shape[:2] == mask.shape
    return output[mask != 0] if fits else output


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Relative L2 distance in float64; infinite where shapes or the places of NaN and infinities differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    if not (finite == np.isfinite(a)).all() or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    a, b = a[finite], b[finite]
    scale = float(np.linalg.norm(b))
    distance = float(np.linalg.norm(a - b))
    return distance / scale if scale else distance


def usual_tolerance(folder: Path) -> float:
    """The relative L2 error that tells a wrong plan from a right one: 1e-4, more where products may be less exact, whose errors add
    up over layers, and where values in between are rounded to narrow types: others keep them in f32."""
    plan = read_plan(folder)
    kinds = {port.type.dtype for port in (*plan.inputs, *plan.outputs)} | {b.type.dtype for b in plan.buffers}
    rounding = max((2.0 ** -FORMATS[dtype].mantissa for dtype in kinds & FORMATS.keys()), default=0.0)
    return max(1e-4, 20 * float(read_report(folder)["options"].get("max_error", 0.0)), 16 * rounding)


def check_results(folder: Path, model: Path, tolerance: float) -> list[dict[str, Any]]:
    """Outputs within `tolerance` (relative L2) of the reference, over several sizes and seeds."""
    if not model.is_file():
        raise StratacError(f"no model {model}", hint="give the .onnx file the plan was made from")
    plan = read_plan(folder)
    options = options_from_facts(read_report(folder)["options"])
    name, reference = _reference(model, plan, options, _interface(folder) is None)
    findings = []
    with load(folder) as session:
        expected = {p.name for p in plan.inputs}
        for seed, sizes in enumerate(sizes_to_try(plan)):
            inputs = random_inputs(folder, sizes, seed)
            assert set(inputs) == expected
            session.reset()
            ours = session.run_ports(None, inputs)
            try:
                theirs = reference(inputs)
            except StratacError:
                raise
            except Exception as error:
                raise EnvironmentProblem(f"{name} failed on {model}: {str(error).splitlines()[0]}") from error
            mask = inputs.get(read_report(folder)["options"].get("ragged", ""))
            kinds = (port.type.dtype for port in plan.outputs)
            pairs = [
                (_valid(widened(a, kind), mask), _valid(widened(np.asarray(b), kind), mask))
                for a, b, kind in zip(ours, theirs, kinds, strict=True)
            ]
            worst = max((relative_error(a, b) for a, b in pairs), default=0.0)
            shown = {k: v for n, (k, v) in enumerate(sizes.items()) if n not in plan.runtime_dims}
            where = ", ".join(f"{k}={v}" for k, v in shown.items()) or "fixed sizes"
            detail = f"relative L2 {worst:.2e} (allowed {tolerance:.0e}) at {where}"
            findings.append(
                {"check": f"results against {name}", "ok": worst <= tolerance, "detail": detail, "error": worst}
            )
    return findings
