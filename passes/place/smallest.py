"""The least memory any plan of a problem takes, with a decision that takes it: the answer where a budget is too small."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ..schedule.ledger import workspace_bytes
from .evaluate import Evaluator
from .problem import Decision, Option, Problem, ram_bytes, storage_bytes

#: problems with at most this many decisions are enumerated
FEW = 8192


@dataclass(frozen=True)
class _Way:
    """One way for one cluster: what it streams at once, and what it keeps."""

    ring: int
    option: int
    keeps: tuple[int, ...]


def decisions(problem: Problem, small: bool) -> int:
    """How many different sets of options and resident stores there are; at most a little above FEW is counted."""
    count = 1
    for row in problem.live:
        count *= len(row)
        if count > FEW:
            return count
    free = {s for option in _live(problem) for s in option.stores if _is_free(problem, s, small)}
    return count << min(len(free), 32)


def _live(problem: Problem) -> Iterator[Option]:
    for options, row in zip(problem.options, problem.live, strict=True):
        yield from (options[number] for number in row)


def _is_free(problem: Problem, store: int, small: bool) -> bool:
    """Whether a store may stay as well as be streamed. `small`: small ones stay."""
    row = problem.stores[store]
    return row.may_stay and row.may_stream and not (small and row.small)


def every_decision(problem: Problem, small: bool) -> Iterator[tuple[Evaluator, frozenset[int]]]:
    """Every choice of options with every set of resident stores. With `small`, small ones stay where they may."""
    for options in itertools.product(*problem.live):
        evaluator = Evaluator(problem, options)
        fixed = evaluator.keep(s for s in evaluator.used if not _is_free(problem, s, small))
        free = sorted(evaluator.keep(s for s in evaluator.used if _is_free(problem, s, small)))
        for count in range(len(free) + 1):
            for some in itertools.combinations(free, count):
                yield evaluator, fixed | frozenset(some)


def smallest(problem: Problem, small: bool) -> tuple[int, Decision] | None:
    """Least bytes of ram, and how. With `small`, weights that are small stay in memory where they may. None where some weight
    can be nowhere, or the storage budget is too small for any."""
    if decisions(problem, small) <= FEW:
        found = [
            (ram_bytes(problem, decision), decision)
            for evaluator, resident in every_decision(problem, small)
            if (decision := _decision(evaluator, resident)) is not None
        ]
        return min(found, key=lambda pair: (pair[0], pair[1].options, sorted(pair[1].resident)), default=None)
    return _by_thresholds(problem, small)


def _decision(evaluator: Evaluator, resident: frozenset[int]) -> Decision | None:
    problem = evaluator.problem
    if not all(problem.stores[s].may_stream for s in evaluator.reads(resident)[1]):
        return None
    decision = Decision(evaluator.options, resident, evaluator.least(resident))
    return decision if storage_bytes(problem, decision) <= problem.storage_budget else None


def _by_thresholds(problem: Problem, small: bool) -> tuple[int, Decision] | None:
    """For each workspace and each size of ring, every cluster takes the way that keeps least; the best total wins."""
    caps = sorted({workspace_bytes([option.workspace]) for option in _live(problem)})
    best: tuple[int, Decision] | None = None
    for cap in caps:
        ways = [_ways(problem, number, cap, small) for number in range(len(problem.options))]
        if not all(ways):
            continue
        for ring in sorted({way.ring for row in ways for way in row}):
            if best is not None and problem.fixed + ring + cap * problem.threads >= best[0]:
                break
            decision = _at(problem, ways, ring)
            if decision is None:
                continue
            count = ram_bytes(problem, decision)
            if best is None or count < best[0]:
                best = (count, decision)
    return best


def _ways(problem: Problem, cluster: int, cap: int, small: bool) -> list[_Way]:
    found = []
    for number in problem.live[cluster]:
        option = problem.options[cluster][number]
        if workspace_bytes([option.workspace]) > cap:
            continue
        rows = problem.stores
        free = [s for s in option.stores if _is_free(problem, s, small)]
        held = [s for s in option.stores if s not in free and rows[s].may_stay]
        flows = sum(rows[s].padded for s in option.stores if s not in free and not rows[s].may_stay)
        free.sort(key=lambda s: (rows[s].resident, s))
        every = itertools.chain.from_iterable(itertools.combinations(free, count) for count in range(len(free) + 1))
        for some in every if len(free) <= 5 else (tuple(free[:count]) for count in range(len(free) + 1)):
            keeps = (*held, *some)
            ring = flows + sum(rows[s].padded for s in free if s not in some)
            found.append(_Way(ring, number, keeps))
    return found


def _at(problem: Problem, ways: list[list[_Way]], ring: int) -> Decision | None:
    kept: set[int] = set()
    options = []
    for row in ways:
        fitting = [way for way in row if way.ring <= ring]
        if not fitting:
            return None
        way = min(
            fitting, key=lambda w: (sum(problem.stores[s].resident for s in w.keeps if s not in kept), w.option, w.ring)
        )
        kept |= set(way.keeps)
        options.append(way.option)
    evaluator = Evaluator(problem, tuple(options))
    return _decision(evaluator, evaluator.keep(kept))
