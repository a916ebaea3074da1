"""Directed cases against the interpreter, on every ISA this CPU has, and contractions as plain loops."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from stratac.ir.interp import run

from . import cases_heavy, cases_simple
from .cases import CASES, SIZES, Case
from .harness import ISAS, Compiled, Only, check_bits, compiled, forest, same

assert cases_simple and cases_heavy  # register their cases
BY_NAME = {case.name: case for case in CASES}
HEAVY = [case for case in CASES if case.family]


@cache
def results(isa: str, loops: bool) -> tuple[Compiled, list[Mapping[str, Any]]]:
    """The plan of all cases, and its outputs at each of SIZES."""
    chosen = HEAVY if loops else CASES
    plan = compiled(forest([case.graph for case in chosen]), isa, library=Only("loops") if loops else None)
    found = []
    for seed, sizes in enumerate(SIZES):
        given = {f"g{i}.{k}": v for i, case in enumerate(chosen) for k, v in case.inputs(seed, sizes).items()}
        found.append(plan.run(given, 1))
        for threads in (2, 3, 4):
            check_bits(found[-1], plan.run(given, threads), f"{threads} threads give other bits than one at {sizes}")
    return plan, found


@cache
def expected(name: str, seed: int) -> dict[str, Any]:
    case = BY_NAME[name]
    return run(case.graph, case.inputs(seed, SIZES[seed]))


def check(case: Case, isa: str, loops: bool) -> None:
    number = (HEAVY if loops else CASES).index(case)
    _, found = results(isa, loops)
    for seed, sizes in enumerate(SIZES):
        for port, wanted in expected(case.name, seed).items():
            same(found[seed][f"g{number}.{port}"], wanted, case.tolerance, f"{port} at {sizes}")


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("isa", ISAS)
def test_case(isa: str, name: str) -> None:
    check(BY_NAME[name], isa, False)


@pytest.mark.parametrize("case", HEAVY, ids=lambda case: case.name)
def test_plain_loops_agree(case: Case) -> None:
    check(case, ISAS[0], True)


@pytest.mark.parametrize("case", HEAVY, ids=lambda case: case.name)
def test_heavy_family_is_chosen(case: Case) -> None:
    prefix = f"g{CASES.index(case)}."
    choices = results(ISAS[0], False)[0].levels.placed.choices.items()
    assert case.family in {c.chosen.candidate.family for value, c in choices if value.startswith(prefix)}
