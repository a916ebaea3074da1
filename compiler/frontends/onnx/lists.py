"""Attributes that are lists, of operators that keep whole models in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ..unsupported import Unsupported
from .site import Site

_KINDS = {
    onnx.AttributeProto.INTS: "ints",
    onnx.AttributeProto.FLOATS: "floats",
    onnx.AttributeProto.STRINGS: "strings",
}


def numbers(site: Site, *names: str) -> np.ndarray | None:
    """The first attribute of these names that is there, a list of numbers or a tensor, as a row; None where there is none."""
    for name in names:
        attribute = site.attribute(name)
        if attribute is None:
            continue
        if attribute.type == onnx.AttributeProto.TENSOR:
            return np.asarray(site.importer.tensors.array(attribute.t)).reshape(-1)
        if attribute.type not in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            raise Unsupported(f"attribute {name} must be a list of numbers")
        whole = attribute.type == onnx.AttributeProto.INTS
        return np.array(attribute.ints, np.int64) if whole else np.array(attribute.floats, np.float32)
    return None


def needed(site: Site, *names: str) -> np.ndarray:
    """The same where there must be one."""
    found = numbers(site, *names)
    if found is None:
        raise Unsupported(f"lacks attribute {names[0]}")
    return found


def words(site: Site, name: str) -> list[str]:
    attribute = site.attribute(name)
    if attribute is None:
        return []
    if _KINDS.get(attribute.type) != "strings":
        raise Unsupported(f"attribute {name} must be a list of strings")
    return [word.decode("utf-8", "replace") for word in attribute.strings]


def of_one_length(**lists: Sequence[object] | np.ndarray) -> int:
    """The length that all lists have. Raises Unsupported where they differ."""
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) != 1:
        raise Unsupported(f"lists of different lengths: {', '.join(f'{k} {n}' for k, n in lengths.items())}")
    return next(iter(lengths.values()))
