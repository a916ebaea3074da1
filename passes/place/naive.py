"""The naive twins of placement: everything in memory, memory filled in order, nothing kept. Same signature, no optimiser.

They are what `place` is measured against, and starts of its search: it is never predicted slower than one of them.
"""

from __future__ import annotations

from collections.abc import Callable

from ...ir.candidate import KernelLibrary
from ...ir.graph import Graph
from ...ir.machine import Machine
from ...ir.placed import Placed
from .build import build_placed, infeasible
from .evaluate import Evaluator
from .problem import NO_LIMIT, Decision, Problem, make_problem
from .request import PlaceRequest

Twin = Callable[[Problem], Decision | None]


def all_resident(problem: Problem) -> Decision | None:
    """The cheapest candidates with every weight in memory."""
    evaluator = Evaluator(problem, (0,) * len(problem.options))
    resident = evaluator.keep(evaluator.used)
    return Decision(evaluator.options, resident, 0) if resident == evaluator.used and evaluator.fits(resident) else None


def greedy_fill(problem: Problem) -> Decision | None:
    """The cheapest candidates; weights stay in order of use until memory is full, but for a ring of two of what any call reads."""
    evaluator = Evaluator(problem, (0,) * len(problem.options))
    resident = _obliged(evaluator)
    ring = 2 * evaluator.least(resident)
    for _, store in evaluator.uses:
        if store in evaluator.can_stay and store not in resident:
            grown = resident | {store}
            if evaluator.room(grown) >= min(ring, 2 * evaluator.least(grown)) and evaluator.fits(grown):
                resident = grown
    if not evaluator.fits(resident):
        return None
    return Decision(evaluator.options, resident, min(ring, evaluator.room(resident)))


def layer_by_layer(problem: Problem) -> Decision | None:
    """The cheapest candidates; every weight is read just before its call, into the smallest ring."""
    evaluator = Evaluator(problem, (0,) * len(problem.options))
    resident = _obliged(evaluator)
    return Decision(evaluator.options, resident, evaluator.least(resident)) if evaluator.fits(resident) else None


def _obliged(evaluator: Evaluator) -> frozenset[int]:
    """What has to stay, and what is small where that fits."""
    stores = evaluator.problem.stores
    must = evaluator.keep(s for s in evaluator.used if not stores[s].may_stream)
    small = evaluator.keep(s for s in evaluator.used if stores[s].small or s in must)
    return small if evaluator.fits(small) else must


TWINS: dict[str, Twin] = {
    "everything resident": all_resident,
    "filled in order": greedy_fill,
    "layer by layer": layer_by_layer,
}


def twin_decisions(problem: Problem) -> dict[str, Decision]:
    """The twins' decisions that keep the budgets."""
    found = {name: twin(problem) for name, twin in TWINS.items()}
    return {name: decision for name, decision in found.items() if decision is not None}


def place_naively(
    graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest, twin: str = "filled in order"
) -> Placed:
    """A twin's placement. Raises Infeasible where the twin has none, though `place` may."""
    problem = make_problem(graph, library, machine, request)
    decision = TWINS[twin](problem)
    if decision is None:
        raise infeasible(problem)
    found = Evaluator(problem, decision.options).outcome(decision.resident, decision.ring)
    assert found is not None
    return build_placed(problem, found, twin, 0.0)


def place_first(graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest) -> Placed:
    """No decision at all: the first candidate a library offers for each cluster, every weight in memory, whatever the budget."""
    problem = make_problem(graph, library, machine, request)
    first = []
    for node, options in zip(problem.nodes, problem.options, strict=True):
        candidate = library.candidates(node, graph, machine)[0]
        first.append(next(n for n, option in enumerate(options) if option.priced.candidate == candidate))
    evaluator = Evaluator(problem.with_budget(NO_LIMIT), tuple(first))
    found = evaluator.outcome(evaluator.keep(evaluator.used))
    assert found is not None
    return build_placed(problem, found, "first candidates", 0.0)
