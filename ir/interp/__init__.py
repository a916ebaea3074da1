"""The oracle: what every op means, in numpy; passes, kernels and the runtime are tested against it."""

from . import (
    attention,
    composite,
    contraction,
    elementwise,
    indexing,
    matrix,
    movement,
    recurrent,
    reduction,
    sorting,
    strings,
    trees,
    vision,
)
from .evaluate import bind_symbols, evaluate_weight, initial_state, run, step
from .registry import MEANINGS

__all__ = [
    "MEANINGS",
    "attention",
    "bind_symbols",
    "composite",
    "contraction",
    "elementwise",
    "evaluate_weight",
    "indexing",
    "initial_state",
    "matrix",
    "movement",
    "recurrent",
    "reduction",
    "run",
    "sorting",
    "step",
    "strings",
    "trees",
    "vision",
]
