"""The verifier of the Graph levels. It derives everything again from the op rows and trusts no annotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from .dims import Call, Dim, Expr, symbols_of, upper
from .errors import Source, VerifyError
from .graph import Derived, FileBytes, Graph, Inline, Loop, Node, Weight
from .ops import OPS, dims_set, infer, runtime_dims
from .text import RESERVED
from .types import DTYPES, DType, TensorType, bool_

_CATEGORIES = frozenset(row.category for row in OPS.values())


@dataclass(frozen=True)
class Legality:
    """Which op categories may stand at the top and inside clusters; `cluster` is a category of its own."""

    top: frozenset[str]
    body: frozenset[str]


#: The legality table: what each level allows.
LEVELS: Mapping[str, Legality] = {
    "graph": Legality(top=_CATEGORIES, body=frozenset()),
    "clusters": Legality(top=frozenset({"cluster"}), body=_CATEGORIES),
}


def verify_graph(graph: Graph, *, level: str = "graph", pass_name: str = "") -> None:
    """Raise VerifyError for the first rule of `level` that `graph` breaks; it names the pass, the op and its source."""
    _Verifier(graph, level, pass_name).check()


def category(node: Node) -> str:
    """The category of a node's op row; a cluster is its own, an unknown op has the empty one."""
    if node.op == "cluster":
        return "cluster"
    return OPS[node.op].category if node.op in OPS else ""


class _Verifier:
    """One walk over one graph; `types` holds what has been derived so far."""

    def __init__(self, graph: Graph, level: str, pass_name: str, inside: Node | None = None) -> None:
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
        self.graph, self.level, self.pass_name = graph, level, pass_name
        self.inside = inside  # the loop whose body the graph is
        self.types: dict[str, TensorType] = {}
        #: for each run-time dim, the values that depend on the node that sets it; absent before that node
        self.behind: dict[str, set[str]] = {}
        self.runtime = runtime_dims(graph)

    def fail(self, what: str, op: str = "", source: Source | None = None, hint: str = "") -> NoReturn:
        raise VerifyError(what, op=op, level=self.level, source=source, pass_name=self.pass_name, hint=hint)

    def check(self) -> None:
        self.check_symbols()
        self.check_inputs()
        for name, weight in self.graph.weights.items():
            self.check_weight(name, weight)
        self.check_derivations()
        self.check_states()
        visible = set(self.types)
        for node in self.graph.nodes:
            self.check_node(node, visible, LEVELS[self.level].top)
        self.check_outputs(visible)
        self.check_updates(visible)
        self.check_loops()
        if stale := [value for value in self.graph.types if value not in self.types]:
            self.fail(f"types has {stale[0]!r}, which nothing defines", hint="drop_unused keeps types in step")

    def check_symbols(self) -> None:
        for name in self.graph.symbols:
            if not name.isidentifier() or name in RESERVED:
                self.fail(
                    f"a dim may not be called {name!r}", hint="use an identifier that is no type, function or constant"
                )

    def check_dims(self, value: Any, where: str, op: str = "", source: Source | None = None) -> None:
        """Every symbol inside a dim or an attribute value must be declared, every divisor positive."""
        if isinstance(value, tuple):
            for part in value:
                self.check_dims(part, where, op, source)
        elif isinstance(value, Expr):
            if unknown := sorted(symbols_of(value) - self.graph.symbols.keys()):
                self.fail(f"{where} uses the symbol {unknown[0]!r}, which is not declared", op, source)
            for monomial, _ in value.terms:
                for atom in monomial:
                    if isinstance(atom, Call):
                        self.check_dims(atom.left, where, op, source)
                        self.check_dims(atom.right, where, op, source)
                        if atom.function == "floordiv" and upper(atom.right, self.graph.symbols) <= 0:
                            self.fail(f"{where} divides by {atom.right}, which is not positive", op, source)

    def check_type(self, kind: TensorType, where: str, op: str = "", source: Source | None = None) -> None:
        if DTYPES.get(kind.dtype.name) != kind.dtype:
            self.fail(f"{where} has the unknown element type {kind.dtype}", op, source)
        for extent in kind.shape:
            self.check_extent(extent, where, op, source)

    def check_extent(self, extent: Dim, where: str, op: str, source: Source | None) -> None:
        if isinstance(extent, bool) or not isinstance(extent, (int, Expr)):
            self.fail(f"{where} has the extent {extent!r}, expected an int or a dim", op, source)
        self.check_dims(extent, where, op, source)
        if upper(extent, self.graph.symbols) < 0:
            self.fail(f"{where} has the extent {extent}, which is negative", op, source)

    def define(self, value: str, kind: TensorType, op: str = "", source: Source | None = None) -> None:
        """One definition of `value`, whose annotation must be `kind`."""
        if not value:
            self.fail("defines a value without a name", op, source)
        if value in self.types:
            self.fail(f"%{value} is defined twice", op, source, "every value has one definition")
        declared = self.graph.types.get(value)
        if declared is None:
            self.fail(f"%{value} has no type, expected {kind}", op, source)
        if declared != kind:
            self.fail(f"%{value} is declared {declared}, expected {kind}", op, source, "types follow from the op's row")
        self.types[value] = kind

    def check_inputs(self) -> None:
        names = [port.name for port in self.graph.inputs]
        if twice := [name for name in names if names.count(name) > 1]:
            self.fail(f"two inputs are called {twice[0]!r}")
        for port in self.graph.inputs:
            if not port.name:
                self.fail("an input has no name")
            kind = self.graph.types.get(port.value)
            if kind is None:
                self.fail(f"input {port.name!r} (%{port.value}) has no type")
            self.check_type(kind, f"input {port.name!r}")
            self.check_known(kind, f"input {port.name!r}")
            self.define(port.value, kind)

    def check_known(self, kind: TensorType, where: str) -> None:
        """An input's extents are known before a run."""
        for extent in kind.shape:
            if late := sorted(symbols_of(extent) & self.runtime):
                self.fail(f"{where} has the extent {extent}, but {late[0]} is set during the run")

    def check_runtime_dims(self, node: Node) -> None:
        """One node sets a run-time dim, and what mentions the dim depends on a value of that node, so that no order of the
        nodes that respects values can run it earlier."""
        for name in dims_set(node):
            if name in self.behind:
                self.fail(f"sets the dim {name}, which another node sets", node.op, node.source)
            self.behind[name] = set(node.outputs)
        attrs = [value for child in (node, *node.body) for _, value in child.attrs]
        kinds = [
            self.graph.types[v].shape for child in (node, *node.body) for v in child.outputs if v in self.graph.types
        ]
        mentioned = mentions(attrs) | mentions(kinds)
        for name in self.runtime:
            depends = not self.behind.get(name, set()).isdisjoint((*node.used, *node.outputs))
            if depends:
                self.behind[name].update(node.outputs)
            elif name in mentioned and category(node) != "source":
                what = f"uses the dim {name} and reads nothing that depends on the node that sets it"
                self.fail(what, node.op, node.source)

    def check_outputs(self, visible: set[str]) -> None:
        names = [port.name for port in self.graph.outputs]
        if twice := [name for name in names if names.count(name) > 1]:
            self.fail(f"two outputs are called {twice[0]!r}")
        for port in self.graph.outputs:
            if not port.name:
                self.fail("an output has no name")
            if port.value not in visible:
                inner = "it is local to a cluster" if port.value in self.types else "nothing defines it"
                self.fail(f"output {port.name!r} is %{port.value}, but {inner}")

    def check_states(self) -> None:
        """What states are before a run: constant extents, and a weight of their own or zeros to start from."""
        taken = {value for node in self.graph.walk() for value in node.used} | {p.value for p in self.graph.outputs}
        for weight in self.graph.weights.values():
            taken |= set(weight.content.inputs) if isinstance(weight.content, Derived) else set()
        names: set[str] = set()
        for state in self.graph.states:
            where = f"state {state.name!r}"
            kind = self.graph.types.get(state.value)
            if not state.name or state.name in names:
                self.fail(f"the name {state.name!r} of a state is empty or given twice")
            if kind is None:
                self.fail(f"{where} (%{state.value}) has no type")
            self.check_type(kind, where)
            if self.inside is not None:
                if self.inside.attr("trip") in mentions(kind.shape) or state.initial:
                    self.fail(
                        f"{where} of type {kind} starts as %{state.initial}", hint="as the loop's input, of one type"
                    )
            elif any(isinstance(extent, Expr) for extent in kind.shape):
                self.fail(f"{where} has the symbolic type {kind}", hint="states have constant shapes")
            self.define(state.value, kind)
            if state.initial:
                if state.initial not in self.graph.weights:
                    self.fail(f"{where} starts as %{state.initial}, which is no weight")
                if (found := self.graph.weights[state.initial].type) != kind:
                    self.fail(f"{where} of type {kind} starts as %{state.initial} of type {found}")
                if state.initial in taken:
                    hint = "its bytes are kept for that alone"
                    self.fail(f"{where} starts as %{state.initial}, which something else reads", hint=hint)
            names.add(state.name)
            taken.add(state.initial)

    def check_updates(self, visible: set[str]) -> None:
        """What states become: values of their types."""
        for state in self.graph.states:
            if state.update not in visible:
                inner = "it is local to a cluster" if state.update in self.types else "nothing defines it"
                self.fail(f"state {state.name!r} becomes %{state.update}, but {inner}")
            if (found := self.types[state.update]) != (kind := self.types[state.value]):
                self.fail(f"state {state.name!r} of type {kind} becomes %{state.update} of type {found}")

    def check_weight(self, name: str, weight: Weight) -> None:
        if weight.name != name:
            self.fail(f"the weight under {name!r} is called {weight.name!r}")
        kind = weight.type
        self.check_type(kind, f"weight %{name}")
        if any(isinstance(extent, Expr) for extent in kind.shape):
            self.fail(f"weight %{name} has the symbolic type {kind}", hint="weights have constant shapes")
        self.define(name, kind)
        match weight.content:
            case FileBytes(file, offset, nbytes):
                if offset < 0 or nbytes != kind.file_bytes:
                    self.fail(
                        f"weight %{name} of type {kind} refers to {nbytes} bytes at {offset}, expected {kind.file_bytes}"
                    )
                path = PurePosixPath(file)
                if not file or path.is_absolute() or ".." in path.parts:
                    self.fail(f"weight %{name} refers to the file {file!r}", hint="files lie within the model's folder")
            case Inline(data):
                if len(data) != kind.nbytes:
                    self.fail(f"weight %{name} of type {kind} holds {len(data)} bytes, expected {kind.nbytes}")
            case Derived(op):
                if op not in OPS:
                    self.fail(f"weight %{name} is derived by the unknown op {op!r}")

    def check_derivations(self) -> None:
        """Bases exist, no weight derives from itself, and each row yields the declared type."""
        weights = self.graph.weights
        contents = {name: w.content for name, w in weights.items() if isinstance(w.content, Derived)}
        for name, content in contents.items():
            for base in content.inputs:
                if base and base not in weights:
                    self.fail(f"weight %{name} is derived from %{base}, which is no weight", op=content.op)
        pending = {name: {base for base in c.inputs if base in contents} for name, c in contents.items()}
        while ready := [name for name, bases in pending.items() if bases.isdisjoint(pending)]:
            for name in ready:
                del pending[name]
        if pending:
            self.fail(f"weight %{next(iter(pending))} is derived from itself")
        for name, content in contents.items():
            node = Node(content.op, content.inputs, (name,), content.attrs)
            if (kind := self.infer(node, self.types)[0]) != weights[name].type:
                self.fail(f"weight %{name} is declared {weights[name].type}, expected {kind}", op=content.op)

    def infer(self, node: Node, types: Mapping[str, TensorType]) -> list[TensorType]:
        """The row's output types; what it raises gets this verifier's level and pass."""
        try:
            return infer(node, types, self.graph.symbols)
        except VerifyError as error:
            raise VerifyError(
                f"{', '.join('%' + value for value in node.outputs)}: {error.what}",
                op=error.op or node.op,
                level=self.level,
                source=node.source,
                pass_name=self.pass_name,
                hint=error.hint,
            ) from error

    def check_node(self, node: Node, visible: set[str], legal: frozenset[str]) -> None:
        """`visible` is what the node may read; its outputs join it."""
        if node.op != "cluster" and node.op not in OPS:
            self.fail(f"unknown op {node.op!r}", node.op, node.source, "ops are the rows of ir/ops.py")
        if category(node) not in legal:
            where = "at the top" if legal is LEVELS[self.level].top else "inside a cluster"
            hint = f"allowed here: {', '.join(sorted(legal)) or 'nothing'}"
            self.fail(f"a {category(node)} op may not stand {where}", node.op, node.source, hint)
        for value in node.used:
            if value not in visible:
                why = "before or outside its definition" if value in self.graph.types else "but nothing defines it"
                self.fail(f"reads %{value}, {why}", node.op, node.source)
        names = [name for name, _ in node.attrs]
        if names != sorted(set(names)):
            self.fail(
                f"attributes {', '.join(names)} are not sorted, each once", node.op, node.source, "use make_attrs"
            )
        for name, attribute in node.attrs:
            self.check_attr(node, name, attribute)
        if node.op == "cluster":
            self.check_cluster(node)
        else:
            if node.body:
                self.fail("has a body, but only clusters may", node.op, node.source)
            if node.graph is not None:
                self.check_body(node, node.graph)
            kinds = self.infer(node, self.types)
            if len(kinds) != len(node.outputs):
                self.fail(f"has {len(node.outputs)} outputs, expected {len(kinds)}", node.op, node.source)
            for value, kind in zip(node.outputs, kinds, strict=True):
                self.check_type(kind, f"%{value}", node.op, node.source)
                self.define(value, kind, node.op, node.source)
        if self.runtime and legal is LEVELS[self.level].top:
            self.check_runtime_dims(node)
        visible.update(node.outputs)

    def check_attr(self, node: Node, name: str, value: Any) -> None:
        if not _is_attr(value):
            self.fail(f"attribute {name} = {value!r} has no text form", node.op, node.source)
        self.check_dims(value, f"attribute {name}", node.op, node.source)

    def check_cluster(self, node: Node) -> None:
        if not node.body or not node.outputs:
            self.fail("a cluster needs a body and outputs", node.op, node.source)
        if len(set(node.inputs)) != len(node.inputs) or "" in node.inputs:
            self.fail("a cluster lists each input once", node.op, node.source)
        if len(set(node.outputs)) != len(node.outputs):
            self.fail("a cluster lists each output once", node.op, node.source)
        visible = set(node.inputs)
        for child in node.body:
            if child.op == "cluster":
                self.fail("clusters do not nest", node.op, child.source)
            if outside := [value for value in child.used if value in self.types and value not in visible]:
                what = f"reads %{outside[0]}, which its cluster does not list as an input"
                self.fail(what, child.op, child.source)
            self.check_node(child, visible, LEVELS[self.level].body)
        for value in node.outputs:
            if value not in visible or value in node.inputs:
                self.fail(f"the cluster's body does not define its output %{value}", node.op, node.source)

    def check_body(self, node: Node, body: Graph) -> None:
        """What a loop repeats is a graph of the same level, whose dims are those around it and the one that counts trips."""
        if node.op != "loop":
            self.fail("has a graph, but only loops may", node.op, node.source)
        for name, bounds in body.symbols.items():
            if name == node.attr("trip"):
                if name in self.graph.symbols:
                    self.fail(f"counts trips by the dim {name}, which there is outside", node.op, node.source)
            elif self.graph.symbols.get(name) != bounds or name in self.runtime:
                hint = "a body may use dims that are known before a run"
                self.fail(f"has a body with the dim {name}", node.op, node.source, hint)
        if body.loops:
            self.fail("has a body that is laid out flat, but is none itself", node.op, node.source)
        _Verifier(body, self.level, self.pass_name, node).check()

    def check_loops(self) -> None:
        """Loops nest, hand on what they compute, and nothing else of them is seen outside."""
        graph = self.graph
        positions = {value: position for position, node in enumerate(graph.nodes) for value in node.outputs}
        firsts = {node.outputs[0]: position for position, node in enumerate(graph.nodes) if node.outputs}
        around: list[tuple[int, int]] = []
        before = -1
        for loop in graph.loops:
            where = f"loop {loop.trip}"
            if loop.trip not in graph.symbols or loop.trip in self.runtime:
                self.fail("is counted by no dim of its own", where)
            if loop.first not in firsts or loop.last not in firsts or firsts[loop.first] > firsts[loop.last]:
                self.fail(f"repeats %{loop.first} to %{loop.last}, which are no nodes in order", where)
            first, last = firsts[loop.first], firsts[loop.last]
            while around and around[-1][1] < first:
                around.pop()
            if first <= before or (around and around[-1][1] <= last):
                self.fail("lies only partly inside another, or begins or ends with it", where, hint="loops nest")
            around.append((first, last))
            before = first
            if not loop.carried or (loop.condition and loop.condition != loop.carried[0].value):
                self.fail(f"asks %{loop.condition}", where, hint="the first of what it carries")
            if loop.condition and self.types.get(loop.condition) != TensorType(bool_, ()):
                self.fail(f"asks %{loop.condition}, which is not one bool", where)
            for one in loop.carried:
                if not positions.get(one.value, first) < first <= positions.get(one.update, -1) <= last:
                    what = f"carries %{one.value} on as %{one.update}"
                    self.fail(what, where, hint="computed in front of the loop and inside it")
                if self.types[one.value] != self.types[one.update]:
                    self.fail(f"carries %{one.value} on as %{one.update}, of another type", where)
            self.check_seen(loop, first, last)

    def check_seen(self, loop: Loop, first: int, last: int) -> None:
        """Outside a loop nobody reads what it starts from, which it writes over, or what is inside but for its updates."""
        inside = {value for node in self.graph.nodes[first : last + 1] for value in node.outputs}
        hidden = inside - {one.update for one in loop.carried} | {one.value for one in loop.carried}
        others = [node for at, node in enumerate(self.graph.nodes) if not first <= at <= last]
        for node in others:
            if seen := hidden.intersection(node.used):
                self.fail(f"reads %{min(seen)}, which belongs to the loop {loop.trip}", node.op, node.source)
            mentioned = mentions([[v for _, v in row.attrs] for row in (node, *node.body)]) | mentions(
                [self.types[value].shape for row in (node, *node.body) for value in row.outputs]
            )
            if loop.trip in mentioned:
                self.fail(f"uses the dim {loop.trip}, which counts the trips of a loop", node.op, node.source)
        if seen := (inside | hidden).intersection(self.graph.output_values):
            self.fail(f"%{min(seen)} is an output, but its bytes belong to the loop {loop.trip}", f"loop {loop.trip}")


def mentions(values: Any) -> frozenset[str]:
    """The symbols inside dims, and tuples or lists of them; other things have none."""
    if isinstance(values, tuple | list):
        return frozenset().union(*map(mentions, values))
    return symbols_of(values) if isinstance(values, Expr) else frozenset()


def _is_attr(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_attr(part) for part in value)
    return isinstance(value, (bool, int, float, str, DType, Expr))
