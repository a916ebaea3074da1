"""The verifier of a plan's loops: they nest, threads agree on when they end, and what a trip leaves is there for the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from .dims import symbols_of
from .plan import Arg, Plan
from .types import TensorType, bool_

Fail = Callable[..., NoReturn]


def lives_until(plan: Plan, uses: Sequence[int]) -> int:
    """The last call that needs a buffer, of those that mention it: what is there in front of a loop stays for all of its trips."""
    last = uses[-1]
    for loop in plan.loops:
        if uses[0] < loop.first and any(loop.first <= use <= loop.last for use in uses):
            last = max(last, loop.last)
    return last


def check_loops(plan: Plan, fail: Fail) -> None:
    """What the plan alone tells. Calls `fail(what, where, hint)` for the first rule broken."""
    around: list[tuple[int, int]] = []
    for number, loop in enumerate(plan.loops):
        where = f"loop {number} (calls {loop.first}:{loop.last})"
        if not 0 < loop.first <= loop.last < len(plan.calls):
            fail(f"the plan has {len(plan.calls)} calls", where, "something in front of it makes what it carries")
        while around and around[-1][1] < loop.first:
            around.pop()
        if (number and plan.loops[number - 1].first >= loop.first) or (around and around[-1][1] <= loop.last):
            fail("stands behind one that begins later, or begins or ends with it", where, "loops nest")
        around.append((loop.first, loop.last))
        if not plan.calls[loop.first].barrier:
            fail("begins without a barrier", where, "all threads see the same trip")
        if loop.last + 1 < len(plan.calls) and not plan.calls[loop.last + 1].barrier:
            fail("has no barrier behind it", where, "what lives as long as the loop ends with it")
        if late := next((n for n in range(loop.first, loop.last + 1) if plan.calls[n].needs), None):
            fail(f"call {late} waits for reads", where, "weights of loops are resident")
        for region in plan.regions:
            apart = region.last < loop.first or loop.last < region.first
            if not apart and not region.first <= loop.first <= loop.last <= region.last:
                fail(f"begins or ends in the region of calls {region.first}:{region.last}, or has it inside", where)
        _check_dim(plan, number, where, fail)
        _check_condition(plan, loop.condition, loop.first, where, fail)
    _check_carried(plan, fail)


def _check_dim(plan: Plan, number: int, where: str, fail: Fail) -> None:
    """Its trips are counted by a dim of its own, from 0, which nothing outside has."""
    loop, names = plan.loops[number], list(plan.symbols)
    if not 0 <= loop.trip < len(names) or plan.symbols[names[loop.trip]].min:
        fail(f"counts its trips by dim {loop.trip}", where, "one that begins with 0")
    name = names[loop.trip]
    if any(other.trip == loop.trip for other in plan.loops[:number]) or any(
        Arg("dim", loop.trip) in call.args for call in plan.calls
    ):
        fail(f"counts its trips by the dim {name}, which something else sets", where)
    for port in (*plan.inputs, *plan.outputs):
        if any(name in symbols_of(extent) for extent in port.type.shape):
            fail(f"counts its trips by the dim {name}, which {port.name!r} has", where)
    for buffer in plan.buffers:
        if any(name in symbols_of(d) for d in buffer.type.shape) and not (loop.first <= buffer.first <= loop.last):
            fail(f"counts its trips by the dim {name}, which %{buffer.name} outside has", where)


def _check_condition(plan: Plan, condition: Arg | None, first: int, where: str, fail: Fail) -> None:
    if condition is None:
        return
    if condition.space != "buffer" or not 0 <= condition.index < len(plan.buffers):
        fail(f"asks {condition.space} {condition.index}", where, "a buffer that exists")
    buffer = plan.buffers[condition.index]
    if buffer.type != TensorType(bool_, ()) or not buffer.first < first:
        fail(f"asks %{buffer.name} of type {buffer.type}", where, "one bool that is there before")


def _check_carried(plan: Plan, fail: Fail) -> None:
    """A buffer is carried by one loop: it is there in front of it, one call of the loop writes over it, and none reads it then."""
    for number, buffer in enumerate(plan.buffers):
        old = [n for n, call in enumerate(plan.calls) if Arg("buffer", number) in call.args]
        new = [n for n, call in enumerate(plan.calls) if Arg("carry", number) in call.args]
        if not new:
            continue
        where = f"buffer {number} (%{buffer.name})"
        inside = [loop for loop in plan.loops if loop.first <= new[0] <= loop.last]
        if not old or not any(old[0] < loop.first for loop in inside):
            fail(f"is carried by call {new[0]}, which is in no loop that begins behind its first use", where)
        if old[-1] > new[0]:
            fail(
                f"is read by call {old[-1]}, but call {new[0]} has written over it",
                where,
                "behind it there is `carry` only",
            )
