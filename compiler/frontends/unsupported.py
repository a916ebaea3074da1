"""What a model has that cannot be imported."""

from __future__ import annotations


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
