"""The inputs of a model: their types, the dims the user gave bounds for, and the lengths of sequences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from ....ir.dims import Bounds, Dim, symbol
from ....ir.errors import ModelError, Problem, Source
from ....ir.interface import Form
from ....ir.types import DType, TensorType, u8
from ...layout import Layout
from ..names import identifier
from ..unsupported import Unsupported
from .tensors import dtype_of


@dataclass(frozen=True)
class Input:
    """A port: an input of the model or an element of one; `dims` are extents or names of symbols, `dtype` is None where it cannot
    be computed in. Strings have slots of `width` bytes as a further axis."""

    name: str
    dtype: DType | None
    dims: tuple[int | str, ...]
    problem: Unsupported | None = None
    width: int = 0


@dataclass(frozen=True)
class Signature:
    """The inputs as ports, how they make up the model's `forms` by name, and what each name of a dim in the model stands for."""

    inputs: tuple[Input, ...]
    forms: tuple[tuple[str, Form], ...]
    dims: Mapping[str, Dim]  # by symbol name; a number where min == max
    symbols: Mapping[str, Bounds]
    spelled: Mapping[str, str]  # the model's dim_param -> symbol name

    def shape(self, dims: Iterable[int | str]) -> tuple[Dim, ...]:
        return tuple(d if isinstance(d, int) else self.dims[d] for d in dims)


class _Reader:
    """Reads types of inputs; `spelled` collects what each name of a dim became."""

    def __init__(self, spelled: dict[str, str], layout: Layout) -> None:
        self.spelled, self.layout = spelled, layout
        self.inputs: list[Input] = []

    def dims(self, name: str, given: Iterable[int | str | None]) -> tuple[int | str, ...]:
        """Extents, and names of dims as identifiers; None is a dim without a name."""
        dims: list[int | str] = []
        for axis, dim in enumerate(given):
            if isinstance(dim, int):
                dims.append(dim)
                continue
            label = dim or f"{name}_{axis}"
            if label not in self.spelled:
                self.spelled[label] = identifier(label, self.spelled.values())
            dims.append(self.spelled[label])
        return tuple(dims)

    def read(self, name: str, type: onnx.TypeProto, shape: tuple[int | str, ...] | None = None) -> Form:
        """The form of a value of some type; `shape` is known from elsewhere. Its ports go to `inputs`."""
        kind = type.WhichOneof("value")
        if kind == "tensor_type":
            return self.tensor(name, type.tensor_type, shape)
        given = self.layout.sequences.get(name, ())
        if kind == "optional_type":
            if name in self.layout.sequences and given is None:
                return Form("none")
            return self.read(name, type.optional_type.elem_type, given[0] if given and shape is None else shape)
        if kind != "sequence_type":
            what = f"input {name!r} is a {kind or 'value without a type'}; only tensors, sequences and optionals are supported"
            return self.problem(name, Unsupported(what))
        if name not in self.layout.sequences or given is None:
            what = f"input {name!r} is a sequence; its length must be known when compiling"
            return self.problem(name, Unsupported(what, f"--sequence {name}=LENGTH"))
        inner = type.sequence_type.elem_type
        items = [self.read(f"{name}[{position}]", inner, one) for position, one in enumerate(given)]
        return Form("sequence", items=tuple(items))

    def problem(self, name: str, problem: Unsupported) -> Form:
        self.inputs.append(Input(name, None, (), problem))
        return Form("tensor", name)

    def tensor(self, name: str, type: onnx.TypeProto.Tensor, shape: tuple[int | str, ...] | None) -> Form:
        strings = type.elem_type == onnx.TensorProto.STRING
        try:
            dtype, problem = u8 if strings else dtype_of(type.elem_type), None
        except Unsupported as error:
            dtype, problem = None, error
        if shape is None and not type.HasField("shape"):
            problem = problem or Unsupported(f"input {name!r} has no shape; its rank must be known")
            if "[" in name:
                problem.hint = (
                    problem.hint or f"--sequence {name.partition('[')[0]}=[2,3],[n] gives the shape of each element"
                )
            self.inputs.append(Input(name, dtype, (), problem))
            return Form("tensor", name)
        own = [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param for d in type.shape.dim]
        dims = self.dims(name, own if shape is None else shape)
        fault = TensorType(dtype or u8, tuple(d if isinstance(d, int) else 1 for d in dims)).fault
        if fault:
            problem = problem or Unsupported(f"input {name!r} of shape {list(dims)}: {fault}")
        width = self.layout.string_bytes if strings else 0
        self.inputs.append(Input(name, dtype, dims, problem, width))
        return Form("strings", name, width) if strings else Form("tensor", name)


def read_inputs(
    graph: onnx.GraphProto,
    spelled: dict[str, str] | None = None,
    layout: Layout | None = None,
) -> tuple[tuple[Input, ...], tuple[tuple[str, Form], ...]]:
    """The ports of the inputs that are not constants, and the forms they make up by name of the input; `spelled` collects what each
    name of a dim became."""
    constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    reader = _Reader({} if spelled is None else spelled, layout or Layout())
    forms = tuple((v.name, reader.read(v.name, v.type)) for v in graph.input if v.name not in constants)
    return tuple(reader.inputs), forms


def read_signature(
    graph: onnx.GraphProto,
    bounds: Mapping[str, Bounds],
    file: str,
    layout: Layout | None = None,
) -> Signature:
    """Raises ModelError listing every dim without bounds and every bound without a dim, and every length without a sequence."""
    spelled: dict[str, str] = {}
    inputs, forms = read_inputs(graph, spelled, layout)
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
    lists = [v.name for v in graph.input if v.type.WhichOneof("value") in ("sequence_type", "optional_type")]
    for name in sorted((layout.sequences if layout else {}).keys() - lists):
        known = f"its sequences are {', '.join(lists)}" if lists else "it has none"
        problems.append(Problem(f"the model has no sequence or optional {name!r}", source=Source(file), hint=known))
    if problems:
        raise ModelError(f"{file}: the sequences of the model do not match the lengths given", problems)
    used = [d for d in dict.fromkeys(d for i in inputs for d in i.dims) if isinstance(d, str)]
    dims = {d: given[d].min if given[d].min == given[d].max else symbol(d) for d in used}
    symbols = {d: given[d] for d in used if not isinstance(dims[d], int)}
    return Signature(inputs, forms, dims, symbols, spelled)
