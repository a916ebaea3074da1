"""Directed cases against the interpreter, on every ISA this CPU has, and contractions as plain loops."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from stratac.ir.interp import run

from . import cases_heavy, cases_recurrent, cases_routines, cases_simple, cases_strings, cases_trees
from .cases import CASES, SIZES
from .harness import EMULATED, ISAS, Compiled, Only, check_bits, compile_levels, compiled, forest, same

assert (
    cases_simple and cases_heavy and cases_recurrent and cases_routines and cases_strings and cases_trees
)  # register their cases
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
        for threads in (3,) if isa in EMULATED else (2, 3, 4):
            check_bits(found[-1], plan.run(given, threads), f"{threads} threads give other bits than one at {sizes}")
    return plan, found


@cache
def expected(name: str, seed: int) -> dict[str, Any]:
    case = BY_NAME[name]
    return run(case.graph, case.inputs(seed, SIZES[seed]))


def check(isa: str, loops: bool) -> None:
    """Every case; the message names those that fail. One test for all, since one compilation is for all."""
    wrong = []
    _, found = results(isa, loops)
    for number, case in enumerate(HEAVY if loops else CASES):
        for seed, sizes in enumerate(SIZES):
            try:
                for port, wanted in expected(case.name, seed).items():
                    same(found[seed][f"g{number}.{port}"], wanted, case.tolerance, f"{port} at {sizes}")
            except AssertionError as error:
                wrong.append(f"{case.name}: {' '.join(str(error).split())[:400]}")
                break
    assert not wrong, f"{len(wrong)} of {number + 1} cases on {isa}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("isa", [*ISAS, *EMULATED[:1]])
def test_cases(isa: str) -> None:
    check(isa, False)


def test_plain_loops_agree() -> None:
    check(ISAS[0], True)


def test_heavy_families_are_chosen() -> None:
    graph = forest([case.graph for case in HEAVY])
    choices = compile_levels(graph, ISAS[0]).placed.choices.items()
    for number, case in enumerate(HEAVY):
        families = {c.chosen.candidate.family for value, c in choices if value.startswith(f"g{number}.")}
        assert case.family in families, case.name
