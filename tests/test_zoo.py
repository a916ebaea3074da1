"""The real models, whole: exported, compiled, run, compared with onnxruntime, and the same bits at every thread count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

from stratac.benchmarks.zoo import ZOO, export, folder_of, inputs
from stratac.compiler.checks import relative_error
from stratac.compiler.driver import compile_model
from stratac.compiler.options import CompileOptions, default_cache, environment_cc
from stratac.ir.dims import Bounds
from stratac.runtime.session import load

TOLERANCE = 1e-4
LIBRARY_BYTES = 2_000_000


@pytest.mark.parametrize("name", ZOO)
def test_model_agrees_with_onnxruntime_and_with_itself(name: str, tmp_path: Path) -> None:
    row = ZOO[name]
    model = export(name, folder_of(name))
    shapes = [row.typical, *row.further]
    dims = {d: Bounds(1, usual, max(s[d] for s in shapes)) for d, usual in row.typical.items()}
    options = CompileOptions(dims=dims, threads=2, cache=default_cache(), cc=environment_cc())
    report = compile_model(model, tmp_path / f"{name}.plan", options)
    assert (report.folder / "libplan.so").stat().st_size < LIBRARY_BYTES
    reference = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in reference.get_outputs()]
    sessions = {threads: load(report.folder, threads=threads) for threads in (1, 2, 3, 4)}
    for seed, shape in enumerate(shapes):
        given = inputs(name, seed, **shape)
        expected = reference.run(names, given)
        results = sessions[2].run(names, given)
        for ours, theirs, output in zip(results, expected, names, strict=True):
            assert relative_error(ours, np.asarray(theirs)) < TOLERANCE, (output, shape)
        for threads, session in sessions.items():
            for _ in range(2):
                again = session.run(names, given)
                assert [a.tobytes() for a in again] == [r.tobytes() for r in results], (threads, shape)
    for session in sessions.values():
        session.close()


@pytest.mark.parametrize("name", ZOO)
def test_no_heavy_op_falls_back_to_plain_loops(name: str, tmp_path: Path) -> None:
    """Every matmul, convolution and attention of the zoo runs on its own family."""
    from stratac.compiler.driver import lower_model

    row = ZOO[name]
    dims = {d: Bounds(1, usual, usual + 3) for d, usual in row.typical.items()}
    levels = lower_model(export(name, folder_of(name)), CompileOptions(dims=dims))
    for cluster in levels.clusters.nodes:
        family = levels.placed.choices[cluster.outputs[0]].chosen.candidate.family
        heavy = [n.op for n in cluster.body if n.op in ("matmul", "conv", "attention")]
        assert not (heavy and family == "loops"), (heavy, cluster.source)
    left = {n.op for n in levels.graph.nodes} & {"batch_norm", "softmax", "isnan"}
    assert not left, f"{left} should have been rebuilt into composites or folded away"
