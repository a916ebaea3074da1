"""The error of results against the model evaluated in float64, by torch in a process of its own.

    python -m benchmarks.exact NAME CASES.json

CASES.json is a list of {"inputs": FILE.npz, "outputs": {label: FILE.npz}}; printed is a list of {label: [relative L2 over all
outputs together, greatest absolute difference]}, NaN where shapes differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .subjects import ROOT


@dataclass(frozen=True)
class Case:
    """One set of inputs, and the file of outputs o0, o1, ... that each system gave for them."""

    inputs: Path
    outputs: Mapping[str, Path]


def errors(name: str, cases: Sequence[Case], folder: Path) -> list[dict[str, tuple[float, float]]]:
    """By case and label. `folder` is for the list of cases. Raises CalledProcessError where torch fails."""
    listed = folder / "cases.json"
    plain = [{"inputs": str(c.inputs), "outputs": {k: str(v) for k, v in c.outputs.items()}} for c in cases]
    listed.write_text(json.dumps(plain))
    command = [sys.executable, "-m", "stratac.benchmarks.exact", name, str(listed)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    found = json.loads(done.stdout.splitlines()[-1])
    return [{label: (pair[0], pair[1]) for label, pair in row.items()} for row in found]


def outputs_in(path: Path) -> list[np.ndarray]:
    with np.load(path) as archive:
        return [archive[f"o{index}"] for index in range(len(archive.files))]


def distance(got: Iterable[np.ndarray], wanted: Iterable[np.ndarray]) -> tuple[float, float]:
    """Relative L2 over all outputs together, and the greatest absolute difference. NaN where shapes differ."""
    square = norm = greatest = 0.0
    for ours, theirs in zip(got, wanted, strict=True):
        if ours.shape != theirs.shape:
            return float("nan"), float("nan")
        difference = np.subtract(ours, theirs, dtype=np.float64)
        square += float(np.vdot(difference, difference))
        norm += float(np.sum(np.square(theirs, dtype=np.float64)))
        greatest = float(np.maximum(greatest, np.abs(difference).max(initial=0.0)))  # keeps a NaN
    return (square / norm) ** 0.5 if norm else square**0.5, greatest


def same_bits(one: Path, other: Path) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(outputs_in(one), outputs_in(other), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    import torch

    from .torch_build import outputs_of, tensors
    from .zoo import build

    name, listed = sys.argv[1:] if argv is None else argv
    module = build(name).double()
    found = []
    for case in json.loads(Path(listed).read_text()):
        with np.load(case["inputs"]) as archive:
            arrays = tensors({key: archive[key] for key in archive.files})
        with torch.no_grad():
            results = module(**{key: a.double() if a.is_floating_point() else a for key, a in arrays.items()})
        wanted = [part.numpy() for part in outputs_of(results)]
        found.append({label: distance(outputs_in(Path(path)), wanted) for label, path in case["outputs"].items()})
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
