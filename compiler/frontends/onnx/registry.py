"""The importer's table: one rule per ONNX operator, registered by the files named after their subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Union

from ..known import Known
from .site import Site
from .structured import Value

#: What most rules give for one output: a value of the graph, or known contents.
Result = Union[str, Known]
Rule = Callable[[Site], Union[Value, Sequence[Value]]]

#: By (domain, operator); the ONNX domain is the empty string.
RULES: dict[tuple[str, str], Rule] = {}


#: The same for operators that also have tensors of strings among their inputs, where these need a rule of their own.
TEXT_RULES: dict[tuple[str, str], Rule] = {}


def text_rule(name: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register a function as the rule of an operator for strings."""

    def register(function: Rule) -> Rule:
        if (domain, name) in TEXT_RULES:
            raise ValueError(f"two rules for {domain}::{name} of strings")
        TEXT_RULES[domain, name] = function
        return function

    return register


def rule(*names: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register a function as the rule of ONNX operators. It returns the outputs, later optional ones left out."""

    def register(function: Rule) -> Rule:
        for name in names:
            if (domain, name) in RULES:
                raise ValueError(f"two rules for {domain}::{name}")
            RULES[domain, name] = function
        return function

    return register
