"""The same graph gives the same C and the same plan, whatever the process."""

from __future__ import annotations

import os
import subprocess
import sys

CHILD = """
import hashlib
from stratac.ir.plan_binary import encode, plan_id
from stratac.tests.codegen.harness import compile_levels, forest
from stratac.tests.graph_samples import THEMES, theme_samples
from stratac.tests.codegen.test_directed import CASES
graphs = [s.graph for theme in THEMES for s in theme_samples(theme, 4, 50_000)] + [c.graph for c in CASES[::5]]
for isa in ("avx512", "portable"):
    levels = compile_levels(forest(graphs), isa)
    plan = encode(levels.plan, plan_id=plan_id(levels.plan))
    print(hashlib.sha256(plan).hexdigest(), *(hashlib.sha256(text.encode()).hexdigest() for _, text in levels.kernels.units))
"""


def test_c_and_plan_do_not_depend_on_the_hash_seed() -> None:
    found = []
    for seed in ("1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        result = subprocess.run(
            [sys.executable, "-c", CHILD], capture_output=True, text=True, env=environment, timeout=300
        )
        assert result.returncode == 0, result.stderr[-3000:]
        found.append(result.stdout)
    assert found[0] == found[1] and len(found[0].splitlines()) == 2
