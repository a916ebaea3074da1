"""Placement under budgets: within them always, never slower than its twins, the optimum where everything can be tried."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from stratac.ir.errors import StratacError
from stratac.ir.placed import Placed
from stratac.ir.text_placed import print_placed
from stratac.ir.verify_plan import verify_plan
from stratac.passes.place.check import check_placement
from stratac.passes.place.evaluate import Evaluator
from stratac.passes.place.exhaustive import place_exhaustively
from stratac.passes.place.infeasible import Infeasible
from stratac.passes.place.milp import solve
from stratac.passes.place.naive import TWINS, place_naively, twin_decisions
from stratac.passes.place.place import marginal, place
from stratac.passes.place.problem import Decision, Problem, make_problem, ram_bytes
from stratac.passes.place.request import Pin, PlaceRequest
from stratac.passes.place.search import approximate, enumerate_decisions, simple_bound
from stratac.passes.place.smallest import every_decision, smallest
from stratac.passes.schedule.schedule import schedule

from .placing import Made, chain, machine

MACHINE = machine()
FLOOR = 1000
THREADS = 2


def request(**changes: object) -> PlaceRequest:
    return replace(PlaceRequest(THREADS, floor=FLOOR), **changes)  # type: ignore[arg-type]


def sample(seed: int, count: int = 8, sizes: tuple[int, ...] = (1, 16, 100, 200, 400)) -> tuple:  # type: ignore[type-arg]
    rng = random.Random(seed)
    options, workspace = rng.choice((1, 2, 3)), rng.choice((0, 50_000))
    return chain(rng, count, sizes=sizes, options=options, shared=rng.choice((0, 0.2)), workspace=workspace)


def least(problem: Problem) -> int:
    found = smallest(problem, small=False)
    assert found is not None
    return found[0]


def check(placed: Placed, asked: PlaceRequest) -> None:
    """By the checker, and by the plan that is made of it."""
    assert check_placement(placed, MACHINE, asked) == []
    names = {node.outputs[0]: "k" for node in placed.graph.nodes}
    plan = schedule(placed, MACHINE, names, THREADS)
    verify_plan(plan, placed)
    assert placed.solution is not None
    assert plan.peak_bytes() + FLOOR == placed.solution.used["ram"] <= placed.solution.budgets["ram"]
    assert plan.weights_bytes == placed.solution.used["disk"]
    assert plan.seconds == pytest.approx(placed.solution.seconds, rel=1e-9)
    assert placed.solution.lower_bound <= placed.solution.seconds * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_budgets_from_too_small_to_roomy(seed: int) -> None:
    """Small steps: refused below the least, within the budget and no slower than any twin from there on."""
    graph, library = sample(seed)
    roomy = place(graph, library, MACHINE, request())
    assert roomy.solution is not None and roomy.ring_bytes == 0
    assert all(home.tier == "ram" for home in roomy.homes.values())
    low, high = least(make_problem(graph, library, MACHINE, request())), roomy.solution.used["ram"]
    for budget in [low - 1, low, *(low + (high - low) * step // 12 for step in range(1, 13))]:
        asked = request(budgets={"ram": budget})
        if budget < low:
            with pytest.raises(Infeasible) as caught:
                place(graph, library, MACHINE, asked)
            error = caught.value
            assert (error.tier, error.short_bytes, error.smallest_budget, error.exit_code) == (
                "ram",
                low - budget,
                low,
                2,
            )
            continue
        placed = place(graph, library, MACHINE, asked)
        check(placed, asked)
        for name in TWINS:
            try:
                twin = place_naively(graph, library, MACHINE, asked, name)
            except Infeasible:
                continue
            check(twin, asked)
            assert twin.solution is not None and placed.solution is not None
            assert placed.solution.seconds <= twin.solution.seconds * (1 + 1e-12), name
    assert print_placed(place(graph, library, MACHINE, request())) == print_placed(roomy)


@pytest.mark.parametrize("seed", range(10))
def test_few_clusters_are_placed_as_well_as_possible(seed: int) -> None:
    """Against whole plans of everything that can be tried."""
    graph, library = sample(seed + 100, 4, sizes=(160, 240, 400))
    low = least(make_problem(graph, library, MACHINE, request()))
    solution = place(graph, library, MACHINE, request()).solution
    assert solution is not None
    for share in (0.0, 0.4, 0.8):
        asked = request(budgets={"ram": low + int(share * (solution.used["ram"] - low))})
        placed, best = place(graph, library, MACHINE, asked), place_exhaustively(graph, library, MACHINE, asked)
        assert best is not None and placed.solution is not None
        assert placed.solution.seconds == pytest.approx(best[1].seconds, rel=1e-9)
    assert place_exhaustively(graph, library, MACHINE, request(budgets={"ram": low - 1})) is None


@pytest.mark.parametrize("seed", range(20))
def test_programs_and_exchanges_come_close_and_their_bound_holds(seed: int) -> None:
    """What large graphs get, on graphs small enough to know the optimum."""
    graph, library = sample(seed + 200, 6)
    problem = make_problem(graph, library, MACHINE, request())
    low = least(problem)
    high = ram_bytes(problem, Decision((0,) * 6, Evaluator(problem, (0,) * 6).used, 0))
    for share in (0.1, 0.5, 0.9):
        tight = problem.with_budget(low + int(share * (high - low)))
        found = approximate(tight, False, twin_decisions(tight).values())
        best = enumerate_decisions(tight, False)
        assert best.seconds <= found.outcome.seconds * (1 + 1e-9) and found.outcome.seconds <= 1.25 * best.seconds
        assert found.lower_bound <= best.seconds * (1 + 1e-9) and simple_bound(tight) <= best.seconds * (1 + 1e-9)
        program = solve(tight, False)
        assert program is None or program.bound <= best.seconds * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_least_memory_is_the_least_of_all_decisions(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, library = sample(seed + 300, 5)
    problem = make_problem(graph, library, MACHINE, request())
    every = [
        ram_bytes(problem, Decision(e.options, resident, e.least(resident)))
        for e, resident in every_decision(problem, False)
    ]
    assert least(problem) == min(every)
    monkeypatch.setattr("stratac.passes.place.smallest.FEW", 0)
    assert min(every) <= least(problem) <= min(every) * 1.05 + 8192  # thresholds, as for large graphs


def test_many_equal_layers() -> None:
    """Two hundred weights: close to the bound, spread over the run, and the same each time."""
    graph, library = chain(random.Random(5), 200, sizes=(256,))
    full = place(graph, library, MACHINE, request()).solution
    assert full is not None
    asked = request(budgets={"ram": full.used["ram"] // 2})
    one, two = (place(graph, library, MACHINE, asked) for _ in range(2))
    check(one, asked)
    assert print_placed(one) == print_placed(two)
    assert one.solution is not None and one.solution.gap < 0.1
    stays = [home.tier == "ram" for home in one.homes.values()]
    quarters = [sum(stays[k * len(stays) // 4 : (k + 1) * len(stays) // 4]) for k in range(4)]
    assert min(quarters) > 0.3 * max(quarters)


def test_a_larger_budget_saves_what_placing_again_says() -> None:
    graph, library = sample(7)
    low = least(make_problem(graph, library, MACHINE, request()))
    asked = request(budgets={"ram": low})
    saved = marginal(graph, library, MACHINE, asked, "ram", 1 << 30)
    seconds = [place(graph, library, MACHINE, r).solution for r in (asked, request())]
    assert seconds[0] is not None and seconds[1] is not None
    assert saved == pytest.approx(seconds[0].seconds - seconds[1].seconds) and saved > 0
    with pytest.raises(Infeasible):
        marginal(graph, library, MACHINE, asked, "ram", -1)


def test_the_objective_memory_takes_less_for_a_bounded_time() -> None:
    graph, library = sample(9, 12)
    fast, small = (place(graph, library, MACHINE, request(objective=o)).solution for o in ("latency", "memory"))
    assert fast is not None and small is not None
    assert small.used["ram"] < fast.used["ram"] and small.seconds <= 1.5 * fast.seconds


def test_weights_read_row_by_row_cost_no_memory() -> None:
    graph, library = chain(random.Random(3), 4, sizes=(4000,))
    name, rows = next(
        (n, r) for n, r in library.rows.items() if any(v in graph.weights for v in graph.producers()[n].used)
    )
    table = next(v for v in graph.producers()[name].used if v in graph.weights)
    slow = replace(rows[0], mode="rows", direct=(table,), work=replace(rows[0].work, flops=rows[0].work.flops * 3))
    library.rows[name] = [*rows, slow]
    full = place(graph, library, MACHINE, request())
    assert full.choices[name].chosen.candidate.mode == rows[0].mode and full.solution is not None
    tight = request(budgets={"ram": full.solution.used["ram"] - 3_000_000})
    placed = place(graph, library, MACHINE, tight)
    check(placed, tight)
    assert placed.choices[name].chosen.candidate.direct == (table,)
    assert placed.choices[name].binding == "budget ram" and placed.homes[table].tier == "disk"


def test_pins_are_kept_and_wrong_ones_are_told() -> None:
    graph, library = sample(11)
    big = max(graph.weights, key=lambda name: graph.weights[name].type.nbytes)
    asked = request(pins=(Pin(f"^{big}$", "disk"),))
    placed = place(graph, library, MACHINE, asked)
    check(placed, asked)
    assert all(home.tier == "disk" and "pinned" in home.why for home in placed.homes.values() if home.weight == big)
    for pins, what in (
        ((Pin("nothing_like_it", "disk"),), "matches nothing"),
        ((Pin(big, "dsk"),), "did you mean disk"),
        ((Pin(f"^{big}$", "disk"), Pin(f"^{big}$", "!disk")), "may go nowhere"),
        ((Pin("v0", "!cpu"),), "may go nowhere"),
        ((Pin("(", "disk"),), "no regular expression"),
    ):
        with pytest.raises(StratacError) as caught:
            place(graph, library, MACHINE, request(pins=pins))
        assert what in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"objective": "beauty"}, "unknown objective"),
        ({"budgets": {"hbm": 1}}, "no such tier"),
        ({"threads": 0}, "threads"),
        ({"budgets": {"disk": 1}}, "of disk, "),
    ],
)
def test_requests_that_make_no_sense(changes: dict[str, object], what: str) -> None:
    graph, library = sample(13)
    with pytest.raises(StratacError, match=what):
        place(graph, library, MACHINE, request(**changes))


def test_without_a_disk_all_weights_stay() -> None:
    graph, library = sample(15)
    asked = request(budgets={"ram": FLOOR + 100})
    with pytest.raises(Infeasible, match="a machine with a disk tier"):
        place(graph, library, machine(disk=False), asked)


def test_the_checker_finds_what_is_wrong() -> None:
    graph, library = sample(2)
    low = least(make_problem(graph, library, MACHINE, request()))
    asked = request(budgets={"ram": low})
    placed = place(graph, library, MACHINE, asked)
    assert check_placement(placed, MACHINE, asked) == []
    assert check_placement(placed, MACHINE, request(budgets={"ram": low - 1}))
    assert check_placement(replace(placed, ring_bytes=placed.ring_bytes + (8 << 20)), MACHINE, asked)
    homes = {key: replace(home, tier="ram") for key, home in placed.homes.items()}
    assert check_placement(replace(placed, homes=homes), MACHINE, asked)
    name = next(iter(placed.choices))
    chosen = placed.choices[name].chosen
    priced = replace(chosen, candidate=replace(chosen.candidate, executable=False))
    choices = {**placed.choices, name: replace(placed.choices[name], chosen=priced)}
    assert check_placement(replace(placed, choices=choices), MACHINE, asked)


def test_candidates_that_are_only_priced_are_left_out_of_plans() -> None:
    graph, library = sample(17, 3)
    rows = {
        name: [*row, replace(row[0], family="slow", work=replace(row[0].work, flops=1.0), executable=False)]
        for name, row in library.rows.items()
    }
    placed = place(graph, Made(rows), MACHINE, request())
    assert all(choice.chosen.candidate.executable for choice in placed.choices.values())
    estimate = place(graph, Made(rows), MACHINE, request(executable=False))
    assert not any(choice.chosen.candidate.executable for choice in estimate.choices.values())
    with pytest.raises(StratacError, match="only estimated"):
        schedule(estimate, MACHINE, {n.outputs[0]: "k" for n in graph.nodes}, THREADS)
