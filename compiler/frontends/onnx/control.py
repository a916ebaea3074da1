"""Rules of control flow: `If` decided here or by a choice between both branches; `Loop`, `Scan` and `SequenceMap` unrolled."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from ....ir.dims import Dim, Expr
from ....ir.types import bool_, i64
from .. import contents
from ..known import Known
from ..scalars import integer
from ..unsupported import UNROLLED, Consequence, TooMany, Unsupported
from .merge import Differs, merge
from .registry import rule
from .repeated import Body, NotRepeated, repeat
from .sequences import items_of, join, rank_of, without_axis
from .site import Site
from .structured import Items, Value
from .trips import Endless, Stacks, Trips


def _graph(site: Site, name: str) -> onnx.GraphProto:
    attribute = site.attribute(name)
    if attribute is None or not attribute.HasField("g"):
        raise Unsupported(f"lacks the graph {name!r}")
    return attribute.g


def _fits(what: str, graph: onnx.GraphProto, inputs: int, least: int, most: int | None = None) -> None:
    """A body takes `inputs` values and gives `least` or more."""
    if len(graph.input) != inputs or not least <= len(graph.output) <= (most or len(graph.output)):
        raise Unsupported(
            f"{what} takes {len(graph.input)} and gives {len(graph.output)} values, not {inputs} and {least}"
        )


# -- conditions


def _decided(site: Site, value: Value) -> bool | None:
    """What a condition is, where that is known; None where it depends on the data. Raises Unsupported for what is no condition."""
    if isinstance(value, str):
        found = site.importer.evaluated(value)
        if found is None:
            return None
        value = found
    if not isinstance(value, Known) or value.dtype != bool_ or value.type.elements != 1:
        raise Unsupported(
            f"the condition must be one bool, got {value.type if isinstance(value, Known) else 'no tensor'}"
        )
    cells = value.list()
    return None if cells is None or isinstance(cells[0], Expr) else bool(cells[0])


def _condition(site: Site, value: Value) -> str:
    """A condition as a scalar of the graph."""
    assert isinstance(value, (str, Known))
    data = site.data(value)
    if site.type_of(data).dtype != bool_ or site.type_of(data).elements != 1:
        raise Unsupported(f"the condition must be one bool, got {site.type_of(data)}")
    return site.reshape(data, ())


def _needed(site: Site, index: int) -> tuple[str, ...]:
    """The inputs of the model that an input depends on."""
    return site.importer.needs(site.node.input[index])


def _hint(needs: Sequence[str]) -> str:
    return "give its value when compiling: " + " ".join(f"--constant {n}=VALUE" for n in needs) if needs else ""


@rule("If")
def if_(site: Site) -> list[Value]:
    """The branch taken, where the bounds of the dims decide the condition. Else both are imported and the results chosen from; what
    only the other one needs, a run skips."""
    otherwise, then = _graph(site, "else_branch"), _graph(site, "then_branch")
    for what, graph in (("then_branch", then), ("else_branch", otherwise)):
        _fits(what, graph, 0, len(site.node.output), len(site.node.output))
    condition = site.value(0)
    taken = _decided(site, condition)
    if taken is not None:
        return site.importer.body(site.node, then if taken else otherwise, ())
    needs, chosen = _needed(site, 0), _condition(site, condition)
    try:
        pairs = [site.importer.body(site.node, graph, ()) for graph in (then, otherwise)]
    except Consequence:
        text = "depends on the data, so both branches are needed, and one cannot be computed"
        raise Unsupported(f"the condition {text}", _hint(needs), needs=needs) from None
    try:
        return [merge(site, chosen, a, b) for a, b in zip(*pairs, strict=True)]
    except Differs as error:
        text = f"the condition depends on the data, and the branches give values of different types: {error.what}"
        raise Unsupported(text, _hint(needs), needs=needs) from None


# -- loops

#: So many iterations stand for no number of them: the condition alone ends the loop.
ENDLESS = 1 << 31


def _limit(site: Site) -> Trips:
    """What a Loop's first input says."""
    if not site.has(0):
        return Trips(site, None)
    if site.importer.required(site.node.input[0]) is None:
        if not site.importer.trips:
            site.number(0, "the number of iterations")  # says which inputs it depends on
        value = site.x(0)
        if site.type_of(value).dtype != i64 or site.type_of(value).elements != 1:
            raise Unsupported(f"the number of iterations must be one i64, got {site.type_of(value)}")
        return Trips(site, None, site.reshape(value, ()))
    found = integer(site.number(0, "the number of iterations"))
    if not isinstance(found, Expr) and found >= ENDLESS:
        return Trips(site, None)
    return Trips(site, found if isinstance(found, Expr) else max(found, 0))


@rule("Loop")
def loop(site: Site) -> list[Value]:
    """Repeated where it is long (`repeated`), else unrolled: where dims or data say how often it runs, as many iterations as there
    may be are made ready, and a run skips those behind the end."""
    body, trips = _graph(site, "body"), _limit(site)
    condition: Value = site.value(1) if site.has(1) else contents.scalar(bool_, 1)
    given = [site.value(i) for i in range(2, site.count)]
    count = len(given)
    _fits("body", body, count + 2, count + 1)
    going = contents.scalar(bool_, 1)  # or an iteration would not run
    kept = Body(body, lambda number, values: [contents.scalar(i64, number), going, *values], asks=True)
    reason = ""
    try:
        found = repeat(site, kept, trips, _going(site, condition), given)
        if found is not None:
            return [*found.carried, *found.rows]
    except NotRepeated as error:
        reason = error.what
    try:
        return _unrolled(site, body, trips, condition, given)
    except TooMany as error:
        raise _neither(error, reason) from None


def _neither(error: TooMany, reason: str) -> Unsupported:
    """A loop that can be neither unrolled nor repeated."""
    return Unsupported(f"{error.what}; it cannot be repeated instead: {reason}" if reason else error.what, error.hint)


def _unrolled(site: Site, body: onnx.GraphProto, trips: Trips, condition: Value, carried: list[Value]) -> list[Value]:
    """A Loop as copies of its body."""
    count = len(carried)
    stacks = Stacks(site, body, len(body.output) - count - 1)
    needs = _needed(site, 1) if site.has(1) else ()
    done = 0
    try:
        while trips.goes(done, _going(site, condition)):
            given = (contents.scalar(i64, trips.position(done)), condition, *carried)
            results = site.importer.body(site.node, body, given)
            condition, fresh = results[0], results[1 : count + 1]
            carried = _carried(site, trips.active, fresh, carried)
            stacks.add(results[count + 1 :], trips.active)
            done += 1
    except Differs as error:
        text = "when the loop ends depends on the data, and a carried value changes its type"
        raise Unsupported(f"{text}: {error.what}", _hint(needs), needs=needs) from None
    except Endless as error:
        raise Unsupported(error.what, _hint(needs) or "--trips N gives one", needs=needs) from None
    rows = _all_stacked(site, body, stacks, done, (contents.scalar(i64, 0), condition, *carried))
    if done and (rows or trips.further) and (end := trips.end()) is not None:
        carried = [end.held(site, value) for value in carried]
        rows = [end.cut(site, row, 0) for row in rows]
    return [*carried, *rows]


def _going(site: Site, condition: Value) -> bool | str:
    """A condition as far as it is known."""
    taken = _decided(site, condition)
    return _condition(site, condition) if taken is None else taken


def _carried(site: Site, active: str, fresh: Sequence[Value], before: Sequence[Value]) -> list[Value]:
    """The values behind an iteration. Raises Differs."""
    return [merge(site, active, a, b) for a, b in zip(fresh, before, strict=True)] if active else list(fresh)


def _all_stacked(site: Site, body: onnx.GraphProto, stacks: Stacks, done: int, given: Sequence[Value]) -> list[Value]:
    """The stacked outputs. Without an iteration the body is imported once for its types; nothing of it is computed."""
    samples: list[Value] = []
    if not done and stacks.rows:
        samples = site.importer.body(site.node, body, given)[-len(stacks.rows) :]
    return [stacks.stacked(k, sample=samples[k] if samples else None) for k in range(len(stacks.rows))]


@rule("Scan")
def scan(site: Site) -> list[Value]:
    """Like `Loop`; before opset 9 the first axis is a batch, the second the one that is scanned, of which each sequence of the
    batch may have a length of its own."""
    body, scanned = _graph(site, "body"), site.get_int("num_scan_inputs")
    old = site.opset < 9
    first = 1 if old else 0
    states = site.count - first - scanned
    if scanned < 1 or states < 0:
        raise Unsupported(f"scans {scanned} of {site.count} inputs")
    _fits("body", body, states + scanned, states)
    inputs = [site.value(i) for i in range(first, site.count)]
    if not old:
        return _scan(site, body, inputs[:states], inputs[states:])
    lengths = _lengths(site, inputs[0]) if site.has(0) else ""
    rows = []
    for b in range(_fixed(site, _extent(site, inputs[0], 0))):
        own = [_row(site, value, 0, b) for value in inputs]
        length = site.reshape(site.slice(lengths, 0, b, 1), ()) if lengths else ""
        rows.append(_scan(site, body, own[:states], own[states:], length))
    return [join(site, tuple(row[k] for row in rows), 0, True) for k in range(len(body.output))]


def _lengths(site: Site, batch: Value) -> str:
    """Of each sequence of a batch."""
    found = site.cast(site.x(0), i64)
    if site.type_of(found).shape != (_extent(site, batch, 0),):
        raise Unsupported(f"sequence_lens must be one number for each sequence, got {site.type_of(found)}")
    if any(site.get_ints("directions") or ()):
        raise Unsupported("sequences of different lengths are scanned forwards only")
    return found


def _scan(
    site: Site, body: onnx.GraphProto, states: list[Value], sources: list[Value], length: str = ""
) -> list[Value]:
    """One scan; behind the iteration number `length`, where that is given, states stay and outputs are zeros."""
    count, outputs = len(sources), len(body.output) - len(states)
    directions = _listed(site, "directions" if site.opset < 9 else "scan_input_directions", count)
    axes = [
        site.axis(axis, rank_of(site, value))
        for axis, value in zip(_listed(site, "scan_input_axes", count), sources, strict=True)
    ]
    out_axes, out_directions = (_listed(site, f"scan_output_{what}", outputs) for what in ("axes", "directions"))
    extents = {_extent(site, value, axis) for value, axis in zip(sources, axes, strict=True)}
    if len(extents) != 1:
        raise Unsupported(f"scans inputs of different extents: {', '.join(map(str, sorted(extents, key=str)))}")
    (extent,) = extents
    trips = Trips(site, extent)
    if not trips.least and trips.planned:
        text = f"scans an extent {extent}, of which there may be none"
        raise Unsupported(text, f"give it a least size of 1, or fix it, with --dim {extent}=1:TYPICAL:MAX")
    reason = ""
    if not length:
        try:
            found = _repeated(site, body, trips, states, sources, axes, directions, out_axes, out_directions)
            if found is not None:
                return found
        except NotRepeated as error:
            reason = error.what
    stacks = Stacks(site, body, outputs)
    done = 0
    while trips.goes(done, True):
        rows = [
            _row(site, value, axis, extent - 1 - trips.position(done) if backwards else trips.position(done))
            for value, axis, backwards in zip(sources, axes, directions, strict=True)
        ]
        try:
            results = site.importer.body(site.node, body, [*states, *rows])
        except TooMany as error:
            raise _neither(error, reason) from None
        active = site.emit("lt", site.scalar(done, i64), length) if length else trips.active
        states = _carried(site, active, results[: len(states)], states)
        stacks.add(results[len(states) :], active)
        done += 1
    samples = _samples(site, body, states, sources, axes) if not done and outputs else [None] * outputs
    rows_found = [stacks.stacked(k, out_axes[k], bool(out_directions[k]), samples[k]) for k in range(outputs)]
    if rows_found and (end := trips.end()) is not None:
        rows_found = [
            end.cut(site, row, site.axis(axis, rank_of(site, row)), bool(backwards))
            for row, axis, backwards in zip(rows_found, out_axes, out_directions, strict=True)
        ]
    return [*states, *rows_found]


def _repeated(
    site: Site,
    body: onnx.GraphProto,
    trips: Trips,
    states: Sequence[Value],
    sources: Sequence[Value],
    axes: Sequence[int],
    directions: Sequence[int],
    out_axes: Sequence[int],
    out_directions: Sequence[int],
) -> list[Value] | None:
    """A scan that stays a loop, if it is long. Raises NotRepeated."""
    extent = _extent(site, sources[0], axes[0])

    def give(number: Dim, values: Sequence[Value]) -> list[Value]:
        rows = [
            _row(site, value, axis, extent - 1 - number if backwards else number)
            for value, axis, backwards in zip(sources, axes, directions, strict=True)
        ]
        return [*values, *rows]

    found = repeat(site, Body(body, give, False, [bool(d) for d in out_directions]), trips, True, states)
    if found is None:
        return None
    rows: list[Value] = []
    for row, axis in zip(found.rows, out_axes, strict=True):
        assert isinstance(row, str)
        rank = site.type_of(row).rank
        perm = list(range(1, rank))
        perm.insert(site.axis(axis, rank), 0)
        rows.append(site.transpose(row, perm))
    return [*found.carried, *rows]


def _samples(
    site: Site, body: onnx.GraphProto, states: Sequence[Value], sources: Sequence[Value], axes: Sequence[int]
) -> list[Value | None]:
    """What a body gives beside its states, for the types: that of rows of zeros, where there are none to scan."""
    rows: list[Value] = []
    for value, axis in zip(sources, axes, strict=True):
        assert isinstance(value, (str, Known))
        type = site.type_of(value)
        rows.append(contents.full(type.dtype, (*type.shape[:axis], *type.shape[axis + 1 :]), 0))
    return list(site.importer.body(site.node, body, [*states, *rows])[len(states) :])


def _listed(site: Site, name: str, count: int) -> list[int]:
    """An attribute of one number for each input or output, zeros by default."""
    found = list(site.get_ints(name) or ()) or [0] * count
    if len(found) != count:
        raise Unsupported(f"{name} has {len(found)} numbers for {count}")
    return found


def _extent(site: Site, value: Value, axis: int) -> Dim:
    if not isinstance(value, (str, Known)):
        raise Unsupported("scans tensors of numbers")
    shape = site.type_of(value).shape
    if axis >= len(shape):
        raise Unsupported(f"scans axis {axis} of {site.type_of(value)}")
    return shape[axis]


def _fixed(site: Site, extent: Dim) -> int:
    if not isinstance(extent, int):
        raise Unsupported(f"scans a batch of {extent}, which is not fixed", f"fix it with --dim {extent}=N")
    if not 1 <= extent <= UNROLLED:
        raise Unsupported(f"scans a batch of {extent}; it may be of 1 to {UNROLLED} sequences")
    return extent


def _row(site: Site, value: Value, axis: int, position: Dim) -> Value:
    extent = _extent(site, value, axis)
    if isinstance(position, int) and isinstance(extent, int) and position >= extent:
        raise Unsupported(f"scans row {position} of an extent {extent}")
    assert isinstance(value, (str, Known))
    return without_axis(site, site.part(value, axis, position, 1), axis)


@rule("SequenceMap")
def sequence_map(site: Site) -> list[Value]:
    """The body for each element; further inputs are sequences of the same length, or tensors."""
    body, items = _graph(site, "body"), items_of(site)
    _fits("body", body, site.count, len(site.node.output), len(site.node.output))
    inputs = [site.value(i) for i in range(site.count)]
    for value in inputs:
        if isinstance(value, Items) and len(value.items) != len(items):
            raise Unsupported(f"maps sequences of {len(items)} and {len(value.items)} elements")
    rows = [
        site.importer.body(site.node, body, [v.items[k] if isinstance(v, Items) else v for v in inputs])
        for k in range(len(items))
    ]
    return [Items(tuple(row[k] for row in rows)) for k in range(len(body.output))]
