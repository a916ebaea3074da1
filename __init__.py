"""stratac: an ahead-of-time compiler from model graphs to execution plans.

    import stratac
    plan = stratac.compile("model.onnx", "model.plan", dims={"batch": "1:8:32"})
    with stratac.load(plan) as session:
        (logits,) = session.run(["logits"], {"input_ids": ids})

Names only: importing the package loads neither the compiler nor numpy; `load` works where onnx and a C compiler are absent.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiler.api import compile
    from .compiler.estimate.api import estimate
    from .compiler.torch_backend import torch_backend
    from .ir.errors import StratacError
    from .runtime.session import Session, load

__all__ = ["Session", "StratacError", "compile", "estimate", "load", "torch_backend"]

_HOME = {
    "compile": ".compiler.api",
    "estimate": ".compiler.estimate.api",
    "load": ".runtime.session",
    "Session": ".runtime.session",
    "torch_backend": ".compiler.torch_backend",
    "StratacError": ".ir.errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
