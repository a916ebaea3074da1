"""Inputs that the user ties to outputs: state, which a plan keeps from one run to the next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from ...ir.builder import GraphBuilder
from ...ir.dims import symbols_of
from ...ir.errors import Source
from ...ir.graph import Port
from ...ir.types import TensorType
from .unsupported import Problems, Unsupported


class Ties:
    """`pairs` gives for inputs the outputs they become, by name: what one run leaves there, the next one finds. They start as
    zeros."""

    def __init__(self, builder: GraphBuilder, pairs: Mapping[str, str], problems: Problems) -> None:
        self.builder, self.pairs, self.problems = builder, pairs, problems

    def start(self, name: str, kind: TensorType) -> str:
        """The value of an input of the model, which is a state where it is tied."""
        if name not in self.pairs:
            return self.builder.input(name, kind)
        if free := sorted({dim for extent in kind.shape for dim in symbols_of(extent)}):
            what = f"cannot be state: it is {kind}, and its extents must be constant"
            self._refuse(name, what, " ".join(f"--dim {dim}=N" for dim in free))
        return self.builder.state(name, kind)

    def end(self, ports: Iterable[Port]) -> tuple[list[Port], dict[str, str]]:
        """The outputs that are left, and what states become: the values of those that are tied."""
        values = {port.name: port.value for port in ports}
        types, tied = self.builder.types, {state.name: state.value for state in self.builder.states}
        updates: dict[str, str] = {}
        for name, output in self.pairs.items() if not self.problems else ():
            if name not in tied:
                self._unknown("input", name, name, [port.name for port in self.builder.inputs])
            elif output not in values:
                self._unknown("output", name, output, list(values))
            elif types[values[output]] != types[tied[name]]:
                have, found = types[tied[name]], types[values[output]]
                what = f"is {have}, but the output {output!r} that it would become is {found}"
                self._refuse(name, what, "a state keeps its type; caches that grow with each run cannot be one")
            else:
                updates[name] = values[output]
        gone = set(self.pairs.values())
        return [Port(name, value) for name, value in values.items() if name not in gone], updates

    def _unknown(self, kind: str, name: str, wanted: str, names: list[str]) -> None:
        near = difflib.get_close_matches(wanted, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"its {kind}s are {', '.join(map(repr, names)) or 'none'}"
        self._refuse(name, f"cannot be state: the model has no {kind} {wanted!r} of numbers", hint)

    def _refuse(self, name: str, what: str, hint: str) -> None:
        self.problems.add(Unsupported(f"input {name!r} {what}", hint), "", Source(self.problems.file, name))
