"""The verifier of a plan's regions: they nest, threads agree on their conditions, and nobody uses what they may have left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from .dims import symbols_of
from .guards import choices, mentioned
from .ops import dims_set
from .placed import Placed
from .plan import Arg, Plan, Region
from .types import TensorType, bool_

Fail = Callable[..., NoReturn]


def regions_at(plan: Plan) -> list[tuple[Region, ...]]:
    """For each call the regions that it lies in, the outer ones first."""
    found: list[list[Region]] = [[] for _ in plan.calls]
    for region in plan.regions:
        for number in range(max(region.first, 0), min(region.last + 1, len(found))):
            found[number].append(region)
    return [tuple(regions) for regions in found]


def asked_at(plan: Plan) -> list[tuple[Arg, ...]]:
    """For each call the conditions of the regions that it lies in, each once. They are there as long as the regions."""
    return [tuple(dict.fromkeys(region.condition for region in regions)) for regions in regions_at(plan)]


def check_regions(plan: Plan, fail: Fail) -> None:
    """What the plan alone tells. Calls `fail(what, where, hint)` for the first rule broken."""
    around: list[Region] = []
    for number, region in enumerate(plan.regions):
        where = f"region {number} (calls {region.first}:{region.last})"
        if not 0 <= region.first <= region.last < len(plan.calls):
            fail(f"the plan has {len(plan.calls)} calls", where)
        before = plan.regions[number - 1] if number else region
        if (before.first, -before.last) > (region.first, -region.last):
            fail(f"stands behind one of calls {before.first}:{before.last}", where, "outer and earlier ones come first")
        while around and around[-1].last < region.first:
            around.pop()
        if around and around[-1].last < region.last:
            fail(f"lies only partly in that of calls {around[-1].first}:{around[-1].last}", where, "regions nest")
        around.append(region)
        if region.first and not plan.calls[region.first].barrier:
            fail("begins without a barrier", where, "all threads see the same condition")
        _check_condition(plan, region, where, fail)
    _check_results(plan, fail)


def _check_condition(plan: Plan, region: Region, where: str, fail: Fail) -> None:
    condition = region.condition
    lists = {
        "input": [port.type for port in plan.inputs],
        "output": [port.type for port in plan.outputs],
        "buffer": [buffer.type for buffer in plan.buffers],
    }
    types: list[TensorType] = lists.get(condition.space, [])
    if not 0 <= condition.index < len(types):
        fail(f"asks {condition.space} {condition.index}", where, "an input, output or buffer that exists")
    if types[condition.index].dtype != bool_ or types[condition.index].elements != 1:
        fail(f"asks a value of type {types[condition.index]}", where, "one bool")
    if condition.space != "input" and not any(condition in call.args for call in plan.calls[: region.first]):
        fail(f"asks {condition.space} {condition.index}, which no call before has written", where)


def _check_results(plan: Plan, fail: Fail) -> None:
    """Outputs, the dims they have and what states become are found whatever the conditions are; a condition where it is asked."""
    inside = regions_at(plan)
    writers = _writers(plan)
    extents = {name for port in plan.outputs for extent in port.type.shape for name in symbols_of(extent)}
    names = list(plan.symbols)
    for arg, number in writers.items():
        if inside[number] and (arg.space in ("output", "next") or (arg.space == "dim" and names[arg.index] in extents)):
            what = f"finds {arg.space} {arg.index}, but may be left out"
            fail(what, f"call {number} ({plan.calls[number].label})", "a caller, or the next run, reads it in any case")
    for number, region in enumerate(plan.regions):
        held = _held(inside[region.first][: inside[region.first].index(region)])
        needed = _held(inside[writers[region.condition]]) if region.condition.space != "input" else frozenset()
        if not needed <= held:
            what = f"asks {region.condition.space} {region.condition.index}, which may have been left out"
            fail(what, f"region {number} (calls {region.first}:{region.last})")


def _writers(plan: Plan) -> dict[Arg, int]:
    """The call that is the first to mention each argument: the one that writes it, if any does."""
    found: dict[Arg, int] = {}
    for number, call in enumerate(plan.calls):
        for arg in call.args:
            found.setdefault(arg, number)
    return found


def _held(regions: tuple[Region, ...]) -> frozenset[tuple[Arg, bool]]:
    return frozenset((region.condition, region.when) for region in regions)


def check_guards(plan: Plan, placed: Placed, fail: Fail) -> None:
    """Against the clusters: what a call may have left out is looked at only by calls that are left out with it, or by a choice of
    something else. Expects calls that run one cluster each."""
    graph, inside, writers = placed.graph, regions_at(plan), _writers(plan)
    places = {buffer.name: Arg("buffer", number) for number, buffer in enumerate(plan.buffers)}
    for space, ports in (("input", graph.inputs), ("output", graph.outputs)):
        places |= {port.value: Arg(space, number) for number, port in enumerate(ports)}
    places |= {state.update: Arg("next", number) for number, state in enumerate(graph.states)}
    carried = [one for loop in graph.loops for one in loop.carried]
    places |= {one.update: Arg("carry", places[one.value].index) for one in carried}
    runs = {node.outputs[0]: _held(inside[writers[places[node.outputs[0]]]]) for node in graph.nodes}
    writer = {value: node.outputs[0] for node in graph.nodes for value in node.outputs}
    setter = {name: node.outputs[0] for node in graph.nodes for name in dims_set(node)}
    for node in graph.nodes:
        own = runs[node.outputs[0]]
        for value, further in choices(node, graph.types).items():
            chosen = {(places[guard.condition], guard.when) for guard in further if guard.condition in places}
            if value in writer and not runs[writer[value]] <= own | chosen:
                what = f"looks at %{value}, which may have been left out"
                fail(what, f"cluster %{node.outputs[0]}")
        for name in sorted(mentioned(node, graph.types) & setter.keys()):
            if not runs[setter[name]] <= own:
                fail(f"uses the dim {name}, which may have been left out", f"cluster %{node.outputs[0]}")
