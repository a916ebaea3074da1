"""Rules of operators that put elements in order."""

from __future__ import annotations

from ....ir.types import i64
from .. import contents
from .registry import Result, Results, rule
from .site import Site


@rule("topk", "sort", "sort.stable", "argsort", "argsort.stable")
def in_order(site: Site) -> Results:
    """The k first elements in order and where they were; all of them to sort. Of equal ones the first stands first."""
    kind, x = site.type("self"), site.x("self")
    if not kind.rank:
        return [x, contents.scalar(i64, 0)]
    axis = site.axis_at("dim", kind.rank, -1)
    largest = site.flag("largest") if site.name == "topk" else site.flag("descending")
    k = site.dim("k") if site.name == "topk" else kind.shape[axis]
    values, places = site.emit_all("topk", x, outputs=2, axis=axis, k=k, largest=largest, sorted=True)
    return places if site.name == "argsort" else [values, places]


@rule("kthvalue")
def kth(site: Site) -> list[Result]:
    """The k-th least, counted from 1."""
    kind, k = site.type("self"), site.whole("k", 1)
    axis = site.axis_at("dim", kind.rank, -1)
    both = site.emit_all("topk", site.x("self"), outputs=2, axis=axis, k=k, largest=False, sorted=True)
    return [site.reshape(site.slice(value, axis, k - 1, 1), site.result().shape) for value in both]
