"""Which operators of ONNX are imported, in which versions and element types: rules, the schemas of the standard, the op table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx

from ....ir.types import BY_ONNX, COMPUTABLE, DTYPES
from .functions import domain_of, schema_of
from .registry import RULES, TEXT_RULES
from .strings import MOVERS

#: How an operator gets into a graph: by a rule of its own, as the operators of its body in the standard, or not at all.
RULE, BODY, NONE = "rule", "body", "no"
#: Files whose rules are of strings, or hand on whatever they get.
_OF_STRINGS = frozenset(("text", "control", "sequences", "classical", "ensembles", "support_vectors"))
_ORDER = {name: position for position, name in enumerate((*DTYPES, "sequence", "optional"))}


@dataclass(frozen=True)
class Operator:
    """One operator: opsets of its domain, element types by type parameter ("" where there is no schema), and those that the
    standard allows and that are not taken."""

    domain: str
    name: str
    how: str
    first: int
    last: int
    types: dict[str, tuple[str, ...]]
    missing: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.domain or 'ai.onnx'}::{self.name}"


def operators() -> tuple[Operator, ...]:
    """Every operator of the standard that is not deprecated, and those beyond it that have a rule; by domain and name."""
    newest = {s.domain: 0 for s in onnx.defs.get_all_schemas_with_history()}
    first: dict[tuple[str, str], int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        key = (schema.domain, schema.name)
        first[key] = min(first.get(key, schema.since_version), schema.since_version)
        newest[schema.domain] = max(newest[schema.domain], schema.since_version)
    newest[""] = onnx.defs.onnx_opset_version()
    rows = []
    for domain, name in sorted(first.keys() | RULES.keys()):
        schema = schema_of(domain, name, newest.get(domain, 1))
        if schema is None or schema.deprecated:
            if (domain, name) in RULES:
                rows.append(_row(domain, name, None, first.get((domain, name), 1), _last(domain, name, newest)))
            continue
        rows.append(_row(domain, name, schema, first[domain, name], newest[domain]))
    return tuple(rows)


def _last(domain: str, name: str, newest: dict[str, int]) -> int:
    """The newest opset that still has a deprecated operator; of a domain without schemas, 1."""
    versions = range(newest.get(domain, 1), 0, -1)
    return next((v for v in versions if (s := schema_of(domain, name, v)) is not None and not s.deprecated), 1)


def _row(domain: str, name: str, schema: Any, first: int, last: int) -> Operator:
    if schema is None:
        schema = schema_of(domain, name, last)
    how = _how(domain, name, schema)
    types: dict[str, tuple[str, ...]] = {}
    missing: set[str] = set()
    for parameter, texts in _parameters(schema):
        names = {_name(text) for text in texts}
        taken = {one for one in names if _taken(one, domain, name)} if how != NONE else set()
        types[parameter] = _sorted(taken)
        missing |= names - taken
    return Operator(domain, name, how, first, last, types, _sorted(missing))


def _parameters(schema: Any) -> Iterable[tuple[str, Iterable[str]]]:
    """Type parameters of a schema and the types each may be."""
    if schema is None:
        return []
    return [(c.type_param_str, c.allowed_type_strs) for c in schema.type_constraints]


def _name(text: str) -> str:
    """`tensor(float16)` as `f16`; what is no tensor as sequence, optional or the word itself."""
    kind, _, inner = text.partition("(")
    if kind != "tensor":
        return {"seq": "sequence"}.get(kind, kind)
    word = inner.rstrip(")")
    dtype = BY_ONNX.get(onnx.TensorProto.DataType.Value(word.upper()))
    return word if dtype is None else dtype.name


def _taken(name: str, domain: str, op: str) -> bool:
    if name == "string":
        return (domain, op) in MOVERS | TEXT_RULES.keys() or _file(domain, op) in _OF_STRINGS
    if name in ("sequence", "optional"):
        return (domain, op) in RULES
    return name in DTYPES and DTYPES[name] in COMPUTABLE


def _file(domain: str, op: str) -> str:
    """The file that has an operator's rule."""
    return RULES[domain, op].__module__.rpartition(".")[2] if (domain, op) in RULES else ""


def _how(domain: str, name: str, schema: Any) -> str:
    if (domain, name) in RULES:
        return RULE
    return BODY if schema is not None and _has_body(domain, name, schema, 0) else NONE


def _has_body(domain: str, name: str, schema: Any, depth: int) -> bool:
    """Whether the standard writes an operator in others that are imported. A body that depends on the node's inputs is taken to be
    written in such: what it is in a model decides."""
    if schema.has_context_dependent_function:
        return True
    if not schema.has_function or depth > len(RULES):
        return False
    version = {domain_of(o.domain): o.version for o in schema.function_body.opset_import}
    for node in schema.function_body.node:
        key = domain_of(node.domain), node.op_type
        if key in RULES:
            continue
        inner = schema_of(*key, version.get(key[0], 1))
        if inner is None or not _has_body(*key, inner, depth + 1):
            return False
    return True


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    known = itertools.count(len(_ORDER))
    return tuple(sorted(sorted(names), key=lambda name: _ORDER.get(name, next(known))))
