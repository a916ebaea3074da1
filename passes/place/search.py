"""Which weights stay in memory, how large the ring is and which candidates run, so that the simulated latency is least.

Few decisions are enumerated, those with the best bound first. Many are searched: from the integer program's answer and the
naive twins', by exchanging what stays and what is streamed, and by trading memory between weights and ring.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .evaluate import Evaluator, Outcome
from .milp import solve, worthwhile
from .problem import Decision, Problem
from .smallest import FEW, decisions, every_decision, smallest

#: reads and calls that all local searches together may simulate: a few seconds
EFFORT = 600_000
#: stores in a row that may fail to be worth keeping before the rest is not tried
PATIENCE = 12
#: starts that are improved, the best first
STARTS = 8
#: rings of the evenly spread starts, in units of the smallest
RINGS = (1.0, 1.25, 1.5, 2.0, 3.0)
#: stores tried in the end where plans are equally fast
SETTLE = 100
#: random exchanges tried at the end
KICKS = 60
#: single options tried beside the integer program's
OPTION_TRIES = 60
#: a step must gain this share to be one
GAIN = 1e-9


@dataclass(frozen=True)
class Answer:
    """The best outcome found, how, and what no decision can beat."""

    outcome: Outcome
    method: str
    lower_bound: float


def search(problem: Problem, small: bool, twins: Iterable[Decision]) -> Answer:
    """The best decision. `small`: small weights stay; there is at least one feasible decision; `twins` are further starts."""
    if decisions(problem, small) <= FEW:
        best = enumerate_decisions(problem, small)
        return Answer(settle(problem, best), "enumeration", best.seconds)
    found = approximate(problem, small, twins)
    return replace(found, outcome=settle(problem, found.outcome))


def settle(problem: Problem, best: Outcome) -> Outcome:
    """Of plans as fast, one that bears slower reads better: with a larger ring, or more weights kept in memory that is left."""
    evaluator = Evaluator(problem, best.decision.options)

    def at_least_as_fast(outcome: Outcome | None) -> bool:
        return outcome is not None and outcome.seconds <= best.seconds * (1 + 1e-12)

    stress = evaluator.stressed(best)
    roomy = evaluator.outcome(best.decision.resident)
    if roomy is not None and at_least_as_fast(roomy) and (found := evaluator.stressed(roomy)) < stress:
        best, stress = roomy, found
    streamed = sorted(evaluator.can_stay - best.decision.resident, key=lambda s: (-problem.stores[s].seconds, s))
    for store in streamed[:SETTLE]:
        grown = evaluator.outcome(best.decision.resident | {store})
        if grown is not None and at_least_as_fast(grown) and (found := evaluator.stressed(grown)) < stress:
            best, stress = grown, found
    return best


def approximate(problem: Problem, small: bool, twins: Iterable[Decision]) -> Answer:
    """What `search` does where there are many decisions."""
    least = smallest(problem, small)
    assert least is not None, "checked before"
    program = solve(problem, small, least[1])
    starts = [*twins, least[1]]
    numbers = program.decision.options if program is not None else (0,) * len(problem.options)
    starts += [
        decision for share in RINGS if (decision := spread(Evaluator(problem, numbers), small, share)) is not None
    ]
    if program is not None:
        starts.append(program.decision)
    evaluators: dict[tuple[int, ...], Evaluator] = {}
    found: list[Outcome] = []
    for start in starts:
        evaluator = evaluators.setdefault(start.options, Evaluator(problem, start.options))
        resident = _repaired(evaluator, start.resident, small)
        if resident is not None:
            outcomes = (
                evaluator.outcome(resident),
                evaluator.outcome(resident, min(start.ring, evaluator.room(resident))),
            )
            found += [outcome for outcome in outcomes if outcome is not None]
    bound = max(simple_bound(problem), program.bound if program else 0.0)
    found.sort(key=lambda outcome: outcome.rank)
    best = found[0]
    tried: list[frozenset[int]] = []
    for outcome in found:
        if outcome.decision.resident not in tried and len(tried) < STARTS:
            tried.append(outcome.decision.resident)
            improver = _Improver(evaluators[outcome.decision.options], small, EFFORT // STARTS)
            best = min(best, improver.run(outcome, bound), key=lambda outcome: outcome.rank)
    best = _other_options(problem, best, bound, small)
    best = _kicked(Evaluator(problem, best.decision.options), best, bound, small)
    method = f"{program.name} and exchanges" if program is not None else "exchanges"
    return Answer(best, method, min(bound, best.seconds))


def spread(evaluator: Evaluator, small: bool, rings: float) -> Decision | None:
    """Weights that stay, evenly over the run, so many that a ring of `rings` times the smallest has room."""
    rows = evaluator.problem.stores
    fixed = evaluator.keep(s for s in evaluator.used if not rows[s].may_stream or (small and rows[s].small))
    free = [s for s in dict.fromkeys(s for _, s in evaluator.uses) if s in evaluator.can_stay and s not in fixed]
    ring = rings * evaluator.least(fixed)
    total = sum(rows[s].resident for s in free)
    if not total or evaluator.room(fixed) < ring:
        return None
    share = min((evaluator.room(fixed) - ring) / total, 1.0)
    kept, carry = set(fixed), 0.0
    for store in free:
        carry += share * rows[store].resident
        if carry >= rows[store].resident:
            kept.add(store)
            carry -= rows[store].resident
    return Decision(evaluator.options, frozenset(kept), evaluator.room(frozenset(kept)))


def _kicked(evaluator: Evaluator, best: Outcome, bound: float, small: bool) -> Outcome:
    """Exchange a few stores at random, improve, and keep what is better; always the same numbers are drawn."""
    rng = random.Random(0)
    left = EFFORT // max(len(evaluator.uses), 1)
    for _ in range(KICKS):
        improver = _Improver(evaluator, small, EFFORT)
        if left <= 0 or best.seconds <= bound * (1 + GAIN) or len(improver.free) < 4:
            break
        some = set(rng.sample(improver.free, rng.randint(2, min(6, len(improver.free)))))
        resident = _repaired(evaluator, best.decision.resident ^ some, small)
        outcome = None if resident is None else evaluator.outcome(resident)
        left -= 1
        if outcome is not None and outcome.seconds < best.seconds * 1.05:
            improver.left = min(left, 400)
            left -= improver.left
            outcome = improver.run(outcome, bound)
            left += max(improver.left, 0)
            best = min(best, outcome, key=lambda outcome: outcome.rank)
    return best


def _repaired(evaluator: Evaluator, wanted: frozenset[int], small: bool) -> frozenset[int] | None:
    """The stores of a set that fit: the shortest to read are given up until they do; None where that is not enough."""
    rows = evaluator.problem.stores
    resident = evaluator.keep({*wanted, *(s for s in evaluator.used if not rows[s].may_stream)})
    give_up = sorted(
        (s for s in resident if rows[s].may_stream and not (small and rows[s].small)),
        key=lambda s: (rows[s].seconds, s),
    )
    for store in (*give_up, None):
        if evaluator.fits(resident):
            return resident
        if store is not None and len(resident) > 0:
            resident -= {store}
    return None


def _other_options(problem: Problem, best: Outcome, bound: float, small: bool) -> Outcome:
    """Try further options of single clusters, keeping what stays where it is."""
    tries = OPTION_TRIES
    improved = True
    while improved and tries > 0 and best.seconds > bound * (1 + GAIN):
        improved = False
        for cluster, options in enumerate(problem.options):
            for option in worthwhile(problem, cluster) if len(options) > 1 else ():
                if option == best.decision.options[cluster] or tries <= 0:
                    continue
                tries -= 1
                numbers = list(best.decision.options)
                numbers[cluster] = option
                evaluator = Evaluator(problem, tuple(numbers))
                weights = {problem.stores[s].weight for s in best.decision.resident}
                wanted = frozenset(s for s in evaluator.used if problem.stores[s].weight in weights)
                resident = _repaired(evaluator, wanted, small)
                outcome = None if resident is None else evaluator.outcome(resident)
                if outcome is not None and outcome.seconds < best.seconds * 1.1:
                    outcome = _Improver(evaluator, small, EFFORT // 10).run(outcome, bound)
                    if outcome.seconds < best.seconds * (1 - GAIN):
                        best, improved = outcome, True
    return best


def everything_resident(problem: Problem) -> Outcome | None:
    """The cheapest candidates with every weight in memory, which nothing beats; None where that is over a budget."""
    evaluator = Evaluator(problem, (0,) * len(problem.options))
    resident = evaluator.keep(evaluator.used)
    if len(resident) < len(evaluator.used) or not evaluator.fits(resident):
        return None
    return evaluator.outcome(resident, 0)


def enumerate_decisions(problem: Problem, small: bool) -> Outcome:
    """The best of all decisions and rings: most are never simulated, since reads or calls alone take longer than the best."""
    rows = []
    for number, (evaluator, resident) in enumerate(every_decision(problem, small)):
        if evaluator.fits(resident):
            rows.append((max(evaluator.compute, evaluator.io(resident)), number, evaluator, resident))
    rows.sort(key=lambda row: row[:2])
    best: Outcome | None = None
    for bound, _, evaluator, resident in rows:
        if best is not None and bound > best.seconds * (1 + GAIN):
            break
        outcome = evaluator.best_ring(resident, most=1 << 20)
        if outcome is not None and (best is None or outcome.rank < best.rank):
            best = outcome
    assert best is not None, "feasibility is checked before"
    return best


def simple_bound(problem: Problem) -> float:
    """Seconds that no plan beats: all calls, each by its cheapest candidate, one after the other, which is also the critical path
    of one device; or reading once, at the best rate of any store, what cannot be resident."""
    compute = sum(min(option.seconds for option in options) for options in problem.options)
    rate = max((s.padded / s.seconds for s in problem.stores if s.seconds), default=0.0)
    if not rate:
        return compute
    needed: dict[str, int] = {}
    for options in problem.options:
        for weight in set.intersection(*({problem.stores[s].weight for s in o.stores} for o in options)):
            sizes = [problem.stores[s].nbytes for o in options for s in o.stores if problem.stores[s].weight == weight]
            needed[weight] = min(needed.get(weight, sizes[0]), *sizes)
    room = problem.budget - problem.fixed
    return max(compute, (sum(needed.values()) - room) / rate)


class _Improver:
    """Local search over the stores that stay, under one choice of options."""

    def __init__(self, evaluator: Evaluator, small: bool, effort: int) -> None:
        self.evaluator, self.problem = evaluator, evaluator.problem
        rows = self.problem.stores
        can_stay = evaluator.keep(evaluator.used)
        self.free = [
            s for s in sorted(can_stay) if rows[s].may_stream and not (small and rows[s].small and rows[s].may_stay)
        ]
        self.first = {s: k for k, s in reversed(evaluator.uses)}
        self.left = effort // max(len(evaluator.uses), 1)

    def run(self, start: Outcome, bound: float) -> Outcome:
        best = start
        for step in (self.fill, self.trade_ring, self.exchange, self.fill, self.trade_ring, self.exchange):
            if best.seconds <= bound * (1 + GAIN) or self.left <= 0:
                break
            best = step(best)
        final = self.evaluator.best_ring(best.decision.resident)
        return best if final is None else min(best, final, key=lambda outcome: outcome.rank)

    def better(self, resident: frozenset[int], than: Outcome) -> Outcome | None:
        """The outcome of other resident stores where it is feasible and faster, with the full ring or a part of it."""
        self.left -= 1
        found = self.evaluator.outcome(resident)
        return found if found is not None and found.seconds < than.seconds * (1 - GAIN) else None

    def fill(self, best: Outcome) -> Outcome:
        """Keep whatever still fits, the longest to read first."""
        streamed = [s for s in self.free if s not in best.decision.resident]
        failed = 0
        for store in sorted(streamed, key=lambda s: (-self.problem.stores[s].seconds, s)):
            if self.left <= 0 or failed >= PATIENCE:
                break
            resident = best.decision.resident
            if self.problem.stores[store].resident <= self.evaluator.room(resident):
                found = self.better(resident | {store}, best)
                best, failed = (found, 0) if found is not None else (best, failed + 1)
        return best

    def trade_ring(self, best: Outcome) -> Outcome:
        """Give memory of resident weights to the ring, spread over the run, or take it back."""
        improved = True
        while improved and self.left > 0:
            improved = False
            resident = best.decision.resident
            kept = sorted((s for s in self.free if s in resident), key=lambda s: self.first[s])
            for parts in (1, 2, 4, 8):
                some = kept[len(kept) // (2 * parts) :: max(len(kept) // parts, 1)][:parts]
                if some and (found := self.better(resident - set(some), best)) is not None:
                    best, improved = found, True
                    break
        return best

    def exchange(self, best: Outcome) -> Outcome:
        """Keep what calls wait for longest, and stream instead what is nearest in size, wherever in the run."""
        improved = True
        while improved and self.left > 0:
            improved = False
            stalls = sorted(self.evaluator.stalls(best), key=lambda pair: (-pair[0], pair[1]))
            wanted = [s for s in dict.fromkeys(s for _, s in stalls) if s in self.free][:12]
            for store in wanted:
                if (found := self.swap_in(store, best)) is not None:
                    best, improved = found, True
                    break
        return best

    def swap_in(self, store: int, best: Outcome) -> Outcome | None:
        rows, resident = self.problem.stores, best.decision.resident
        kept = [s for s in self.free if s in resident]
        lacking = rows[store].resident - (self.evaluator.room(resident) - best.decision.ring)
        ways: list[frozenset[int]] = [frozenset()]
        enough = [s for s in kept if rows[s].resident >= lacking]
        near = sorted(enough, key=lambda s: (rows[s].resident, abs(self.first[s] - self.first[store]), s))
        far = sorted(enough, key=lambda s: (rows[s].resident, -abs(self.first[s] - self.first[store]), s))
        ways += [frozenset({s}) for s in dict.fromkeys((*near[:3], *far[:6], *_spread(near, 6)))]
        for out in ways:
            if self.left <= 0:
                return None
            if (found := self.better((resident - out) | {store}, best)) is not None:
                return found
        return None


def _spread(items: list[int], count: int) -> list[int]:
    """So many of the items, evenly."""
    return items[:: max(len(items) // count, 1)][:count]
