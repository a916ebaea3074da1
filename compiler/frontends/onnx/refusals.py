"""What an error that a rule raises says of the model."""

from __future__ import annotations

from collections.abc import Iterable

from ....ir.errors import VerifyError
from ..scalars import Undecided
from ..unsupported import Consequence, Unsupported

#: The hint of a problem that a valid model must not have, and that of an invalid one a rule should have found by itself.
DEFECT = "if the model is valid, this is a defect of stratac: please report it"
#: What a rule raises: by itself, by way of the ops it writes, and where it meets what it does not expect.
REFUSED: tuple[type[Exception], ...] = (
    *(Unsupported, VerifyError, Undecided, MemoryError, RecursionError),
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError),
)


def refusal(error: Exception, inputs: Iterable[str] = (), tainted: bool = False) -> Unsupported | None:
    """The problem that one of REFUSED is, None where it follows from others: of what is `tainted` that is likely. `inputs` are
    types for people. An error that no rule foresaw is the cause of its problem."""
    if isinstance(error, Unsupported):
        return None if isinstance(error, Consequence) or (tainted and error.follows) else error
    if isinstance(error, VerifyError):
        return None if tainted else Unsupported(error.what, error.hint)
    if isinstance(error, Undecided):
        return Unsupported("depends on dims whose bounds do not decide it", "narrow the bounds with --dim")
    if isinstance(error, MemoryError):
        return Unsupported("needs more memory than there is", "are its sizes right?")
    if isinstance(error, RecursionError):
        return Unsupported("is nested more deeply than can be followed")
    what = f"cannot be imported: of ({', '.join(inputs)}) its rule did not expect {type(error).__name__}: {error}"
    slip = Unsupported(what, DEFECT)
    slip.__cause__ = error
    return slip
