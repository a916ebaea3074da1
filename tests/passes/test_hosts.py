"""Splits over hosts: closed forms, brute force on small chains, and what may never happen."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratac.passes.place.collectives import (
    Way,
    all_gather_seconds,
    all_reduce_seconds,
    ring_all_reduce,
    star_all_reduce,
)
from stratac.passes.place.hosts import (
    Below,
    Chain,
    Fabric,
    Piece,
    Scale,
    Unit,
    balance,
    best_split,
    evaluate,
    scaling,
    simulate_pipeline,
    splits,
    stops_paying,
)

FAST, SLOW = Way(100e9, 1e-6), Way(1e9, 50e-6)
ROOMY = Unit(1e15)


def piece(seconds: float, weights: int = 0, **more: object) -> Piece:
    return Piece("p", seconds, 0.0, 0.0, 0.0, weights, **more)  # type: ignore[arg-type]


# -- collectives


def test_all_reduce_closed_forms() -> None:
    assert ring_all_reduce(8e9, 4, Way(1e9, 0.0)) == pytest.approx(2 * 3 / 4 * 8)
    assert star_all_reduce(8e9, 4, Way(1e9, 0.0)) == pytest.approx(2 * 3 * 8)
    assert ring_all_reduce(0, 4, Way(1e9, 1e-3)) == pytest.approx(6e-3)
    assert star_all_reduce(0, 4, Way(1e9, 1e-3)) == pytest.approx(2e-3)


def test_small_messages_take_the_star_and_large_ones_the_ring() -> None:
    for members in (4, 8, 16):
        assert all_reduce_seconds(1e3, members, SLOW) == star_all_reduce(1e3, members, SLOW)
        assert all_reduce_seconds(1e9, members, SLOW) == ring_all_reduce(1e9, members, SLOW)
    assert all_reduce_seconds(1e9, 1, SLOW) == all_reduce_seconds(0, 8, SLOW) == all_gather_seconds(0, 8, SLOW) == 0.0
    assert all_gather_seconds(8e9, 8, Way(1e9, 0.0)) == pytest.approx(7.0)


# -- balance


def brute_balance(seconds: list[float], held: list[float], stages: int, limit: float) -> float | None:
    """The least time of the slowest stage over every cut."""
    best = None
    count = len(seconds)
    for used in range(1, min(stages, count) + 1):
        for cuts in itertools.combinations(range(1, count), used - 1):
            ends = [0, *cuts, count]
            parts = list(itertools.pairwise(ends))
            if all(sum(held[a:b]) <= limit for a, b in parts):
                slowest = max(sum(seconds[a:b]) for a, b in parts)
                best = slowest if best is None else min(best, slowest)
    return best


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), min_size=1, max_size=9),
    st.integers(1, 5),
    st.integers(5, 60),
)
def test_balance_equals_brute_force(rows: list[tuple[int, int]], stages: int, limit: int) -> None:
    seconds, held = [float(s) for s, _ in rows], [float(h) for _, h in rows]
    cuts = balance(seconds, held, stages, limit)
    wanted = brute_balance(seconds, held, stages, limit)
    if wanted is None:
        assert cuts is None
        return
    assert cuts is not None and cuts[0] == 0 and len(cuts) <= stages and list(cuts) == sorted(set(cuts))
    parts = list(zip(cuts, (*cuts[1:], len(seconds)), strict=True))
    assert all(sum(held[a:b]) <= limit for a, b in parts)
    assert max(sum(seconds[a:b]) for a, b in parts) == pytest.approx(wanted)


# -- the pipeline


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 12), st.floats(0.01, 10))
def test_equal_stages_take_stages_plus_microbatches_minus_one(stages: int, batches: int, each: float) -> None:
    flow = simulate_pipeline([each] * stages, [0.0] * (stages - 1), batches)
    assert flow.seconds == pytest.approx((stages + batches - 1) * each)
    assert flow.bubble == pytest.approx((stages - 1) / (stages + batches - 1))


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 12))
def test_the_slowest_place_paces_the_pipeline(stages: list[int], batches: int, link: int) -> None:
    """A chain of servers in order: the first microbatch takes the sum, each further one the slowest place."""
    transfers = [float(link)] * (len(stages) - 1)
    flow = simulate_pipeline([float(s) for s in stages], transfers, batches)
    assert flow.seconds == pytest.approx(sum(stages) + sum(transfers) + (batches - 1) * max([*stages, *transfers]))


# -- splits

CHAIN = [piece(1.0, 10, sent=1e6, split=k % 2 == 0, reduce=1e6 if k % 4 == 2 else 0.0) for k in range(16)]


def fabric(hosts: int, per_host: int = 1, unit: Unit = ROOMY) -> Fabric:
    return Fabric(unit, per_host, FAST, SLOW, hosts)


def test_one_unit_is_the_sum() -> None:
    split = best_split(Chain(CHAIN), fabric(1))
    assert split is not None and split.seconds == pytest.approx(16.0) and split.memory == 160
    assert (split.stages, split.tensor, split.copies, split.exchange_s, split.bubble) == (1, 1, 1, 0.0, 0.0)


def test_a_tensor_group_divides_what_can_be_split_and_pays_for_sums() -> None:
    split = evaluate(Chain(CHAIN), fabric(4), 1, 4, 1)
    assert split is not None
    sums = 4 * all_reduce_seconds(1e6, 4, SLOW)
    assert split.seconds == pytest.approx(8 * 1.0 + 8 * 0.25 + sums)
    assert split.exchange_s == pytest.approx(sums)
    assert split.memory == pytest.approx(8 * 10 + 8 * 2.5)


def test_a_group_within_a_host_uses_the_link_inside() -> None:
    inside, across = evaluate(Chain(CHAIN), fabric(1, 4), 1, 4, 1), evaluate(Chain(CHAIN), fabric(4), 1, 4, 1)
    assert inside is not None and across is not None and inside.exchange_s < across.exchange_s / 10


def test_microbatches_fill_the_pipeline() -> None:
    chain = Chain([piece(1.0, 1, sent=1.0) for _ in range(8)])
    one, many = (evaluate(chain, fabric(4), 4, 1, m) for m in (1, 8))
    assert one is not None and many is not None
    assert one.seconds == pytest.approx(8.0, rel=1e-3) and one.bubble == pytest.approx(0.75, rel=1e-3)
    assert many.seconds == pytest.approx((4 + 8 - 1) * 2 / 8, rel=1e-3) and many.bubble < 0.3


def test_weights_are_not_divided_by_microbatches() -> None:
    chain = Chain([Piece("p", 0.0, 1.0, 0.5, 0.0, 1, sent=1.0) for _ in range(4)])
    split = evaluate(chain, fabric(2), 2, 1, 4)
    assert split is not None and split.seconds == pytest.approx((2 + 4 - 1) * 2 * (1.0 + 0.5 / 4), rel=1e-3)


def test_memory_decides_how_many_stages_there_must_be() -> None:
    small = replace(ROOMY, memory=45.0)
    found = [
        (s.stages, s.tensor) for s in splits(Chain([piece(1.0, 10) for _ in range(16)]), fabric(8, 1, small), 1, 1)
    ]
    assert found == [(4, 1), (8, 1)]
    assert best_split(Chain([piece(1.0, 50)]), fabric(8, 1, small)) is None


def test_what_does_not_fit_is_streamed_and_state_is_not() -> None:
    unit = Unit(100.0, (Below(40.0, 10.0), Below(1000.0, 1.0)))
    chain = Chain([piece(1.0, 10) for _ in range(16)])
    split = evaluate(chain, fabric(1, 1, unit), 1, 1, 1)
    assert split is not None and split.streamed == 60 and split.seconds == pytest.approx(max(16.0, 60 / 10, 20 / 1))
    assert split.starved and split.over == 60
    chosen = Chain([piece(0.1, 10, touched=0.25) for _ in range(16)])
    few = evaluate(chosen, fabric(1, 1, unit), 1, 1, 1)  # a quarter of the experts is read
    assert (
        few is not None
        and few.starved
        and few.seconds == pytest.approx(max(1.6, 15 / 10, 5 / 1))
        and few.streamed == 15
    )
    assert unit.streaming(2000.0) is None and unit.streaming(0.0) == 0.0
    assert evaluate(Chain([piece(1.0, 10, state=200)]), fabric(1, 1, unit), 1, 1, 1) is None


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_best_is_the_best_of_all_and_more_hosts_never_hurt(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = [
        Piece(
            "p",
            *rng.uniform(0, 1, 3),
            1e-6,
            int(rng.integers(0, 50)),
            0,
            1e6,
            bool(rng.integers(2)),
            1e6 * rng.integers(2),
        )
        for _ in range(10)
    ]
    chain, unit = Chain(pieces), Unit(float(rng.integers(60, 600)))
    rows = scaling(chain, fabric(1, 1, unit), (1, 2, 4, 8), 4, 8)
    seconds = [row.fastest.seconds if row.fastest is not None else math.inf for row in rows]
    assert all(later <= sooner * (1 + 1e-9) for sooner, later in itertools.pairwise(seconds))
    for row in rows:
        every = list(splits(chain, fabric(row.hosts, 1, unit), 4, 8))
        assert (row.fastest is None) == (row.busiest is None) == (not every)
        if row.fastest is not None and row.busiest is not None:
            assert row.fastest == best_split(chain, fabric(row.hosts, 1, unit), 4, 8)
            assert row.fastest.seconds == min(s.seconds for s in every)
            assert row.busiest.runs_per_second == max(s.runs_per_second for s in every)
            assert row.fastest.memory <= unit.memory
            assert row.fastest.stages * row.fastest.tensor * row.fastest.copies <= row.hosts


def test_stops_paying_names_the_last_count_that_helped() -> None:
    chain = Chain([piece(1.0, 10, split=True) for _ in range(8)])
    rows = scaling(chain, fabric(1), (1, 2, 4, 8), 1, 2)  # groups of at most two; more stages cannot help one run
    assert stops_paying(rows) == 2
    assert stops_paying([Scale(1, None, None), Scale(2, None, None)]) == 0
