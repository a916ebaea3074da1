"""Functions: operators without a rule that have a body, in the model or in the ONNX standard, become that body."""

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnx.inliner

from ....ir.errors import ModelError
from .bodies import nodes_within
from .registry import RULES

#: Functions call functions up to this depth.
_NESTED = 8


def domain_of(name: str) -> str:
    """The canonical name of an operator set."""
    return "" if name == "ai.onnx" else name


def inlined(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """Functions without a rule replaced by their bodies: the model's own, and those of the ONNX standard."""
    for _ in range(_NESTED):
        local, standard = _functions(model)
        if (not local and not standard) or not closed(model.graph):
            break
        try:
            model = _inline(model, local | standard)
        except Exception as error:  # the C++ inliner's own error types are not public
            try:
                model = _inline(model, local) if local else model
            except Exception:
                reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
                raise ModelError(f"{file}: the functions of the model cannot be inlined: {reason}") from None
            if not local:  # the rest is reported as unsupported operators
                break
    return model


def _inline(model: onnx.ModelProto, keys: set[tuple[str, str]]) -> onnx.ModelProto:
    return onnx.inliner.inline_selected_functions(model, sorted(keys), exclude=False, inline_schema_functions=True)


def _functions(model: onnx.ModelProto) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(domain, name) of the functions in use that have no rule: the model's own, and those of the standard.

    The inliner knows no default attributes of standard functions; they are written down here.
    """
    own = {(f.domain, f.name) for f in model.functions}
    versions = {domain_of(o.domain): int(o.version) for o in model.opset_import}
    local, standard = set(), set()
    for node in [*nodes_within(model.graph), *(n for f in model.functions for n in nodes_within(f))]:
        domain = domain_of(node.domain)
        if (domain, node.op_type) in RULES:
            continue
        if (node.domain, node.op_type) in own:
            local.add((node.domain, node.op_type))
            continue
        schema = schema_of(domain, node.op_type, versions.get(domain, 0))
        if schema is None or not (schema.has_function or schema.has_context_dependent_function):
            continue
        standard.add((node.domain, node.op_type))
        given = {a.name for a in node.attribute}
        for name, spec in schema.attributes.items():
            if name not in given and spec.default_value.type != onnx.AttributeProto.UNDEFINED:
                node.attribute.append(spec.default_value)
    return local, standard


@functools.cache
def schema_of(domain: str, op: str, opset: int) -> Any:
    """The OpSchema of an operator, or None. (The package's stubs lack half of its attributes.)"""
    try:
        return onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None


def closed(graph: onnx.GraphProto, outer: frozenset[str] = frozenset()) -> bool:
    """Whether every input has a type and every value is defined before it is read; the onnx package does not survive
    inlining functions and inferring types where one is not."""
    if not all(info.type.WhichOneof("value") for info in graph.input):
        return False
    known = {*outer, *(info.name for info in graph.input), *(tensor.name for tensor in graph.initializer), ""}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        if not known >= set(node.input):
            return False
        bodies = [body for a in node.attribute for body in (*([a.g] if a.HasField("g") else []), *a.graphs)]
        if not all(closed(body, frozenset(known)) for body in bodies):
            return False
        known |= set(node.output)
    return True
