"""What torch makes of a model of the zoo, in a process of its own: compiled packages and exported programs.

    python -m benchmarks.torch_build aotinductor NAME -o NAME.pt2 --threads N [--isa avx512|avx2]
    python -m benchmarks.torch_build bf16 NAME -o NAME.pt2

`aotinductor` compiles at the model's typical dims with freezing, for one thread count (AOTInductor writes it into its
loops). `bf16` exports the module with bf16 weights, for torch.compile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from .zoo import build, inputs

#: vector width in bits and what g++ is told, by the ISA level that a compiled package may use
ISAS = {"": (None, None), "avx512": (512, "skylake-avx512"), "avx2": (256, "haswell")}


class Bf16(torch.nn.Module):
    """A module with bf16 weights between f32 inputs and outputs."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module.to(torch.bfloat16)

    def forward(self, **arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        halved = {key: a.to(torch.bfloat16) if a.is_floating_point() else a for key, a in arrays.items()}
        return tuple(part.float() for part in outputs_of(self.module(**halved)))


def outputs_of(found: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def export(module: torch.nn.Module, name: str) -> torch.export.ExportedProgram:
    """The module as a program of the typical dims."""
    with torch.no_grad():
        return torch.export.export(module, (), kwargs=tensors(inputs(name, 0)), strict=False)


def compile_package(name: str, threads: int, isa: str, path: Path) -> None:
    torch.set_num_threads(threads)  # freezing packs filters for so many
    width, march = ISAS[isa]
    configs = {"freezing": True, "cpp.threads": threads, "cpp.simdlen": width, "cpp.march": march}
    program = export(build(name), name)
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=configs)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torch_build", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("aotinductor", "bf16"))
    parser.add_argument("name")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", choices=tuple(ISAS), default="")
    arguments = parser.parse_args(argv)
    if arguments.kind == "aotinductor":
        compile_package(arguments.name, arguments.threads, arguments.isa, arguments.output)
    else:
        torch.export.save(export(Bf16(build(arguments.name)), arguments.name), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
