"""From an nn.Module to an exported program in the operators the rules know."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import Dim as TorchDim
from torch.export import default_decompositions
from torch.utils import _pytree as pytree

from ....ir.errors import ModelError
from .experts import whole_experts
from .registry import RULES


def decomposed(program: Any) -> Any:
    """The program without in-place operators, in operators that have a rule and core ATen ones. Raises ModelError."""
    table = default_decompositions()
    for operator in list(table):
        if str(operator) in RULES:
            table.pop(operator)
    try:
        with torch.no_grad():
            return program.run_decompositions(table)
    except Exception as error:  # torch raises many kinds
        raise ModelError(f"torch cannot decompose the exported program: {_first_line(error)}") from error


def export_module(
    module: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> tuple[Any, dict[tuple[str, int], str]]:
    """The exported program of a module as it is in evaluation, and what the user calls the dynamic axes of its inputs.

    `dynamic_shapes` is what `torch.export.export` takes; an axis may also be named by a string, which makes it dynamic. Axes of one
    name are one dim. Raises ModelError where torch cannot export the module.
    """
    given = dict(kwargs or {})
    shapes = _hints(dynamic_shapes)
    with evaluating(module), whole_experts(module):
        try:
            program = torch.export.export(module, tuple(args), given, dynamic_shapes=shapes)
        except Exception as error:  # torch raises many kinds
            name = type(module).__name__
            hint = "torch.export.draft_export(module, args) reports what stands in the way"
            raise ModelError(f"torch cannot export {name}: {_first_line(error)}", hint=hint) from error
    return program, axis_names(module, args, given, dynamic_shapes, input_names(program))


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """The module in evaluation mode and without gradients; every part gets its own mode back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def input_names(program: Any) -> list[str]:
    """The names of the inputs a caller gives, in the order of the flattened arguments; those that are no tensors included."""
    return [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]


def _hints(shapes: Any) -> Any:
    """Names made what torch understands: any extent, found out by tracing."""
    if isinstance(shapes, str):
        return TorchDim.DYNAMIC
    if isinstance(shapes, Mapping):
        return {key: _hints(value) for key, value in shapes.items()}
    if isinstance(shapes, (list, tuple)):
        return type(shapes)(_hints(value) for value in shapes)
    return shapes


def axis_names(
    module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], shapes: Any, names: Iterable[str]
) -> dict[tuple[str, int], str]:
    """What `dynamic_shapes` calls the axes of each input: strings, or named `torch.export.Dim`s."""
    if not shapes:
        return {}
    bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    found = {}
    arguments = _by_name(module, bound)
    if isinstance(shapes, (list, tuple)):  # by position, as torch takes them too
        shapes = dict(zip(arguments, shapes, strict=False))
    leaves = pytree.tree_flatten_with_path(arguments)[0]
    for name, (path, leaf) in zip(names, leaves, strict=False):
        if not isinstance(leaf, torch.Tensor):
            continue
        spec = _at(shapes, path)
        pairs = (
            spec.items() if isinstance(spec, Mapping) else enumerate(spec) if isinstance(spec, (list, tuple)) else ()
        )
        for axis, dim in pairs:
            called = dim if isinstance(dim, str) else getattr(dim, "__name__", None)
            if isinstance(called, str) and called:
                found[name, int(axis)] = called
    return found


def _by_name(module: Any, bound: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, those of `**kwargs` among them."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if name in bound:
            if parameter.kind == inspect.Parameter.VAR_KEYWORD:
                found |= bound[name]
            else:
                found[name] = bound[name]
    return found


def _at(shapes: Any, path: Sequence[Any]) -> Any:
    """The part of a nested specification that a path leads to."""
    for key in path:
        step = getattr(key, "key", getattr(key, "idx", None))
        if isinstance(shapes, Mapping):
            shapes = shapes.get(step)
        elif isinstance(shapes, (list, tuple)) and isinstance(step, int) and step < len(shapes):
            shapes = shapes[step]
        else:
            return None
    return shapes


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
