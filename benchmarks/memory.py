"""The proof of a plan's promise about memory: what a fresh process takes to open and run it, beside what it predicts.

    python -m benchmarks.memory PLAN... [--threads 1,2] [--mappings]

A child process imports the runtime and numpy and makes the inputs; what it holds then is its base. It opens the plan,
runs it three times at the greatest dims and is measured page by page (smaps). Counted: weights, arenas, the plan's
tables, libplan.so, thread stacks, and what Python needs to call it (cffi's module). Not counted:
the base, the caller's input and output arrays (stated), page tables.

Predicted are the manifest's weights, scratch, states and a workspace per thread, and the process floor (compiler/artifact.py).
Mapped weights count in full, as the most that runs may touch of them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stratac.compiler.peer import Held, Peer

RUNS = 3
PARTS = ("weights", "mapped", "ring", "scratch", "states")  # of a manifest's memory
MIB = 1 << 20


@dataclass(frozen=True)
class MemoryProof:
    """Bytes. `planned` is the plan's own memory; with `floor` it is the prediction. `measured` leaves `outputs` out."""

    name: str
    threads: int
    planned: int
    floor: int
    measured: int
    inputs: int
    outputs: int
    base: int
    mappings: dict[str, int]

    @property
    def predicted(self) -> int:
        return self.planned + self.floor

    @property
    def beside(self) -> int:
        """What was measured beside the plan's own memory: what the floor has to cover."""
        return self.measured - self.planned

    def __str__(self) -> str:
        return (
            f"{self.name:<18} {self.threads:>2}  predicted {self.planned / MIB:8.2f} + {self.floor / MIB:.2f}"
            f"  measured {self.measured / MIB:8.2f}  beside the plan {self.beside / MIB:5.2f} MiB"
            f"  ({self.measured / self.predicted:6.1%})   arrays of the caller {(self.inputs + self.outputs) / MIB:.2f}"
        )


def manifest_of(plan: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((plan / "manifest.json").read_text())
    return fields


def greatest_inputs(manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """Inputs of a plan at its greatest dims: normal floats, zeros for the rest (valid as indices and masks)."""
    rng = np.random.default_rng(0)
    names = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bool": np.bool_}
    arrays = {}
    for port in manifest["inputs"]:
        words = re.findall(r"[^\[\], ]+", port["shape"])
        shape = [manifest["symbols"][word]["max"] if word in manifest["symbols"] else int(word) for word in words]
        kind = np.dtype(names.get(port["dtype"]) or re.sub(r"^([iu])(\d+)$", _integer, port["dtype"]))
        normal = kind.kind == "f"
        arrays[port["name"]] = rng.standard_normal(shape).astype(kind) if normal else np.zeros(shape, kind)
    return arrays


def _integer(match: re.Match[str]) -> str:
    return f"{match[1]}{int(match[2]) // 8}"


def run_at_greatest(
    peer: Peer, path: Path, inputs: dict[str, np.ndarray], dims: Mapping[str, int] | None = None
) -> Held:
    """Open `path` in a fresh peer and run it a few times; what the process took for that. `dims`: see `Peer.open`."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "inputs.npz"
        np.savez(archive, **inputs)  # type: ignore[arg-type]
        peer.set_inputs(archive)
    peer.begin()
    peer.open(path, dims)
    for _ in range(RUNS):
        peer.run()
    return peer.held()


def prove(plan: Path, threads: int, inputs: dict[str, np.ndarray] | None = None) -> MemoryProof:
    """Measure a plan folder in a fresh process at its greatest dims. Raises PeerError where it does not run."""
    manifest = manifest_of(plan)
    memory = manifest["memory"]
    inputs = inputs or greatest_inputs(manifest)
    with Peer("stratac", threads) as peer:
        held = run_at_greatest(peer, plan, inputs)
    return MemoryProof(
        name=manifest["name"],
        threads=threads,
        planned=sum(memory.get(part, 0) for part in PARTS) + threads * memory["workspace_per_thread"],
        floor=memory["process_floor"],
        measured=max(held.resident, held.peak) - held.outputs,
        inputs=sum(array.nbytes for array in inputs.values()),
        outputs=held.outputs,
        base=held.base,
        mappings=held.mappings,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("plans", nargs="+", type=Path, metavar="PLAN")
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas")
    parser.add_argument("--mappings", action="store_true", help="show what grew by mapped file")
    arguments = parser.parse_args(argv)
    kept = True
    for plan in arguments.plans:
        for threads in map(int, arguments.threads.split(",")):
            proof = prove(plan, threads)
            kept &= proof.measured <= proof.predicted
            print(proof, flush=True)
            if arguments.mappings:
                for name, size in sorted(proof.mappings.items(), key=lambda item: -abs(item[1])):
                    print(f"    {size / 1024:10.0f} KiB  {name}")
    print("every plan kept its promise" if kept else "A PLAN TOOK MORE THAN IT PREDICTED")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
