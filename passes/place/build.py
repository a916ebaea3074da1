"""A decision as a placed graph, with the reason of each choice and home; and the error where there is no decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...ir.candidate import Priced
from ...ir.dims import upper
from ...ir.graph import Graph
from ...ir.placed import DENSE, Choice, Home, Placed, Solution, StateHome, home_key
from .evaluate import Evaluator, Outcome
from .infeasible import Infeasible, text
from .problem import NO_LIMIT, RAM, Option, Problem, chosen, ram_bytes, storage_bytes
from .smallest import smallest


def infeasible(problem: Problem) -> Infeasible:
    """Why no decision keeps the budgets: storage for the weights, or memory for the least any plan takes."""
    name, floor = problem.graph.name, problem.request.floor
    unbound = replace(problem, storage_budget=NO_LIMIT)
    if smallest(problem, small=False) is None and (found := smallest(unbound, small=False)) is not None:
        needed = storage_bytes(unbound, found[1])
        return Infeasible(
            problem.storage,
            needed,
            problem.storage_budget,
            f"{name} needs {text(needed)} of {problem.storage}, {text(needed - problem.storage_budget)} more than "
            f"the budget of {text(problem.storage_budget)}",
            f"allow {problem.storage}={needed}",
        )
    found = smallest(problem, small=False)
    needed = found[0] if found else 0
    whose = "the budget of" if RAM in problem.request.budgets else f"{problem.machine.name} has:"
    states = problem.states.bytes + problem.states.initial
    parts = [f"activations {text(problem.fixed - floor - states)}"] + ([f"states {text(states)}"] if states else [])
    parts += [f"the process {text(floor)}"] if floor else []
    if found:
        evaluator = Evaluator(problem, found[1].options)
        workspace = max((option.workspace for option in evaluator.chosen), default=0)
        kept = sum(problem.stores[s].resident for s in found[1].resident)
        parts += [f"workspace {text(workspace)} for each of {problem.threads} threads"] if workspace else []
        parts += [f"a ring of {text(found[1].ring)}"] if found[1].ring else []
        parts += [f"weights {text(kept)}"] if kept else []
    advice = "lower the greatest dims or threads" + (
        "" if problem.storage else ", or plan for a machine with a disk tier"
    )
    return Infeasible(
        RAM,
        needed,
        problem.budget,
        f"{name} needs {text(needed)} of ram, {text(needed - problem.budget)} more than {whose} {text(problem.budget)}",
        f"at the least {', '.join(parts)}; {advice}, or allow ram={needed}",
    )


def build_placed(problem: Problem, outcome: Outcome, method: str, lower_bound: float) -> Placed:
    """Choices in the graph's order, homes in order of use by it."""
    decision = outcome.decision
    evaluator = Evaluator(problem, decision.options)
    options = dict(zip((node.outputs[0] for node in problem.nodes), chosen(problem, decision), strict=True))
    rows = dict(zip((node.outputs[0] for node in problem.nodes), problem.options, strict=True))
    kept = decision.resident
    stores = evaluator.reads(kept)[1]
    stalls: dict[int, float] = {}
    if stores:
        for (wait, _), (cluster, _) in zip(
            evaluator.stalls(outcome), [(k, s) for k, s in evaluator.uses if s not in kept], strict=True
        ):
            stalls[cluster] = wait
    position = {node.outputs[0]: k for k, node in enumerate(problem.nodes)}
    choices: dict[str, Choice] = {}
    homes: dict[str, Home] = {}
    everything = not stores and not evaluator.direct
    for node in problem.graph.nodes:
        name = node.outputs[0]
        option, stall = options[name], stalls.get(position[name], 0.0)
        others = [other for other in rows[name] if other is not option]
        runner_up = others[0].priced if others else None
        reads = [problem.stores[s] for s in option.stores if s not in kept]
        binding = _binding(problem, name, option, rows[name], stall)
        choices[name] = Choice(name, option.priced, runner_up, _why(option.priced, runner_up, binding, stall), binding)
        formats = dict(option.priced.candidate.formats)
        numbers = {problem.stores[s].key: s for s in (*option.stores, *option.direct)}
        for value in node.used:
            if value in problem.graph.weights:
                key = home_key(value, formats.get(value, DENSE))
                home = _home(
                    problem, numbers[key], numbers[key] in kept, everything, evaluator, stall if reads else 0.0
                )
                homes.setdefault(key, home)
    if everything:
        homes = _mapped(problem, homes, choices)
    used = {RAM: ram_bytes(problem, decision)}
    budgets = {RAM: problem.budget}
    if problem.storage:
        used[problem.storage] = storage_bytes(problem, decision)
        budgets[problem.storage] = problem.storage_budget
    solution = Solution(
        problem.request.objective, method, outcome.seconds, min(lower_bound, outcome.seconds), budgets, used
    )
    for state in problem.graph.states:
        if state.initial:
            nbytes = upper(problem.graph.types[state.value].nbytes, {})
            homes[state.initial] = Home(state.initial, RAM, DENSE, nbytes, f"what the state {state.name!r} starts from")
    return Placed(
        problem.graph, problem.machine.name, choices, homes, (), decision.ring, solution, state_homes(problem.graph)
    )


def _mapped(problem: Problem, homes: Mapping[str, Home], choices: Mapping[str, Choice]) -> dict[str, Home]:
    """The homes of weights of which every reader looks up few rows as pages of weights.bin: it costs no time, and what no run
    looks up takes no memory. They count in full all the same, since runs may look up everything. Pins keep weights as they are."""
    whole: set[str] = set()
    sparse: set[str] = set()
    for node in problem.graph.nodes:
        candidate = choices[node.outputs[0]].chosen.candidate
        formats = dict(candidate.formats)
        for value in node.used:
            if value in problem.graph.weights:
                few = value in candidate.sparse and not problem.rules.pins(value)
                (sparse if few else whole).add(home_key(value, formats.get(value, DENSE)))
    why = "everything fits; runs look up few of its rows"
    return {key: replace(home, why=why, mapped=True) if key in sparse - whole else home for key, home in homes.items()}


def state_homes(graph: Graph) -> dict[str, StateHome]:
    """States live where kernels read and write them."""
    return {s.name: StateHome(s.name, RAM, upper(graph.types[s.value].nbytes, {})) for s in graph.states}


def _binding(problem: Problem, name: str, option: Option, row: tuple[Option, ...], stall: float) -> str:
    if problem.rules.pins(name) or any(problem.rules.pins(problem.stores[s].weight) for s in option.stores):
        return "pin"
    if option is not row[0] and option.seconds > row[0].seconds:
        return f"budget {RAM}"
    return f"bandwidth {problem.storage}" if stall > 0 else ""


def _why(chosen: Priced, runner_up: Priced | None, binding: str, stall: float) -> str:
    wait = f"; waits {1e3 * stall:.3f} ms for its weights" if stall > 0 else ""
    if runner_up is None:
        return f"{chosen.candidate.name}: the only candidate; {chosen.bound} bound{wait}"
    if chosen.seconds > runner_up.seconds:
        lost = 1e6 * (chosen.seconds - runner_up.seconds)
        reason = f"{lost:.3f} us slower than {runner_up.candidate.name}, which the {binding or 'budget'} does not allow"
        return f"{chosen.candidate.name}: {reason}; {chosen.bound} bound{wait}"
    gain = runner_up.seconds / chosen.seconds if chosen.seconds else 1.0
    return f"{chosen.candidate.name}: {gain:.2f}x faster than {runner_up.candidate.name}; {chosen.bound} bound{wait}"


def _home(problem: Problem, store: int, kept: bool, everything: bool, evaluator: Evaluator, stall: float) -> Home:
    row = problem.stores[store]
    pins = problem.rules.pins(row.weight)
    uses = sum(s == store for _, s in evaluator.uses)
    if store in evaluator.direct:
        tier, why = problem.storage, "its kernel reads rows of it from storage"
    elif kept:
        tier = RAM
        saved = f"saves {1e3 * row.seconds * uses:.3f} ms of reading in each run"
        why = (
            "everything fits"
            if everything
            else "small"
            if row.small
            else saved
            if row.may_stream
            else "cannot be streamed"
        )
    else:
        tier = problem.storage
        times = f"{uses} times " if uses > 1 else ""
        wait = f"its call waits {1e3 * stall:.3f} ms" if stall > 0 else "behind the calls before"
        why = f"read {times}in {1e3 * row.seconds:.3f} ms, {wait}; budget {RAM}"
    return Home(row.weight, tier, row.format, row.nbytes, f"{why}; pinned by {pins}" if pins else why)
