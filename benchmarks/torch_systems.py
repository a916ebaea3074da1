"""The systems of torch, which run what `benchmarks.torch_build` made of a model. See `stratac.compiler.peer_child.System`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stratac.compiler.peer_child import Arrays


class _Torch:
    def __init__(self, threads: int, how: str = "") -> None:
        torch.set_num_threads(threads)
        self.threads = threads
        self.call: Any = None

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        with torch.no_grad():
            found = self.call(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return [part.numpy() for part in (found if isinstance(found, tuple | list) else (found,))]

    def facts(self) -> dict[str, Any]:
        return {"threads": self.threads}

    def profile(self) -> list[tuple[str, float, float]]:
        raise NotImplementedError("torch's calls are not timed one by one")


class AotInductor(_Torch):
    """A package that AOTInductor compiled for this thread count."""

    def open(self, path: str, dims: Mapping[str, int], inputs: Arrays) -> None:
        self.call = torch._inductor.aoti_load_package(path)


class InductorBf16(_Torch):
    """An exported program with bf16 weights, which torch.compile compiles in its first run."""

    def open(self, path: str, dims: Mapping[str, int], inputs: Arrays) -> None:
        torch._inductor.config.freezing = True  # among the options of torch.compile it comes too late
        self.call = torch.compile(torch.export.load(path).module())
