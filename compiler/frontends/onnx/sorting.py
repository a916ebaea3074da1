"""Rules of operators that put elements in order."""

from __future__ import annotations

from ....ir.dims import Dim
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


@rule("TopK")
def topk(site: Site) -> tuple[Result, ...]:
    """The number of elements is an attribute before opset 10, then an input."""
    axis = site.axis(site.get_int("axis", -1), site.type(0).rank)
    k: Dim
    if site.opset < 10:
        k = site.get_int("k")
    else:
        counts = site.dims(1, "the number of elements")
        if len(counts) != 1:
            raise Unsupported(f"the number of elements is one number, got {len(counts)}")
        (k,) = counts
    largest, order = bool(site.get_int("largest", 1)), bool(site.get_int("sorted", 1))
    return site.emit_all("topk", site.x(0), outputs=2, axis=axis, k=k, largest=largest, sorted=order)
