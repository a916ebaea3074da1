"""Rules of operators on the bits of integers."""

from __future__ import annotations

from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

_BITWISE = {"BitwiseAnd": "and", "BitwiseOr": "or", "BitwiseXor": "xor", "BitwiseNot": "not"}


@rule(*_BITWISE)
def bitwise(site: Site) -> Result:
    return site.emit(_BITWISE[site.op], *site.xs())


@rule("BitShift")
def shift(site: Site) -> Result:
    direction = site.get_str("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise Unsupported(f"direction = {direction!r} is not supported", "use 'LEFT' or 'RIGHT'")
    return site.emit(f"shift_{direction.lower()}", site.x(0), site.x(1))
