"""Rules of operators of higher order: regions that are simply called, both branches of a condition with a choice between their
results, and loops, which are unrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ....ir.errors import Source
from ....ir.types import bool_
from ..known import Known
from ..unsupported import Unsupported
from .site import Site, Value

if TYPE_CHECKING:
    from .importer import Importer

#: What an operator gives: one value for each of its outputs.
Values = list[Any]
Control = Callable[["Importer", torch.fx.Node], Values]

#: By the operator's name as torch prints it.
CONTROL: dict[str, Control] = {}


def control(*names: str) -> Callable[[Control], Control]:
    """Register a function as the rule of operators of higher order."""

    def register(function: Control) -> Control:
        CONTROL.update(dict.fromkeys(names, function))
        return function

    return register


def _site(importer: Importer, node: torch.fx.Node) -> Site:
    return Site(importer, node, {}, Source(importer.file, node.name))


def _resolved(importer: Importer, arguments: Any) -> Values:
    """Arguments that are lists of values."""
    return [importer.resolved(argument) for argument in arguments]


@control("wrap_with_set_grad_enabled", "wrap_with_autocast")
def called(importer: Importer, node: torch.fx.Node) -> Values:
    """The body of a region that changes nothing of the values: its calls, as if they stood here."""
    place = next(k for k, a in enumerate(node.args) if isinstance(a, torch.fx.Node) and a.op == "get_attr")
    return importer.body(importer.values[node.args[place]], _resolved(importer, node.args[place + 1 :]))


def _condition(importer: Importer, node: torch.fx.Node, value: Any) -> bool | str:
    """A condition where it is known, else a scalar of the graph."""
    if isinstance(value, bool):
        return value
    site = _site(importer, node)
    if not isinstance(value, (Known, Value)) or site.type_of(value).dtype != bool_:
        raise Unsupported("the condition must be one bool")
    cells = value.list() if isinstance(value, Known) else None
    if cells is not None and len(cells) == 1 and isinstance(cells[0], (bool, int)):
        return bool(cells[0])
    return site.reshape(site.data(value), ())


@control("cond")
def cond(importer: Importer, node: torch.fx.Node) -> Values:
    """The branch taken, where the condition is known. Else both become part of the graph and the results are chosen from."""
    wanted, *branches, operands = node.args
    given, taken = _resolved(importer, operands), _condition(importer, node, importer.resolved(wanted))
    graphs = [importer.values[branch] for branch in branches]
    if isinstance(taken, bool):
        return importer.body(graphs[0 if taken else 1], given)
    then, otherwise = (importer.body(graph, given) for graph in graphs)
    site = _site(importer, node)
    return [_chosen(site, taken, a, b) for a, b in zip(then, otherwise, strict=True)]


def _chosen(site: Site, condition: str, first: Any, second: Any) -> Any:
    if not isinstance(first, (Known, Value)) or not isinstance(second, (Known, Value)):
        if first is second or first == second:
            return first
        raise Unsupported("the branches give numbers that differ, and which it is depends on the data")
    kinds = site.type_of(first), site.type_of(second)
    if kinds[0] != kinds[1]:
        raise Unsupported(f"the branches give {kinds[0]} and {kinds[1]}")
    if isinstance(first, Value) and first == second:
        return first
    return Value(site.emit("where", condition, site.data(first), site.data(second)))


@control("while_loop")
def while_loop(importer: Importer, node: torch.fx.Node) -> Values:
    """Unrolled, while the condition is known."""
    test, step, carried, additional = node.args
    values, rest = _resolved(importer, carried), _resolved(importer, additional)
    tests, body = importer.values[test], importer.values[step]
    while True:
        (found,) = importer.body(tests, [*values, *rest])
        going = _condition(importer, node, found)
        if not isinstance(going, bool):
            text = "when the loop ends depends on the data; loops are unrolled, so their trips must be known"
            raise Unsupported(text, "count the trips in a tensor that starts from a constant, or use torch.scan")
        if not going:
            return values
        values = importer.body(body, [*values, *rest])


@control("scan")
def scan(importer: Importer, node: torch.fx.Node) -> Values:
    """Unrolled along the first axis of what is scanned."""
    step, initial, scanned, additional = node.args
    carried, sources, rest = (_resolved(importer, part) for part in (initial, scanned, additional))
    rows: list[Values] = []
    for trip in range(_trips(importer, node, sources)):
        results = importer.body(importer.values[step], [*carried, *_rows(importer, node, sources, trip), *rest])
        carried = results[: len(carried)]
        rows.append(results[len(carried) :])
    return [*carried, *_stacked(importer, node, rows)]


@control("map_impl")
def map_(importer: Importer, node: torch.fx.Node) -> Values:
    """The body for each row of the first axis."""
    step, mapped, additional = node.args
    sources, rest = _resolved(importer, mapped), _resolved(importer, additional)
    body = importer.values[step]
    rows = [
        importer.body(body, [*_rows(importer, node, sources, trip), *rest])
        for trip in range(_trips(importer, node, sources))
    ]
    return _stacked(importer, node, rows)


def _trips(importer: Importer, node: torch.fx.Node, sources: Sequence[Any]) -> int:
    """The extent that is scanned."""
    extent = _site(importer, node).type_of(sources[0]).shape[0]
    if not isinstance(extent, int) or not extent:
        hint = f"fix it with --dim {extent}=N" if not isinstance(extent, int) else ""
        raise Unsupported(f"scans an extent {extent}; loops are unrolled, so their trips must be known", hint)
    return extent


def _rows(importer: Importer, node: torch.fx.Node, sources: Sequence[Any], trip: int) -> Values:
    site = _site(importer, node)
    rows = [site.viewed(site.part(source, 0, trip, 1), site.type_of(source).shape[1:]) for source in sources]
    return [row if isinstance(row, Known) else Value(row) for row in rows]


def _stacked(importer: Importer, node: torch.fx.Node, rows: Sequence[Values]) -> Values:
    site, found = _site(importer, node), []
    for column in zip(*rows, strict=True):
        shape = site.type_of(column[0]).shape
        found.append(Value(site.emit("concat", *(site.reshape(site.data(v), (1, *shape)) for v in column), axis=0)))
    return found
