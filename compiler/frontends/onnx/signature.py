"""The inputs of a model: their types, and the dims the user gave bounds for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from ....ir.dims import Bounds, Dim, symbol
from ....ir.errors import ModelError, Problem, Source
from ....ir.types import DType
from .scalars import AXIS
from .tensors import Unsupported, dtype_of


@dataclass(frozen=True)
class Input:
    """An input of the model; `dims` are extents or names of symbols, `dtype` is None where it cannot be computed in."""

    name: str
    dtype: DType | None
    dims: tuple[int | str, ...]
    problem: Unsupported | None = None


@dataclass(frozen=True)
class Signature:
    """The inputs, and what each name of a dim in the model stands for."""

    inputs: tuple[Input, ...]
    dims: Mapping[str, Dim]  # by symbol name; a number where min == max
    symbols: Mapping[str, Bounds]
    spelled: Mapping[str, str]  # the model's dim_param -> symbol name

    def shape(self, dims: Iterable[int | str]) -> tuple[Dim, ...]:
        return tuple(d if isinstance(d, int) else self.dims[d] for d in dims)


def identifier(name: str, taken: Iterable[str] = ()) -> str:
    """`name` as a Python identifier that is not in `taken`."""
    clean = re.sub(r"\W", "_", name, flags=re.ASCII) or "dim"
    if clean[0].isdigit() or clean.startswith(AXIS):
        clean = "d" + clean
    result, number = clean, 2
    while result in set(taken):
        result, number = f"{clean}_{number}", number + 1
    return result


def _extents(value: onnx.ValueInfoProto, spelled: dict[str, str]) -> tuple[int | str, ...]:
    dims: list[int | str] = []
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            dims.append(int(dim.dim_value))
            continue
        name = dim.dim_param or f"{value.name}_{axis}"
        if name not in spelled:
            spelled[name] = identifier(name, spelled.values())
        dims.append(spelled[name])
    return tuple(dims)


def _read(value: onnx.ValueInfoProto, spelled: dict[str, str], estimate: bool) -> Input:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = f"input {value.name!r} is a {kind or 'value without a type'}; only tensors are supported"
        return Input(value.name, None, (), Unsupported(what))
    try:
        dtype, problem = dtype_of(value.type.tensor_type.elem_type, estimate), None
    except Unsupported as error:
        dtype, problem = None, error
    if not value.type.tensor_type.HasField("shape"):
        return Input(
            value.name, dtype, (), problem or Unsupported(f"input {value.name!r} has no shape; its rank must be known")
        )
    return Input(value.name, dtype, _extents(value, spelled), problem)


def read_inputs(
    graph: onnx.GraphProto, spelled: dict[str, str] | None = None, estimate: bool = False
) -> tuple[Input, ...]:
    """The inputs that are not constants; `spelled` collects what each name of a dim became."""
    constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    names = {} if spelled is None else spelled
    return tuple(_read(v, names, estimate) for v in graph.input if v.name not in constants)


def read_signature(
    graph: onnx.GraphProto, bounds: Mapping[str, Bounds], file: str, estimate: bool = False
) -> Signature:
    """Raises ModelError listing every dim without bounds and every bound without a dim."""
    spelled: dict[str, str] = {}
    inputs = read_inputs(graph, spelled, estimate)
    given = {spelled.get(name, name): bound for name, bound in bounds.items()}
    found = {d for i in inputs for d in i.dims if isinstance(d, str)}
    problems = []
    for name in sorted(found - given.keys()):
        where = ", ".join(f"axis {i.dims.index(name)} of {i.name!r}" for i in inputs if name in i.dims)
        hint = f"--dim {name}=MIN:TYPICAL:MAX or --dim {name}=N"
        problems.append(Problem(f"dim {name!r} ({where}) is dynamic and has no bounds", source=Source(file), hint=hint))
    for name in sorted(given.keys() - found):
        near = difflib.get_close_matches(name, sorted(found), 1, 0.4)
        known = f"the model's dims are {', '.join(sorted(found))}" if found else "the model has no dynamic dims"
        hint = f"did you mean {near[0]!r}?" if near else known
        problems.append(Problem(f"the model has no dim {name!r}", source=Source(file), hint=hint))
    if problems:
        raise ModelError(f"{file}: the dynamic dims of the model do not match the bounds given", problems)
    used = [d for d in dict.fromkeys(d for i in inputs for d in i.dims) if isinstance(d, str)]
    dims = {d: given[d].min if given[d].min == given[d].max else symbol(d) for d in used}
    symbols = {d: given[d] for d in used if not isinstance(dims[d], int)}
    return Signature(inputs, dims, symbols, spelled)
