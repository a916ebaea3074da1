"""What elementwise ops make of known elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import scalars
from .scalars import Facts, Scalar

Fold = Callable[..., Scalar]


def _extreme(facts: Facts, a: Scalar, b: Scalar, greatest: bool) -> Scalar:
    if isinstance(a, float) or isinstance(b, float):
        return b if facts.less(a, b) == greatest else a
    return facts.maximum(a, b) if greatest else facts.minimum(a, b)


#: By op: of the facts that decide and the elements, the result. Raises Undecided. `div` is that of real numbers.
FOLDS: Mapping[str, Fold] = {
    "neg": lambda f, a: scalars.negate(a),
    "abs": lambda f, a: scalars.negate(a) if f.less(a, 0) else a,
    "relu": lambda f, a: 0 * a if f.less(a, 0) else a,
    "floor": lambda f, a: scalars.floor(a),
    "ceil": lambda f, a: scalars.ceil(a),
    "sqrt": lambda f, a: scalars.square_root(a),
    "sign": lambda f, a: -1 if f.less(a, 0) else 0 if f.equal(a, 0) else 1,
    "not": lambda f, a: 1 - scalars.integer(a),
    "add": lambda f, a, b: scalars.plus(a, b),
    "sub": lambda f, a, b: scalars.minus(a, b),
    "mul": lambda f, a, b: scalars.times(a, b),
    "div": lambda f, a, b: scalars.quotient(a, b),
    "mod": lambda f, a, b: f.remainder(a, b),
    "max": lambda f, a, b: _extreme(f, a, b, True),
    "min": lambda f, a, b: _extreme(f, a, b, False),
    "eq": lambda f, a, b: int(f.equal(a, b)),
    "ne": lambda f, a, b: int(not f.equal(a, b)),
    "lt": lambda f, a, b: int(f.less(a, b)),
    "le": lambda f, a, b: int(not f.less(b, a)),
    "gt": lambda f, a, b: int(f.less(b, a)),
    "ge": lambda f, a, b: int(not f.less(a, b)),
    "where": lambda f, condition, yes, no: yes if f.equal(condition, 1) else no,
}
