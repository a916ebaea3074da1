"""Errors that say what, where and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: so many nodes are named of those with one problem
_SHOWN = 3


@dataclass(frozen=True)
class Source:
    """Where a node came from: the model file and the node's name in it."""

    file: str = ""
    node: str = ""

    def __str__(self) -> str:
        return ":".join(part for part in (self.file, self.node) if part) or "(no source)"


class StratacError(Exception):
    """A user-visible failure.

    `what` says what went wrong; `op`, `level`, `source` and `pass_name` say where; `hint` says what to try.
    `exit_code` is what the command line returns: 2 for bad input, 3 for a machine or environment that cannot do it.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        op: str = "",
        level: str = "",
        source: Source | None = None,
        pass_name: str = "",
        hint: str = "",
    ) -> None:
        self.what, self.op, self.level, self.pass_name, self.hint = what, op, level, pass_name, hint
        self.source = source
        super().__init__(str(self))

    def __str__(self) -> str:
        where = []
        if self.pass_name:
            where.append(f"after pass {self.pass_name}")
        if self.level:
            where.append(f"level {self.level}")
        if self.op:
            where.append(f"op {self.op}")
        if self.source and (self.source.file or self.source.node):
            where.append(f"at {self.source}")
        text = self.what
        if where:
            text += f" ({', '.join(where)})"
        if self.hint:
            text += f"; {self.hint}"
        return text


class VerifyError(StratacError):
    """An IR does not obey its level's rules: a defect of the compiler or of a hand-written text."""


class ModelError(StratacError):
    """A model cannot be compiled. Carries every problem found, so that one run reports all of them."""

    def __init__(self, what: str, problems: Iterable[Problem] = (), **where: object) -> None:
        self.problems = tuple(problems)
        super().__init__(what, **where)  # type: ignore[arg-type]

    def __str__(self) -> str:
        head = super().__str__()
        return "\n".join([head, *(f"  - {_entry(group)}" for group in grouped(self.problems))])

    def facts(self) -> dict[str, Any]:
        """As plain data: one entry for each reason, with every node it holds for."""
        return {
            "error": self.what,
            "hint": self.hint,
            "problems": [
                {
                    "op": group[0].op,
                    "what": group[0].what,
                    "hint": group[0].hint,
                    "count": len(group),
                    "nodes": [problem.source.node for problem in group],
                    "file": group[0].source.file,
                    "inputs": [list(types) for types in dict.fromkeys(problem.inputs for problem in group)],
                    "needs": list(dict.fromkeys(name for problem in group for name in problem.needs)),
                }
                for group in grouped(self.problems)
            ],
        }


class PlanError(StratacError):
    """A plan cannot be opened or run: tampered, truncated, of another version or for another machine."""


class EnvironmentProblem(StratacError):
    """The machine lacks what is needed: a compiler, disk space, a CPU feature, a writable folder."""

    exit_code = 3


@dataclass(frozen=True)
class Problem:
    """One reason why a model cannot be compiled. `needs` names inputs of the model whose values, known when compiling, would
    remove it; `inputs` are the types of the node's inputs, "?" where they are not known."""

    what: str
    op: str = ""
    source: Source = Source()
    hint: str = ""
    needs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.op} " if self.op else ""
        at = f" at {self.source}" if self.source.file or self.source.node else ""
        return f"{where}{self.what}{at}" + (f"; {self.hint}" if self.hint else "")


def grouped(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Problems that say the same of different nodes, together."""
    groups: dict[tuple[str, str, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.what, problem.op, problem.hint, problem.source.file), []).append(problem)
    return list(groups.values())


def _entry(group: list[Problem]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    nodes = ", ".join(problem.source.node for problem in group[:_SHOWN])
    more = f" and {len(group) - _SHOWN} more" if len(group) > _SHOWN else ""
    kinds = [", ".join(types) for types in dict.fromkeys(problem.inputs for problem in group) if types]
    of = f" of ({'), ('.join(kinds[:_SHOWN])}{' and others' if len(kinds) > _SHOWN else ''})" if kinds else ""
    hint = f"; {first.hint}" if first.hint else ""
    op = f"{first.op} " if first.op else ""
    return f"{op}{first.what}{of} at {len(group)} nodes of {first.source.file}: {nodes}{more}{hint}"
