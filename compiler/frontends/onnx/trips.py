"""How often the body of a loop runs, and what its iterations give, while it is unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from ....ir.dims import Dim, dim_max, dim_min
from ....ir.errors import VerifyError
from ....ir.types import bool_, i64
from .. import contents
from ..known import Known
from ..unsupported import Unsupported
from .bodies import plain_name
from .sequences import join, rank_of
from .site import Site
from .structured import Strings, Value


class Stacks:
    """What the iterations of a loop give beside the values they carry: one list for each output."""

    def __init__(self, site: Site, graph: onnx.GraphProto, count: int) -> None:
        self.site, self.graph = site, graph
        self.rows: list[list[Value]] = [[] for _ in range(count)]

    def add(self, values: Sequence[Value], active: str = "") -> None:
        """One iteration's; zeros unless `active`, where that is given."""
        for index, (row, value) in enumerate(zip(self.rows, values, strict=True)):
            row.append(self._blank(index, value, active) if active else value)

    def _blank(self, index: int, value: Value, active: str) -> str:
        if not isinstance(value, (str, Known)):
            text = f"stacks {self._label(index)!r}, which is no tensor of numbers, until the data ends the loop"
            raise Unsupported(text)
        data = self.site.data(value)
        return self.site.emit("where", active, data, self.site.scalar(0, self.site.type_of(data).dtype))

    def _label(self, index: int) -> str:
        return plain_name(self.graph.output[len(self.graph.output) - len(self.rows) + index].name)

    def stacked(self, index: int, axis: int = 0, backwards: bool = False, sample: Value | None = None) -> Value:
        """One output of all iterations, stacked along an axis. Without any, `sample` has the type of one."""
        row = self.rows[index][::-1] if backwards else self.rows[index]
        for value in row or (sample,):
            if not isinstance(value, (str, Known, Strings)):
                raise Unsupported(f"stacks {self._label(index)!r}, which is no tensor")
        try:
            if row:
                place = self.site.axis(axis, rank_of(self.site, row[0]) + 1)
                return join(self.site, tuple(row), place, True)
        except VerifyError as error:
            raise Unsupported(f"cannot stack {self._label(index)!r} of all iterations: {error}") from None
        assert sample is not None
        return _none_of(self.site, sample, self.site.axis(axis, rank_of(self.site, sample) + 1))


def _none_of(site: Site, sample: Value, axis: int) -> Value:
    """No values of a type, stacked."""
    if isinstance(sample, Strings):
        shape = (*sample.type.shape[:axis], 0, *sample.type.shape[axis:])
        value = site.data(contents.full(sample.type.dtype, shape, 0))
        return Strings(value, site.type_of(value))
    assert isinstance(sample, (str, Known))
    type = site.type_of(sample)
    return contents.full(type.dtype, (*type.shape[:axis], 0, *type.shape[axis:]), 0)


@dataclass(frozen=True)
class End:
    """`count` iterations ran; `numbers` are theirs where the data said so. Where there should have been more than planned, the run
    fails for whoever depends on the count (`bounded`)."""

    count: Dim
    numbers: str = ""
    bounded: bool = False

    def cut(self, site: Site, stacked: Value, axis: int, backwards: bool = False) -> Value:
        """Of what is stacked, the rows of iterations that ran."""
        if not isinstance(stacked, (str, Known)):
            raise Unsupported("stacks what is no tensor of numbers until the data ends the loop")
        value = site.data(stacked)
        if self.numbers:
            return site.emit("gather", value, self.numbers, axis=axis)
        return site.slice(value, axis, site.type_of(value).shape[axis] - self.count if backwards else 0, self.count)

    def held(self, site: Site, value: Value) -> Value:
        """A carried value that is known no sooner than the count, if that may be too great."""
        return site.after(self.count, value) if self.bounded and isinstance(value, str) else value


class Endless(Unsupported):
    """When a loop ends is found during a run, and nobody says how many iterations there are at most."""


class Trips:
    """How often a body runs. `most` is the count of iterations as far as it is known before a run: a dim, or None. Where only the
    data says it, `value` does, if anything; then as many iterations as `planned` are made ready."""

    def __init__(self, site: Site, most: Dim | None, value: str = "") -> None:
        self.site, self.most, self.value = site, most, value
        self.least, greatest = (0, None) if most is None else site.facts.range(most)
        self.planned: int | None = greatest if most is not None else site.importer.trips or None
        self.active = ""  # whether the iterations so far went on, where a run finds that out
        self.flags: list[str] = []  # the same of every iteration
        self.by_data = False  # and not by the dims alone
        self.further = ""  # whether there would be more iterations than are planned

    def goes(self, done: int, condition: bool | str) -> bool:
        """Whether there may be an iteration after `done` ones; then `active` says whether there is. Raises Endless where that
        is found during a run and no number of iterations is planned."""
        if condition is False or (self.most is not None and self.planned is not None and done >= self.planned):
            return False
        asked = [] if condition is True else [condition]
        count = self.value
        if self.most is not None and done >= self.least:
            count = self.site.data(contents.scalar(i64, self.most))
        if count:
            asked.append(self.site.emit("lt", self.site.scalar(done, i64), count))
        self.by_data |= bool(self.value or isinstance(condition, str))
        if not asked and not self.active:
            self.flags.append(self.site.scalar(True, bool_))
            return True
        if self.planned is None:
            raise Endless("when the loop ends depends on the data, and there is no greatest number of iterations")
        active = self.active
        for one in asked:
            # not `and`: what a later condition is computed from is not needed behind the end
            active = self.site.emit("where", active, one, self.site.scalar(False, bool_)) if active else one
        if done >= self.planned:
            self.further = active
            return False
        self.active = active
        self.flags.append(active)
        return True

    def position(self, done: int) -> Dim:
        """The number of an iteration; where dims alone say whether it runs, the last one that does if it does not, so that what is
        looked up by it is there."""
        if self.most is None or done < self.least:
            return done
        return dim_max(dim_min(done, self.most - 1), 0)

    def end(self) -> End | None:
        """What a run finds out about the end; None where it finds nothing."""
        if not self.active and not self.further:
            return None
        if self.most is not None and not self.by_data:
            return End(dim_max(self.most, 0) if self.least < 0 else self.most)
        flags = [*self.flags, *([self.further] if self.further else [])]
        vector = [self.site.reshape(flag, (1,)) for flag in flags]
        found = self.site.runtime_dim("trips", len(self.flags))
        joined = self.site.emit("concat", *vector, axis=0) if len(vector) > 1 else vector[0]
        return End(found, self.site.emit("nonzero", joined, count=found), bool(self.further))
