"""Turns an ONNX model into a Graph: one walk over its nodes, each through the rule of its operator.

Beside the graph under construction the walk keeps the known contents of shape arithmetic (`known`), and collects every
problem of the model instead of stopping at the first. What depends on a value that could not be imported is *tainted*:
its further failures are consequences and stay unreported, unless an operator is itself unsupported.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ....ir.builder import GraphBuilder
from ....ir.builder import Mark as BuilderMark
from ....ir.dims import Bounds, Shape, symbols_of
from ....ir.errors import ModelError, Source
from ....ir.graph import Graph, Node, Port, Weight
from ....ir.interface import Form, Interface
from ....ir.types import DType, TensorType, string
from ...layout import Layout
from .. import contents
from ..emit import Emitter
from ..known import Known
from ..scalars import Facts
from ..states import Ties
from ..unsupported import UNROLLED, Consequence, Problems, TooMany, Unsupported
from .bodies import instance, nodes_within, plain_name
from .constants import with_constants
from .early import modern
from .evaluate import evaluate_constant
from .functions import domain_of, inlined, schema_of
from .inference import inferred, types_written
from .protobuf import read_model
from .refusals import REFUSED, refusal
from .registry import RULES, TEXT_RULES, Rule
from .schemas import check_node, check_versions
from .signature import Signature, read_signature
from .site import Site
from .strings import MOVERS, moved, strings_constant
from .structured import Items, Maps, Nothing, Strings, Structured, Value
from .tensors import Tensors

#: Constants of whole numbers up to this many elements are looked into for shape arithmetic.
_SMALL = 1 << 16

#: Attributes that change nothing of what a graph computes in inference and in the types supported.
_HARMLESS = frozenset(("stash_type", "saturate", "round_mode", "softmax_precision", "momentum", "seed", "ratio"))


def import_onnx(
    path: str | Path,
    dims: Mapping[str, Bounds] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    estimate: bool = False,
    layout: Layout | None = None,
) -> Graph:
    """The graph of an ONNX file.

    `dims` bounds the dynamic dims of the inputs by name; an unnamed one is called `<input>_<axis>`. Where min == max
    the dim is that number everywhere. `constants` gives values of inputs, which then are no inputs any more. `layout` says how
    long sequences and strings are. Weights stay in their files. Raises ModelError with every problem of the model.

    With `estimate` the graph is one to reckon with, not to run: files of weights may be missing (`Graph.absent`) and tensors
    may be f16 or bf16.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise ModelError(f"cannot read the model {path}: {'it is a folder' if path.is_dir() else 'no such file'}")
    model = read_model(path)
    check_versions(model, path.name)
    model = with_constants(model, constants or {}, path.name)
    return Importer(inlined(model, path.name), path, dims or {}, estimate, layout).run()


@dataclass(frozen=True)
class Mark:
    """What an importer held at some point."""

    builder: BuilderMark
    constants: dict[tuple[str, Shape, bytes], str]
    problems: tuple[int, dict[str, int]]
    maps: list[dict[str, Any]]
    sets: list[set[str]]
    unrolled: int
    current: onnx.NodeProto | None


class Importer:
    """The state of one walk. Rules see it through `Site`."""

    def __init__(
        self,
        model: onnx.ModelProto,
        path: Path,
        bounds: Mapping[str, Bounds],
        estimate: bool = False,
        layout: Layout | None = None,
    ) -> None:
        self.model, self.file = model, _text(path.name)
        self.signature: Signature = read_signature(model.graph, bounds, self.file, layout)
        self.builder = GraphBuilder(name=_text(path.stem), symbols=self.signature.symbols)
        self.builder.folder = str(path.parent)
        self.trips = layout.trips if layout else 0  # iterations of loops of which only the data says how many there are
        self.emitter = Emitter(self.builder)
        self.facts = Facts(self.builder.symbols)
        self.tensors = Tensors(path.parent, path.name, estimate)
        self.opsets = {domain_of(o.domain): int(o.version) for o in model.opset_import}
        self.problems = Problems(self.file)
        self.ties = Ties(self.builder, layout.states if layout else {}, self.problems)
        self.current: onnx.NodeProto | None = None  # the node being imported
        self.values: dict[str, str] = {}  # ONNX name -> value of the graph
        self.contents: dict[str, Known] = {}
        self.constants: dict[str, onnx.TensorProto] = {}
        self.producers: dict[str, onnx.NodeProto] = {}  # ONNX name -> the node that defines it
        self.structured: dict[str, Structured] = {}  # what is no tensor of numbers
        self.temporaries = 0
        self.bodies = self.unrolled = 0  # copies of graphs inside nodes, and the nodes in these
        self.repeated = 0  # loops that are not unrolled
        self.unknown: set[str] = set()  # could not be imported, and no type is known either
        self.tainted: set[str] = set()  # depends on something that could not be imported
        self._declared: dict[str, onnx.TypeProto] | None = None  # types by name, as the model has them
        self._inferred: dict[str, onnx.TypeProto] | None = None  # and with what the standard says
        self._node_inputs: set[str] | None = None
        self.read = set(_names_read(model.graph))

    def run(self) -> Graph:
        self._check_opsets()
        for item in self.signature.inputs:
            if item.problem is None and item.dtype is not None:
                width = (item.width,) if item.width else ()
                type = TensorType(item.dtype, (*self.signature.shape(item.dims), *width))
                self.values[item.name] = self.ties.start(item.name, type)
            else:
                self._report(item.problem or Unsupported("has no type"), "", Source(self.file, item.name))
                self.unknown.add(item.name)
        for name, form in self.signature.forms:
            if all(port in self.values for port in form.ports()):
                self.bind(name, self._formed(form))
            else:
                self.unknown.add(name)
        self.graph(self.model.graph)
        ports: list[Port] = []
        forms = []
        for output in self.model.graph.output:
            forms.append((output.name, self._output(output.name, ports)))
        ports, updates = self.ties.end(ports)
        self._finish()
        self.builder.absent = frozenset(self.tensors.absent)
        pairs = self.ties.pairs
        given = tuple((name, form) for name, form in self.signature.forms if name not in pairs)
        left = tuple((name, form) for name, form in forms if name not in pairs.values())
        self.builder.interface = Interface(given, left)
        return self.builder.finish(ports, updates)

    def _formed(self, form: Form) -> Value:
        """The value that ports make up."""
        if form.kind == "sequence":
            return Items(tuple(self._formed(item) for item in form.items))
        if form.kind == "strings":
            return self.strings(self.values[form.port])
        return Nothing() if form.kind == "none" else self.values[form.port]

    def strings(self, value: str) -> Strings:
        """Strings in the slots of a graph value."""
        return Strings(value, self.builder.types[value])

    def body(self, node: onnx.NodeProto, graph: onnx.GraphProto, inputs: Sequence[Value]) -> list[Value]:
        """Import a graph inside `node`, its own names hidden from all others, and give its outputs. What cannot be imported is
        reported and raised as a Consequence."""
        self.bodies += 1
        self.unrolled += sum(1 for _ in nodes_within(graph))
        if max(self.unrolled, self.bodies) > UNROLLED:
            raise TooMany(f"the graphs inside nodes have more than {UNROLLED} nodes when loops are unrolled")
        before = len(self.problems)
        copy = instance(graph, self.bodies)
        self.read |= set(_names_read(copy))
        for port, value in zip(copy.input, inputs, strict=True):
            self.bind(port.name, value)
            self.producers[port.name] = node
        self.graph(copy)
        found = [self.found(port.name, Source(self.file, port.name)) for port in copy.output]
        if len(self.problems) > before or any(one is None for one in found):
            raise Consequence("its graph could not be imported")
        return [one for one in found if one is not None]

    def mark(self) -> Mark:
        """What has been imported so far, to come back to by `take_back`."""
        maps = [dict(held) for held in self._maps()]
        sets = [set(held) for held in self._sets()]
        return Mark(
            self.builder.mark(), self.emitter.mark(), self.problems.mark(), maps, sets, self.unrolled, self.current
        )

    def take_back(self, mark: Mark) -> tuple[tuple[Node, ...], str]:
        """Nothing since was imported; the nodes it gave, and the first problem it had."""
        for held, before in zip(self._maps(), mark.maps, strict=True):
            held.clear()
            held.update(before)
        for names, known in zip(self._sets(), mark.sets, strict=True):
            names.clear()
            names.update(known)
        self.emitter.take_back(mark.constants)
        self.unrolled, self.current = mark.unrolled, mark.current
        return self.builder.take_back(mark.builder), self.problems.take_back(mark.problems)

    def _maps(self) -> tuple[dict[str, Any], ...]:
        return self.values, self.contents, self.constants, self.producers, self.structured

    def _sets(self) -> tuple[set[str], ...]:
        return self.unknown, self.tainted

    def graph(self, graph: onnx.GraphProto) -> None:
        """Import constants and nodes."""
        for tensor in graph.initializer:
            if tensor.data_type == onnx.TensorProto.STRING:
                self._strings_constant(tensor)
            else:
                self.constants[tensor.name] = tensor
        for sparse in graph.sparse_initializer:
            self._report(Unsupported("sparse constants are not supported"), "", Source(self.file, sparse.values.name))
            self.unknown.add(sparse.values.name)
        for node in graph.node:
            self._node(node)

    def _strings_constant(self, tensor: onnx.TensorProto) -> None:
        try:
            self.structured[tensor.name] = strings_constant(self.emitter, list(tensor.string_data), tuple(tensor.dims))
        except REFUSED as error:
            self._refuse(error, "", Source(self.file, tensor.name))
            self.unknown.add(tensor.name)

    # -- values

    def value(self, name: str, source: Source) -> str:
        """The graph value behind an ONNX name."""
        self._check_tensor(name)
        if name not in self.values:
            if name in self.constants:
                self.values[name] = self._weight(name)
            else:
                self.values[name] = self.emitter.known(self.contents[name], source)
        return self.values[name]

    def _weight(self, name: str) -> str:
        tensor = self.constants[name]
        type, content = self.tensors.type_of(tensor), self.tensors.content(tensor)
        return self.builder.weight(Weight(self.builder.fresh("w"), type, content, name))

    def _check_tensor(self, name: str) -> None:
        if name in self.structured:
            kinds: dict[type, str] = {Items: "a sequence", Maps: "a sequence of maps"}
            kinds |= {Nothing: "an optional without a value", Strings: "a tensor of strings"}
            raise Unsupported(f"takes tensors of numbers; {plain_name(name)!r} is {kinds[type(self.structured[name])]}")

    def type_of(self, name: str) -> TensorType:
        self._check_tensor(name)
        if name in self.values:
            return self.builder.types[self.values[name]]
        if name in self.contents:
            return self.contents[name].type
        return self.tensors.type_of(self.constants[name])

    def known(self, name: str) -> Known | None:
        self._check_tensor(name)
        if name not in self.contents and name in self.constants:
            tensor = self.constants[name]
            type = self.tensors.type_of(tensor)
            count = math.prod(tensor.dims)
            if count <= (16 if type.dtype.is_float else _SMALL) and self.tensors.present(tensor):
                found = contents.from_array(type.dtype, self.tensors.array(tensor))
                if found is not None:
                    self.contents[name] = found
        return self.contents.get(name)

    def required(self, name: str) -> Known | None:
        """Known contents, evaluated if need be where the value depends on constants alone."""
        found = self.known(name)
        return self.evaluated(self.values[name]) if found is None and name in self.values else found

    def evaluated(self, value: str) -> Known | None:
        """The contents of a graph value that depends on constants alone."""
        array = evaluate_constant(self.builder, value)
        return None if array is None else contents.from_array(self.builder.types[value].dtype, array)

    def temporary(self, value: Value) -> str:
        """A new name for a value: what a rule gives to another rule."""
        self.temporaries += 1
        name = f"#{self.temporaries}"
        self.bind(name, value)
        return name

    def needs(self, name: str) -> tuple[str, ...]:
        """The inputs of the model that an unknown value depends on, in the model's order; of a node with graphs inside, all that
        these read, but of an `If` its condition first."""
        pending, seen = [name], {name}
        while pending:
            one = pending.pop()
            if one in self.producers and self._open(one):
                node = self.producers[one]
                undecided = node.op_type == "If" and any(map(self._open, node.input[:1]))
                found = set(node.input if undecided else _node_reads(node)) - seen
                seen |= found
                pending += found
        return tuple(item.name for item in self.signature.inputs if item.name in seen)

    def _open(self, name: str) -> bool:
        """Whether it is not known what a name stands for."""
        return name in self.structured or self.known(name) is None

    def bind(self, name: str, result: Value) -> None:
        if isinstance(result, str):
            self.values[name] = result
        elif isinstance(result, Known):
            self.contents[name] = result
        else:
            self.structured[name] = result

    def found(self, name: str, source: Source) -> Value | None:
        """What is behind a name, if anything was imported."""
        if not self._defined(name):
            return None
        if name in self.structured:
            return self.structured[name]
        return self.known(name) or self.value(name, source)

    def _defined(self, name: str) -> bool:
        return name in self.values or name in self.contents or name in self.constants or name in self.structured

    # -- nodes

    def _node(self, node: onnx.NodeProto) -> None:
        self.current = node
        domain = domain_of(node.domain)
        label = node.name or next((o for o in node.output if o), "")
        source = Source(self.file, label)
        op = f"{domain or 'ai.onnx'}::{node.op_type}-{self.opsets.get(domain, '?')}"
        undefined = [i for i in node.input if i and not self._defined(i) and i not in self.unknown]
        blocked = bool(undefined) or any(i in self.unknown for i in node.input)
        tainted = blocked or any(i in self.tainted for i in _node_reads(node))
        for name in undefined:
            self._problem(f"reads {name!r}, which nothing before it defines", op, source, "is the file complete?")
        twice = [o for o in node.output if o and (self._defined(o) or o in self.unknown)]
        if twice:
            self._problem(f"defines {twice[0]!r} a second time", op, source)
            return
        self.producers.update(dict.fromkeys(filter(None, node.output), node))
        rule = RULES.get((domain, node.op_type))
        site = Site(self, node, self.opsets.get(domain, 0), source)
        try:
            if rule is None:
                raise self._no_rule(domain, node.op_type)
            check_node(node, domain, self.opsets.get(domain, 0), self._dtype)
            if blocked:
                self._poison(node)
                return
            site = modern(site)
            listed = _listed(self._apply(site, rule, (domain, node.op_type)))
            self._check_ignored(site, domain)
        except REFUSED as error:
            self._refuse(error, op, source, tainted)
            self._poison(node)
            return
        for index, name in enumerate(node.output):
            if name and index < len(listed):
                self.bind(name, listed[index])
                if tainted:
                    self.tainted.add(name)
            elif name and name in self.read:
                self._problem(f"output {index} ({name!r}) is not supported", op, source)
                self.unknown.add(name)

    def _apply(self, site: Site, rule: Rule, key: tuple[str, str]) -> Value | Sequence[Value]:
        """The outputs of a node: strings have rules of their own where what they are matters, or are moved by the common one."""
        if any(isinstance(self.structured.get(name), Strings) for name in site.node.input):
            if key in TEXT_RULES:
                return TEXT_RULES[key](site)
            if key in MOVERS:
                return moved(site, rule)
        return rule(site)

    def _dtype(self, name: str) -> DType | None:
        """The element type of a tensor, if it was imported."""
        if name in self.structured:
            return string if isinstance(self.structured[name], Strings) else None
        return self.type_of(name).dtype if self._defined(name) else None

    def _check_ignored(self, site: Site, domain: str) -> None:
        """An attribute that the rule did not look at, and that does not have its default value, is not supported."""
        schema = schema_of(domain, site.op, site.opset)
        for name in site.unread - _HARMLESS:
            attribute = site.attribute(name)
            value = onnx.helper.get_attribute_value(attribute) if attribute is not None else None
            spec = schema.attributes.get(name) if schema is not None else None
            if spec is not None and spec.default_value.type != onnx.AttributeProto.UNDEFINED:
                if value == onnx.helper.get_attribute_value(spec.default_value):
                    continue
            raise Unsupported(f"attribute {name} = {value!r} is not supported")

    def _no_rule(self, domain: str, op: str) -> Unsupported:
        if (domain, op) not in RULES and domain == "" and schema_of("", op, onnx.defs.onnx_opset_version()) is None:
            what = "is no operator of the ONNX standard"
        else:
            what = "is not supported"
        near = difflib.get_close_matches(op, sorted({name for d, name in RULES if d == domain}), 1)
        return Unsupported(what, f"the nearest supported operator is {near[0]}" if near else "")

    # -- problems

    def _problem(self, what: str, op: str, source: Source, hint: str = "") -> None:
        self._report(Unsupported(what, hint), op, source)

    def _refuse(self, error: Exception, op: str, source: Source, tainted: bool = False) -> None:
        """Report what a rule raised, unless it follows from what is reported already."""
        inputs = map(self._type_text, self.current.input) if op and self.current is not None else ()
        reason = refusal(error, inputs, tainted)
        if reason is not None:
            self._report(reason, op, source)

    def _report(self, error: Unsupported, op: str, source: Source) -> None:
        inputs = tuple(map(self._type_text, self.current.input)) if op and self.current is not None else ()
        self.problems.add(error, op, source, inputs)

    def _type_text(self, name: str) -> str:
        """The type of a tensor for people; an input that is left out is nothing, one that is not known "?"."""
        try:
            return str(self.type_of(name)) if self._defined(name) else "?" if name else ""
        except (Unsupported, KeyError):
            return "?"

    def _poison(self, node: onnx.NodeProto) -> None:
        """Outputs of a node that could not be imported go on with their declared type, if it is all known."""
        for name in node.output:
            if not name:
                continue
            self.tainted.add(name)
            type = self._declared_type(name)
            if type is None:
                self.unknown.add(name)
            else:
                value = self.builder.fresh("missing")
                self.builder.types[value] = type
                self.values[name] = value

    def _declared_type(self, name: str) -> TensorType | None:
        """The type that the model or else the standard gives a value that some node reads."""
        if self._node_inputs is None:
            self._node_inputs = {read for node in self.model.graph.node for read in _node_reads(node)}
        if name not in self._node_inputs:
            return None
        if self._declared is None:
            self._declared = types_written(self.model)
        if self._inferred is None and name not in self._declared:
            self._inferred = types_written(inferred(self.model))
        return self._type_of_proto(self._declared.get(name) or (self._inferred or {}).get(name))

    def _type_of_proto(self, found: onnx.TypeProto | None) -> TensorType | None:
        """A type that says everything of a tensor."""
        if found is None or not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
            return None
        shape = []
        for dim in found.tensor_type.shape.dim:
            if dim.HasField("dim_value"):
                shape.append(int(dim.dim_value))
            elif dim.dim_param in self.signature.spelled:
                shape.append(self.signature.dims[self.signature.spelled[dim.dim_param]])  # type: ignore[arg-type]
            else:
                return None
        try:
            type = TensorType(self.tensors.dtype_of(found.tensor_type.elem_type), tuple(shape))
        except Unsupported:
            return None
        return None if type.fault else type

    def _check_opsets(self) -> None:
        newest = onnx.defs.onnx_opset_version()
        version = self.opsets.get("")
        source = Source(self.file)
        if version is None:
            return
        if version > newest:
            hint = "upgrade the onnx package"
            self._problem(
                f"opset {version} is newer than {newest}, the newest the installed onnx package knows", "", source, hint
            )

    def _output(self, name: str, ports: list[Port]) -> Form:
        """The form of an output of the model; what it is made of joins `ports`."""
        nothing = Form("none")
        if name in self.unknown or name in self.tainted:
            return nothing
        if not self._defined(name):
            self._problem(f"output {name!r} is not defined by any node", "", Source(self.file))
            return nothing
        try:
            if name in self.structured:
                return self._ports(name, self.structured[name], ports)
            return self._ports(name, self.value(name, Source(self.file, name)), ports)
        except REFUSED as error:
            self._refuse(error, "", Source(self.file, name))
            return nothing

    def _ports(self, name: str, value: Value, ports: list[Port]) -> Form:
        if isinstance(value, Nothing):
            return Form("none")
        if isinstance(value, Items):
            items = [self._ports(f"{name}[{k}]", item, ports) for k, item in enumerate(value.items)]
            return Form("sequence", items=tuple(items))
        if isinstance(value, Strings):
            ports.append(Port(name, value.value))
            return Form("strings", name, value.width)
        if isinstance(value, Maps):
            ports.append(Port(f"{name}[values]", value.value))
            return Form("maps", f"{name}[values]", keys=value.keys)
        value = self.emitter.known(value, Source(self.file, name)) if isinstance(value, Known) else value
        ports.append(Port(name, value))
        return Form("tensor", name)

    def _finish(self) -> None:
        self.problems.check()
        free = {
            s for t in self.builder.types.values() for d in t.shape for s in symbols_of(d)
        } - self.builder.symbols.keys()
        if free:
            raise AssertionError(f"positions {sorted(free)} leaked into the graph's shapes")


def _text(name: str) -> str:
    """A file's name as text, the same in every locale."""
    return os.fsencode(name).decode(errors="replace")


def _listed(results: Value | Sequence[Value]) -> list[Value]:
    """What a rule gives, checked: known contents are of a type that there can be."""
    kinds = (str, Known, Strings, Items, Nothing, Maps)
    listed: list[Value] = [results] if isinstance(results, kinds) else list(results)
    for one in listed:
        if isinstance(one, Known) and one.type.fault:
            raise Unsupported(f"gives {one.type}: {one.type.fault}")
    return listed


def _names_read(graph: onnx.GraphProto) -> Iterable[str]:
    """Every name some node or output of the graph, or of a graph inside it, reads."""
    yield from (o.name for o in graph.output)
    for node in graph.node:
        yield from _node_reads(node)


def _node_reads(node: onnx.NodeProto) -> Iterable[str]:
    """The same of one node."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _names_read(attribute.g)
        for inner in attribute.graphs:
            yield from _names_read(inner)
