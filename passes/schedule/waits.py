"""Where threads must wait for each other: an instruction that touches bytes an earlier one since the last barrier also touches,
unless both only read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Touch:
    """A byte range one instruction reads or writes: `space` tells arenas, inputs and outputs apart."""

    space: str
    start: int
    end: int
    writes: bool


def conflict(a: Touch, b: Touch) -> bool:
    return a.space == b.space and a.start < b.end and b.start < a.end and (a.writes or b.writes)


def barriers(instructions: Sequence[Sequence[Touch]]) -> list[bool]:
    """For each instruction, whether it must wait for all earlier ones. The first never waits: a run starts with one."""
    flags: list[bool] = []
    since: list[Touch] = []
    for touches in instructions:
        wait = any(conflict(a, b) for a in since for b in touches)
        flags.append(wait)
        since = list(touches) if wait else since + list(touches)
    return flags
