"""Turns an exported program into a Graph: one walk over its calls, each through the rule of its operator.

Every problem of the program is collected instead of stopping at the first. What could not be imported goes on with the type torch
gave it, so that the rest is looked at too; failures that may only follow from it stay unreported.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from ....ir.builder import GraphBuilder
from ....ir.dims import Bounds, evaluate
from ....ir.errors import Source, VerifyError
from ....ir.graph import FileBytes, Graph, Inline, Port, Weight
from ....ir.types import TensorType
from .. import contents
from ..emit import Emitter
from ..known import Known
from ..scalars import Facts
from ..states import Ties
from ..unsupported import UNROLLED, Consequence, Problems, Unsupported
from .control import CONTROL
from .registry import RULES
from .site import Site, Value
from .symbols import Symbols, batch_axes, bounded_axes, dynamic_axes, read_symbols
from .weights import Joined, Stored, Weights, dtype_of

#: Constants of whole numbers up to this many elements are looked into for index arithmetic.
_SMALL = 1 << 16
#: Calls that only check something, or that a graph of values needs no node for.
_NOTHING = (
    *("aten._assert_tensor_metadata", "aten._assert_scalar"),
    *("aten.sym_constrain_range", "aten.sym_constrain_range_for_size"),
)

_KEPT_INPUTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
#: What the program leaves changed.
_CHANGED = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)


class Missing:
    """What stands for the result of a call that could not be imported and has no type either."""


def user_inputs(program: Any) -> dict[str, Any]:
    """The inputs a caller gives, by name, as the tensors that stand for them."""
    found = {}
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        name = getattr(spec.arg, "name", "")
        value = placeholders[name].meta.get("val") if name in placeholders else None
        if isinstance(value, torch.Tensor) and spec.kind == InputKind.USER_INPUT:
            found[name] = value
    return found


def _changed_buffers(program: Any) -> set[str]:
    return {
        str(spec.target) for spec in program.graph_signature.output_specs if spec.kind == OutputKind.BUFFER_MUTATION
    }


def batch_dims(
    program: Any, names: Mapping[tuple[str, int], str], constants: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Names of the dims that only ever stand first in an input of rank 2 or more and have no greatest value: batches. Constants are
    no inputs."""
    inputs = {name: value for name, value in user_inputs(program).items() if name not in constants}
    axes = dynamic_axes(inputs, names)
    bounded = bounded_axes(axes, program.range_constraints)
    return tuple(n for n in batch_axes(axes, {name: v.dim() for name, v in inputs.items()}) if n not in bounded)


def import_exported(
    program: Any,
    dims: Mapping[str, Bounds] | None = None,
    *,
    name: str = "model",
    names: Mapping[tuple[str, int], str] | None = None,
    stored: Mapping[str, Stored | Joined] | None = None,
    folder: Path | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    states: Mapping[str, str] | None = None,
) -> Graph:
    """The graph of a `torch.export.ExportedProgram` that `export.decomposed` has brought to the operators the rules know.

    `dims` bounds the dynamic dims by name; a dim is called what `names` says for an input's axis, else `<input>_<axis>`, and the
    program's own ranges hold where nothing is given. `constants` are values of inputs, which are then no inputs. Parameters in
    `stored` are referred to where they lie, relative to `folder`; of the others those larger than INLINE_BYTES are written to one
    file in `folder`. A buffer that the program changes is state, and starts as it is; so is an input that `states` ties to an
    output, by their names, which starts as zeros. An input that the program changes is an output of its name too. Raises ModelError
    with every problem of the program.
    """
    # where parameters are stored, those of the program only hold their place
    tensors = {**({} if stored else program.state_dict), **program.constants}
    weights = Weights(tensors, stored or {}, folder)
    try:
        return Importer(program, weights, dims or {}, name, names or {}, constants or {}, states or {}).run()
    finally:
        weights.close()


class Importer:
    """The state of one walk. Rules see it through `Site`."""

    def __init__(
        self,
        program: Any,
        weights: Weights,
        bounds: Mapping[str, Bounds],
        name: str,
        names: Mapping[tuple[str, int], str],
        constants: Mapping[str, np.ndarray],
        states: Mapping[str, str],
    ) -> None:
        self.program, self.weights, self.file, self.constants = program, weights, name, constants
        axes = dynamic_axes(user_inputs(program), names)
        self.symbols: Symbols = read_symbols(axes, program.range_constraints, bounds, name)
        self.builder = GraphBuilder(name=name, symbols=self.symbols.bounds)
        self.builder.folder = str(weights.folder or "")
        self.emitter = Emitter(self.builder)
        self.facts = Facts(self.symbols.bounds)
        self.checked: list[str] = []  # run-time dims that come out too great where something does not hold
        self.unrolled = 0  # nodes in copies of graphs inside calls
        self.problems = Problems(self.file)
        self.ties = Ties(self.builder, states, self.problems)
        self.values: dict[Any, Any] = {}  # node -> Value, Known, number, or a list of these
        self.tainted: set[Any] = set()
        self.shared: dict[tuple[TensorType, FileBytes | Inline], str] = {}  # tied parameters are one weight

    def run(self) -> Graph:
        self._inputs()
        nodes = list(self.program.graph.nodes)
        for node in nodes:
            if node.op not in ("placeholder", "output"):
                self._node(node, self.program.graph_module)
        ports, changed = self._outputs(next(n for n in nodes if n.op == "output"))
        ports, updates = self.ties.end(ports)
        for name in self.checked if ports else ():
            ports[0] = replace(ports[0], value=self.builder.after(name, ports[0].value))
        self.problems.check()
        return self.builder.finish(ports, changed | updates)

    # -- inputs and outputs

    def _inputs(self) -> None:
        placeholders = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        changed = _changed_buffers(self.program)
        for spec in self.program.graph_signature.input_specs:
            node = placeholders.get(getattr(spec.arg, "name", ""))
            if node is None:
                continue
            value = node.meta.get("val")
            if spec.kind == InputKind.BUFFER and spec.target in changed:
                self._try(node, str(spec.target), lambda n=node, s=spec: self._state(n, str(s.target)))
            elif spec.kind in _KEPT_INPUTS:
                if node.users:
                    self._try(node, str(spec.target), lambda n=node, s=spec: self._parameter(n, str(s.target)))
            elif isinstance(value, torch.Tensor):
                self._try(node, node.name, lambda n=node: self._input(n, n.name))
            elif isinstance(value, (torch.SymInt, int, float, bool, str, type(None))):
                if isinstance(value, torch.SymInt):
                    self._report(Unsupported("is a number that may vary; only tensors may"), "", node.name)
                    self.values[node] = Missing()
                else:
                    self.values[node] = value
            else:
                self._report(Unsupported(f"is a {type(value).__name__}; only tensors are supported"), "", node.name)
                self.values[node] = Missing()

    def _try(self, node: Any, name: str, make: Any) -> None:
        try:
            make()
        except Unsupported as error:
            self._report(error, "", name)
            self._poison(node)

    def _input(self, node: Any, name: str) -> None:
        kind = self.type_of_tensor(node.meta["val"])
        array = self.constants.get(name)
        if array is None:
            self.values[node] = Value(self.ties.start(name, kind))
            return
        if tuple(array.shape) != kind.shape:
            raise Unsupported(f"is given as a constant of shape {list(array.shape)} and has type {kind}")
        known = contents.from_array(kind.dtype, array) if not kind.dtype.is_float or array.size <= 16 else None
        self.values[node] = known or Value(self.emitter.constant(array))

    def _state(self, node: Any, name: str) -> None:
        """A buffer that the program changes. Its bytes at first are kept for that alone; zeros are not kept."""
        kind = self.type_of_tensor(node.meta["val"])
        initial = ""
        if not self.weights.zeros(name):
            stored, content = self.weights.place(name)
            if stored != kind:
                raise Unsupported(f"is stored as {stored} and changed as {kind}")
            initial = self.builder.weight(Weight(self.builder.fresh("w"), kind, content, name))
        self.values[node] = Value(self.builder.state(name, kind, initial))

    def _joined(self, node: Any, name: str, joined: Joined) -> None:
        """A parameter made of its parts; what is done to constants is done when they are packed."""
        source = Source(self.file, name)
        rows = []
        for part in joined.parts:
            values = []
            for one in part:
                value = self.builder.weight(Weight(self.builder.fresh("w"), one.type, one.bytes, name))
                wide = (1, *one.type.shape)
                values.append(self.builder.op("reshape", value, source=source, shape=wide) if joined.stacked else value)
            rows.append(self.builder.op("concat", *values, source=source, axis=0) if len(values) > 1 else values[0])
        value = self.builder.op("concat", *rows, source=source, axis=joined.axis) if len(rows) > 1 else rows[0]
        wanted = dtype_of(node.meta["val"].dtype)
        if joined.type.dtype != wanted:
            value = self.builder.op("cast", value, source=source, to=wanted)
        self.values[node] = Value(value)

    def _parameter(self, node: Any, name: str) -> None:
        joined = self.weights.joined(name)
        if joined is not None:
            self._joined(node, name, joined)
            return
        kind, content = self.weights.place(name)
        wanted = dtype_of(node.meta["val"].dtype)
        count = kind.elements
        if kind.dtype == wanted and isinstance(count, int) and count <= (16 if wanted.is_float else _SMALL):
            array = self.weights.array(name)
            known = contents.from_array(wanted, array) if array is not None else None
            if known is not None:
                self.values[node] = known
                return
        weight = self.shared.get((kind, content))
        if weight is None:
            weight = self.builder.weight(Weight(self.builder.fresh("w"), kind, content, name))
            self.shared[kind, content] = weight
        if kind.dtype != wanted:
            weight = self.builder.op("cast", weight, source=Source(self.file, name), to=wanted)
        self.values[node] = Value(weight)

    def _outputs(self, output: Any) -> tuple[list[Port], dict[str, str]]:
        """Outputs, inputs that the program changes behind them, and what buffers become that it changes."""
        specs = self.program.graph_signature.output_specs
        names = _output_names(self.program, sum(spec.kind == OutputKind.USER_OUTPUT for spec in specs))
        left = iter(names)
        ports: list[Port] = []
        later: list[Port] = []
        changed: dict[str, str] = {}
        for spec, argument in zip(specs, output.args[0], strict=True):
            if spec.kind == OutputKind.USER_OUTPUT:
                name = next(left)
                if not isinstance(argument, torch.fx.Node):
                    continue  # None and numbers are no outputs of a plan
            elif spec.kind in _CHANGED:
                name = str(spec.target)
            else:
                kind = spec.kind.name.lower().replace("_", " ")
                self._report(Unsupported(f"is a {kind}, which is not supported"), "", str(spec.target))
                continue
            if argument in self.tainted:
                continue
            value = self.values[argument]
            source = Source(self.file, name)
            if isinstance(value, Known):
                value = Value(self.emitter.known(value, source))
            if not isinstance(value, Value):
                continue
            if spec.kind == OutputKind.BUFFER_MUTATION:
                changed[name] = str(value)
            elif spec.kind == OutputKind.USER_INPUT_MUTATION:
                later.append(Port(f"{name}_changed" if name in names else name, str(value)))
            else:
                ports.append(Port(name, str(value)))
        return [*ports, *later], changed

    # -- calls

    def _node(self, node: Any, module: Any) -> None:
        if node.op == "get_attr":
            self.values[node] = self._attribute(module, node)
            return
        target = str(node.target)
        if target.rpartition(".")[0] in _NOTHING or target in _NOTHING:
            return
        value = node.meta.get("val")
        if isinstance(value, (torch.SymInt, torch.SymBool, torch.SymFloat, int, float)) and not isinstance(value, bool):
            self._try_number(node, value)
            return
        tainted = any(argument in self.tainted for argument in node.all_input_nodes)
        if tainted:
            self.tainted.add(node)
        try:
            if getattr(node.target, "__name__", "") == "getitem":
                self.values[node] = self._item(node)
                return
            if target in CONTROL:
                found = CONTROL[target](self, node)
                kinds = node.meta.get("val")
                kinds = kinds if isinstance(kinds, (list, tuple)) else [kinds] * len(found)
                self.values[node] = [self._checked(k, v, target) for k, v in zip(kinds, found, strict=False)]
                return
            self.values[node] = self._call(node, target)
        except Consequence:
            self._poison(node)
        except Unsupported as error:
            if not (tainted and error.follows):
                self._report(error, target, node.name)
            self._poison(node)
        except VerifyError as error:
            if not tainted:
                self._report(Unsupported(error.what, error.hint), target, node.name)
            self._poison(node)

    def _try_number(self, node: Any, value: Any) -> None:
        """A size, or arithmetic on sizes: what torch derived is what it is."""
        if isinstance(value, (int, float)):
            self.values[node] = value
            return
        expression = value.node.expr
        try:
            if isinstance(value, torch.SymInt):
                self.values[node] = self.symbols.dim(value)
            else:
                self.values[node] = float(expression) if expression.is_number else Missing()
        except Unsupported as error:
            self._report(error, str(node.target), node.name)
            self.values[node] = Missing()
            self.tainted.add(node)

    def _item(self, node: Any) -> Any:
        whole, index = self.values[node.args[0]], node.args[1]
        if isinstance(whole, (list, tuple)) and index < len(whole):
            return whole[index]
        raise Unsupported(f"output {index} of {node.args[0].target} is not supported")

    def _call(self, node: Any, target: str) -> Any:
        rule = RULES.get(target)
        if rule is None:
            raise self._no_rule(node, target)
        site = Site(self, node, self._arguments(node), Source(self.file, node.name))
        results = rule(site)
        if isinstance(results, (str, Known)):
            return self._checked(node.meta.get("val"), results, target)
        given = node.meta.get("val")
        kinds: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
        return [self._checked(kind, one, target) for kind, one in zip(kinds, results, strict=False)]

    def _checked(self, expected: Any, result: Any, target: str) -> Any:
        """A result under its marker; its type must be the one that torch derived."""
        if isinstance(expected, torch.Tensor):
            wanted = self.type_of_tensor(expected)
            have = result.type if isinstance(result, Known) else self.builder.types[result]
            if have.dtype != wanted.dtype or not self._same_shape(have, wanted):
                raise Unsupported(f"gives {wanted} in torch, its rule made {have}", follows=True)
        return result if isinstance(result, Known) else Value(result)

    def _same_shape(self, have: TensorType, wanted: TensorType) -> bool:
        """Extents written differently may still be equal: those that are not decided are compared at some values of the dims."""
        if have.rank != wanted.rank:
            return False
        bounds = self.symbols.bounds
        for a, b in zip(have.shape, wanted.shape, strict=True):
            for which in ("min", "typical", "max") if a != b else ():
                values = {name: int(getattr(bound, which)) for name, bound in bounds.items()}
                if evaluate(a, values) != evaluate(b, values):
                    return False
        return True

    def _arguments(self, node: Any) -> dict[str, Any]:
        """Every parameter of the schema, with what was given or its default."""
        found = {}
        for index, argument in enumerate(node.target._schema.arguments):
            if index < len(node.args):
                found[argument.name] = self.resolved(node.args[index])
            elif argument.name in node.kwargs:
                found[argument.name] = self.resolved(node.kwargs[argument.name])
            else:
                found[argument.name] = argument.default_value if argument.has_default_value() else None
        return found

    def resolved(self, argument: Any) -> Any:
        """What an argument of a call stands for. Raises Unsupported where that could not be imported."""
        if isinstance(argument, torch.fx.Node):
            value = self.values.get(argument)
            if value is None and argument.meta.get("val") is not None:
                raise Unsupported(f"reads {argument.name!r}, which nothing before it defines", follows=True)
            if isinstance(value, Missing):
                raise Unsupported(f"depends on {argument.name!r}, which could not be imported", follows=True)
            return value
        if isinstance(argument, (list, tuple)):
            return [self.resolved(part) for part in argument]
        return argument

    def body(self, module: Any, given: Sequence[Any]) -> list[Any]:
        """Import a graph inside a call, on these values, and give its outputs. What cannot be imported is reported and raised as a
        Consequence."""
        nodes = list(module.graph.nodes)
        self.unrolled += len(nodes)
        if self.unrolled > UNROLLED:
            raise Unsupported(f"the graphs inside calls have more than {UNROLLED} nodes when loops are unrolled")
        before = len(self.problems)
        places = [node for node in nodes if node.op == "placeholder"]
        self.values.update(zip(places, given, strict=True))
        for node in nodes:
            if node.op not in ("placeholder", "output"):
                self._node(node, module)
        if len(self.problems) > before:
            raise Consequence("its graph could not be imported")
        outputs = nodes[-1].args[0]
        return [self.resolved(one) for one in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]

    def _attribute(self, module: Any, node: Any) -> Any:
        found = module
        for part in str(node.target).split("."):
            found = getattr(found, part)
        if isinstance(found, torch.Tensor):
            array = found.detach().numpy()
            known = contents.from_array(dtype_of(found.dtype), array) if array.size <= _SMALL else None
            return known or Value(self.emitter.constant(array))
        return found

    def _no_rule(self, node: Any, target: str) -> Unsupported:
        seen = ", ".join(self._type_text(a) for a in node.all_input_nodes)
        made = self._type_text(node)
        near = difflib.get_close_matches(target, sorted(RULES), 1, 0.75)
        hint = f"the nearest supported operator is {near[0]}" if near else ""
        return Unsupported(f"is not supported: ({seen}) -> {made}", hint)

    def _type_text(self, node: Any) -> str:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            try:
                shape = ", ".join(str(d) for d in self.symbols.shape(value.shape))
            except Unsupported:
                shape = ", ".join(str(d) for d in value.shape)
            return f"{dtype}[{shape}]"
        if isinstance(value, (list, tuple)):
            return f"{len(value)} outputs"
        return type(value).__name__

    # -- types and problems

    def type_of_tensor(self, value: Any) -> TensorType:
        return TensorType(dtype_of(value.dtype), self.symbols.shape(value.shape))

    def _poison(self, node: Any) -> None:
        """The result of a call that could not be imported goes on with the type torch derived."""
        self.tainted.add(node)
        value = node.meta.get("val")
        if isinstance(value, (list, tuple)):
            self.values[node] = [self._stand_in(one) for one in value]
        else:
            self.values[node] = self._stand_in(value)

    def _stand_in(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return Missing()
        try:
            kind = self.type_of_tensor(value)
        except Unsupported:
            return Missing()
        name = self.builder.fresh("missing")
        self.builder.types[name] = kind
        return Value(name)

    def _report(self, error: Unsupported, op: str, node: str) -> None:
        self.problems.add(error, op, Source(self.file, node))


def _output_names(program: Any, count: int) -> list[str]:
    """Fields and positions in the result's structure joined by underscores; a lone tensor is `output`."""
    spec = program.call_spec.out_spec
    whole = pytree.tree_unflatten(list(range(count)), spec)
    try:
        paths = [tuple(map(_key, path)) for path, _ in pytree.tree_flatten_with_path(whole)[0]]
    except ValueError:  # a class that says how it is taken apart, but not what its parts are called
        paths = list(_walk(whole, ()))
    if len(paths) != count:
        paths = [(str(index),) for index in range(count)]
    names = []
    for path in paths:
        parts = [f"output_{part}" if part.isdigit() and i == 0 else part for i, part in enumerate(path)]
        names.append("_".join(parts) or "output")
    return names


def _key(key: Any) -> str:
    """The name or number of one step into a structure."""
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Paths to what is neither a mapping nor a sequence, in order."""
    if isinstance(value, (Mapping, list, tuple)):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _walk(part, (*path, str(key)))
    elif value is not None:
        yield path
