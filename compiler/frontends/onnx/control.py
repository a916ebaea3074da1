"""Rules of control flow: `If` decided here or by a choice between both branches; `Loop`, `Scan` and `SequenceMap` unrolled."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from ....ir.dims import Dim, Expr
from ....ir.errors import VerifyError
from ....ir.types import bool_, i64
from .. import contents
from ..known import Known
from ..scalars import integer
from ..unsupported import Consequence, Unsupported
from .bodies import plain_name
from .merge import Differs, merge
from .registry import rule
from .sequences import items_of, join, rank_of, without_axis
from .site import Site
from .structured import Items, Strings, Value


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
    """The branch taken, where the bounds of the dims decide the condition. Else both are computed and the results chosen from."""
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
        text = "depends on the data, so both branches are computed, and one cannot be"
        raise Unsupported(f"the condition {text}", _hint(needs), needs=needs) from None
    try:
        return [merge(site, chosen, a, b) for a, b in zip(*pairs, strict=True)]
    except Differs as error:
        text = f"the condition depends on the data, and the branches give values of different types: {error.what}"
        raise Unsupported(text, _hint(needs), needs=needs) from None


# -- loops


class _Stacks:
    """What the iterations of a loop give beside the values they carry: one list for each output."""

    def __init__(self, site: Site, graph: onnx.GraphProto, count: int) -> None:
        self.site, self.graph = site, graph
        self.rows: list[list[Value]] = [[] for _ in range(count)]

    def add(self, values: Sequence[Value]) -> None:
        for row, value in zip(self.rows, values, strict=True):
            row.append(value)

    def stacked(self, index: int, axis: int = 0, backwards: bool = False, sample: Value | None = None) -> Value:
        """One output of all iterations, stacked along an axis. Without any, `sample` has the type of one."""
        row = self.rows[index][::-1] if backwards else self.rows[index]
        label = plain_name(self.graph.output[len(self.graph.output) - len(self.rows) + index].name)
        for value in row or (sample,):
            if not isinstance(value, (str, Known, Strings)):
                raise Unsupported(f"stacks {label!r}, which is no tensor")
        try:
            if row:
                rank = rank_of(self.site, row[0]) + 1
                return join(self.site, tuple(row), self.site.axis(axis, rank), True)
        except VerifyError as error:
            raise Unsupported(f"cannot stack {label!r} of all iterations: {error}") from None
        assert sample is not None
        return _none_of(self.site, sample, self.site.axis(axis, rank_of(self.site, sample) + 1))


def _none_of(site: Site, sample: Value, axis: int) -> Value:
    """No values of a type, stacked."""
    if isinstance(sample, Strings):
        shape = (*sample.type.shape[:axis], 0, *sample.type.shape[axis:])
        value = site.data(contents.full(sample.type.dtype, shape, 0))
        return Strings(value, site.type_of(value))
    assert isinstance(sample, (str, Known))
    type = site.type_of(sample)
    return contents.full(type.dtype, (*type.shape[:axis], 0, *type.shape[axis:]), 0)


def _trips(site: Site) -> int | None:
    """The greatest number of iterations of a Loop; None where it gives none."""
    if not site.has(0):
        return None
    found = integer(site.number(0, "the number of iterations"))
    if isinstance(found, Expr):
        hint = " ".join(f"--dim {name}=N" for name in sorted(site.importer.signature.symbols))
        raise Unsupported(
            f"the number of iterations, {found}, depends on dims that are not fixed; loops are unrolled", hint
        )
    return max(found, 0)


@rule("Loop")
def loop(site: Site) -> list[Value]:
    """Unrolled. While the condition is known it ends the loop here; once it depends on the data, further iterations are computed
    and their results chosen or not."""
    body, limit = _graph(site, "body"), _trips(site)
    condition: Value = site.value(1) if site.has(1) else contents.scalar(bool_, 1)
    carried = [site.value(i) for i in range(2, site.count)]
    count = len(carried)
    _fits("body", body, count + 2, count + 1)
    stacks = _Stacks(site, body, len(body.output) - count - 1)
    done = 0
    active = ""  # whether the iterations so far went on, where that depends on the data
    while limit is None or done < limit:
        taken = _decided(site, condition)
        if taken is False:
            break
        if taken is None:
            _check_predicated(site, limit, stacks)
            found = _condition(site, condition)
            active = site.emit("and", active, found) if active else found
        given = (contents.scalar(i64, done), condition, *carried)
        results = site.importer.body(site.node, body, given)
        condition, fresh = results[0], results[1 : count + 1]
        if active:
            try:
                carried = [merge(site, active, a, b) for a, b in zip(fresh, carried, strict=True)]
            except Differs as error:
                needs = _needed(site, 1) if site.has(1) else ()
                text = "when the loop ends depends on the data, and a carried value changes its type"
                raise Unsupported(f"{text}: {error.what}", _hint(needs), needs=needs) from None
        else:
            carried = fresh
        stacks.add(results[count + 1 :])
        done += 1
    return [*carried, *_all_stacked(site, body, stacks, done, (contents.scalar(i64, 0), condition, *carried))]


def _check_predicated(site: Site, limit: int | None, stacks: _Stacks) -> None:
    """What a loop that ends as the data decides may not have yet."""
    needs = _needed(site, 1) if site.has(1) else ()
    if limit is None:
        text = "when the loop ends depends on the data, and there is no greatest number of iterations"
        raise Unsupported(text, _hint(needs) or "give the model's Loop a trip count", needs=needs)
    if stacks.rows:
        text = (
            "when the loop ends depends on the data: so would the extent of what it stacks, which is not supported yet"
        )
        raise Unsupported(text, _hint(needs), needs=needs)


def _all_stacked(site: Site, body: onnx.GraphProto, stacks: _Stacks, done: int, given: Sequence[Value]) -> list[Value]:
    """The stacked outputs. Without an iteration the body is imported once for its types; nothing of it is computed."""
    samples: list[Value] = []
    if not done and stacks.rows:
        samples = site.importer.body(site.node, body, given)[-len(stacks.rows) :]
    return [stacks.stacked(k, sample=samples[k] if samples else None) for k in range(len(stacks.rows))]


@rule("Scan")
def scan(site: Site) -> list[Value]:
    """Unrolled; before opset 9 the first axis is a batch, the second the one that is scanned."""
    body, scanned = _graph(site, "body"), site.get_int("num_scan_inputs")
    old = site.opset < 9
    first = 1 if old else 0
    states = site.count - first - scanned
    if scanned < 1 or states < 0:
        raise Unsupported(f"scans {scanned} of {site.count} inputs")
    if old and site.has(0):
        raise Unsupported("sequence_lens is not supported", "convert the model to opset 9 or later")
    _fits("body", body, states + scanned, states)
    inputs = [site.value(i) for i in range(first, site.count)]
    if not old:
        return _scan(site, body, inputs[:states], inputs[states:], 0)
    batch = _extent(site, inputs[0], 0)
    rows = [
        _scan(
            site,
            body,
            [_row(site, value, 0, b) for value in inputs[:states]],
            [_row(site, v, 0, b) for v in inputs[states:]],
            0,
        )
        for b in range(batch)
    ]
    return [join(site, tuple(row[k] for row in rows), 0, True) for k in range(len(body.output))]


def _scan(site: Site, body: onnx.GraphProto, states: list[Value], sources: list[Value], axis: int) -> list[Value]:
    count, outputs = len(sources), len(body.output) - len(states)
    name = "directions" if site.opset < 9 else "scan_input_directions"
    directions = _listed(site, name, count)
    axes = [
        site.axis(axis, rank_of(site, value))
        for axis, value in zip(_listed(site, "scan_input_axes", count), sources, strict=True)
    ]
    out_axes, out_directions = (_listed(site, f"scan_output_{what}", outputs) for what in ("axes", "directions"))
    extents = {_extent(site, value, axis) for value, axis in zip(sources, axes, strict=True)}
    if len(extents) != 1:
        raise Unsupported(f"scans inputs of different extents: {', '.join(map(str, sorted(extents)))}")
    (trips,) = extents
    stacks = _Stacks(site, body, outputs)
    for trip in range(trips):
        rows = [
            _row(site, value, axis, trips - 1 - trip if backwards else trip)
            for value, axis, backwards in zip(sources, axes, directions, strict=True)
        ]
        results = site.importer.body(site.node, body, [*states, *rows])
        states = results[: len(states)]
        stacks.add(results[len(states) :])
    if not trips and outputs:
        raise Unsupported("scans nothing: the types of its outputs are not known")
    return [*states, *(stacks.stacked(k, out_axes[k], bool(out_directions[k])) for k in range(outputs))]


def _listed(site: Site, name: str, count: int) -> list[int]:
    """An attribute of one number for each input or output, zeros by default."""
    found = list(site.get_ints(name) or ()) or [0] * count
    if len(found) != count:
        raise Unsupported(f"{name} has {len(found)} numbers for {count}")
    return found


def _extent(site: Site, value: Value, axis: int) -> int:
    if not isinstance(value, (str, Known)):
        raise Unsupported("scans tensors of numbers")
    shape = site.type_of(value).shape
    if not shape:
        raise Unsupported("scans a scalar")
    extent = shape[axis]
    if not isinstance(extent, int):
        raise Unsupported(
            f"scans an extent {extent}, which is not fixed; scans are unrolled", f"fix it with --dim {extent}=N"
        )
    return extent


def _row(site: Site, value: Value, axis: int, position: Dim) -> Value:
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
