"""What a row of the op table is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import rules
from .dims import Expr, symbol_of
from .graph import Node
from .types import DType, TensorType

REQUIRED = object()
Rule = Callable[[Node, rules.Types], list[TensorType]]


@dataclass(frozen=True)
class AttrSpec:
    """What an attribute may hold: `kind` is int, float, bool, str, dtype, dim, ints, dims or sets; REQUIRED or a default.

    An attribute of kind `sets` is a symbol by itself: a run-time dim, whose value the node finds out when it runs.
    """

    kind: str
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()

    def accepts(self, value: Any) -> bool:
        is_int = isinstance(value, int) and not isinstance(value, bool)
        match self.kind:
            case "int":
                return is_int
            case "float":
                return isinstance(value, float)
            case "bool":
                return isinstance(value, bool)
            case "str":
                return isinstance(value, str) and (not self.choices or value in self.choices)
            case "dtype":
                return isinstance(value, DType)
            case "dim":
                return is_int or isinstance(value, Expr)
            case "sets":
                return isinstance(value, Expr) and symbol_of(value) is not None
            case "ints":
                return isinstance(value, tuple) and all(isinstance(v, int) for v in value)
            case "dims":
                return isinstance(value, tuple) and all(isinstance(v, (int, Expr)) for v in value)
        return False


@dataclass(frozen=True)
class Op:
    """A row. `category` says how an op may take part in a loop nest:

    elementwise  one scalar function of aligned elements       view       moves no data: another way to index its input
    reduction    folds axes                                    movement   copies elements (concat, pad, gather)
    contraction  sums of products: matmul, conv, attention     window     folds a sliding window (pooling)
    composite    has a decomposition into other rows           source     makes data from nothing (iota)
    selection    finds out how many results there are             routine     an algorithm of its own, over whole tensors
    loop         repeats a graph of its own
    """

    name: str
    category: str
    arity: tuple[int, int]
    rule: Rule
    attrs: Mapping[str, AttrSpec] = field(default_factory=dict)
    flops_per_element: int = 1
    summary: str = ""
    in_place: bool = False  # a routine that may write its result where its first input lies
