"""Loops that stay loops: the body is imported once and becomes the graph of a `loop`; what it carries must keep its type.

What iterations give beside that is carried too: room for all of them, into which each puts its own row. Where the data says when
the loop ends, a flag of each iteration says which rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import onnx

from ....ir.builder import GraphBuilder
from ....ir.dims import Bounds, Dim, dim_max, dim_min, symbol, typical
from ....ir.errors import StratacError
from ....ir.graph import Derived, Graph, Node, Port, State, Weight, make_attrs
from ....ir.ops import dims_set
from ....ir.types import TensorType, bool_, i64
from ....ir.verify import mentions
from .. import contents
from ..known import Known, apply_cells
from ..scalars import Undecided
from ..unsupported import Unsupported
from .bodies import nodes_within
from .site import Site
from .structured import Value
from .trips import End, Trips

#: A loop whose iterations have up to so many nodes together is unrolled: then shapes may differ from one to the next, each is
#: simplified by itself, and nothing is counted or asked between them (a recurrence of 64 steps over 64 numbers took 47 us unrolled,
#: 57 us as a loop, and was compiled in 1.9 s and 0.3 s). Beyond it plans and compile times grow and little is gained.
FEW = 512

#: The inputs of a body in an iteration, from its number and the values carried.
Give = Callable[[Dim, Sequence[Value]], list[Value]]


class NotRepeated(Unsupported):
    """A loop has to be unrolled."""


@dataclass(frozen=True)
class Body:
    """A graph that is repeated. With `asks` its first result says whether there is a next iteration; then come the values carried,
    then rows, the last ones of which first where `backwards` says so."""

    graph: onnx.GraphProto
    give: Give
    asks: bool
    backwards: Sequence[bool] = ()


@dataclass(frozen=True)
class Results:
    """What is carried in the end, and rows, along the first axis."""

    carried: list[Value]
    rows: list[Value]


def repeat(site: Site, body: Body, trips: Trips, going: bool | str, carried: Sequence[Value]) -> Results | None:
    """A loop that stays one; None where it is short enough to be unrolled. Raises NotRepeated where it has to be.

    `going` is the condition in front of the first iteration, as far as it is known.
    """
    nodes = sum(1 for _ in nodes_within(body.graph))
    planned = trips.planned
    label = f"{site.op} {site.node.name or site.node.output[0]!r}"
    if planned is None or planned <= 0 or going is False:
        return None
    if planned * nodes <= FEW:
        text = f"{planned} times {nodes} nodes, at most {FEW} in all"
        site.builder.notes.append(f"{label} is unrolled: {text}")
        return None
    why = f"{label} is repeated: {planned} times {nodes} nodes, more than {FEW} in all"
    work = _Repeat(site, body, trips, planned, going, why)
    try:
        return work.run(carried, frozenset())
    except NotRepeated as error:
        first = error
    steps = work.induction(carried)
    if steps:
        try:
            return work.run(carried, frozenset(steps), steps)
        except NotRepeated as error:
            first = error
    site.builder.notes.append(f"{label} is unrolled: {first.what}")
    raise first


class _Repeat:
    """One loop under way. Its states are the condition, if there is one, then what is carried, flags, and rows."""

    def __init__(self, site: Site, body: Body, trips: Trips, planned: int, going: bool | str, why: str) -> None:
        self.site, self.body, self.trips, self.planned, self.going, self.why = site, body, trips, planned, going, why
        site.importer.repeated += 1
        self.trip = f"trip_{site.importer.repeated}"
        while self.trip in site.builder.symbols:
            self.trip = f"{self.trip}_"

    @property
    def counted(self) -> Dim | str | None:
        """What says how many iterations there are at most, where that is more than a number."""
        return self.trips.value or self.trips.most

    def position(self) -> Dim:
        """The number of an iteration, in a form that shows that it is one."""
        most, number = self.trips.most, symbol(self.trip)
        return number if most is None or isinstance(most, int) else dim_max(dim_min(number, most - 1), 0)

    def attempt(
        self, given: Sequence[Value], then: Callable[[list[Value]], tuple[list[str], list[str]]]
    ) -> tuple[Graph, tuple[str, ...]]:
        """The body's graph, and the values from outside that it reads. `then` goes on from the body's results: it gives the values
        carried as an iteration finds them, and as it leaves them. Nothing of it stays in the graph under construction."""
        importer, builder = self.site.importer, self.site.builder
        mark = importer.mark()
        last = self.planned - 1
        if self.trips.most is not None and not self.trips.value:
            last = max(min(typical(self.trips.most, builder.symbols), self.planned) - 1, 0)
        builder.symbols[self.trip] = Bounds(0, last, self.planned - 1)
        try:
            found = importer.body(self.site.node, self.body.graph, self.body.give(self.position(), given))
            befores, afters = then(found)
            weights, types, symbols = dict(builder.weights), dict(builder.types), dict(builder.symbols)
        except (Unsupported, Undecided, StratacError) as error:
            _, problem = importer.take_back(mark)
            if isinstance(error, NotRepeated):
                raise
            said = error.what if isinstance(error, (Unsupported, StratacError)) else "it depends on dims"
            raise NotRepeated(f"its iterations cannot be one graph: {problem or said}") from None
        nodes, _ = importer.take_back(mark)
        nodes = _needed(nodes, afters)
        defined = {value for node in nodes for value in node.outputs}
        read = dict.fromkeys([*(value for node in nodes for value in node.used), *afters])
        kept = _with_bases([value for value in read if value in weights], weights)
        outside = tuple(v for v in read if v not in defined and v not in weights and v not in befores)
        own = [*befores, *outside, *kept, *(value for node in nodes for value in node.outputs)]
        held = {value: types[value] for value in own}
        used = mentions([[value for _, value in node.attrs] for node in nodes]) | mentions(
            [kind.shape for kind in held.values()]
        )
        self.refuse_sizes(nodes, used)
        states = tuple(State(f"{k}", *pair) for k, pair in enumerate(zip(befores, afters, strict=True)))
        return Graph(
            "body",
            {name: bounds for name, bounds in symbols.items() if name in used or name == self.trip},
            tuple(Port(f"in{k}", value) for k, value in enumerate(outside)),
            (),
            {name: weights[name] for name in kept},
            nodes,
            held,
            builder.folder,
            frozenset(importer.tensors.absent),
            states=states,
        ), outside

    def refuse_sizes(self, nodes: Sequence[Node], used: frozenset[str]) -> None:
        """Raises NotRepeated where a body finds out sizes, or has such that a run finds out."""
        if any(dims_set(node) for node in nodes):
            raise NotRepeated("an iteration finds out how large something is")
        if found := sorted(used & {name for node in self.site.builder.nodes for name in dims_set(node)}):
            raise NotRepeated(f"it works on something whose size, {found[0]}, a run finds out")

    def placeholder(self, kind: TensorType) -> str:
        """A value that an iteration finds, of the graph under construction for as long as the body is imported."""
        value = self.site.builder.fresh("carried")
        self.site.builder.types[value] = kind
        return value

    def data(self, value: Value) -> str:
        if not isinstance(value, (str, Known)):
            raise NotRepeated("it carries or stacks what is no tensor of numbers")
        return self.site.data(value)

    def run(
        self, carried: Sequence[Value], fixed: frozenset[int], steps: dict[int, np.ndarray] | None = None
    ) -> Results:
        """`steps` are by how much the values numbered in `fixed`, which are known, grow in each iteration."""
        site, trips = self.site, self.trips
        starts = [self.data(value) for value in carried]
        kinds = [site.type_of(value) for value in starts]
        shape: dict[str, object] = {}  # what the body turned out to be
        befores: list[str] = []
        rows: list[TensorType] = []

        def known(k: int, more: int) -> Known:
            value = carried[k]
            assert isinstance(value, Known) and steps is not None
            number = symbol(self.trip) + more
            cells = apply_cells(lambda first, step: first + number * step, value.cells, steps[k])
            return Known(value.dtype, value.shape, cells)

        def then(found: list[Value]) -> tuple[list[str], list[str]]:
            asked, found = (found[0], found[1:]) if self.body.asks else (None, found)
            goes = True if asked is None else self.decided(asked)
            if goes is False:
                raise NotRepeated("it ends after one iteration")
            by_data = bool(trips.value) or isinstance(self.going, str) or goes is None
            sized = trips.most is not None and not isinstance(trips.most, int) and trips.least < self.planned
            shape.update(by_data=by_data, asks=by_data or sized)
            afters: list[str] = []
            if shape["asks"]:
                befores.insert(0, self.placeholder(TensorType(bool_, ())))
                afters.append(self.next(None if goes else asked, by_data))
            for k, (value, kind) in enumerate(zip(found, kinds, strict=False)):
                if k in fixed and not _same(value, known(k, 1)):
                    raise NotRepeated("a value it carries does not grow evenly")
                after = self.data(known(k, 1) if k in fixed else value)
                if site.type_of(after) != kind:
                    raise NotRepeated(f"it carries {kind} on as {site.type_of(after)}")
                afters.append(after)
            extent = self.planned if by_data or trips.most is None else trips.most
            extent = dim_max(extent, 0) if trips.least < 0 else extent
            if by_data:
                rows.append(TensorType(bool_, (extent,)))
                befores.append(self.placeholder(rows[-1]))
                afters.append(self.put(befores[-1], site.scalar(True, bool_), False))
            for k, value in enumerate(found[len(kinds) :]):
                row = self.data(value)
                kind = site.type_of(row)
                if self.trip in mentions(kind.shape):
                    raise NotRepeated(f"it stacks {kind}, which differs from one iteration to the next")
                rows.append(TensorType(kind.dtype, (extent, *kind.shape)))
                befores.append(self.placeholder(rows[-1]))
                afters.append(self.put(befores[-1], row, bool(self.body.backwards and self.body.backwards[k])))
            return befores, afters

        placeholders = [self.placeholder(kind) for kind in kinds]
        befores += placeholders
        given = [known(k, 0) if k in fixed else value for k, value in enumerate(placeholders)]
        try:
            body, outside = self.attempt(given, then)
        finally:
            for value in placeholders:
                site.builder.types.pop(value, None)
        asks, by_data = bool(shape["asks"]), bool(shape["by_data"])
        begin = [self.first(by_data)] if asks else []
        begin += starts + [site.data(contents.full(kind.dtype, kind.shape, 0)) for kind in rows]
        found = self.emit(body, (*begin, *outside), asks)
        return self.results(found, asks, by_data, len(kinds))

    def emit(self, body: Graph, inputs: Sequence[str], asks: bool) -> list[str]:
        """The loop in the graph; its outputs."""
        builder: GraphBuilder = self.site.builder
        names = tuple(builder.fresh() for _ in body.states)
        attrs = make_attrs({"trip": self.trip, "while": asks or None, "why": self.why})
        builder.add(Node("loop", tuple(inputs), names, attrs, self.site.source, graph=body))
        return list(names)

    def results(self, found: list[str], asks: bool, by_data: bool, count: int) -> Results:
        """What of a loop's outputs callers see; where the data ended it, the rows of iterations that ran."""
        site = self.site
        going, found = (found[0], found[1:]) if asks else ("", found)
        carried: list[Value] = list(found[:count])
        rows: list[Value] = list(found[count:])
        if not by_data:
            return Results(carried, rows)
        flags, rows = str(rows[0]), rows[1:]
        bounded = self.trips.most is None
        if not rows and not bounded:
            return Results(carried, rows)
        joined = site.emit("concat", flags, site.reshape(going, (1,)), axis=0) if bounded else flags
        dim = site.runtime_dim("trips", self.planned)
        end = End(dim, site.emit("nonzero", joined, count=dim), bounded)
        return Results([end.held(site, value) for value in carried], [end.cut(site, row, 0) for row in rows])

    # -- conditions and rows

    def decided(self, value: Value) -> bool | None:
        """A condition of the body, as far as it is known."""
        known = self.site.importer.evaluated(value) if isinstance(value, str) else value
        if not isinstance(known, Known):
            return None
        cells = known.list()
        return bool(cells[0]) if cells and len(cells) == 1 and isinstance(cells[0], (bool, int)) else None

    def next(self, asked: Value | None, by_data: bool) -> str:
        """Whether there is an iteration after this one."""
        terms = [self.site.reshape(self.data(asked), ())] if asked is not None else []
        terms += self.below(symbol(self.trip) + 1, by_data)
        return self.site.chain("and", terms) if terms else self.site.scalar(True, bool_)

    def first(self, by_data: bool) -> str:
        """Whether there is one at all."""
        terms = [self.going] if isinstance(self.going, str) else []
        terms += self.below(0, by_data)
        return self.site.chain("and", terms) if terms else self.site.scalar(True, bool_)

    def below(self, number: Dim, by_data: bool) -> list[str]:
        """Whether iteration `number` is one of those counted, where something counts them during a run."""
        count = self.counted
        if count is None or (isinstance(count, int) and not by_data):
            return []
        limit = count if isinstance(count, str) else self.site.data(contents.scalar(i64, count))
        return [self.site.emit("lt", self.site.scalar(number, i64), limit)]

    def put(self, room: str, row: str, backwards: bool) -> str:
        """The rows so far with one more."""
        kind = self.site.type_of(row)
        number = self.position()
        if backwards:
            number = self.site.type_of(room).shape[0] - 1 - number
        index = self.site.data(contents.vector(i64, [number]))
        return self.site.emit("scatter", room, index, self.site.reshape(row, (1, *kind.shape)))

    # -- values that grow evenly

    def induction(self, carried: Sequence[Value]) -> dict[int, np.ndarray]:
        """By how much known whole numbers that are carried grow in the first iteration: perhaps in all. Sizes may then depend on
        them, as on the iteration's number."""
        steps: dict[int, np.ndarray] = {}

        def then(found: list[Value]) -> tuple[list[str], list[str]]:
            found = found[1:] if self.body.asks else found
            for k, (before, after) in enumerate(zip(carried, found, strict=False)):
                if not isinstance(before, Known) or not isinstance(after, Known) or before.type != after.type:
                    continue
                numbers = (
                    not before.dtype.is_float and before.dtype != bool_ and before.cells.shape == after.cells.shape
                )
                if numbers:
                    steps[k] = apply_cells(lambda one, other: other - one, before.cells, after.cells)
            raise NotRepeated("only the growth is looked at")

        with suppress(NotRepeated):
            self.attempt(list(carried), then)
        return {k: step for k, step in steps.items() if self.trip not in mentions(list(step.flat))}


def _needed(nodes: Sequence[Node], values: Sequence[str]) -> tuple[Node, ...]:
    """The nodes that values are computed by."""
    live, kept = set(values), []
    for node in reversed(nodes):
        if not live.isdisjoint(node.outputs):
            live.update(node.used)
            kept.append(node)
    return tuple(reversed(kept))


def _with_bases(names: Sequence[str], weights: Mapping[str, Weight]) -> list[str]:
    """Weights and those they are derived from."""
    found = dict.fromkeys(names)
    pending = list(names)
    while pending:
        content = weights[pending.pop()].content
        if isinstance(content, Derived):
            fresh = [value for value in content.inputs if value and value not in found]
            found |= dict.fromkeys(fresh)
            pending += fresh
    return list(found)


def _same(value: Value, other: Known) -> bool:
    if not isinstance(value, Known) or value.type != other.type or value.cells.shape != other.cells.shape:
        return False
    return bool(np.all(np.equal(value.cells, other.cells)))
