"""The oracle: what every op means, in numpy; passes, kernels and the runtime are tested against it."""

from . import composite, contraction, elementwise, indexing, movement, reduction, sorting
from .evaluate import bind_symbols, evaluate_weight, run
from .registry import MEANINGS

__all__ = [
    "MEANINGS",
    "bind_symbols",
    "composite",
    "contraction",
    "elementwise",
    "evaluate_weight",
    "indexing",
    "movement",
    "reduction",
    "run",
    "sorting",
]
