"""Turns an ONNX model into a Graph: one walk over its nodes, each through the rule of its operator.

Beside the graph under construction the walk keeps the known contents of shape arithmetic (`known`), and collects every
problem of the model instead of stopping at the first. What depends on a value that could not be imported is *tainted*:
its further failures are consequences and stay unreported, unless an operator is itself unsupported.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx

from ....ir.builder import GraphBuilder
from ....ir.dims import Bounds, symbols_of
from ....ir.errors import ModelError, Problem, Source, VerifyError
from ....ir.graph import Graph, Port, Weight
from ....ir.types import DType, TensorType
from . import contents
from .constants import with_constants
from .early import modern
from .emit import Emitter
from .evaluate import evaluate_constant
from .functions import closed, domain_of, inlined, schema_of
from .known import Known
from .protobuf import read_model
from .registry import RULES, Result
from .scalars import Facts
from .schemas import check_node, check_versions
from .signature import Signature, read_signature
from .site import Site
from .tensors import Tensors, Unsupported, UnsupportedType, type_hint

#: Constants of whole numbers up to this many elements are looked into for shape arithmetic.
_SMALL = 1 << 16
#: Attributes that change nothing of what a graph computes in inference and in the types supported.
_HARMLESS = frozenset(
    ("stash_type", "storage_order", "saturate", "round_mode", "softmax_precision", "momentum", "seed", "ratio")
)

#: What a rule raises where it meets what it does not expect.
_SLIPS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
#: The hint of a problem that a valid model must not have.
DEFECT = "if the model is valid, this is a defect of stratac: please report it"


def import_onnx(
    path: str | Path,
    dims: Mapping[str, Bounds] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    estimate: bool = False,
) -> Graph:
    """The graph of an ONNX file.

    `dims` bounds the dynamic dims of the inputs by name; an unnamed one is called `<input>_<axis>`. Where min == max
    the dim is that number everywhere. `constants` gives values of inputs, which then are no inputs any more. Weights stay in
    their files. Raises ModelError with every problem of the model.

    With `estimate` the graph is one to reckon with, not to run: files of weights may be missing (`Graph.absent`) and tensors
    may be f16 or bf16.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise ModelError(f"cannot read the model {path}: {'it is a folder' if path.is_dir() else 'no such file'}")
    model = read_model(path)
    check_versions(model, path.name)
    model = with_constants(model, constants or {}, path.name)
    return Importer(inlined(model, path.name), path, dims or {}, estimate).run()


class Importer:
    """The state of one walk. Rules see it through `Site`."""

    def __init__(
        self, model: onnx.ModelProto, path: Path, bounds: Mapping[str, Bounds], estimate: bool = False
    ) -> None:
        self.model, self.file = model, _text(path.name)
        self.signature: Signature = read_signature(model.graph, bounds, self.file, estimate)
        self.builder = GraphBuilder(name=_text(path.stem), symbols=self.signature.symbols)
        self.builder.folder = str(path.parent)
        self.emitter = Emitter(self.builder)
        self.facts = Facts(self.builder.symbols)
        self.tensors = Tensors(path.parent, path.name, estimate)
        self.opsets = {domain_of(o.domain): int(o.version) for o in model.opset_import}
        self.problems: list[Problem] = []
        self.values: dict[str, str] = {}  # ONNX name -> value of the graph
        self.contents: dict[str, Known] = {}
        self.constants: dict[str, onnx.TensorProto] = {}
        self.producers: dict[str, onnx.NodeProto] = {}  # ONNX name -> the node that defines it
        self.unknown: set[str] = set()  # could not be imported, and no type is known either
        self.tainted: set[str] = set()  # depends on something that could not be imported
        self.types_seen: dict[str, list[str]] = {}  # element types that are not supported -> tensors that have them
        self._declared: dict[str, onnx.TypeProto] | None = None
        self.read = set(_names_read(model.graph))

    def run(self) -> Graph:
        self._check_opsets()
        for item in self.signature.inputs:
            if item.problem is None and item.dtype is not None:
                type = TensorType(item.dtype, self.signature.shape(item.dims))
                self.values[item.name] = self.builder.input(item.name, type)
            else:
                self._report(item.problem or Unsupported("has no type"), "", Source(self.file, item.name), item.name)
                self.unknown.add(item.name)
        self.graph(self.model.graph)
        outputs = [port for port in map(self._output, self.model.graph.output) if port]
        self._finish()
        self.builder.absent = frozenset(self.tensors.absent)
        return self.builder.finish(outputs)

    def graph(self, graph: onnx.GraphProto) -> None:
        """Import constants and nodes; branches of a decided `If` land here too."""
        for tensor in graph.initializer:
            self.constants[tensor.name] = tensor
        for sparse in graph.sparse_initializer:
            self._report(Unsupported("sparse constants are not supported"), "", Source(self.file, sparse.values.name))
            self.unknown.add(sparse.values.name)
        for node in graph.node:
            self._node(node)

    # -- values

    def value(self, name: str, source: Source) -> str:
        """The graph value behind an ONNX name."""
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

    def type_of(self, name: str) -> TensorType:
        if name in self.values:
            return self.builder.types[self.values[name]]
        if name in self.contents:
            return self.contents[name].type
        return self.tensors.type_of(self.constants[name])

    def known(self, name: str) -> Known | None:
        if name not in self.contents and name in self.constants:
            tensor = self.constants[name]
            type = self.tensors.type_of(tensor)
            count = 1
            for extent in tensor.dims:
                count *= extent
            if count <= (16 if type.dtype.is_float else _SMALL) and self.tensors.present(tensor):
                found = contents.from_array(type.dtype, self.tensors.array(tensor))
                if found is not None:
                    self.contents[name] = found
        return self.contents.get(name)

    def required(self, name: str) -> Known | None:
        """Known contents, evaluated if need be where the value depends on constants alone."""
        found = self.known(name)
        if (
            found is None
            and name in self.values
            and (array := evaluate_constant(self.builder, self.values[name])) is not None
        ):
            found = contents.from_array(self.type_of(name).dtype, array)
        return found

    def needs(self, name: str) -> tuple[str, ...]:
        """The inputs of the model that an unknown value depends on, in the model's order; of a node with graphs inside, all that
        these read."""
        pending, seen = [name], {name}
        while pending:
            one = pending.pop()
            if one in self.producers and self.known(one) is None:
                found = set(_node_reads(self.producers[one])) - seen
                seen |= found
                pending += found
        return tuple(item.name for item in self.signature.inputs if item.name in seen)

    def bind(self, name: str, result: Result) -> None:
        if isinstance(result, str):
            self.values[name] = result
        else:
            self.contents[name] = result

    def found(self, name: str, source: Source) -> Result | None:
        """What is behind a name, if anything was imported."""
        if not self._defined(name):
            return None
        return self.known(name) or self.value(name, source)

    def _defined(self, name: str) -> bool:
        return name in self.values or name in self.contents or name in self.constants

    # -- nodes

    def _node(self, node: onnx.NodeProto) -> None:
        domain = domain_of(node.domain)
        label = node.name or next((o for o in node.output if o), "")
        source = Source(self.file, label)
        op = f"{domain or 'ai.onnx'}::{node.op_type}-{self.opsets.get(domain, '?')}"
        undefined = [i for i in node.input if i and not self._defined(i) and i not in self.unknown]
        blocked = bool(undefined) or any(i in self.unknown for i in node.input)
        tainted = blocked or any(i in self.tainted for i in node.input)
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
            results = rule(site)
            self._check_ignored(site, domain)
        except Unsupported as error:
            if not (tainted and error.follows):
                self._report(error, op, source)
            self._poison(node)
            return
        except VerifyError as error:
            if not tainted:
                self._problem(error.what, op, source, error.hint)
            self._poison(node)
            return
        except MemoryError:
            self._problem("needs more memory than there is", op, source, "are its sizes right?")
            self._poison(node)
            return
        except _SLIPS as error:  # the model has what neither its standard nor the rule rules out
            slip = f"cannot be imported: {type(error).__name__}: {error}"
            self._problem(slip, op, source, DEFECT)
            self._poison(node)
            return
        listed = [results] if isinstance(results, (str, Known)) else list(results)
        for index, name in enumerate(node.output):
            if name and index < len(listed):
                self.bind(name, listed[index])
                if tainted:
                    self.tainted.add(name)
            elif name and name in self.read:
                self._problem(f"output {index} ({name!r}) is not supported", op, source)
                self.unknown.add(name)

    def _dtype(self, name: str) -> DType | None:
        """The element type of a tensor, if it was imported."""
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

    def _problem(self, what: str, op: str, source: Source, hint: str = "", needs: tuple[str, ...] = ()) -> None:
        self.problems.append(Problem(what, op, source, hint, needs))

    def _report(self, error: Unsupported, op: str, source: Source, tensor: str = "") -> None:
        if isinstance(error, UnsupportedType):
            self.types_seen.setdefault(error.dtype, []).append(tensor or source.node)
        else:
            self._problem(error.what, op, source, error.hint, error.needs)

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
        if self._declared is None:
            model = self.model
            try:
                model = onnx.shape_inference.infer_shapes(model) if closed(model.graph) else model
            except Exception:  # C++ error types; without inference the declared types remain
                model = self.model
            infos = [*model.graph.value_info, *model.graph.output]
            self._declared = {info.name: info.type for info in infos}
        found = self._declared.get(name)
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
            return TensorType(self.tensors.dtype_of(found.tensor_type.elem_type), tuple(shape))
        except Unsupported:
            return None

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

    def _output(self, output: onnx.ValueInfoProto) -> Port | None:
        name = output.name
        if name in self.unknown or name in self.tainted:
            return None
        if not self._defined(name):
            self._problem(f"output {name!r} is not defined by any node", "", Source(self.file))
            return None
        try:
            return Port(name, self.value(name, Source(self.file, name)))
        except Unsupported as error:
            self._report(error, "", Source(self.file, name))
            return None

    def _finish(self) -> None:
        for dtype, names in self.types_seen.items():
            few = ", ".join(repr(n) for n in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            self._problem(f"element type {dtype} is not supported yet ({few})", "", Source(self.file), type_hint(dtype))
        if self.problems:
            count = len(self.problems)
            raise ModelError(
                f"{self.file} cannot be imported: {count} problem{'s' if count > 1 else ''}", self.problems
            )
        free = {
            s for t in self.builder.types.values() for d in t.shape for s in symbols_of(d)
        } - self.builder.symbols.keys()
        if free:
            raise AssertionError(f"positions {sorted(free)} leaked into the graph's shapes")


def _text(name: str) -> str:
    """A file's name as text, the same in every locale."""
    return os.fsencode(name).decode(errors="replace")


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
