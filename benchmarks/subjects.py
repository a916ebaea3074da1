"""What is measured and where it goes: the models' files, shapes and bounds, the folder of results, and words to the user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .zoo import Dims, ZooModel, folder_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def shapes_of(model: ZooModel) -> list[Dims]:
    return [model.typical, *model.further]


def bounds_of(model: ZooModel) -> dict[str, tuple[int, int, int]]:
    """From 1 over the typical size to the greatest of the row's shapes."""
    return {dim: (1, usual, max(shape[dim] for shape in shapes_of(model))) for dim, usual in model.typical.items()}


def greatest_of(model: ZooModel) -> dict[str, int]:
    return {dim: high for dim, (_, _, high) in bounds_of(model).items()}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def exported(name: str) -> Path:
    """The model's ONNX file, exported in a process of its own where it is absent."""
    path = folder_of(name) / f"{name}.onnx"
    if not path.exists():
        say(f"{name}: exporting")
        command = [sys.executable, "-m", "stratac.benchmarks.zoo", name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return path
