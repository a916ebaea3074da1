"""Placement under a memory budget as a mixed-integer program, solved by HiGHS.

Decided are the option of each cluster, which stores stay in memory, and the ring. Let E(k) be the end of call k, F(k) the end
of its reads, Q(k) the seconds of all reads up to it, and R the seconds the ring's bytes take to read:

    E(k) >= E(k-1) + seconds(k)          calls run in order
    E(k) >= F(k) + seconds(k)            behind their reads,
    F(k) >= F(k-1) + reads(k)            which happen in order;
    E(k) >= E(j) - Q(j-1) + Q(k) - R + seconds(k)
                                         from E(j) on, all is read that calls j .. k need and the ring did not hold then

The last, for every j < k, costs one variable for each k: the greatest E(j) - Q(j-1) so far. All of them go around the end of a
run with the period M, which is what is made least. The program ignores that a ring is cut by its end and that a read cannot
be split, so its bound holds for every plan; the searches behind it look at the real ring.

Solved on one thread, with limits on nodes and gap and none on time: equal problems have equal answers on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..schedule.ledger import workspace_bytes
from .problem import Decision, Option, Problem

GAP = 2e-3
NODES = 60
#: an option is worth a variable up to this many times the cheapest one's seconds
WORTH = 10.0
#: programs with more stores than this have shares of them instead of yes and no
WHOLE = 24
#: in programs with at most this many clusters every option that may be better is worth it
SHORT = 64
#: and if it takes this share less memory
THRIFT = 0.95


@dataclass(frozen=True)
class Program:
    """The program's decision, seconds that no plan beats, and what it was: an integer program, or a linear one, rounded."""

    decision: Decision
    bound: float
    name: str


@dataclass
class Rows:
    """Columns and rows under way."""

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[int] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def column(self, lower: float = 0.0, upper: float = np.inf, cost: float = 0.0, integer: bool = False) -> int:
        self.cost.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        if integer:
            self.integer.append(len(self.cost) - 1)
        return len(self.cost) - 1

    def at_least(self, terms: dict[int, float], bound: float) -> None:
        """The row sum(terms) >= bound."""
        self.row_lower.append(bound)
        self.index += terms.keys()
        self.value += terms.values()
        self.starts.append(len(self.index))


def solve(problem: Problem, small: bool, known: Decision | None = None) -> Program | None:
    """`known` is a decision that fits: its options are always among the program's. None where none is found within the limits."""
    return _Builder(problem, small, known.options if known else ()).solve()


def worthwhile(problem: Problem, cluster: int) -> list[int]:
    """The options that may be better than the cheapest: none makes them pointless, they save memory and do not cost too much."""
    options = problem.options[cluster]

    def weight(option: Option) -> float:
        return sum(problem.stores[s].resident for s in option.stores) + problem.threads * option.workspace

    best = weight(options[0])
    return [
        number
        for number in problem.live[cluster]
        if number == 0
        or len(problem.options) <= SHORT
        or options[number].direct
        or (options[number].seconds <= WORTH * options[0].seconds and weight(options[number]) < THRIFT * best)
    ]


def run_highs(rows: Rows, gap: float, nodes: int) -> tuple[list[float], float] | None:
    """Values of the columns and the dual bound of `min cost`; None where it is infeasible."""
    import highspy

    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    for key, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", 1),
        ("mip_rel_gap", gap),
        ("mip_max_nodes", nodes),
        ("mip_max_leaves", nodes),
        ("mip_max_improving_sols", 20),
        ("mip_heuristic_effort", 0.1),
    ):
        solver.setOptionValue(key, value)
    program: Any = highspy.HighsLp()
    program.num_col_, program.num_row_ = len(rows.cost), len(rows.row_lower)
    program.col_cost_, program.col_lower_, program.col_upper_ = (
        np.array(part, dtype=np.double) for part in (rows.cost, rows.lower, rows.upper)
    )
    program.row_lower_ = np.array(rows.row_lower, dtype=np.double)
    program.row_upper_ = np.full(len(rows.row_lower), highspy.kHighsInf)
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_ = np.array(rows.starts)
    program.a_matrix_.index_ = np.array(rows.index)
    program.a_matrix_.value_ = np.array(rows.value, dtype=np.double)
    kinds = [highspy.HighsVarType.kContinuous] * len(rows.cost)
    for number in rows.integer:
        kinds[number] = highspy.HighsVarType.kInteger
    program.integrality_ = kinds
    solver.passModel(program)
    solver.run()
    info = solver.getInfo()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    return list(solver.getSolution().col_value), float(
        info.mip_dual_bound if rows.integer else info.objective_function_value
    )


@dataclass(frozen=True)
class _Reads:
    """What the reads of a call take, each as shares of columns and what is certain: seconds of the disk, bytes of the ring, and
    seconds by which the call is delayed."""

    seconds: tuple[dict[int, float], float]
    bytes: tuple[dict[int, float], float]
    delay: tuple[dict[int, float], float]


class _Builder:
    """The program of one problem. Times are in units of all calls' seconds, bytes in units of the budget."""

    def __init__(self, problem: Problem, small: bool, known: tuple[int, ...]) -> None:
        self.problem, self.rows, self.known = problem, Rows(), known
        self.second = 1.0 / max(sum(options[0].seconds for options in problem.options), 1e-12)
        self.byte = 1.0 / max(problem.budget - problem.fixed, 1)
        self.kept: dict[int, int] = {}  # store -> column, 1 where it stays
        self.always: set[int] = set()  # stores that stay in any case
        self.small = small
        free = sum(self.streams(store) for store in range(len(problem.stores)))
        self.whole = free <= WHOLE  # each store stays or does not; else a share of it may, which is rounded
        self.picks: list[dict[int, int]] = []  # cluster -> option -> column, where there are several

    def streams(self, store: int) -> bool:
        row = self.problem.stores[store]
        return row.may_stream and not (self.small and row.small and row.may_stay)

    def solve(self) -> Program | None:
        problem, rows = self.problem, self.rows
        rates = [s.seconds / s.padded for n, s in enumerate(problem.stores) if self.streams(n)]
        period = rows.column(cost=1.0)
        ring = rows.column()
        workspace = rows.column()
        memory: dict[int, float] = {ring: -1.0, workspace: -1.0}
        options = [worthwhile(problem, number) for number in range(len(problem.options))]
        options = [sorted({*some, *self.known[n : n + 1]}) for n, some in enumerate(options)]
        whole = all(len(some) == len(live) for some, live in zip(options, problem.live, strict=True))
        spent = 0.0
        for number, row in enumerate(problem.options):
            self.add_stores([row[o] for o in options[number]], len(options[number]) > 1)
        for store, column in self.kept.items():
            memory[column] = -problem.stores[store].resident * self.byte
        spent += sum(problem.stores[s].resident for s in self.always) * self.byte
        rate = max(rates, default=0.0) * self.second / self.byte  # seconds of a byte, in units
        start_reads, start_best = rows.column(-np.inf), rows.column(-np.inf)
        end, read, total, best = -1, start_reads, -1, start_best
        waiting = 0.0  # seconds of calls in front that read nothing
        tail: dict[int, float] = {}
        for number, row in enumerate(problem.options):
            picks = self.pick(number, options[number])
            seconds, fixed = self.seconds(row, picks)
            if picks:
                rows.at_least({workspace: 1.0, **{c: -self.share(row[o]) for o, c in picks.items()}}, 0.0)
            else:
                rows.lower[workspace] = max(rows.lower[workspace], self.share(row[0]))
            reads = self.reads(row, picks)
            (io, io_fixed), (held, held_fixed) = reads.seconds, reads.bytes
            seconds = {c: seconds.get(c, 0.0) + reads.delay[0].get(c, 0.0) for c in {**seconds, **io}}
            fixed += reads.delay[1]
            if not io and not io_fixed and not picks:
                waiting += fixed
                continue
            rows.at_least({ring: 1.0, **{c: -v for c, v in held.items()}}, held_fixed)
            new_end, new_read, new_total, new_best = (rows.column(low) for low in (0.0, -np.inf, 0.0, -np.inf))
            minus_seconds = {c: -v for c, v in seconds.items()}
            minus_io = {c: -v for c, v in io.items()}
            rows.at_least({new_end: 1.0, **({end: -1.0} if end >= 0 else {}), **minus_seconds}, fixed + waiting)
            rows.at_least({new_end: 1.0, new_read: -1.0, **minus_seconds}, fixed)
            rows.at_least({new_read: 1.0, read: -1.0, **minus_io}, io_fixed)
            rows.at_least({new_total: 1.0, **({total: -1.0} if total >= 0 else {}), **minus_io}, io_fixed)
            rows.at_least({new_end: 1.0, best: -1.0, new_total: -1.0, ring: rate, **minus_seconds}, fixed)
            rows.at_least({new_best: 1.0, best: -1.0}, 0.0)
            rows.at_least({new_best: 1.0, new_end: -1.0, **({total: 1.0} if total >= 0 else {})}, 0.0)
            end, read, total, best, waiting = new_end, new_read, new_total, new_best, 0.0
        tail = {end: -1.0} if end >= 0 else {}
        rows.at_least({period: 1.0, **tail}, waiting)
        if end >= 0:
            rows.at_least({start_reads: 1.0, read: -1.0, period: 1.0}, 0.0)
            rows.at_least({start_best: 1.0, best: -1.0, period: 1.0, total: -1.0}, 0.0)
            rows.cost[total] = 1e-6  # of equal periods the one that reads least
        rows.lower[start_best] = 0.0
        rows.at_least(
            memory, spent - 1.0
        )  # without what rounding to whole blocks takes: the bound holds, the search repairs
        found = run_highs(rows, GAP, NODES)
        if found is None and rows.integer:  # none within the limits: shares of everything, rounded
            rows.integer.clear()
            found = run_highs(rows, GAP, NODES)
        if found is None:
            return None
        values, bound = found
        picked = tuple(max(picks, key=lambda o: (values[picks[o]], -o)) if picks else 0 for picks in self.picks)
        resident = frozenset(self.always | self.rounded(values))
        size = int(values[ring] / self.byte)
        least = max(0.0, bound * (1 - 1e-5)) / self.second if whole else 0.0
        name = "integer program" if rows.integer else "linear program"
        return Program(Decision(picked, resident, size), least, name)

    def rounded(self, values: list[float]) -> set[int]:
        """Stores that stay. Where the program gives only a share of each, so many bytes of every stretch of the run stay."""
        found, carry = set(), 0.0
        for store, column in self.kept.items():
            size = self.problem.stores[store].resident
            carry += values[column] * size
            if values[column] > 1 - 1e-6 or (values[column] > 1e-6 and carry >= size / 2):
                found.add(store)
                carry -= size
        return found

    def share(self, option: Option) -> float:
        return workspace_bytes([option.workspace]) * self.problem.threads * self.byte

    def add_stores(self, options: list[Option], several: bool) -> None:
        """A column for each store that may stay or be streamed; one that always stays, in the only option, has none."""
        for option in options:
            for store in option.stores:
                row = self.problem.stores[store]
                if store in self.kept or store in self.always:
                    continue
                if not self.streams(store) and not several:
                    self.always.add(store)
                else:
                    self.kept[store] = self.rows.column(0.0, 1.0 if row.may_stay else 0.0, 0.0, self.whole)

    def pick(self, number: int, options: list[int]) -> dict[int, int]:
        """Columns of a cluster's options, exactly one of which is 1; none where there is one option."""
        picks = {o: self.rows.column(0.0, 1.0, 0.0, True) for o in options} if len(options) > 1 else {}
        self.picks.append(picks)
        if picks:
            self.rows.at_least(dict.fromkeys(picks.values(), 1.0), 1.0)
            self.rows.at_least(dict.fromkeys(picks.values(), -1.0), -1.0)
            for option, column in picks.items():
                for store in self.problem.options[number][option].direct:
                    if store in self.kept:
                        self.rows.at_least({column: -1.0, self.kept[store]: -1.0}, -1.0)
        return picks

    def seconds(self, row: tuple[Option, ...], picks: dict[int, int]) -> tuple[dict[int, float], float]:
        """Seconds of a call: a share for each column, and what is certain."""
        if not picks:
            return {}, row[0].seconds * self.second
        return {column: row[option].seconds * self.second for option, column in picks.items()}, 0.0

    def reads(self, row: tuple[Option, ...], picks: dict[int, int]) -> _Reads:
        """What a call's reads take."""
        flowing: dict[int, tuple[float, float, float]] = {}
        fixed = (0.0, 0.0, 0.0)
        for option, pick in picks.items() or [(0, -1)]:
            for store in row[option].stores:
                if store in self.always:
                    continue
                entry = self.problem.stores[store]
                takes = (entry.seconds * self.second, entry.padded * self.byte, entry.cores * self.second)
                kept = self.kept[store]
                if pick < 0:  # streamed unless kept
                    flowing[kept] = (-takes[0], -takes[1], -takes[2])
                    fixed = (fixed[0] + takes[0], fixed[1] + takes[1], fixed[2] + takes[2])
                    continue
                flows = self.rows.column(0.0, 1.0 if self.streams(store) else 0.0)
                self.rows.at_least({flows: 1.0, pick: -1.0, kept: 1.0}, 0.0)
                flowing[flows] = takes
        return _Reads(*(({c: takes[n] for c, takes in flowing.items()}, fixed[n]) for n in range(3)))
