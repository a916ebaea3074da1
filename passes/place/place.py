"""Placement: for every cluster a candidate, for every weight a home and a format, so that the predicted time is least under the
budgets.

Where everything fits, the cheapest candidate of each cluster with every weight in memory is the optimum. Under a budget it is
decided which weights stay and which are streamed from storage, how large the ring is, and which candidates run (`search`).
Several devices: see `devices`.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.candidate import KernelLibrary
from ...ir.errors import StratacError
from ...ir.graph import Graph
from ...ir.machine import Machine
from ...ir.placed import Placed
from .build import build_placed, infeasible
from .devices import has_several, place_devices
from .evaluate import predict
from .naive import twin_decisions
from .problem import Problem, make_problem
from .request import PlaceRequest
from .search import Answer, everything_resident, search
from .smallest import smallest

OBJECTIVES = ("latency", "throughput", "memory")
#: the objective `memory` stops where budgets differ by this share
MEMORY_STEP = 0.01


def place(graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest) -> Placed:
    """The best placement found, with its distance to a lower bound in `Placed.solution`.

    Equal inputs give equal results. Raises Infeasible where no placement keeps the budgets, VerifyError for a cluster without
    candidates, StratacError for a request that names what does not exist.
    """
    check_request(request, machine)
    if not request.executable and has_several(machine):
        return place_devices(graph, library, machine, request)
    problem = make_problem(graph, library, machine, request)
    answer = _solve(problem)
    if request.objective == "memory":
        problem, answer = _least_memory(problem, answer)
    return build_placed(problem, answer.outcome, answer.method, answer.lower_bound)


def marginal(
    graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest, tier: str, delta: int
) -> float:
    """Seconds that `delta` more bytes (less, where negative) of a tier save, by placing again.

    A larger budget never costs time: what fits the smaller one fits it too. Raises Infeasible where the changed budget is too
    small.
    """
    budget = request.budgets.get(tier, machine.tier(tier).bytes)
    changed = replace(request, budgets={**request.budgets, tier: budget + delta})
    before, after = (place(graph, library, machine, r).solution for r in (request, changed))
    assert before is not None and after is not None
    saved = before.seconds - after.seconds
    return max(saved, 0.0) if delta >= 0 else min(saved, 0.0)


def check_request(request: PlaceRequest, machine: Machine) -> None:
    """Raise StratacError for an unknown objective, budgets of unknown tiers or no threads."""
    if request.objective not in OBJECTIVES:
        raise StratacError(f"unknown objective {request.objective!r}", hint=f"one of {', '.join(OBJECTIVES)}")
    if request.threads < 1:
        raise StratacError(f"a plan for {request.threads} threads", hint="at least one")
    tiers = [tier.name for tier in machine.tiers]
    for tier, count in request.budgets.items():
        if tier not in tiers:
            raise StratacError(
                f"a budget of {tier!r}: {machine.name} has no such tier", hint=f"it has {', '.join(tiers)}"
            )
        if count < 0:
            raise StratacError(f"a budget of {count} bytes of {tier}")


def _solve(problem: Problem) -> Answer:
    """Small weights stay where that is possible, unless a naive twin that streams some is faster."""
    if (everything := everything_resident(problem)) is not None:
        return Answer(everything, "cheapest candidates, everything resident", everything.seconds)
    twins = list(twin_decisions(problem).values())
    best: Answer | None = None
    for small in (True, False):
        least = smallest(problem, small)
        if least is None or least[0] > problem.budget:
            continue
        answer = search(problem, small, twins)
        best = answer if best is None else min(best, answer, key=lambda answer: answer.outcome.rank)
        if all(best.outcome.seconds <= predict(problem, twin) for twin in twins):
            return best
    if best is None:
        raise infeasible(problem)
    return best


def _least_memory(problem: Problem, best: Answer) -> tuple[Problem, Answer]:
    """The least budget of ram whose latency is at most `slowdown` times the best, by bisection."""
    limit = best.outcome.seconds * problem.request.slowdown
    bound = smallest(problem, small=False)
    assert bound is not None
    low, high = bound[0], problem.budget
    found = (problem, best)
    at_least = _solve(problem.with_budget(low))
    if at_least.outcome.seconds <= limit:
        found, high = (problem.with_budget(low), at_least), low
    while high - low > MEMORY_STEP * high:
        middle = (low + high) // 2
        answer = _solve(problem.with_budget(middle))
        if answer.outcome.seconds <= limit:
            found, high = (problem.with_budget(middle), answer), middle
        else:
            low = middle
    return found
