"""Generated kernels under the address and undefined-behaviour sanitizers, in a child process that loads their runtimes first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stratac.codegen.compilers import find_compiler
from stratac.ir.interp import run

from .. import ragged_samples, whole_samples
from ..branch_graphs import branch_inputs, branches
from ..graph_samples import THEMES, theme_samples
from ..loop_graphs import loop_inputs, loops
from .cases import CASES
from .harness import ISAS, build, compile_levels, forest

FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
CHILD = """
import sys
import numpy as np
from stratac.runtime.session import Session
folder, given, out = sys.argv[1:]
inputs = dict(np.load(given))
for threads in (1, 3):
    with Session(folder, threads=threads) as session:
        names = [port.name for port in session.get_outputs()]
        np.savez(out, **dict(zip(names, session.run(None, inputs))))
"""


def runtime_library(name: str) -> str:
    """The sanitizer runtime of the compiler, or a skipped test."""
    found = subprocess.run(
        [find_compiler().path, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    path = Path(found.stdout.strip())
    if not path.is_absolute():
        pytest.skip(f"this compiler has no {name}")
    return str(path.resolve())


def test_random_graphs_stay_in_their_memory(tmp_path: Path, round_: int) -> None:
    preload = " ".join(map(runtime_library, ("libasan.so", "libubsan.so")))
    samples = [*ragged_samples.samples(), *whole_samples.samples()]
    samples += [s for i, theme in enumerate(THEMES) for s in theme_samples(theme, 5, 40_000 + 100 * i + round_)]
    chosen = [c for c in CASES if c.name.startswith(("deep", "gathers", "pads", "slices", "masked", "conv", "cumsum"))]
    skipping = [branches(seed) for seed in range(3)]
    repeating = [loops(seed) for seed in range(3)]
    graph = forest([*(s.graph for s in samples), *(c.graph for c in chosen), *skipping, *repeating])
    folder = build(compile_levels(graph, ISAS[0], threads=3), tmp_path / "plan", flags=FLAGS, link_flags=FLAGS)
    sizes = {name: bounds.max for name, bounds in graph.symbols.items()}
    arrays = [s.make_inputs(1, **{k: v for k, v in sizes.items() if k in s.graph.symbols}) for s in samples]
    arrays += [c.inputs(1, sizes) for c in chosen]
    arrays += [branch_inputs(seed, sizes["rows"], seed == 1) for seed in range(3)]
    arrays += [loop_inputs(seed, sizes["lines"], seed == 1) for seed in range(3)]
    np.savez(tmp_path / "in.npz", **{f"g{i}.{k}": v for i, given in enumerate(arrays) for k, v in given.items()})
    environment = {
        **os.environ,
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, "-c", CHILD, str(folder), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert found.returncode == 0, found.stderr[-6000:]
    outputs = dict(np.load(tmp_path / "out.npz"))
    for number, (sample, given) in enumerate(zip(samples, arrays, strict=False)):
        actual = {port.name: outputs[f"g{number}.{port.name}"] for port in sample.graph.outputs}
        sample.compare(actual, run(sample.graph, given))
