"""The importer's table: one rule per ATen operator overload, registered by the files named after their subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Union

from ..known import Known
from .site import Site

#: What a rule gives for one output: a value of the graph, or known contents.
Result = Union[str, Known]
Results = Union[Result, Sequence[Result]]
Rule = Callable[[Site], Results]

#: By the name of the overload as torch prints it, such as `aten.add.Tensor`.
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of overloads, `aten.` left out; a name without overload is its `default`."""

    def register(function: Rule) -> Rule:
        for name in names:
            full = name if name.count(".") == 2 else f"aten.{name}" if "." in name else f"aten.{name}.default"
            if full in RULES:
                raise ValueError(f"two rules for {full}")
            RULES[full] = function
        return function

    return register
