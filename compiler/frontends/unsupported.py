"""What a model has that cannot be imported."""

from __future__ import annotations

from ...ir.errors import ModelError, Problem, Source, grouped

#: Copies of graphs inside nodes (iterations of loops, branches) may have so many nodes together.
UNROLLED = 1 << 14


class Unsupported(Exception):
    """A rule, or a tensor, cannot be imported. `follows` marks what may only be a consequence of an earlier problem, `needs`
    are inputs of the model whose values would have to be known."""

    def __init__(self, what: str, hint: str = "", follows: bool = False, needs: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what, self.hint, self.follows, self.needs = what, hint, follows, needs


class Consequence(Unsupported):
    """What follows from problems that have been reported."""


class UnsupportedType(Unsupported):
    """An element type that cannot be computed in; these are reported once per type."""

    def __init__(self, dtype: str) -> None:
        super().__init__(f"element type {dtype} is not supported")
        self.dtype = dtype


class TooMany(Unsupported):
    """More nodes than loops may have when they are unrolled."""


class Problems:
    """What has been found to be wrong with a model so far: the rest of it is looked at too."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Problem] = []
        self.types: dict[str, list[str]] = {}  # element types that are not supported -> where they were met
        self.cause: BaseException | None = None  # of the first that was not foreseen

    def __len__(self) -> int:
        return len(self.found) + len(self.types)

    def mark(self) -> tuple[int, dict[str, int]]:
        """How many there are, to come back to by `take_back`."""
        return len(self.found), {name: len(places) for name, places in self.types.items()}

    def take_back(self, mark: tuple[int, dict[str, int]]) -> str:
        """Those found since are none; what the first of them was."""
        count, types = mark
        first = next((problem.what for problem in self.found[count:]), "")
        del self.found[count:]
        self.types = {name: places[: types[name]] for name, places in self.types.items() if name in types}
        return first

    def add(self, error: Unsupported, op: str, source: Source, inputs: tuple[str, ...] = ()) -> None:
        """`inputs` are the types of the node's inputs for people."""
        self.cause = self.cause or error.__cause__
        if isinstance(error, UnsupportedType):
            self.types.setdefault(error.dtype, []).append(source.node)
        else:
            self.found.append(Problem(error.what, op, source, error.hint, error.needs, inputs))

    def check(self) -> None:
        """Raise ModelError with all of them, if there are any."""
        found = list(self.found)
        for dtype, names in self.types.items():
            few = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            found.append(Problem(f"element type {dtype} is not supported ({few})", source=Source(self.file)))
        if found:
            count = len(grouped(found))
            what = f"{self.file} cannot be imported: {count} problem{'s' if count > 1 else ''}"
            raise ModelError(what, found) from self.cause
