"""What the ONNX standard says of a node, checked before its rule sees it, so that rules may rely on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from ....ir.errors import ModelError
from ....ir.types import DType
from ..unsupported import Unsupported
from .functions import domain_of, schema_of

#: Versions of operator sets are small numbers; the onnx package does not survive all others.
_PLAUSIBLE = range(1, 1 << 20)


def check_versions(model: onnx.ModelProto, file: str) -> None:
    """Raise ModelError where the model does not say which operators it means: nothing else can be told of it then."""
    versions = {domain_of(entry.domain): int(entry.version) for entry in model.opset_import}
    for domain, version in versions.items():
        if version not in _PLAUSIBLE:
            raise ModelError(f"{file}: opset {version} of {domain or 'ai.onnx'} does not exist")
    if "" not in versions and any(domain_of(node.domain) == "" for node in model.graph.node):
        raise ModelError(f"{file}: the model does not say which opset of ai.onnx it uses")


def check_node(node: onnx.NodeProto, domain: str, opset: int, type_of: Callable[[str], DType | None]) -> None:
    """Raise Unsupported unless arity, attributes and element types are as the operator's standard has them.

    `type_of` gives the element type of an input, None where it is not known.
    """
    _check_attributes(node)
    schema = schema_of(domain, node.op_type, opset)
    if schema is None:
        if schema_of(domain, node.op_type, _PLAUSIBLE.stop - 1) is not None:
            raise Unsupported(f"is no operator of opset {opset}, only of later ones")
        return
    given = len(node.input)
    while given and not node.input[given - 1]:
        given -= 1
    if not schema.min_input <= given <= schema.max_input:
        raise Unsupported(f"takes {schema.min_input} to {schema.max_input} inputs, got {given}")
    if not schema.min_output <= len(node.output) <= schema.max_output:
        raise Unsupported(f"gives {schema.min_output} to {schema.max_output} outputs, {len(node.output)} are named")
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    for index, parameter in enumerate(schema.inputs[:given]):
        if parameter.option == single and not node.input[index]:
            raise Unsupported(f"input {index} ({parameter.name}) is missing")
    for name in {a.name for a in node.attribute} - schema.attributes.keys():
        raise Unsupported(f"has no attribute {name!r} in opset {opset}")
    kinds = {a.name: int(a.type) for a in node.attribute}
    for name, spec in schema.attributes.items():
        if spec.required and name not in kinds:
            raise Unsupported(f"lacks attribute {name!r}")
        if name in kinds and int(spec.type) != kinds[name]:
            raise Unsupported(f"attribute {name!r} must be of type {spec.type.name.lower()}")
    _check_types(node, schema, type_of)


def _check_attributes(node: onnx.NodeProto) -> None:
    """Each attribute once, of some type, and with a value of its own: those of functions, which refer to others, are inlined."""
    seen: set[str] = set()
    for attribute in node.attribute:
        if attribute.name in seen:
            raise Unsupported(f"has attribute {attribute.name!r} twice")
        seen.add(attribute.name)
        if attribute.ref_attr_name:
            raise Unsupported(
                f"attribute {attribute.name!r} refers to {attribute.ref_attr_name!r}, outside of a function"
            )
        if attribute.type == onnx.AttributeProto.UNDEFINED:
            raise Unsupported(f"attribute {attribute.name!r} has no type")


def _check_types(node: onnx.NodeProto, schema: Any, type_of: Callable[[str], DType | None]) -> None:
    """Each input's element type among those allowed, and the same for inputs that share a type variable."""
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    bound: dict[str, tuple[str, str]] = {}
    for index, name in enumerate(node.input):
        if not name:
            continue
        parameter = schema.inputs[min(index, len(schema.inputs) - 1)]
        dtype = type_of(name)
        if dtype is None:
            continue
        text = f"tensor({onnx.TensorProto.DataType.Name(dtype.onnx).lower()})"
        kinds = allowed.get(parameter.type_str, {parameter.type_str})
        if text not in kinds and any(kind.startswith("tensor(") for kind in kinds):
            raise Unsupported(f"input {index} ({parameter.name}) may not be {dtype}")
        if parameter.type_str in allowed and parameter.is_homogeneous:
            other = bound.setdefault(parameter.type_str, (text, name))
            if other[0] != text:
                raise Unsupported(f"inputs {other[1]!r} and {name!r} must have the same element type")
